from collections.abc import Mapping, Sequence
from socket import socket
from ssl import VerifyMode
from typing import Any, Literal, Protocol

NONE: Literal["NO_INFO"]
SUBTREE: Literal["SUBTREE"]
NO_ATTRIBUTES: Literal["1.1"]
AUTO_BIND_NONE: Literal["NONE"]

class Tls:
    def __init__(self, *, validate: VerifyMode = ..., ca_certs_file: str | None = ...) -> None: ...

class Server:
    def __init__(
        self,
        host: str,
        *,
        get_info: str = ...,
        connect_timeout: int | None = ...,
        tls: Tls | None = ...,
    ) -> None: ...

class _Strategy(Protocol):
    def close(self) -> None: ...

class Connection:
    result: Mapping[str, Any]
    response: Sequence[Mapping[str, object]] | None
    strategy: _Strategy
    socket: socket | None
    def __init__(
        self,
        server: Server,
        user: str | None = ...,
        password: str | None = ...,
        *,
        auto_bind: str = ...,
        read_only: bool = ...,
        check_names: bool = ...,
        auto_referrals: bool = ...,
        receive_timeout: int | None = ...,
    ) -> None: ...
    def open(self, *, read_server_info: bool = ...) -> None: ...
    def start_tls(self, *, read_server_info: bool = ...) -> bool: ...
    def bind(self, *, read_server_info: bool = ...) -> bool: ...
    def search(
        self,
        search_base: str,
        search_filter: str,
        search_scope: str = ...,
        *,
        attributes: Sequence[str] = ...,
        size_limit: int = ...,
        time_limit: int = ...,
    ) -> bool: ...

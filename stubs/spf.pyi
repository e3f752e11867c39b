# pyspf carries no types; what the evaluation of SPF uses of it.
from collections.abc import Iterable, Sequence
from ipaddress import IPv4Address, IPv6Address

MAX_MX: int
MAX_PTR: int
MAX_VOID_LOOKUPS: int

class TempError(Exception): ...

class PermError(Exception):
    def __init__(self, msg: str, mech: str | None = ..., ext: object = ...) -> None: ...

class query:
    A: str
    cidrmax: int
    d: str
    i: str
    ipaddr: IPv4Address | IPv6Address
    l: str
    mechanism: str | None
    o: str
    void_lookups: int

    def __init__(
        self,
        i: str,
        s: str,
        h: str,
        local: str | None = ...,
        receiver: str | None = ...,
        strict: bool = ...,
    ) -> None: ...
    def check(self, spf: str | None = ...) -> tuple[str, int, str]: ...
    def check0(self, spf: str | None, recursion: int) -> tuple[str, int, str]: ...
    def get_explanation(self, spec: str) -> str | None: ...
    def expand(self, s: str, stripdot: bool = ...) -> str: ...
    def dns_mx(self, domainname: str) -> Iterable[str]: ...
    def dns_ptr(self, i: str) -> list[str]: ...
    def validated_ptrs(self) -> list[str]: ...
    def cidrmatch(self, ipaddrs: Iterable[str], n: int) -> bool: ...

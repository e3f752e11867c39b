# dkimpy carries no types; what verifying signatures uses of it.
from collections.abc import Callable, Sequence
from typing import Any

class DKIMException(Exception): ...
class ValidationError(DKIMException): ...

CV_Pass: bytes
CV_Fail: bytes
CV_None: bytes

_Tags = dict[bytes, bytes]
_Field = tuple[bytes, bytes]
_Dns = Callable[..., bytes | None]

def evaluate_pk(name: str, s: bytes) -> tuple[Any, int, bytes, bool]: ...
def arc_sign(
    message: bytes,
    selector: bytes,
    domain: bytes,
    privkey: bytes,
    srv_id: bytes,
    signature_algorithm: bytes = ...,
    include_headers: Sequence[bytes] | None = ...,
    timestamp: int | None = ...,
) -> list[bytes]: ...
def arc_verify(message: bytes, *, dnsfunc: _Dns = ...) -> tuple[bytes | None, list[Any], str]: ...

class DomainSigner:
    headers: Sequence[_Field]
    body: bytes
    pk: Any
    keysize: int
    ktag: bytes
    seqtlsrpt: bool
    def __init__(self, message: bytes | None = ..., *, minkey: int = ...) -> None: ...
    def verify_sig(
        self, sig: _Tags, include_headers: list[bytes], sig_header: _Field, dnsfunc: _Dns
    ) -> bool: ...
    def verify_sig_process(
        self, sig: _Tags, include_headers: list[bytes], sig_header: _Field, dnsfunc: _Dns | None
    ) -> bool: ...

class DKIM(DomainSigner):
    should_not_sign: set[bytes]
    def sign(
        self,
        selector: bytes,
        domain: bytes,
        privkey: bytes,
        *,
        signature_algorithm: bytes | None = ...,
        identity: bytes | None = ...,
        canonicalize: tuple[bytes, bytes] = ...,
        include_headers: Sequence[bytes] | None = ...,
        length: bool = ...,
    ) -> bytes: ...
    def verify(self, idx: int = ..., dnsfunc: _Dns = ...) -> bool: ...

class ARC(DomainSigner):
    def sorted_arc_headers(self) -> tuple[int, list[tuple[int, _Field]]]: ...
    def verify(self, dnsfunc: _Dns = ...) -> tuple[bytes | None, list[Any], str]: ...

def sign(
    message: bytes,
    selector: bytes,
    domain: bytes,
    privkey: bytes,
    *,
    identity: bytes | None = ...,
    canonicalize: tuple[bytes, bytes] = ...,
    signature_algorithm: bytes = ...,
    include_headers: Sequence[bytes] | None = ...,
    length: bool = ...,
) -> bytes: ...

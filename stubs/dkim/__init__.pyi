# dkimpy carries no types; what verifying signatures, and signing for tests, uses of it.
from collections.abc import Sequence
from typing import Any

class DKIMException(Exception): ...

CV_Pass: bytes
CV_Fail: bytes

_Tags = dict[bytes, bytes]
_Field = tuple[bytes, bytes]

def evaluate_pk(name: str, s: bytes) -> tuple[Any, int, bytes, bool]: ...
def arc_sign(
    message: bytes, selector: bytes, domain: bytes, privkey: bytes, srv_id: bytes
) -> list[bytes]: ...
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

class DomainSigner:
    headers: Sequence[_Field]
    pk: Any
    keysize: int
    ktag: bytes
    seqtlsrpt: bool
    def __init__(self, message: bytes | None = ..., *, minkey: int = ...) -> None: ...
    def verify_sig(
        self, sig: _Tags, include_headers: list[bytes], sig_header: _Field, dnsfunc: object
    ) -> bool: ...
    def verify_sig_process(
        self, sig: _Tags, include_headers: list[bytes], sig_header: _Field, dnsfunc: object
    ) -> bool: ...

class DKIM(DomainSigner): ...

class ARC(DomainSigner):
    def sorted_arc_headers(self) -> tuple[int, list[tuple[int, _Field]]]: ...
    def verify(self) -> tuple[bytes | None, list[Any], str]: ...

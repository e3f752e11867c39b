"""
What a DKIM-Signature field claims, and what is wrong with it before any key is asked for.

RFC 6376 sections 3.5 and 6.1.1, RFC 8301 section 3.1, RFC 8463, RFC 8616. What cannot be read is
neutral (RFC 8601 section 2.7.1); what RFC 6376 calls a permanent failure is permerror.
"""

import base64
import binascii
import re
from typing import Final

import msgspec
from dkim.util import InvalidTagValueList, parse_tag_value

from policyd.facts import read
from policyd.mail.author import is_domain
from policyd.mail.body import Form
from policyd.mail.dkim import ProblemError, Signature
from policyd.mail.header import Field
from policyd.mail.key import key_name

LONGEST: Final = 8192
"""Octets of a signature's field."""
MOST_NAMES: Final = 256
"""Names of fields that one signature may be over."""

_ALGORITHMS: Final = {b"rsa-sha256": "rsa", b"ed25519-sha256": "ed25519"}
_FORMS: Final = {form.encode(): form for form in Form}
_REQUIRED: Final = (b"v", b"a", b"b", b"bh", b"d", b"h", b"s")
_SLACK: Final = 300
"""Seconds by which clocks may differ."""
_UNREADABLE: Final = re.compile(rb"[\x00-\x08\x0b\x0c\x0e-\x1f]|\r(?!\n)|[ \t\r\n]{512}")
"""Control characters, and more blanks than patterns of dkimpy's can take in good time."""
_BLANKS: Final = re.compile(rb"[ \t\r\n]+")
_TIME: Final = re.compile(rb"[0-9]{1,12}")
_LENGTH: Final = re.compile(rb"[0-9]{1,76}")


class Claim(msgspec.Struct, frozen=True):
    """
    A signature that is worth a look at its key, which is of a `kind` and has a name in the DNS.

    `names` are the fields that it is over, in lower case, as often as they are named; `form` is
    that of the body. `value` is the signature as text. With `length` it is over so many octets.
    """

    about: Signature
    field: Field
    tags: dict[bytes, bytes]
    kind: str
    names: tuple[bytes, ...]
    form: Form
    digest: bytes
    length: int | None
    key: str


def is_readable(field: Field) -> bool:
    """Tell whether a field that holds a signature can be taken apart in good time."""
    return len(field[1]) <= LONGEST and _UNREADABLE.search(field[1]) is None


def read_claim(field: Field, now: float) -> Claim | Signature:
    """Read a field; what is wrong with it makes it a Signature with that result."""
    about = Signature("", "", "", "")
    try:
        tags = _tags(field)
        about = _about(tags)
        return _claim(about, field, tags, now)
    except ProblemError as problem:
        return msgspec.structs.replace(about, result=problem.result, reason=str(problem))


def _tags(field: Field) -> dict[bytes, bytes]:
    if not is_readable(field):
        raise ProblemError("neutral", "a signature that cannot be read")
    try:
        return parse_tag_value(field[1])
    except InvalidTagValueList as error:
        raise ProblemError("neutral", "a signature that cannot be read") from error


def _about(tags: dict[bytes, bytes]) -> Signature:
    domain = read.domain(_text(tags, b"d"))
    selector = read.domain(_text(tags, b"s"))
    return Signature(
        domain if is_domain(domain) else "",
        selector if is_domain(selector) else "",
        _text(tags, b"i")[:256] or f"@{domain}"[:256],
        _text(tags, b"a")[:32],
    )


def _claim(about: Signature, field: Field, tags: dict[bytes, bytes], now: float) -> Claim:
    for name in _REQUIRED:
        if not tags.get(name):
            raise ProblemError("neutral", f"no {name.decode()}= in the signature")
    if tags[b"v"] != b"1":
        raise ProblemError("neutral", "a version of DKIM that is not known")
    if tags[b"a"] == b"rsa-sha1":
        raise ProblemError("permerror", "SHA-1 is no longer good for signatures")
    kind = _ALGORITHMS.get(tags[b"a"])
    if kind is None:
        raise ProblemError("neutral", "an algorithm that is not known")
    if not about.domain or not about.selector:
        raise ProblemError("neutral", "d= or s= is no domain")
    key = key_name(about.selector, about.domain)
    if not is_domain(key):
        raise ProblemError("neutral", "the name of the key is too long")
    if not _is_within(about.identity, about.domain):
        raise ProblemError("permerror", "i= is not within d=")
    if b"dns/txt" not in _BLANKS.sub(b"", tags.get(b"q", b"dns/txt")).split(b":"):
        raise ProblemError("neutral", "its key is not in the DNS")
    _judge_times(tags, now)
    unpacked(tags[b"b"])
    return Claim(
        about,
        field,
        tags,
        kind,
        _names(tags[b"h"]),
        form_of(tags),
        unpacked(tags[b"bh"]),
        length_of(tags),
        key,
    )


def _names(value: bytes) -> tuple[bytes, ...]:
    names = tuple(name.strip().lower() for name in value.split(b":"))
    if b"from" not in names:
        raise ProblemError("permerror", "the signature is not over From")
    if len(names) > MOST_NAMES:
        raise ProblemError("policy", f"a signature over more than {MOST_NAMES} fields")
    return names


def form_of(tags: dict[bytes, bytes]) -> Form:
    """Give the form of the body that c= names; ProblemError if there is none like it."""
    header, _, body = tags.get(b"c", b"simple").partition(b"/")
    if header not in _FORMS or (body or b"simple") not in _FORMS:
        raise ProblemError("neutral", "a canonicalisation that is not known")
    return _FORMS[body or b"simple"]


def length_of(tags: dict[bytes, bytes]) -> int | None:
    """Give l=; ProblemError if it is no number."""
    if b"l" not in tags:
        return None
    if _LENGTH.fullmatch(tags[b"l"]) is None:
        raise ProblemError("neutral", "l= is no number")
    return int(tags[b"l"])


def _judge_times(tags: dict[bytes, bytes], now: float) -> None:
    times = {}
    for name in (b"t", b"x"):
        if name in tags:
            if _TIME.fullmatch(tags[name]) is None:
                raise ProblemError("neutral", f"{name.decode()}= is no time")
            times[name] = int(tags[name])
    signed, expires = times.get(b"t", 0), times.get(b"x")
    if expires is not None and expires <= signed:
        raise ProblemError("neutral", "the signature expires before it is made")
    if expires is not None and expires < now - _SLACK:
        raise ProblemError("permerror", "the signature has expired")
    if signed > now + _SLACK:
        raise ProblemError("policy", "the signature is of the future")


def _is_within(identity: str, domain: str) -> bool:
    _, at, host = identity.rpartition("@")
    host = read.domain(host)
    return bool(at) and (host == domain or host.endswith(f".{domain}"))


def unpacked(value: bytes) -> bytes:
    """Give what base64 stands for; ProblemError if it is none."""
    try:
        return base64.b64decode(_BLANKS.sub(b"", value), validate=True)
    except binascii.Error as error:
        raise ProblemError("neutral", "a signature that is not base64") from error


def _text(tags: dict[bytes, bytes], name: bytes) -> str:
    return tags.get(name, b"").decode("utf-8", "replace")

"""
Keys of signatures as the DNS has them (RFC 6376 section 3.6, RFC 8301, RFC 8463), through dkimpy.

dkimpy verifies RSA with Python's numbers, so what a key may cost is bounded here.
"""

from typing import Final

import msgspec
from dkim import DKIMException, evaluate_pk
from dkim.util import InvalidTagValueList, parse_tag_value

from policyd.mail.dkim import KeyAnswer, ProblemError

SMALLEST_RSA: Final = 1024
"""Bits (RFC 8301 section 3.2)."""
_LARGEST_RSA: Final = 8192
"""Bits; RFC 8301 asks for 4096 and leaves more to the verifier. One takes 2 ms."""
_LARGEST_EXPONENT: Final = 2**64
_LONGEST: Final = 8192
"""Octets of a record."""


class Key(msgspec.Struct, frozen=True):
    """
    A key that may be used for mail.

    `kind` is rsa or ed25519, `public` as dkimpy has it. `testing`: the domain is testing DKIM
    (t=y). `strict`: i= must have the domain of d= itself (t=s).
    """

    kind: str
    bits: int
    public: object
    testing: bool = False
    strict: bool = False


def read_key(answer: KeyAnswer) -> Key:
    """Read the key among the records of its name; ProblemError if it cannot be used."""
    if answer.failure:
        raise ProblemError("temperror", f"the key cannot be looked up: {answer.failure}")
    keys = [tags for record in answer.records if (tags := _tags(record)) is not None]
    if not keys:
        missing = "no key in the DNS" if not answer.records else "no readable key in the DNS"
        raise ProblemError("permerror", missing)
    if len(keys) > 1:  # which is meant is undefined (RFC 6376 section 3.6.2.2)
        raise ProblemError("permerror", "several keys of one name in the DNS")
    return _key(keys[0])


def _tags(record: bytes) -> dict[bytes, bytes] | None:
    """Give the tags of a key's record, None if it is another's."""
    try:
        tags = parse_tag_value(record) if 0 < len(record) <= _LONGEST else {}
    except InvalidTagValueList:
        return None
    if b"p" not in tags or tags.get(b"v", b"DKIM1") != b"DKIM1":
        return None
    return tags


def _key(tags: dict[bytes, bytes]) -> Key:
    if not tags[b"p"]:
        raise ProblemError("permerror", "the key has been revoked")
    if not {b"*", b"email"} & _listed(tags.get(b"s", b"*")):
        raise ProblemError("permerror", "the key is not for mail")
    if b"sha256" not in _listed(tags.get(b"h", b"sha256")):
        raise ProblemError("permerror", "the key is not for SHA-256")
    flags = _listed(tags.get(b"t", b""))
    kind, bits, public = _public(tags)
    return Key(kind, bits, public, b"y" in flags, b"s" in flags)


def _public(tags: dict[bytes, bytes]) -> tuple[str, int, object]:
    record = b"; ".join(b"%b=%b" % (name, tags[name]) for name in (b"k", b"p") if name in tags)
    try:
        public, bits, kind, _ = evaluate_pk("key", record)
    except (DKIMException, ValueError, IndexError, TypeError) as error:  # not all are dkimpy's own
        raise ProblemError("permerror", "a key that cannot be read") from error
    if kind != b"rsa":
        return "ed25519", bits, public
    if bits < SMALLEST_RSA:
        raise ProblemError("policy", f"an RSA key of {bits} bits")
    exponent = public["publicExponent"]
    if bits > _LARGEST_RSA or not 1 < exponent < _LARGEST_EXPONENT:
        raise ProblemError("policy", f"an RSA key of {bits} bits is not tried")
    return "rsa", bits, public


def _listed(value: bytes) -> set[bytes]:
    return {part.strip() for part in value.split(b":")}


def key_name(selector: str, domain: str) -> str:
    """Give the name in the DNS of a key (RFC 6376 section 3.6.2.1)."""
    return f"{selector}._domainkey.{domain}"

"""
Whether a DKIM signature is good (RFC 6376 section 6.1), through dkimpy.

The signature over the header is looked at first and the body only behind a good one, so that
signatures nobody made cost nothing that grows with the message.
"""

from collections.abc import Sequence
from typing import Final

import dkim
import msgspec

from policyd.facts import read
from policyd.mail.body import Body, Hashed
from policyd.mail.claim import Claim
from policyd.mail.dkim import Keys, ProblemError, Signature
from policyd.mail.header import Field
from policyd.mail.key import SMALLEST_RSA, Key, read_key

_HEADERS_OWN: Final = (b"a", b"b", b"c")
"""The tags that dkimpy needs for the header: without bh= it leaves the body alone."""
_CHANGED: Final = "the signature does not match the header"


def verified(claim: Claim, fields: Sequence[Field], body: Body, keys: Keys) -> Signature:
    """Give a claim's signature with its result; `keys` holds what the DNS says of its key."""
    about = claim.about
    try:
        key = read_key(keys[claim.key])
    except ProblemError as problem:
        return _with(about, problem.result, str(problem))
    try:
        _judge(claim, key, fields, body)
    except ProblemError as problem:
        if problem.result == "fail" and key.testing:
            # not to be treated otherwise than no signature (RFC 6376 section 3.6.1)
            return _with(about, "neutral", f"{problem}; the domain is testing DKIM")
        return _with(about, problem.result, str(problem))
    return _with(about, "pass", "the domain is testing DKIM" if key.testing else "")


def _judge(claim: Claim, key: Key, fields: Sequence[Field], body: Body) -> None:
    if key.kind != claim.kind:
        raise ProblemError("permerror", f"the key is {key.kind}, the signature is not")
    if key.strict and read.domain(claim.about.identity.rpartition("@")[2]) != claim.about.domain:
        raise ProblemError("permerror", "the key is not for subdomains (t=s), and i= is one")
    if not matches_header(claim, key, fields):
        raise ProblemError("fail", _CHANGED)
    judge_body(body.hashed(claim.form), claim.digest, claim.length)


def matches_header(claim: Claim, key: Key, fields: Sequence[Field]) -> bool:
    """Tell whether a signature is one over the header by the key."""
    there = {name.lower() for name, _ in fields}
    names = [name for name in claim.names if name in there]
    signer = dkim.DKIM(minkey=SMALLEST_RSA)
    signer.headers = [field for field in fields if field[0].lower() in claim.names]
    use_key(signer, key)
    tags = {name: value for name, value in claim.tags.items() if name in _HEADERS_OWN}
    try:
        return signer.verify_sig_process(tags, names, claim.field, None)
    except (dkim.DKIMException, ValueError):
        return False


def use_key(signer: dkim.DomainSigner, key: Key) -> None:
    """Give dkimpy the key that it would have looked up."""
    signer.pk = key.public
    signer.keysize = key.bits
    signer.ktag = key.kind.encode()
    signer.seqtlsrpt = False


def judge_body(hashed: Hashed, digest: bytes, length: int | None) -> None:
    """
    Raise ProblemError unless a signature is over the whole body, and that as it is.

    `digest` is its bh=, `length` its l=: with it the signature may leave out the end, behind
    which anybody can add something (RFC 6376 section 8.2).
    """
    if length is not None and length > hashed.octets:
        raise ProblemError("fail", "the body has been cut: it is shorter than l= says")
    if digest != (hashed.whole if length is None else hashed.beginnings[length]):
        raise ProblemError("fail", "the body has been changed")
    if length is not None and length < hashed.octets:
        left = hashed.octets - length
        raise ProblemError("policy", f"l= leaves {left} octets of the body unsigned")


def _with(about: Signature, result: str, reason: str) -> Signature:
    return msgspec.structs.replace(about, result=result, reason=reason)

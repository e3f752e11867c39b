"""
The work of verifying signatures, which is done beside the worker (processes.work.Work).

It is in two parts, so that no process waits for the DNS while other messages wait for it: the
survey tells which keys are called for, the worker asks for all of them at once, and what verifies
is given them. Each part reads a header of at most 1 MiB and, of the body, a piece at a time.
"""

import os
from collections.abc import Sequence

import msgspec

from policyd.mail.arc import ArcAnswer
from policyd.mail.author import Author, author_of
from policyd.mail.body import Body, Form
from policyd.mail.chain import chain_keys, is_sealed, verified_chain
from policyd.mail.claim import Claim, read_claim
from policyd.mail.dkim import (
    LARGEST,
    MOST_SHOWN,
    MOST_VERIFIED,
    DkimAnswer,
    Order,
    Signature,
    Survey,
)
from policyd.mail.header import Field, Header, read_header
from policyd.mail.verify import verified
from policyd.processes.work import Ask


def survey(payload: bytes, descriptors: Sequence[int], _ask: Ask) -> bytes:
    """Read the header of a message and give a Survey; the payload is an Order."""
    order = msgspec.msgpack.decode(payload, type=Order)
    header = read_header(descriptors[0])
    claims = _claims(header, descriptors[0], order.now)
    keys = dict.fromkeys(claim.key for claim in claims if isinstance(claim, Claim))
    return msgspec.msgpack.encode(
        Survey(
            _author(header),
            bool(claims),
            is_sealed(header),
            tuple(keys),
            () if _too_much(header, descriptors[0]) else chain_keys(header),
        )
    )


def dkim(payload: bytes, descriptors: Sequence[int], _ask: Ask) -> bytes:
    """Verify the DKIM signatures of a message and give a DkimAnswer; the payload is an Order."""
    order = msgspec.msgpack.decode(payload, type=Order)
    descriptor = descriptors[0]
    header = read_header(descriptor)
    claims = _claims(header, descriptor, order.now)
    lengths: dict[Form, list[int]] = {}
    for claim in claims:
        if isinstance(claim, Claim) and claim.length is not None:
            lengths.setdefault(claim.form, []).append(claim.length)
    body = Body(descriptor, header.body_at, lengths)
    signatures = tuple(
        verified(claim, header.fields, body, order.keys) if isinstance(claim, Claim) else claim
        for claim in claims
    )
    return msgspec.msgpack.encode(DkimAnswer(signatures, _author(header)))


def arc(payload: bytes, descriptors: Sequence[int], _ask: Ask) -> bytes:
    """Verify the ARC chain of a message and give an ArcAnswer; the payload is an Order."""
    order = msgspec.msgpack.decode(payload, type=Order)
    descriptor = descriptors[0]
    header = read_header(descriptor)
    why = _too_much(header, descriptor)
    if why and is_sealed(header):
        return msgspec.msgpack.encode(ArcAnswer("fail", why))
    return msgspec.msgpack.encode(verified_chain(header, descriptor, order.keys))


def _author(header: Header) -> Author:
    author = author_of(header.named(b"from"))
    if header.too_much:  # there may be another From behind what is read
        return Author("", header.fault, author.domains)
    return author


def _claims(header: Header, descriptor: int, now: float) -> tuple[Claim | Signature, ...]:
    """Read the signatures; those that are not to be verified have a result already."""
    fields = [field for field in header.fields if field[0].lower() == b"dkim-signature"]
    why = _too_much(header, descriptor)
    return tuple(
        _claim(field, now, place, why or header.fault, "policy" if why else "neutral")
        for place, field in enumerate(fields[:MOST_SHOWN])
    )


def _claim(field: Field, now: float, place: int, fault: str, result: str) -> Claim | Signature:
    claim = read_claim(field, now)
    if isinstance(claim, Signature):
        return claim
    if place >= MOST_VERIFIED:
        fault, result = f"not one of the newest {MOST_VERIFIED} signatures", "policy"
    if not fault:
        return claim
    return msgspec.structs.replace(claim.about, result=result, reason=fault)


def _too_much(header: Header, descriptor: int) -> str:
    """Say what there is more of than is verified; empty if nothing."""
    if header.too_much:
        return header.fault
    if os.fstat(descriptor).st_size > LARGEST:
        return f"a message of more than {LARGEST >> 20} MiB"
    return ""

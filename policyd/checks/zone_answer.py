"""What the answer of a DNS list means: a listing, none, or that it was not answered."""

from collections.abc import Iterable
from ipaddress import IPv4Address
from typing import Final

import msgspec

from policyd.checks.zone import Answers, Zone


class ZoneError(Exception):
    """A zone did not say whether something is listed. `suspended`: it was not asked."""

    def __init__(self, why: str, *, suspended: bool = False) -> None:
        """Keep whether it was asked at all."""
        super().__init__(why)
        self.suspended = suspended


class Listing(msgspec.Struct, frozen=True):
    """What a zone lists weighs so much; `code` is the answer that weighs most in it."""

    zone: Zone
    weight: float
    code: str
    text: str = ""


def network(text: str, prefix: int = 32) -> Answers:
    """Give the answers of a network."""
    first = int(IPv4Address(text))
    return Answers(first, first + (1 << 32 - prefix) - 1)


_LISTINGS: Final = network("127.0.0.0", 8)  # RFC 5782 section 2.1

_ERRORS: Final = (
    # Spamhaus: 252 a misspelt zone, 254 by way of a public resolver, 255 too many questions; other
    # lists have followed (www.spamhaus.org, frequently asked questions on DNSBL usage)
    network("127.255.255.0", 24),
    # URIBL, SURBL: refused (uribl.com/refused.shtml); nobody else may list by it, as it is what the
    # addresses of hosts files and of many a resolver's block page are
    network("127.0.0.1"),
)
_ERRORS_OF: Final = {
    # the questions are addresses, which these lists of domains refuse (docs.spamhaus.com, zones)
    "dbl.spamhaus.org": (network("127.0.1.255"),),
    "dbl.dq.spamhaus.net": (network("127.0.1.255"),),
    "zrd.dq.spamhaus.net": (network("127.0.2.255"),),
    # too many questions (dnswl.org, technical notes)
    "list.dnswl.org": (network("127.0.0.255"),),
}


def never_lists(zone: Zone, answers: Answers) -> str:
    """Say why none of these answers of a zone, or not all, can be listings; empty if they can."""
    for address in (answers.first, answers.last):
        if address not in _LISTINGS:
            return f"{IPv4Address(address)} is not in 127.0.0.0/8"
    if any(answers.first in errors and answers.last in errors for errors in _errors_of(zone)):
        return f"{IPv4Address(answers.first)} says that a question was not answered"
    return ""


def read_answer(zone: Zone, addresses: Iterable[str]) -> Listing | None:
    """
    Read the addresses that a zone answers with; none: it does not list what was asked for.

    Each code and each bit of a mask counts once, however many addresses say it. ZoneError if one
    of the addresses can be no listing, whatever the others are.
    """
    answers = sorted({int(IPv4Address(address)) for address in addresses})
    for answer in answers:
        _refuse(zone, answer)
    parts: dict[Answers | int | None, float] = {}
    shown, most = 0, 0.0
    for answer in answers:
        own = dict(_weights(zone, answer))
        parts.update(own)
        weight = sum(own.values())
        if own and (not shown or weight > most):
            shown, most = answer, weight
    if not shown:
        return None
    return Listing(zone, sum(parts.values()), str(IPv4Address(shown)))


def _weights(zone: Zone, answer: int) -> Iterable[tuple[Answers | int | None, float]]:
    """Give what an answer weighs, by what says so; what weighs nothing is no listing."""
    for code in zone.codes:
        if answer in code.answers:
            if code.weight:
                yield code.answers, code.weight
            return
    bits = [(bit, weight) for bit, weight in zone.masks if answer & bit]
    if bits:
        yield from ((bit, weight) for bit, weight in bits if weight)
    elif zone.weight:
        yield None, zone.weight


def _refuse(zone: Zone, answer: int) -> None:
    if answer not in _LISTINGS:
        raise ZoneError(f"it answers {IPv4Address(answer)}, which is not in 127.0.0.0/8")
    for errors in _errors_of(zone):
        if answer in errors:
            raise ZoneError(f"it answers {IPv4Address(answer)}: the question was not answered")


def _errors_of(zone: Zone) -> tuple[Answers, ...]:
    """Give all errors of a zone; a well-known one's name may begin with a customer's key."""
    known = _ERRORS + zone.errors
    for name, errors in _ERRORS_OF.items():
        if zone.zone == name or zone.zone.endswith(f".{name}"):
            return known + errors
    return known

"""The keys of `[dnsbl.NAME]` tables, with their defaults, and how their values are read."""

import math
import re
from collections.abc import Callable
from functools import partial
from ipaddress import IPv4Address, IPv4Network
from typing import Annotated, Any, Final, TypeVar

from pydantic import BeforeValidator, InstanceOf

from policyd.checks.zone import LONGEST_ZONE, Answers, Code, ZoneKind, is_domain
from policyd.config import units
from policyd.config.model import Table
from policyd.config.problem import choose_from
from policyd.config.units import WrongValueError
from policyd.facts import read
from policyd.facts.units import parse_duration

_T = TypeVar("_T")
_ANSWER: Final = '"127.0.0.2", "127.0.0.10-127.0.0.11" or "127.0.0.0/28"'
_CODES: Final = 'write it as { "127.0.0.2" = 3, "127.0.0.10-127.0.0.11" = 1 }'
_MASKS: Final = "write it as { 2 = 1, 4 = 3 }"
_BITS: Final = tuple(1 << bit for bit in range(1, 8))
_HEAVIEST: Final = 1_000_000
_SHORTEST: Final = "1m"
_LONGEST: Final = "7d"


def _zone(value: object) -> str:
    text = units.read_text(value, '"zen.example.org"')
    if re.search(r"[=*\[]", text):
        mend = 'write zone = "zen.example.org", and what answers weigh in codes'
        raise WrongValueError(f'"{text}" is written as for postscreen(8)', mend)
    name = read.domain(text.removeprefix("."))
    if not is_domain(name) or read.ip(name):
        raise WrongValueError(f'"{text}" is no domain', 'write it as "zen.example.org"')
    if len(name) > LONGEST_ZONE:
        what = f"the name of the zone has {len(name)} octets"
        raise WrongValueError(what, f"with at most {LONGEST_ZONE} an IPv6 address fits before it")
    return name


def _kind(value: object) -> ZoneKind:
    text = units.read_text(value, '"client_address"')
    if text not in set(ZoneKind):
        raise WrongValueError(
            f'no zone is asked about "{text}"', choose_from(text, tuple(map(str, ZoneKind)))
        )
    return ZoneKind(text)


def _weight(value: Any) -> float:
    number = isinstance(value, (int, float)) and not isinstance(value, bool)
    if number and math.isfinite(value) and abs(value) <= _HEAVIEST:
        return float(value)
    mend = f"write a number up to {_HEAVIEST}, or down to -{_HEAVIEST}"
    raise WrongValueError(f"{units.describe(value)} is no weight", mend)


def _answers(text: str) -> Answers:
    """Read an address, a range or a network of IPv4."""
    first, dash, last = map(str.strip, text.partition("-"))
    try:
        if dash:
            found = Answers(int(IPv4Address(first)), int(IPv4Address(last)))
        else:
            network = IPv4Network(first)
            found = Answers(int(network.network_address), int(network.broadcast_address))
    except ValueError as error:
        raise WrongValueError(f'"{text}" is no answer of a zone', f"write {_ANSWER}") from error
    if found.first > found.last:
        raise WrongValueError(f'"{text}" ends before it begins', "write the lower address first")
    return found


def _codes(value: object) -> tuple[Code, ...]:
    """Read answers and their weights, narrow ones first."""
    codes = _each(value, "weights", _CODES, _answers)
    found = (Code(answers, weight) for answers, weight in codes)
    return tuple(sorted(found, key=_width))


def _width(code: Code) -> tuple[int, int]:
    return code.answers.last - code.answers.first, code.answers.first


def _masks(value: object) -> tuple[tuple[int, float], ...]:
    return tuple(sorted(_each(value, "bits", _MASKS, _bit)))


def _bit(text: str) -> int:
    if text not in set(map(str, _BITS)):
        raise WrongValueError(
            f'"{text}" is no bit of an answer\'s last octet',
            f"there are: {', '.join(map(str, _BITS))}; 127.0.0.1 is no listing",
        )
    return int(text)


def _each(
    value: object, what: str, mend: str, key: Callable[[str], _T]
) -> tuple[tuple[_T, float], ...]:
    """Read a table of weights."""
    if not isinstance(value, dict):
        raise WrongValueError(f"{units.describe(value)} is no table of {what}", mend)
    found: dict[_T, float] = {}
    for text, weight in value.items():
        if isinstance(weight, dict):
            raise WrongValueError(f'"{text}" is not all of an answer', f"{mend}, with the quotes")
        name = key(text)
        if name in found:
            raise WrongValueError(f'"{text}" is there already', "give it one weight")
        found[name] = _weight(weight)
    return tuple(found.items())


def _errors(value: object) -> tuple[Answers, ...]:
    if not isinstance(value, list):
        mend = f"write it as [{_ANSWER.replace(' or ', ', ')}]"
        raise WrongValueError(f"{units.describe(value)} is no list of answers", mend)
    return tuple(_answers(units.read_text(each, '"127.0.0.255"')) for each in value)


def _interval(value: object) -> float:
    seconds = units.read_bounded_duration(value, longest=_LONGEST)
    if seconds < parse_duration(_SHORTEST):
        what = f"{units.describe(value)} is too short"
        raise WrongValueError(what, f'write at least "{_SHORTEST}"')
    return seconds


_Text = Annotated[str, BeforeValidator(partial(units.read_text, example='"127.0.0.2"'))]


class DnsblTable(Table):
    """
    `[dnsbl.NAME]`: a zone, what its answers weigh, and how it is tested; seconds of the interval.

    `weight` None: 1, or that of no other answer where codes or masks are given.
    """

    zone: Annotated[str, BeforeValidator(_zone)]
    kind: Annotated[ZoneKind, BeforeValidator(_kind)] = ZoneKind.CLIENT_ADDRESS
    weight: Annotated[float | None, BeforeValidator(_weight)] = None
    codes: Annotated[tuple[InstanceOf[Code], ...], BeforeValidator(_codes)] = ()
    masks: Annotated[tuple[tuple[int, float], ...], BeforeValidator(_masks)] = ()
    errors: Annotated[tuple[InstanceOf[Answers], ...], BeforeValidator(_errors)] = ()
    text: bool = True
    listed: _Text | None = None
    unlisted: _Text | None = None
    interval: Annotated[float, BeforeValidator(_interval)] = 900.0

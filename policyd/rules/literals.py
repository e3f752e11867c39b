"""Literals in conditions, read by the type of the other operand."""

import re
from datetime import datetime
from typing import Final

from policyd.facts import read
from policyd.facts.table import FactType
from policyd.facts.units import parse_duration, parse_size

_CLOCK: Final = re.compile(r"([01][0-9]|2[0-3]):([0-5][0-9])", re.ASCII)
_NUMBERS: Final = (FactType.NUMBER, FactType.SIZE, FactType.DURATION)


class LiteralError(ValueError):
    """A literal that cannot be read as the type it is compared with, and the mend."""

    def __init__(self, what: str, mend: str) -> None:
        """Keep the mend beside what is wrong."""
        super().__init__(what)
        self.mend = mend


def clock_minutes(text: str) -> int | None:
    """Read `22:30` as minutes since midnight; None for anything else."""
    found = _CLOCK.fullmatch(text)
    return None if found is None else int(found[1]) * 60 + int(found[2])


def coerce(value: object, wanted: FactType) -> object:
    """Read a literal as the wanted type; LiteralError says what would do."""
    if isinstance(value, bool) or not isinstance(value, (int, float, str)):
        raise LiteralError(f"{value!r} cannot be compared with a {wanted}", f"write a {wanted}")
    if isinstance(value, (int, float)):
        if wanted not in _NUMBERS:
            what = f"the number {value} cannot be compared with a {wanted}"
            raise LiteralError(what, "write it in quotes")
        return value
    return _coerce_text(value, wanted)


def _coerce_text(value: str, wanted: FactType) -> object:
    match wanted:
        case FactType.TEXT:
            return value
        case FactType.DOMAIN:
            return read.domain(value)
        case FactType.MAIL:
            return _mail(value)
        case FactType.ADDRESS:
            return _address(value)
        case FactType.SIZE:
            return _unit(parse_size, value)
        case FactType.DURATION:
            return _unit(parse_duration, value)
        case FactType.TIME:
            return _moment(value)
    what = f"the text {value!r} cannot be compared with a {wanted}"
    raise LiteralError(what, "write it without quotes")


def _mail(value: str) -> str:
    if value and "@" not in value:
        raise LiteralError(f"{value!r} is no mail address", "write user@domain")
    return read.mail(value)


def _address(value: str) -> str:
    address = read.ip(value)
    if not address:
        mend = "use `in` for a network" if "/" in value else "write it as 192.0.2.1"
        raise LiteralError(f"{value!r} is no IP address", mend)
    return address


def _unit(parse: object, value: str) -> object:
    try:
        return parse(value)  # type: ignore[operator] # one of the two parsers above
    except ValueError as error:
        what, _, mend = str(error).partition("; ")
        raise LiteralError(what, mend or "correct it") from error


def _moment(value: str) -> float:
    try:
        return datetime.fromisoformat(value).timestamp()
    except ValueError as error:
        what = f"{value!r} is neither a time of day nor a date"
        raise LiteralError(what, "write 22:30, or 2026-12-24T18:00") from error

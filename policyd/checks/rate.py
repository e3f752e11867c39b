"""
How a limit's rate is written: `500 recipients per 1h`, `20 messages per 1m`, `100 MiB per 1d`.

The unit is always said, for a number alone does not tell messages from recipients. Durations and
sizes are those of facts.units.
"""

import re
from enum import StrEnum
from typing import Final, NamedTuple, NoReturn

import msgspec

from policyd.facts.units import parse_duration, parse_size

LONGEST_WINDOW: Final = 366 * 86_400_000
"""Milliseconds."""
LARGEST: Final = 10**15
"""The largest amount; a store's numbers are exact up to nine times that."""

_MEND: Final = 'write it as "500 recipients per 1h", "20 messages per 1m" or "100 MiB per 1d"'
_RATE: Final = re.compile(r"(.*?)(?:\s+per(?:\s+|$)|\s*(/)\s*)(.*)", re.DOTALL | re.IGNORECASE)
_NUMBER: Final = re.compile(r"[0-9]{1,18}", re.ASCII)
_COUNTED: Final = re.compile(r"([0-9]+)\s*([^\W\d]+)")
_SPELT_OUT: Final = re.compile(
    r"(?:([0-9]{1,9})\s*)?(second|sec|minute|min|hour|day|week|[smhdw])s?", re.ASCII | re.IGNORECASE
)
_SECONDS: Final = (("w", 604_800), ("d", 86_400), ("h", 3_600), ("m", 60), ("s", 1))
_BYTES: Final = (
    ("TiB", 2**40),
    ("TB", 10**12),
    ("GiB", 2**30),
    ("GB", 10**9),
    ("MiB", 2**20),
    ("MB", 10**6),
    ("KiB", 2**10),
    ("kB", 10**3),
)


class Unit(StrEnum):
    """What a limit counts."""

    MESSAGES = "messages"
    RECIPIENTS = "recipients"
    BYTES = "bytes"


_WORDS: Final = {
    "message": Unit.MESSAGES,
    "messages": Unit.MESSAGES,
    "recipient": Unit.RECIPIENTS,
    "recipients": Unit.RECIPIENTS,
    "byte": Unit.BYTES,
    "bytes": Unit.BYTES,
}
_MEANT: Final = {
    **dict.fromkeys(("mail", "mails", "email", "emails", "msg", "msgs"), Unit.MESSAGES),
    **dict.fromkeys(("rcpt", "rcpts", "address", "addresses"), Unit.RECIPIENTS),
    **dict.fromkeys(("octet", "octets"), Unit.BYTES),
}
"""What people write for a unit."""


class RateError(ValueError):
    """A rate or an amount that cannot be read: `what` is wrong and how to `mend` it."""

    def __init__(self, what: str, mend: str) -> None:
        super().__init__(what)
        self.what = what
        self.mend = mend


class Amount(NamedTuple):
    """How much of what; `unit` is None where none is written."""

    number: int
    unit: Unit | None


class Rate(msgspec.Struct, frozen=True):
    """So much of a unit in a window of so many milliseconds."""

    amount: int
    unit: Unit
    window: int

    def __str__(self) -> str:
        """Give the rate as parse_rate() reads it."""
        return f"{amount_text(self.amount, self.unit)} per {_window_text(self.window)}"


def parse_rate(text: str) -> Rate:
    """Read `AMOUNT UNIT per DURATION`; RateError tells what would do."""
    found = _RATE.fullmatch(text.strip())
    if found is None:
        raise RateError(f'"{text}" is no rate', _MEND)
    number, unit = parse_amount(found[1])
    window = _window(found[3])
    if unit is None:
        what = f'"{text}" does not say what is counted'
        per = _window_text(window)
        mend = f'write "{number} messages per {per}" or "{number} recipients per {per}"'
        raise RateError(what, mend)
    rate = Rate(number, unit, window)
    if found[2]:
        raise RateError(f'"{text}" has a slash', f'write "{rate}"')
    return rate


def parse_amount(text: str) -> Amount:
    """Read `500`, `500 recipients`, `100 MiB` or `100 MiB bytes`; RateError tells what would do."""
    words = text.split()
    unit = _WORDS.get(words[-1].lower()) if len(words) > 1 else None
    bare = " ".join(words[:-1] if unit is not None else words)
    if _NUMBER.fullmatch(bare):
        number = int(bare)
    elif unit in (Unit.MESSAGES, Unit.RECIPIENTS):
        raise RateError(f'"{bare}" is no number of {unit}', f'write digits: "500 {unit}"')
    else:
        number, unit = _size(bare, text), Unit.BYTES
    if not number:
        what = f'"{text}" admits nothing'
        raise RateError(what, "write at least 1; a rule alone refuses what is never to pass")
    if number > LARGEST:
        what = f'"{text}" is too much to be counted'
        raise RateError(what, f"write at most {LARGEST}, or leave the limit out")
    return Amount(number, unit)


def _size(bare: str, text: str) -> int:
    try:
        return parse_size(bare)
    except ValueError as error:
        found = _COUNTED.fullmatch(bare)
        if found is None:
            raise RateError(f'"{text}" is no amount', _MEND) from error
        meant = _MEANT.get(found[2].lower()) or _WORDS.get(found[2].lower())
        mend = "messages, recipients and bytes (kB, MB, GB, KiB, MiB, GiB) are"
        if meant is not None:
            mend = f'write "{found[1]} {meant}"'
        raise RateError(f'"{found[2]}" is not what a limit counts', mend) from error


def _window(text: str) -> int:
    try:
        seconds = parse_duration(text)
    except ValueError as error:
        _refuse_window(text, str(error).partition("; ")[0])
    window = int(seconds * 1000)
    if not window:
        raise RateError(f'"per {text}" is no time at all', 'write at least "per 1s"')
    if window > LONGEST_WINDOW:
        raise RateError(f'"per {text}" is too long', 'write at most "per 366d"')
    return window


def _refuse_window(text: str, what: str) -> NoReturn:
    spelt = _SPELT_OUT.fullmatch(text)
    if spelt is not None:
        raise RateError(what, f'write "per {spelt[1] or 1}{spelt[2][0].lower()}"')
    if _NUMBER.fullmatch(text):
        raise RateError(what, f'write "per {text}s" if seconds are meant')
    raise RateError(what, 'write "per 1m", "per 1h", "per 1d" or the like')


def amount_text(amount: int, unit: Unit) -> str:
    """Give an amount exactly, as parse_amount() reads it: `500 recipients`, `100 MiB`."""
    if unit is not Unit.BYTES:
        return f"{amount} {unit if amount != 1 else unit.removesuffix('s')}"
    for name, octets in _BYTES:
        if amount and amount % octets == 0:
            return f"{amount // octets} {name}"
    return f"{amount} bytes" if amount != 1 else "1 byte"


def spent_text(amount: int, unit: Unit) -> str:
    """Give an amount to be read beside a rate: a number, of bytes in the nearest unit."""
    if unit is not Unit.BYTES:
        return str(amount)
    for name, octets in _BYTES:
        if "i" in name and amount >= octets:
            return f"{amount / octets:.1f} {name}"
    return amount_text(amount, unit)


def _window_text(window: int) -> str:
    left = window // 1000
    parts = []
    for unit, seconds in _SECONDS:
        count, left = divmod(left, seconds)
        if count:
            parts.append(f"{count}{unit}")
    return "".join(parts)

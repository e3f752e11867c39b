"""
Files of overrides: what some keys of a limit may have instead of its rate.

One `KEY AMOUNT [BURST]` a line, `#` comments. A key of several parts is as many words; one that is
empty or has blanks stands in double quotes. AMOUNT may be `unlimited`.
"""

import re
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Final, NamedTuple

from policyd.checks.limits import Override, key_of
from policyd.checks.rate import RateError, Unit, parse_amount
from policyd.config.problem import Problem
from policyd.config.source import read_octets
from policyd.facts import read
from policyd.facts.table import FACTS, FactType
from policyd.lists.entries import strip_comment
from policyd.lists.source import Kind

MOST_PROBLEMS: Final = 100
"""Problems told of one file; a file of the wrong kind has one a line."""
UNLIMITED: Final = "unlimited"

_PART: Final = re.compile(r'\s*(?:"([^"]*)"|([^\s"]\S*))(?=\s|$)')
_AMOUNTS: Final = re.compile(
    r"\s+(unlimited|[0-9]+(?: ?[a-z]+)?)(?:\s+([0-9]+(?: ?[a-z]+)?))?", re.ASCII | re.IGNORECASE
)
_READERS: Final[Mapping[FactType, tuple[Callable[[object], str], str]]] = {
    FactType.ADDRESS: (read.ip, "IP address"),
    FactType.MAIL: (read.mail, "mail address"),
    FactType.DOMAIN: (read.domain, "domain"),
}


class Overridden(NamedTuple):
    """The overrides of a file by their keys, and what is wrong in it."""

    overrides: Mapping[str, Override]
    problems: tuple[Problem, ...]


class _LineError(Exception):
    """A line that cannot be read: what is wrong, and the mend."""

    def __init__(self, what: str, mend: str) -> None:
        super().__init__(what)
        self.what = what
        self.mend = mend


def read_overrides(path: Path, shown: str, key: Sequence[str], unit: Unit) -> Overridden:
    """Read a file; `key` are the expressions of the limit's. UnreadableError if that cannot be."""
    overrides: dict[str, Override] = {}
    lines: dict[str, int] = {}
    problems: list[Problem] = []
    for number, line in enumerate(read_octets(path).removeprefix(b"\xef\xbb\xbf").split(b"\n"), 1):
        if len(problems) >= MOST_PROBLEMS:
            what = "the file has more faults; the rest was not read"
            problems.append(Problem(shown, number, "", what, "mend those above first"))
            break
        try:
            read_key, override = _line(line, key, unit) or ("", None)
        except _LineError as error:
            problems.append(Problem(shown, number, "", error.what, error.mend))
            continue
        if override is None:
            continue
        if read_key in lines:
            what = f"the key stands in line {lines[read_key]} already"
            problems.append(Problem(shown, number, "", what, "give each key one line"))
        overrides[read_key] = override
        lines.setdefault(read_key, number)
    return Overridden(overrides, tuple(problems))


def _line(line: bytes, key: Sequence[str], unit: Unit) -> tuple[str, Override] | None:
    try:
        text = strip_comment(line.decode(), Kind.ADDRESSES)
    except UnicodeDecodeError as error:
        raise _LineError("the line is not UTF-8", "save the file as UTF-8") from error
    if not text:
        return None
    usage = " ".join(_called(each) for each in key)
    parts, end = _parts(text, key, usage)
    found = _AMOUNTS.fullmatch(text, end)
    if found is None:
        rest = text[end:].strip()
        what = f"{rest!r} is no amount" if rest else "the line has no amount after the key"
        raise _LineError(what, f"write {usage} AMOUNT, or {usage} AMOUNT BURST")
    if found[1].lower() == UNLIMITED:
        if found[2] is not None:
            raise _LineError(f"{UNLIMITED} with a burst", "write one of the two")
        return key_of(parts), Override()
    burst = None if found[2] is None else _amount(found[2], unit)
    return key_of(parts), Override(_amount(found[1], unit), burst)


def _called(expression: str) -> str:
    return expression.upper() if expression in FACTS else "KEY"


def _parts(text: str, key: Sequence[str], usage: str) -> tuple[list[str], int]:
    """Give the words of the key, each as its fact would be read, and where they end."""
    parts = []
    end = 0
    for expression in key:
        found = _PART.match(text, end)
        if found is None:
            raise _LineError(f"{text!r} does not begin with the key", f"write {usage} AMOUNT")
        parts.append(_value(found[2] if found[1] is None else found[1], expression))
        end = found.end()
    return parts, end


def _value(word: str, expression: str) -> str:
    """Read a word as the fact that the key names, so that it can equal one."""
    reader = _READERS.get(FACTS[expression].type) if expression in FACTS else None
    if reader is None:
        return word
    value = reader[0](word)
    if word and not value:
        mend = f"write one value of {expression}; for several, accept them by a rule with a list"
        raise _LineError(f"{word!r} is no {reader[1]}", mend)
    return value


def _amount(text: str, unit: Unit) -> int:
    try:
        amount = parse_amount(text)
    except RateError as error:
        raise _LineError(error.what, error.mend) from error
    if amount.unit not in (None, unit):
        raise _LineError(f'"{text}" is not in {unit}, as the limit is', f"write it in {unit}")
    return amount.number

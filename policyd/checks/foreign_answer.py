"""What goes to and fro where a check of another package is asked, and what its answer may be."""

import math
import os
from collections.abc import Callable, Iterable, Mapping
from typing import Final

import msgspec

from policyd.checks.interface import Answer, Check, CheckFailedError, Count
from policyd.facts import read
from policyd.facts.table import FactType

WORK: Final = "policyd.checks.foreign_work:answer"
"""What a helper process does."""
LONGEST_VALUE: Final = 200
"""Characters of a value that a text may show."""

Plain = bool | int | float | str | tuple[str, ...]
"""The values of conditions, as messages have them."""


class Question(msgspec.Struct, frozen=True):
    """
    To a process: which entry point's check to ask, with which facts and arguments.

    `size` is that of the message, whose descriptor comes along, if the check needs it.
    """

    name: str
    entry: str
    facts: Mapping[str, object]
    arguments: tuple[object, ...]
    size: int | None = None


class Reply(msgspec.Struct, frozen=True):
    """From a process: an Answer, or why there is none. `counts` name their Counting."""

    value: Plain = False
    result: str = ""
    values: dict[str, str] = {}
    counts: tuple[tuple[str, tuple[str, ...], float], ...] = ()
    failed: str = ""

    @classmethod
    def of(cls, answer: Answer) -> "Reply":
        """Give a judged answer as it is sent."""
        counts = tuple(
            (counting.name, labels, amount) for counting, labels, amount in answer.counts
        )
        value = msgspec.convert(answer.value, Plain)
        return cls(value, answer.result, dict(answer.values), counts)

    def answer(self, check: Check) -> Answer:
        """Give the answer that was sent; CheckFailedError if it counts what there is not."""
        known = {counting.name: counting for counting in check.countings}
        unknown = [name for name, _, _ in self.counts if name not in known]
        if unknown:
            raise _wrong(check, f"it counts {unknown[0]!r}", "one of its countings")
        counts = tuple((known[name], labels, amount) for name, labels, amount in self.counts)
        return Answer(self.value, self.result, self.values, counts)


class FileMessage:
    """A message in a file (interface.Message); the descriptor stays whoever's it is."""

    def __init__(self, descriptor: int, size: int) -> None:
        """Take a descriptor of all of it, and how many octets that is."""
        self.size = size
        self._descriptor = descriptor

    def read(self) -> bytes:
        """Give all of it, lines ended by CR LF."""
        parts = []
        at = 0
        while at < self.size and (part := os.pread(self._descriptor, self.size - at, at)):
            parts.append(part)
            at += len(part)
        return b"".join(parts)


def _wrong(check: Check, what: str, wanted: str) -> CheckFailedError:
    return CheckFailedError(f"{check.name}(): {what}, and should give {wanted}"[:500])


def judged(check: Check, answer: object) -> Answer:
    """Hold an answer against what its check declares; CheckFailedError says what is wrong."""
    if not isinstance(answer, Answer):
        raise _wrong(check, f"it gives a {type(answer).__name__}", "an Answer")
    if answer.result not in check.results:
        raise _wrong(check, f"its result is {answer.result!r}", f"one of {check.results!r}")
    value = _READ[check.result](answer.value)
    if value is None:
        raise _wrong(check, f"its value is {answer.value!r}", f"a {check.result}")
    if answer.give_back is not None or answer.without:
        raise _wrong(check, "its answer has give_back or without", "neither")
    return Answer(value, answer.result, _values(check, answer), _counts(check, answer))


def _values(check: Check, answer: Answer) -> Mapping[str, str]:
    if not isinstance(answer.values, Mapping):
        raise _wrong(check, f"values is a {type(answer.values).__name__}", "a mapping")
    for name, value in answer.values.items():
        if name not in check.values or not isinstance(value, str):
            raise _wrong(check, f"values has {name!r}: {value!r}", f"texts of {[*check.values]!r}")
    return {name: value[:LONGEST_VALUE] for name, value in answer.values.items()}


def _counts(check: Check, answer: Answer) -> tuple[Count, ...]:
    if not isinstance(answer.counts, tuple):
        raise _wrong(check, f"counts is a {type(answer.counts).__name__}", "a tuple")
    for count in answer.counts:
        match count:
            case (counting, tuple() as labels, int() | float() as amount) if (
                counting in check.countings and labels in counting.series and 0 <= amount < math.inf
            ):
                continue
        raise _wrong(check, f"counts has {count!r}", "(counting, labels, amount) as declared")
    return answer.counts


def _truth(value: object) -> object | None:
    return value if isinstance(value, bool) else None


def _number(value: object) -> object | None:
    good = isinstance(value, int | float) and not isinstance(value, bool) and math.isfinite(value)
    return value if good else None


def _text(reader: Callable[[object], str]) -> Callable[[object], object | None]:
    return lambda value: reader(value) if isinstance(value, str) else None


def _texts(reader: Callable[[object], str]) -> Callable[[object], object | None]:
    def several(value: object) -> object | None:
        if not isinstance(value, tuple | list) or not _all_texts(value):
            return None
        return tuple(map(reader, value))

    return several


def _all_texts(values: Iterable[object]) -> bool:
    return all(isinstance(each, str) for each in values)


_READ: Final[Mapping[FactType, Callable[[object], object | None]]] = {
    FactType.TRUTH: _truth,
    FactType.NUMBER: _number,
    FactType.SIZE: _number,
    FactType.DURATION: _number,
    FactType.TIME: _number,
    FactType.TEXT: _text(read.text),
    FactType.DOMAIN: _text(read.domain),
    FactType.MAIL: _text(read.mail),
    FactType.ADDRESS: _text(read.ip),
    FactType.TEXTS: _texts(read.text),
    FactType.MAILS: _texts(read.mail),
}
"""By the type of a check's result, how its value is read as conditions compare it; None: wrong."""

"""
Patterns: regular expressions that match in time linear in the text (RE2), many in one pass.

As in regexp_table(5) they match anywhere in the text unless anchored, without case, and `.` matches
a newline too.
"""

import re
from collections.abc import Callable, Sequence
from functools import lru_cache, partial
from typing import Final
from weakref import WeakValueDictionary

import re2

from policyd.lists.entries import EntryError

_MEMORY: Final = 64 << 20  # octets for a list's automaton, which RE2 builds as texts come

_REMEMBERED: Final = 8192  # answers a list keeps

_MENDS: Final = (
    (
        re.compile(r"perl operator: \(\?(?:[=!]|<[=!])"),
        "RE2 has no lookahead or lookbehind; write two patterns and join the conditions with `and`",
    ),
    (
        re.compile(r"escape sequence: \\[1-9]|perl operator: \(\?P$"),
        "RE2 has no backreferences; write out what may be repeated",
    ),
    (
        re.compile(r"repetition operator: [*+?]\+$|perl operator: \(\?>"),
        "RE2 has no possessive or atomic groups; its matching never goes back, so leave them out",
    ),
    (re.compile(r"escape sequence: \\Z"), r"write `$`, which matches at the end of the text only"),
    (re.compile(r"perl operator"), "write it without; RE2 knows the flags (?i), (?m), (?s), (?U)"),
    (re.compile(r"too large|repetition size"), "repeat less often: RE2 allows 1000 at most"),
)


def _options() -> re2.Options:
    options = re2.Options()
    options.case_sensitive = False
    options.dot_nl = True
    options.never_capture = True
    options.log_errors = False
    options.max_mem = _MEMORY
    return options


def check_pattern(text: str) -> None:
    """Refuse a pattern that RE2 cannot compile: EntryError with its message and what to write."""
    if not text:
        raise EntryError("an empty pattern matches everything", "write what it has to match")
    try:
        re2.compile(text, _options())
    except re2.error as error:
        said = error.args[0].decode("utf-8", "replace")
        mend = next((mend for found, mend in _MENDS if found.search(said)), "correct it")
        raise EntryError(f"'{text}' is no pattern for RE2: {said}", mend) from error
    except UnicodeEncodeError as error:
        raise EntryError(f"{text!r} is no Unicode", "leave lone surrogates out") from error


class TooManyError(ValueError):
    """The patterns of a list do not fit into one automaton together."""


class Patterns:
    """Patterns that check_pattern() has passed; TooManyError if one automaton cannot hold them."""

    __slots__ = ("__weakref__", "_texts", "match")

    def __init__(self, patterns: Sequence[str]) -> None:
        self._texts = tuple(patterns)
        compiled = re2.Set.SearchSet(_options())
        for pattern in patterns:
            compiled.Add(pattern)
        try:
            compiled.Compile()  # fails too if its automaton would have no room to match in
        except re2.error as error:
            raise TooManyError from error
        # It knows the automaton alone and not this object, so that both go with their last user.
        self.match: Callable[[str], bool] = lru_cache(_REMEMBERED)(partial(_matches, compiled))
        """Tell whether any pattern matches a text; names of clients come again and again."""

    def __reduce__(self) -> tuple[Callable[[tuple[str, ...]], "Patterns"], tuple[tuple[str, ...]]]:
        """Travel as texts: an automaton is compiled where it is used."""
        return _arrived, (self._texts,)

    def __len__(self) -> int:
        return len(self._texts)


_AT_WORK: Final[WeakValueDictionary[tuple[str, ...], Patterns]] = WeakValueDictionary()


def _arrived(texts: tuple[str, ...]) -> Patterns:
    """
    Give the patterns of these texts that this process has already, or compile them.

    A thousand automata take 30 ms, and most patterns of a changed policy are those of the old one.
    """
    patterns = _AT_WORK.get(texts)
    if patterns is None:
        patterns = _AT_WORK[texts] = Patterns(texts)
    return patterns


def _matches(compiled: re2.Set, text: str) -> bool:
    """Tell whether any pattern matches; what is no Unicode (a lone surrogate) reads as `?`."""
    return compiled.Match(text.encode("utf-8", "replace")) is not None

"""What a list is made of, as the configuration names it: entries in place, and files of them."""

from dataclasses import dataclass
from enum import StrEnum
from pathlib import Path


class Kind(StrEnum):
    """What an entry of a list stands for; each kind is looked up in its own way."""

    ADDRESSES = "addresses"
    DOMAINS = "domains"
    NETWORKS = "networks"
    PATTERNS = "patterns"


@dataclass(frozen=True, slots=True)
class Fault:
    """What is wrong (or, if it is no error, doubtful) in a list, where, and how to mend it."""

    file: str
    line: int
    what: str
    mend: str
    error: bool = True


@dataclass(frozen=True, slots=True)
class InlineEntry:
    """An entry that stands in the configuration itself."""

    kind: Kind
    text: str
    file: str
    line: int


@dataclass(frozen=True, slots=True)
class ListFile:
    """A file of entries: where it is, what it is called in messages, and who names it."""

    kind: Kind
    path: Path
    shown: str
    named_in: str
    named_at: int


@dataclass(frozen=True, slots=True)
class ListSource:
    """
    A `[lists.NAME]` table.

    `kinds` are those that the table gives, were they empty. `recipient_delimiter` holds the
    characters that end a recipient's name and begin its extension, as in postconf(5).
    """

    name: str
    kinds: frozenset[Kind]
    file: str
    line: int
    inline: tuple[InlineEntry, ...] = ()
    files: tuple[ListFile, ...] = ()
    recipient_delimiter: str = ""

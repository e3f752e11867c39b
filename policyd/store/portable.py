"""
State as lines of JSON (JSON Lines), in which it moves between stores, and into a backup.

The first line is a header, each other line one entry. Lines are ASCII (RFC 8259 section 7), so
that keys survive whatever a sender put into them: control characters, and octets that are no UTF-8,
which stand as lone surrogates.
"""

import json
from collections.abc import Iterable, Iterator
from datetime import UTC, datetime
from typing import Any, Final

import msgspec

from policyd.store.model import Account, Client, Entry, Triplet

VERSION: Final = 1
_LARGEST: Final = 2**53
"""Numbers above it are not the same in every store (RFC 8259 section 6)."""


class PortableError(ValueError):
    """A line is no entry. Says which line, and why."""


class _Header(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    policyd_state: int
    exported: str = ""


def header(now: int) -> str:
    """Write the first line, which says when it was written; `now` is in milliseconds."""
    exported = datetime.fromtimestamp(now / 1000, UTC).isoformat(timespec="seconds")
    return _written(_Header(VERSION, exported))


def line(entry: Entry) -> str:
    """Write one entry, with the line's end."""
    return _written(entry)


def plain(value: Any) -> Any:
    """Give a struct, or several in a list, in the types that `json` writes."""
    return msgspec.to_builtins(value, str_keys=True)


def read(lines: Iterable[bytes]) -> Iterator[Entry]:
    """Read entries, one after the other; PortableError at the first line that is none."""
    expected = False
    for number, octets in enumerate(lines, 1):
        if not octets.strip():
            continue
        try:
            if not expected:
                _check_header(octets)
                expected = True
                continue
            yield entry_of(_parsed(octets))
        except RecursionError as error:
            raise PortableError(f"line {number}: it is nested too deeply") from error
        except ValueError as error:  # msgspec's, json's and UnicodeDecodeError are such
            raise PortableError(f"line {number}: {error}") from error
    if not expected:
        raise PortableError("line 1: there is none, not even the header of an export")


def entry_of(value: object) -> Entry:
    """Make an entry of what plain() gave; ValueError if it is none."""
    entry: Triplet | Client | Account = msgspec.convert(
        value, Triplet | Client | Account, str_keys=True
    )
    for name, number in _numbers(entry):
        if not 0 <= number <= _LARGEST:  # nor is NaN
            raise ValueError(f"{name} is {number}; it is from 0 to 2 to the power of 53")
    if isinstance(entry, Account) and not entry.window:
        raise ValueError("window is 0")
    return entry


def _written(value: msgspec.Struct) -> str:
    return json.dumps(plain(value), separators=(",", ":")) + "\n"


def _parsed(octets: bytes) -> object:
    return json.loads(octets.decode())


def _check_header(octets: bytes) -> None:
    try:
        found = msgspec.convert(_parsed(octets), _Header)
    except ValueError as error:
        raise ValueError("this is no header of an export of policyd's state") from error
    if found.policyd_state != VERSION:
        raise ValueError(
            f"the export is of version {found.policyd_state}; this policyd reads version {VERSION}"
        )


def _numbers(entry: Entry) -> Iterator[tuple[str, float]]:
    match entry:
        case Triplet():
            yield from (("first", entry.first), ("last", entry.last), ("expires", entry.expires))
        case Client():
            yield from (("successes", entry.successes), ("last", entry.last))
            yield "expires", entry.expires
        case Account():
            yield from (("window", entry.window), ("level", entry.level), ("at", entry.at))
            yield "expires", entry.expires
            for part, amount in entry.parts.items():
                yield from (("a part's number", part), ("a part's amount", amount))

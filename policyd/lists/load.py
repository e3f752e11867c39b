"""Reading a list: its entries in place and its files, into a snapshot that lookups use."""

import os
import stat
from codecs import BOM_UTF8
from collections.abc import Iterable
from dataclasses import dataclass
from typing import BinaryIO, Final, NamedTuple, Self

from policyd.lists.entries import (
    EntryError,
    Network,
    looks_like_postfix_line,
    parse_address,
    parse_domain,
    parse_network,
    strip_comment,
)
from policyd.lists.keys import Keys, keys_of
from policyd.lists.networks import Networks
from policyd.lists.patterns import Patterns, TooManyError, check_pattern
from policyd.lists.signature import Signature, Signatures, signature_of
from policyd.lists.source import Fault, Kind, ListFile, ListSource

MOST_FAULTS: Final = 100
"""Faults told of one file; a file of the wrong kind has one a line."""
LARGEST_FILE: Final = 1 << 30
_SLICE: Final = 1 << 20  # octets between looks whether the file grows
_TRIES: Final = 3


@dataclass(frozen=True, slots=True)
class Snapshot:
    """The entries of one reading."""

    addresses: Keys
    domains: Keys
    networks: Networks
    patterns: Patterns | None = None

    def __len__(self) -> int:
        patterns = 0 if self.patterns is None else len(self.patterns)
        return len(self.addresses) + len(self.domains) + len(self.networks) + patterns

    def __reduce__(self) -> tuple[type[Self], tuple[Keys, Keys, Networks, Patterns | None]]:
        """Travel quickly: hundreds of rules may each write out a list."""
        return type(self), (self.addresses, self.domains, self.networks, self.patterns)


class Reading(NamedTuple):
    """What load_list() made of a list. With an error among the faults, entries are missing."""

    snapshot: Snapshot
    faults: tuple[Fault, ...]
    signatures: Signatures


def load_list(source: ListSource) -> Reading:
    """Read a list, all of its faults at once; a million entries take seconds."""
    for _ in range(_TRIES):
        reader = _Reader()
        for entry in source.inline:
            reader.take(entry.kind, entry.text, entry.file, entry.line)
        try:
            signatures = {file.path: reader.read(file) for file in source.files}
        except _ChangedError:
            continue
        break
    else:
        reader.blame_changing(source.files)
        signatures = {file.path: None for file in source.files}
    snapshot = reader.finished(source)
    return Reading(snapshot, tuple(reader.faults), signatures)


def reread(source: ListSource, before: Signatures) -> Reading:
    """Read a list of which an earlier reading, with the signatures `before`, is in force."""
    reading = load_list(source)
    faults = (*reading.faults, *emptied(source, before, reading.signatures))
    return reading._replace(faults=faults)


def emptied(source: ListSource, before: Signatures, now: Signatures) -> tuple[Fault, ...]:
    """
    Blame the files of a list that had entries and now have no octet.

    Their writer failed, more likely than not, and were one taken, every mailbox of it would be
    unknown.
    """
    mend = "if that is meant, leave a line in it that begins with #"
    return tuple(
        Fault(file.named_in, file.named_at, f"{file.shown} was emptied", mend)
        for file in source.files
        if (old := before.get(file.path)) is not None
        and (new := now.get(file.path)) is not None
        and old.size
        and not new.size
    )


class _ChangedError(Exception):
    """A file changed while it was read."""


class _Reader:
    """Collects the entries and the faults of one reading."""

    def __init__(self) -> None:
        self.faults: list[Fault] = []
        self._addresses: list[str] = []
        self._domains: list[str] = []
        self._networks: list[Network] = []
        self._patterns: list[str] = []

    def take(self, kind: Kind, text: str, file: str, line: int) -> None:
        """Take one entry, or the fault of it."""
        try:
            self._add(kind, text)
        except EntryError as error:
            self.faults.append(Fault(file, line, error.what, error.mend))
        if kind is Kind.PATTERNS and looks_like_postfix_line(text):
            self.faults.append(
                Fault(
                    file,
                    line,
                    f"'{text}' matches only texts with these slashes",
                    "write the expression alone, without slashes, flags and result",
                    error=False,
                )
            )

    def _add(self, kind: Kind, text: str) -> None:
        if kind is Kind.ADDRESSES:
            self._addresses.append(parse_address(text))
        elif kind is Kind.DOMAINS:
            self._domains.append(parse_domain(text))
        elif kind is Kind.NETWORKS:
            self._networks.append(parse_network(text))
        else:
            check_pattern(text)
            self._patterns.append(text)

    def read(self, file: ListFile) -> Signature | None:
        """Read a file; its signature, or None and a fault if it cannot be read."""
        try:
            with open(file.path, "rb", opener=_open_at_once) as stream:
                status = os.fstat(stream.fileno())
                unusable = _unusable(status)
                if unusable:
                    self._blame_file(file, f"cannot be read: {unusable}", "name a text file")
                    return None
                self._read_lines(file, stream, status.st_size)
                after = signature_of(os.fstat(stream.fileno()))
        except OSError as error:
            mend = "correct the name, or let policyd's user read it"
            self._blame_file(file, f"cannot be read: {error.strerror}", mend)
            return None
        if after != signature_of(status):
            raise _ChangedError
        if not after.size:
            mend = "if that is meant, say so in it in a line that begins with #"
            self._blame_file(file, "is empty", mend, error=False)
        return after

    def _read_lines(self, file: ListFile, stream: BinaryIO, size: int) -> None:
        most = len(self.faults) + MOST_FAULTS
        number = 0
        while lines := stream.readlines(_SLICE):
            if stream.tell() > size:
                raise _ChangedError  # else a file that only grows would never end
            for raw in lines:
                number += 1
                if len(self.faults) >= most:
                    what = "the file has more faults; the rest was not read"
                    self.faults.append(Fault(file.shown, number, what, "mend those above first"))
                    return
                self._take_line(file, raw, number)

    def _take_line(self, file: ListFile, raw: bytes, number: int) -> None:
        try:
            text = (raw.removeprefix(BOM_UTF8) if number == 1 else raw).decode()
        except UnicodeDecodeError:
            what, mend = "the line is not UTF-8", "save the file as UTF-8"
            self.faults.append(Fault(file.shown, number, what, mend))
            return
        entry = strip_comment(text, file.kind)
        if entry:
            self.take(file.kind, entry, file.shown, number)

    def blame_changing(self, files: Iterable[ListFile]) -> None:
        """Say of files that they do not stand still."""
        for file in files:
            mend = "write it under another name, then rename it"
            self._blame_file(file, "changed while it was read", mend)

    def _blame_file(self, file: ListFile, what: str, mend: str, *, error: bool = True) -> None:
        self.faults.append(
            Fault(file.named_in, file.named_at, f"{file.shown} {what}", mend, error=error)
        )

    def finished(self, source: ListSource) -> Snapshot:
        """Give what was read; the patterns are compiled here, all into one automaton."""
        patterns = None
        if self._patterns:
            try:
                patterns = Patterns(self._patterns)
            except TooManyError:
                what = f"the {len(self._patterns)} patterns do not fit into one automaton"
                mend = "divide them over several lists"
                self.faults.append(Fault(source.file, source.line, what, mend))
        return Snapshot(
            keys_of(self._addresses), keys_of(self._domains), Networks(self._networks), patterns
        )


def _open_at_once(path: str, flags: int) -> int:
    """Open without waiting for the writer of a FIFO; of no effect on files."""
    return os.open(path, flags | os.O_NONBLOCK)


def _unusable(status: os.stat_result) -> str:
    if not stat.S_ISREG(status.st_mode):
        return "it is no regular file"
    if status.st_size > LARGEST_FILE:
        return f"it has {status.st_size} octets, and the most is {LARGEST_FILE}"
    return ""

"""Reading a list: its entries in place and its files, into a snapshot that lookups use."""

import os
import stat
from codecs import BOM_UTF8
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import BinaryIO, Final, NamedTuple

from policyd.lists.buckets import Buckets, Keys, pieces_of
from policyd.lists.entries import (
    EntryError,
    looks_like_postfix_line,
    parse_address,
    parse_domain,
    parse_network,
    strip_comment,
)
from policyd.lists.networks import Networks
from policyd.lists.patterns import Patterns, TooManyError, check_pattern
from policyd.lists.source import Fault, Kind, ListFile, ListSource

MOST_FAULTS: Final = 100
"""Faults told of one file; a file of the wrong kind has one a line."""
LARGEST_FILE: Final = 1 << 30
_SLICE: Final = 16 << 10  # octets read and parsed without a pause: a millisecond's work
_TRIES: Final = 3


class Signature(NamedTuple):
    """By what a changed file is told from an unchanged one."""

    device: int
    inode: int
    size: int
    mtime_ns: int


@dataclass(slots=True)
class Snapshot:
    """The entries of one reading; nothing changes once load_list() has returned it."""

    addresses: Keys[str]
    domains: Keys[str]
    networks: Networks
    patterns: Patterns | None = None

    def __len__(self) -> int:
        patterns = 0 if self.patterns is None else len(self.patterns)
        return len(self.addresses) + len(self.domains) + len(self.networks) + patterns

    def pieces(self) -> list[object]:
        """Give its parts, so that who lets them go one by one need not free all at once."""
        return pieces_of(self.addresses) + pieces_of(self.domains) + self.networks.pieces()


class Reading(NamedTuple):
    """What load_list() made of a list. With an error among the faults, entries are missing."""

    snapshot: Snapshot
    faults: tuple[Fault, ...]
    signatures: Mapping[Path, Signature | None]


def no_pause() -> None:
    """Read on at once: for a start, when nobody waits yet."""


def load_list(source: ListSource, pause: Callable[[], None] = no_pause) -> Reading:
    """Read a list, all of its faults at once; `pause` is called about every millisecond."""
    for _ in range(_TRIES):
        reader = _Reader(pause)
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


def sign(path: Path) -> Signature | None:
    """Look at a file; None if it is not there or cannot be looked at."""
    try:
        return _signature(path.stat())
    except OSError:
        return None


def _signature(status: os.stat_result) -> Signature:
    return Signature(status.st_dev, status.st_ino, status.st_size, status.st_mtime_ns)


class _ChangedError(Exception):
    """A file changed while it was read."""


class _Reader:
    """Collects the entries and the faults of one reading."""

    def __init__(self, pause: Callable[[], None]) -> None:
        self._addresses: Buckets[str] = Buckets()
        self._domains: Buckets[str] = Buckets()
        self._networks = Networks()
        self.faults: list[Fault] = []
        self._patterns: list[str] = []
        self._pause = pause

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
            self._addresses.add(parse_address(text))
        elif kind is Kind.DOMAINS:
            self._domains.add(parse_domain(text))
        elif kind is Kind.NETWORKS:
            self._networks.add(parse_network(text))
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
                after = _signature(os.fstat(stream.fileno()))
        except OSError as error:
            mend = "correct the name, or let policyd's user read it"
            self._blame_file(file, f"cannot be read: {error.strerror}", mend)
            return None
        if after != _signature(status):
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
            self._pause()

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
        self._networks.settle()
        return Snapshot(
            self._addresses.settled(),
            self._domains.settled(),
            self._networks,
            patterns,
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

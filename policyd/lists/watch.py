"""
Files of lists are read again when they change.

poll() is meant to be called once a second or so on a thread of its own: it looks at files and reads
them. A new version is taken when the file has stood still for a moment, read in short slices so
that answers go on meanwhile, and put in place at once. What cannot be read, or has an error, is
told once, and the last good version stays.
"""

import time
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from policyd.lists.buckets import FEW
from policyd.lists.load import Signature, load_list, sign
from policyd.lists.named import NamedList
from policyd.lists.source import Fault

SETTLE: Final = 1.0
"""
Seconds for which a file must not change before it is read: half a file written in place is no
version of it, and two changes within one tick of a file system's clock cannot be told apart.
"""

_BREATH: Final = 0.0005
"""Seconds that a reading thread lets the others run, after about as many of work."""


@dataclass(frozen=True, slots=True)
class Change:
    """A list whose files changed: it was read anew if no fault is an error, else it stays."""

    name: str
    entries: int
    faults: tuple[Fault, ...]
    taken: bool


Seen = Mapping[Path, Signature | None]


@dataclass(slots=True)
class _Watched:
    list: NamedList
    changed: Seen | None = None
    since: float = 0.0
    refused: Seen | None = None


def _breathe() -> None:
    time.sleep(_BREATH)


class Watcher:
    """Keeps the lists of one policy as their files are; poll() never runs twice at a time."""

    def __init__(
        self,
        lists: Iterable[NamedList],
        *,
        settle: float = SETTLE,
        pause: Callable[[], None] = _breathe,
    ) -> None:
        self._watched = [_Watched(each) for each in lists if each.source.files]
        self._settle = settle
        self._pause = pause

    def poll(self, now: float) -> tuple[Change, ...]:
        """Look at every file and take what is new; `now` in seconds of a monotonic clock."""
        changes = (self._look(watched, now) for watched in self._watched)
        return tuple(change for change in changes if change is not None)

    def _look(self, watched: _Watched, now: float) -> Change | None:
        seen = {file.path: sign(file.path) for file in watched.list.source.files}
        if seen == watched.list.signatures:
            watched.changed = watched.refused = None
            return None
        if seen == watched.refused:
            return None
        if seen != watched.changed:
            watched.changed, watched.since = seen, now
        if now - watched.since < self._settle:
            return None
        return self._read(watched, seen)

    def _read(self, watched: _Watched, seen: Seen) -> Change:
        reading = load_list(watched.list.source, self._pause)
        faults = (*reading.faults, *_emptied(watched.list, reading.signatures))
        if any(fault.error for fault in faults):
            watched.refused = seen
            return Change(watched.list.name, len(watched.list), faults, taken=False)
        old = watched.list.snapshot
        watched.list.snapshot = reading.snapshot
        watched.list.signatures = reading.signatures
        watched.changed = watched.refused = None
        pieces = old.pieces() if len(old) > FEW else []
        del old
        while pieces:  # a large list, freed at once, would hold the others up
            pieces.pop()
            self._pause()
        return Change(watched.list.name, len(watched.list), faults, taken=True)


def _emptied(old: NamedList, new: Seen) -> tuple[Fault, ...]:
    """
    Refuse a file that had entries and now has no octet: its writer failed, more likely than not.

    Were it taken, every mailbox of it would be unknown.
    """
    faults = []
    for file in old.source.files:
        before, after = old.signatures.get(file.path), new.get(file.path)
        if before is not None and after is not None and before.size and not after.size:
            what = f"{file.shown} was emptied"
            mend = "if that is meant, leave a line in it that begins with #"
            faults.append(Fault(file.named_in, file.named_at, what, mend))
    return tuple(faults)

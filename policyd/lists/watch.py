"""
Which lists are to be read again, because their files have changed.

poll() is meant to be called once a second or so. It looks at files and reads none: who calls it has
the lists read (see lists.load.reread) and says what was put in place.
"""

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Final

from policyd.lists.signature import Signatures, sign
from policyd.lists.source import ListSource

SETTLE: Final = 1.0
"""
Seconds for which a file must not change before it is read: half a file written in place is no
version of it, and two changes within one tick of a file system's clock cannot be told apart.
"""


@dataclass(slots=True)
class _Watched:
    source: ListSource
    in_force: Signatures
    changed: Signatures | None = None
    since: float = 0.0
    given: Signatures | None = None


class Watcher:
    """Looks after the files of one policy's lists."""

    def __init__(
        self, lists: Iterable[tuple[ListSource, Signatures]], settle: float = SETTLE
    ) -> None:
        """Take lists with the signatures of what was read of them."""
        self._watched = {
            source.name: _Watched(source, signatures)
            for source, signatures in lists
            if source.files
        }
        self._settle = settle

    def poll(self, now: float) -> tuple[ListSource, ...]:
        """
        Give the lists to read again, each once until its files change anew.

        `now` is in seconds of a monotonic clock. What is then refused needs no word here: the same
        state of files is not given twice, unless again() asks for it.
        """
        return tuple(each.source for each in self._watched.values() if self._is_due(each, now))

    def again(self, name: str, when: float) -> None:
        """Give a list's files once more as they are, not before `when`; they were not read."""
        watched = self._watched.get(name)
        if watched is not None:
            watched.given, watched.since = None, when - self._settle

    def taken(self, name: str, signatures: Signatures) -> None:
        """Learn that a reading with these signatures is in force; of no matter if not watched."""
        watched = self._watched.get(name)
        if watched is not None:
            watched.in_force = signatures

    def _is_due(self, watched: _Watched, now: float) -> bool:
        seen = {file.path: sign(file.path) for file in watched.source.files}
        if seen == watched.in_force:
            watched.changed = watched.given = None
            return False
        if seen == watched.given:
            return False
        if seen != watched.changed:
            watched.changed, watched.since = seen, now
        if now - watched.since < self._settle:
            return False
        watched.given = seen
        return True

"""Answers of a remote list, kept for a while: as many as there is room for, until they expire."""

from collections import OrderedDict
from typing import NamedTuple


class Kept(NamedTuple):
    """An answer, and until when it is fresh and still of use; seconds of a monotonic clock."""

    found: bool
    fresh_until: float
    stale_until: float


class Answers:
    """What was found under which keys; the least recently used go first when it is full."""

    def __init__(self, *, fresh: float, stale: float, most: int) -> None:
        """Keep at most so many answers, fresh for so many seconds and stale for so many more."""
        self._fresh = fresh
        self._stale = stale
        self._most = most
        self._kept: OrderedDict[tuple[str, ...], Kept] = OrderedDict()

    def __len__(self) -> int:
        return len(self._kept)

    def put(self, keys: tuple[str, ...], found: bool, now: float) -> None:
        """Keep an answer in the place of an older one."""
        fresh_until = now + self._fresh
        self._kept[keys] = Kept(found, fresh_until, fresh_until + self._stale)
        self._kept.move_to_end(keys)
        if len(self._kept) > self._most:
            self._kept.popitem(last=False)

    def fresh(self, keys: tuple[str, ...], now: float) -> bool | None:
        """Give an answer that has not expired; None without one."""
        kept = self._kept.get(keys)
        if kept is None or now >= kept.fresh_until:
            return None
        self._kept.move_to_end(keys)
        return kept.found

    def stale(self, keys: tuple[str, ...], now: float) -> bool | None:
        """Give an answer that serves while no better one can be had; None without one."""
        kept = self._kept.get(keys)
        if kept is None:
            return None
        if now >= kept.stale_until:
            del self._kept[keys]
            return None
        self._kept.move_to_end(keys)
        return kept.found

"""
The board: rows of doubles in which worker processes count, and what is scraped of them.

Each worker slot has a row, the supervisor another, in memory of its own (memfd_create(2)): what a
worker has counted is there however it ends, and the next one in its slot goes on counting there.
When the policy changes, series of old rules go as soon as nobody counts them any more, and their
places are taken again: the board's size is bounded over any number of changes.
"""

import fcntl
import mmap
import os
import threading
import weakref
from collections.abc import Iterator, Sequence
from typing import Final, cast

from prometheus_client.metrics_core import Metric
from prometheus_client.registry import Collector

from policyd.observe.exposition import Exposition
from policyd.observe.places import Places
from policyd.observe.series import (
    OCTETS_OF_A_DOUBLE,
    Family,
    Kind,
    Labels,
    Layout,
    Row,
    Series,
)

_SEALS: Final = fcntl.F_SEAL_SHRINK | fcntl.F_SEAL_SEAL


class Board:
    """
    Lays out series and holds the rows; all but `collector` is for one thread.

    `layout` is the one in force: what a worker that starts now is to be given.
    """

    def __init__(self, slots: int) -> None:
        """Make the rows of worker slots 0 to `slots` - 1, and one of our own after them."""
        self.own: Final = slots
        """The number of our own row, for `descriptor`."""
        self._places: Final = Places()
        self._laid_out: Final[list[tuple[int, Series]]] = []
        self._descriptors: Final = [_memory(f"policyd-metrics-{n}") for n in range(slots + 1)]
        weakref.finalize(self, _close, self._descriptors)
        self._size = 0
        self._running: frozenset[int] = frozenset()
        self._rows: tuple[Row, ...] = ()
        self.layout = Layout(0, (), {}, 0)
        self._exposition = Exposition(self.layout)
        # Of _exposition with the _rows and the _running workers: a scrape runs in a thread.
        self._lock: Final = threading.Lock()
        self._grow(1)

    @property
    def collector(self) -> Collector:
        """What exposes the rows to a prometheus-client registry, in any thread."""
        return _BoardCollector(self)

    def lay_out(self, series: Series) -> Layout:
        """
        Give a place to each series of a new policy that has none; they begin at 0.

        Series of older policies stay until release(): a worker may still count them. All or
        nothing: OSError when there is no memory; ValueError: see Places.size_with.
        """
        self._grow(self._places.size_with(series))
        for place, width in self._places.take(series):
            for row in self._rows:
                for cell in range(place, place + width):
                    row[cell] = 0.0
        generation = self.layout.generation + 1
        self._laid_out.append((generation, series))
        return self._show(generation)

    def release(self, oldest: int | None = None) -> Layout:
        """
        Let go the series that no layout has from generation `oldest` on; without, from the newest.

        To be called when nobody counts by an older one any more, in any worker. Lasting series
        that have counted something stay, so that sums over them never fall.
        """
        if not self._laid_out:
            return self.layout
        oldest = self.layout.generation if oldest is None else oldest
        self._laid_out[:] = [
            (generation, series)
            for generation, series in self._laid_out
            if generation >= min(oldest, self.layout.generation)
        ]
        leaving = self._leaving()
        if leaving:
            self._places.give_up(leaving)
            self._show(self.layout.generation)
        return self.layout

    def descriptor(self, slot: int) -> int:
        """
        Give the file of a row, to be passed to the worker that counts in it from now on.

        Its gauges count until gone(). The file stays the board's: nobody else is to close it.
        """
        if slot != self.own:
            with self._lock:
                self._running |= {slot}
        return self._descriptors[slot]

    def gone(self, slot: int) -> None:
        """Have the gauges of a slot's worker count no more; call it once the worker has ended."""
        with self._lock:
            self._running -= {slot}
            for family, _, place in self._places:
                if family.kind is Kind.GAUGE:
                    self._rows[slot][place] = 0.0

    def copy(self) -> tuple[Exposition, Sequence[list[float]], frozenset[int]]:
        """Take what a scrape needs, all of one moment; in any thread."""
        with self._lock:
            copies = [cast("list[float]", row.tolist()) for row in self._rows]
            return self._exposition, copies, self._running

    def _leaving(self) -> list[tuple[Family, Labels]]:
        needed: dict[Family, set[Labels]] = {}
        for _, series in self._laid_out:
            for family, label_sets in series.items():
                needed.setdefault(family, set()).update(label_sets)
        return [
            (family, labels)
            for family, labels, place in self._places
            if labels not in needed.get(family, ())
            and not (family.lasting and any(row[place] for row in self._rows))
        ]

    def _show(self, generation: int) -> Layout:
        """Have what stands now laid out and scraped: the newest policy's series first."""
        newest = self._laid_out[-1][1]
        cells: dict[str, dict[Labels, int]] = {}
        for family, label_sets in newest.items():
            places = self._places.of(family)
            cells[family.name] = {labels: places[labels] for labels in label_sets}
            if family.kind is not Kind.INFO:  # what an info says is the newest policy's alone
                cells[family.name].update(places)
        families = tuple(newest)
        self.layout = Layout(generation, families, cells, self._places.size)
        exposition = Exposition(self.layout)
        with self._lock:
            self._exposition = exposition
        return self.layout

    def _grow(self, size: int) -> None:
        """Have room for so many doubles in each row; OSError when there is no memory."""
        if size <= self._size:
            return
        octets = -(-size * OCTETS_OF_A_DOUBLE // mmap.PAGESIZE) * mmap.PAGESIZE
        for descriptor in self._descriptors:
            # reserved, not only promised: a count must not end in SIGBUS for want of memory
            os.posix_fallocate(descriptor, 0, octets)
        rows = tuple(memoryview(mmap.mmap(each, octets)).cast("d") for each in self._descriptors)
        with self._lock:
            self._rows = rows
        self._size = octets // OCTETS_OF_A_DOUBLE


class _BoardCollector(Collector):
    def __init__(self, board: Board) -> None:
        self._board = board

    def collect(self) -> Iterator[Metric]:
        """Give each family that has series, from one copy of each row."""
        exposition, rows, running = self._board.copy()
        return exposition.collect(rows, running)


def _memory(name: str) -> int:
    """Make a file in memory that nobody who has it can make smaller under another's mapping."""
    descriptor = os.memfd_create(name, os.MFD_CLOEXEC | os.MFD_ALLOW_SEALING)
    fcntl.fcntl(descriptor, fcntl.F_ADD_SEALS, _SEALS)
    return descriptor


def _close(descriptors: Sequence[int]) -> None:
    for descriptor in descriptors:
        os.close(descriptor)

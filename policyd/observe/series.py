"""
Metric series as places in flat memory.

Every series that a policy can produce is known when the policy is loaded, so a series is an index
into an array of doubles: counting is one addition, nothing is allocated while mail flows, and
the memory can be a file's that outlives whoever writes it. One row of doubles has one writer; a
collector adds the rows up.
"""

import bisect
import mmap
from collections.abc import Mapping
from dataclasses import dataclass
from enum import StrEnum
from typing import Final, TypeAlias

OCTETS_OF_A_DOUBLE: Final = 8

Labels = tuple[str, ...]
Row: TypeAlias = "memoryview[float]"
"""The doubles of one writer. One that is aligned is written and read whole."""


class Kind(StrEnum):
    """How a family is counted and exposed."""

    COUNTER = "counter"
    GAUGE = "gauge"
    HISTOGRAM = "histogram"
    INFO = "info"
    """Always 1: what it says stands in its labels."""


@dataclass(frozen=True, slots=True)
class Family:
    """
    A metric: name, kind, help text, label names, and a histogram's upper bounds in its unit.

    A counter's name ends in `_total`, an info's in `_info`. `least`: a gauge's value is the least
    of the running workers', not the sum. `lasting`: series that have counted something stay when
    no policy has them any more; only for labels of which there are so many and no more.
    """

    name: str
    kind: Kind
    help: str
    labels: Labels = ()
    bounds: tuple[float, ...] = ()
    least: bool = False
    lasting: bool = False

    @property
    def width(self) -> int:
        """How many doubles a series takes: a histogram's are its buckets, +Inf, and the sum."""
        if self.kind is Kind.HISTOGRAM:
            return len(self.bounds) + 2
        return 0 if self.kind is Kind.INFO else 1

    @property
    def samples(self) -> int:
        """How many samples a series is in a scrape: a histogram's are its buckets, sum, count."""
        return len(self.bounds) + 3 if self.kind is Kind.HISTOGRAM else 1


Series = Mapping[Family, tuple[Labels, ...]]
"""The series that a policy can produce, each once, those of an info too."""


@dataclass(frozen=True, slots=True)
class Layout:
    """
    Where each series stands in a row of doubles; made by a Board, and sent to its workers.

    It has the series of the newest policy and those of older ones that may still be counted.
    `generation` rises by one with each; `size` is in doubles.
    """

    generation: int
    families: tuple[Family, ...]
    places: Mapping[str, Mapping[Labels, int]]
    size: int

    def cells(self, family: Family) -> Mapping[Labels, int]:
        """Give the place of each series of a family, by its label values."""
        return self.places.get(family.name, {})


def map_row(descriptor: int, layout: Layout) -> Row:
    """
    Map a row that Board.descriptor gave, as far as a layout of that board goes.

    The descriptor is not needed afterwards; OSError or ValueError where it is no such row.
    """
    memory = mmap.mmap(descriptor, layout.size * OCTETS_OF_A_DOUBLE)
    return memoryview(memory).cast("d")


def observe(row: Row, place: int, bounds: tuple[float, ...], amount: float) -> None:
    """Count an amount in the histogram at `place`; a bucket's upper bound belongs to it."""
    row[place + bisect.bisect_left(bounds, amount)] += 1.0
    row[place + len(bounds) + 1] += amount

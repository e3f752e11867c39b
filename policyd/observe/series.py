"""
Metric series as places in flat memory.

Every series that a policy can produce is known when the policy is loaded, so a series is an index
into an array of doubles: counting is one addition, nothing is allocated while mail flows, and
the memory can be an mmap that outlives whoever writes it. One row of doubles has one writer; a
collector adds the rows up.
"""

import bisect
import mmap
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from enum import StrEnum
from typing import Final

from prometheus_client.metrics_core import (
    CounterMetricFamily,
    GaugeMetricFamily,
    HistogramMetricFamily,
    InfoMetricFamily,
    Metric,
)
from prometheus_client.registry import Collector
from prometheus_client.utils import floatToGoString

_OCTETS_OF_A_DOUBLE: Final = 8

Labels = tuple[str, ...]


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

    A counter's name ends in `_total`, an info's in `_info`.
    """

    name: str
    kind: Kind
    help: str
    labels: Labels = ()
    bounds: tuple[float, ...] = ()

    @property
    def width(self) -> int:
        """How many doubles a series takes: a histogram's are its buckets, +Inf, and the sum."""
        if self.kind is Kind.HISTOGRAM:
            return len(self.bounds) + 2
        return 0 if self.kind is Kind.INFO else 1


class Layout:
    """Where each series stands in a row of doubles; computed once from the loaded policy."""

    def __init__(self, series: Mapping[Family, Iterable[Labels]]) -> None:
        """Give each label set of each family its place, in the order given."""
        self.families: Final = tuple(series)
        self._cells: Final[dict[str, dict[Labels, int]]] = {}
        place = 0
        for family, label_sets in series.items():
            cells = self._cells[family.name] = {}
            for labels in label_sets:
                if len(labels) != len(family.labels):
                    raise ValueError(f"{family.name} has the labels {family.labels}, not {labels}")
                if labels not in cells:
                    cells[labels] = place
                    place += family.width
        self.size: Final = place
        """Doubles in a row."""

    def cells(self, family: Family) -> Mapping[Labels, int]:
        """Give the place of each series of a family, by its label values."""
        return self._cells[family.name]

    def row(self, memory: bytearray | mmap.mmap | None = None) -> "memoryview[float]":
        """View memory of at least `size` doubles, or fresh memory at 0, as a row."""
        octets = self.size * _OCTETS_OF_A_DOUBLE
        if memory is None:
            memory = bytearray(octets)
        return memoryview(memory)[:octets].cast("d")


def observe(row: "memoryview[float]", place: int, bounds: tuple[float, ...], amount: float) -> None:
    """Count an amount in the histogram at `place`; a bucket's upper bound belongs to it."""
    row[place + bisect.bisect_left(bounds, amount)] += 1.0
    row[place + len(bounds) + 1] += amount


class RowCollector(Collector):
    """Expose the sum of the rows to a prometheus-client registry."""

    def __init__(self, layout: Layout, rows: Sequence["memoryview[float]"]) -> None:
        """Take rows of this layout; they are only read."""
        self._layout = layout
        self._rows = rows

    def collect(self) -> Iterator[Metric]:
        """Give each family that has series, from one copy of each row."""
        copies = [row.tolist() for row in self._rows]
        totals = copies[0] if len(copies) == 1 else list(map(sum, zip(*copies, strict=True)))
        for family in self._layout.families:
            cells = self._layout.cells(family)
            if cells:
                yield _exposed(family, cells, totals)


def _exposed(family: Family, cells: Mapping[Labels, int], totals: Sequence[float]) -> Metric:
    if family.kind is Kind.INFO:
        name = family.name.removesuffix("_info")
        info = InfoMetricFamily(name, family.help, labels=())
        for labels in cells:
            info.add_metric((), dict(zip(family.labels, labels, strict=True)))
        return info
    if family.kind is Kind.HISTOGRAM:
        histogram = HistogramMetricFamily(family.name, family.help, labels=family.labels)
        bounds = [*map(floatToGoString, family.bounds), "+Inf"]
        for labels, place in cells.items():
            counts = totals[place : place + len(bounds)]
            so_far = [sum(counts[: index + 1]) for index in range(len(counts))]
            histogram.add_metric(
                labels, list(zip(bounds, so_far, strict=True)), totals[place + len(bounds)]
            )
        return histogram
    simple: CounterMetricFamily | GaugeMetricFamily
    if family.kind is Kind.COUNTER:
        simple = CounterMetricFamily(family.name, family.help, labels=family.labels)
    else:
        simple = GaugeMetricFamily(family.name, family.help, labels=family.labels)
    for labels, place in cells.items():
        simple.add_metric(labels, totals[place])
    return simple

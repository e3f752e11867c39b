"""What stands in rows, as prometheus-client's metric families."""

from collections.abc import Iterator, Mapping, Sequence
from collections.abc import Set as AbstractSet
from itertools import accumulate
from operator import add
from typing import Final

from prometheus_client.metrics_core import (
    CounterMetricFamily,
    GaugeMetricFamily,
    HistogramMetricFamily,
    Metric,
)
from prometheus_client.samples import Sample
from prometheus_client.utils import floatToGoString

from policyd.observe.series import Family, Kind, Labels, Layout

_Numbers = Sequence[float]


class Exposition:
    """A layout made ready for being scraped: what does not change from scrape to scrape."""

    def __init__(self, layout: Layout) -> None:
        """Prepare the families of a layout that have series."""
        self._families: Final = [
            _Prepared(family, cells)
            for family in layout.families
            if (cells := layout.cells(family))
        ]

    def collect(self, rows: Sequence[_Numbers], running: AbstractSet[int]) -> Iterator[Metric]:
        """Expose copies of the rows; `running` are the numbers of those of running workers."""
        totals = rows[0]
        for row in rows[1:]:
            totals = list(map(add, totals, row))
        of_workers = [rows[number] for number in running]
        for family in self._families:
            yield family.metric(totals, of_workers)


class _Prepared:
    """A family with the labels of its samples, in the order of their places."""

    def __init__(self, family: Family, cells: Mapping[Labels, int]) -> None:
        self._family = family
        self._places = tuple(cells.values())
        self._labels: list[dict[str, str]] = [
            dict(zip(family.labels, labels, strict=True)) for labels in cells
        ]
        if family.kind is Kind.HISTOGRAM:
            bounds = (*map(floatToGoString, family.bounds), "+Inf")
            self._buckets = [[{**labels, "le": le} for le in bounds] for labels in self._labels]

    def metric(self, totals: _Numbers, of_workers: Sequence[_Numbers]) -> Metric:
        family = self._family
        metric = _empty(family)
        if family.kind is Kind.HISTOGRAM:
            metric.samples = list(self._of_histogram(totals))
        else:
            values = zip(self._labels, self._values(totals, of_workers), strict=True)
            metric.samples = [Sample(family.name, labels, value) for labels, value in values]
        return metric

    def _values(self, totals: _Numbers, of_workers: Sequence[_Numbers]) -> Iterator[float]:
        for place in self._places:
            if self._family.kind is Kind.INFO:
                yield 1.0
            elif self._family.least:
                yield min((row[place] for row in of_workers), default=0.0)
            else:
                yield totals[place]

    def _of_histogram(self, totals: _Numbers) -> Iterator[Sample]:
        name = self._family.name
        width = self._family.width
        for labels, buckets, place in zip(self._labels, self._buckets, self._places, strict=True):
            *counts, total = totals[place : place + width]
            so_far = list(accumulate(counts))
            for bucket, count in zip(buckets, so_far, strict=True):
                yield Sample(f"{name}_bucket", bucket, count)
            yield Sample(f"{name}_count", labels, so_far[-1])
            yield Sample(f"{name}_sum", labels, total)


def _empty(family: Family) -> Metric:
    match family.kind:
        case Kind.COUNTER:
            return CounterMetricFamily(family.name, family.help)
        case Kind.GAUGE:
            return GaugeMetricFamily(family.name, family.help)
        case Kind.HISTOGRAM:
            return HistogramMetricFamily(family.name, family.help)
        case Kind.INFO:
            return Metric(family.name.removesuffix("_info"), family.help, "info")

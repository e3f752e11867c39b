"""Places in a row of doubles, and what a collector makes of them."""

import math
import mmap

import pytest
from hypothesis import given
from hypothesis import strategies as st
from prometheus_client import CollectorRegistry

from policyd.observe.series import Family, Kind, Layout, RowCollector, observe

COUNTER = Family("c_total", Kind.COUNTER, "Counted.", ("a", "b"))
HISTOGRAM = Family("h_seconds", Kind.HISTOGRAM, "Timed.", ("a",), (0.1, 1.0))
GAUGE = Family("g", Kind.GAUGE, "Held.")
INFO = Family("i_info", Kind.INFO, "Said.", ("hash",))


def layout() -> Layout:
    return Layout(
        {
            COUNTER: [("x", "y"), ("x", "z"), ("x", "y")],
            HISTOGRAM: [("p",), ("q",)],
            GAUGE: [()],
            INFO: [("abc",)],
        }
    )


def registry_of(*rows: "memoryview[float]", of: Layout) -> CollectorRegistry:
    registry = CollectorRegistry()
    registry.register(RowCollector(of, rows))
    return registry


def test_series_take_separate_places_and_fill_the_row() -> None:
    places = layout()
    taken = [
        place + offset
        for family in places.families
        for place in places.cells(family).values()
        for offset in range(family.width)
    ]
    assert sorted(taken) == list(range(places.size))
    assert places.size == 2 + 2 * 4 + 1


def test_a_label_set_given_twice_is_one_series() -> None:
    assert list(layout().cells(COUNTER)) == [("x", "y"), ("x", "z")]


def test_labels_that_are_not_the_familys_are_refused() -> None:
    with pytest.raises(ValueError, match="c_total has the labels"):
        Layout({COUNTER: [("x",)]})


def test_rows_are_added_up() -> None:
    places = layout()
    first, second = places.row(), places.row()
    cell = places.cells(COUNTER)["x", "z"]
    first[cell] += 2
    second[cell] += 3
    registry = registry_of(first, second, of=places)
    assert registry.get_sample_value("c_total", {"a": "x", "b": "z"}) == 5
    assert registry.get_sample_value("c_total", {"a": "x", "b": "y"}) == 0


def test_a_row_in_shared_memory_is_seen_through_another_view() -> None:
    places = layout()
    with mmap.mmap(-1, mmap.PAGESIZE) as memory:
        written, read = places.row(memory), places.row(memory)
        written[places.cells(GAUGE)[()]] = 7
        assert registry_of(read, of=places).get_sample_value("g") == 7
        written.release()
        read.release()


def test_an_info_is_one_and_takes_no_memory() -> None:
    places = layout()
    registry = registry_of(places.row(), of=places)
    assert registry.get_sample_value("i_info", {"hash": "abc"}) == 1
    assert INFO.width == 0


def test_a_family_without_series_is_not_exposed() -> None:
    places = Layout({COUNTER: [], GAUGE: [()]})
    assert [family.name for family in RowCollector(places, [places.row()]).collect()] == ["g"]


@given(amounts=st.lists(st.floats(0, 5)))
def test_a_histogram_is_consistent(amounts: list[float]) -> None:
    places = layout()
    row = places.row()
    for amount in amounts:
        observe(row, places.cells(HISTOGRAM)["q",], HISTOGRAM.bounds, amount)
    registry = registry_of(row, of=places)

    def bucket(bound: str) -> float | None:
        return registry.get_sample_value("h_seconds_bucket", {"a": "q", "le": bound})

    assert bucket("0.1") == sum(amount <= 0.1 for amount in amounts)
    assert bucket("1.0") == sum(amount <= 1 for amount in amounts)
    assert bucket("+Inf") == len(amounts)
    assert registry.get_sample_value("h_seconds_count", {"a": "q"}) == len(amounts)
    total = registry.get_sample_value("h_seconds_sum", {"a": "q"})
    assert total is not None
    assert math.isclose(total, math.fsum(amounts), abs_tol=1e-9)
    assert registry.get_sample_value("h_seconds_count", {"a": "p"}) == 0

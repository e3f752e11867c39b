"""Families, places in a row of doubles, and what a collector makes of them."""

import math
import os
import pickle

import pytest
from hypothesis import given
from hypothesis import strategies as st

from policyd.observe.board import Board
from policyd.observe.places import Places
from policyd.observe.series import Family, Kind, Layout, Row, Series, map_row, observe
from tests.observe.counted import registry_of

COUNTER = Family("c_total", Kind.COUNTER, "Counted.", ("a", "b"))
HISTOGRAM = Family("h_seconds", Kind.HISTOGRAM, "Timed.", ("a",), (0.1, 1.0))
GAUGE = Family("g", Kind.GAUGE, "Held.")
INFO = Family("i_info", Kind.INFO, "Said.", ("hash",))
SERIES: Series = {
    COUNTER: (("x", "y"), ("x", "z")),
    HISTOGRAM: (("p",), ("q",)),
    GAUGE: ((),),
    INFO: (("abc",),),
}


def laid_out(series: Series = SERIES, workers: int = 1) -> tuple[Board, Layout, list[Row]]:
    board = Board(workers)
    layout = board.lay_out(series)
    return board, layout, [map_row(board.descriptor(slot), layout) for slot in range(workers)]


def test_series_take_separate_places_and_fill_the_row() -> None:
    _, layout, _ = laid_out()
    taken = [
        place + offset
        for family in layout.families
        for place in layout.cells(family).values()
        for offset in range(family.width)
    ]
    assert sorted(taken) == list(range(layout.size))
    assert layout.size == 2 + 2 * 4 + 1


def test_a_label_set_given_twice_is_one_series() -> None:
    places = Places()
    twice = {COUNTER: (("x", "y"), ("x", "z"), ("x", "y"))}
    assert places.size_with(twice) == 2
    assert [place for place, _ in places.take(twice)] == [0, 1]


def test_a_place_is_taken_again_by_a_series_of_its_width_alone() -> None:
    places = Places()
    assert dict(places.take(SERIES)) == {0: 1, 1: 1, 2: 4, 6: 4, 10: 1, 11: 0}
    places.give_up([(HISTOGRAM, ("p",)), (COUNTER, ("x", "y"))])
    more: Series = {COUNTER: (("new", "one"), ("new", "two")), HISTOGRAM: (("r",),)}
    assert places.size_with(more) == 12
    assert dict(places.take(more)) == {0: 1, 11: 1, 2: 4}
    assert places.size == 12


def test_labels_that_are_not_the_familys_are_refused_and_nothing_is_laid_out() -> None:
    board, layout, _ = laid_out()
    with pytest.raises(ValueError, match="c_total has the labels"):
        board.lay_out({GAUGE: ((),), COUNTER: (("x",),)})
    assert board.layout is layout


def test_a_family_of_another_version_is_refused() -> None:
    board, layout, _ = laid_out()
    other = Family("h_seconds", Kind.HISTOGRAM, "Timed.", ("a",), (0.1, 1.0, 2.0))
    with pytest.raises(ValueError, match="declared in two ways"):
        board.lay_out({other: (("p",),)})
    assert board.layout is layout


def test_rows_are_added_up() -> None:
    board, layout, (first, second) = laid_out(workers=2)
    cell = layout.cells(COUNTER)["x", "z"]
    first[cell] += 2
    second[cell] += 3
    registry = registry_of(board)
    assert registry.get_sample_value("c_total", {"a": "x", "b": "z"}) == 5
    assert registry.get_sample_value("c_total", {"a": "x", "b": "y"}) == 0


def test_an_info_is_one_and_takes_no_memory() -> None:
    board, _, _ = laid_out()
    registry = registry_of(board)
    assert registry.get_sample_value("i_info", {"hash": "abc"}) == 1
    assert INFO.width == 0


def test_an_info_says_what_the_newest_policy_does() -> None:
    board, _, _ = laid_out()
    board.lay_out({**SERIES, INFO: (("def",),)})
    registry = registry_of(board)
    assert registry.get_sample_value("i_info", {"hash": "abc"}) is None
    assert registry.get_sample_value("i_info", {"hash": "def"}) == 1


def test_a_family_without_series_is_not_exposed() -> None:
    board, layout, _ = laid_out({COUNTER: (), GAUGE: ((),)})
    assert [family.name for family in board.collector.collect()] == ["g"]
    assert layout.cells(COUNTER) == {}
    assert layout.cells(HISTOGRAM) == {}, "nor one that the layout does not know"


def test_the_samples_of_a_series_are_those_of_a_scrape() -> None:
    board, _, _ = laid_out()
    for metric in board.collector.collect():
        family = next(each for each in SERIES if each.name.startswith(metric.name))
        assert len(metric.samples) == family.samples * len(SERIES[family])


def test_a_layout_can_be_sent_to_another_process() -> None:
    _, layout, _ = laid_out()
    again: Layout = pickle.loads(pickle.dumps(layout))
    assert again == layout


def test_a_row_that_is_smaller_than_its_layout_is_no_row() -> None:
    descriptor = os.memfd_create("small")
    try:
        os.truncate(descriptor, 8)
        with pytest.raises(ValueError, match="length"):
            map_row(descriptor, laid_out()[1])
    finally:
        os.close(descriptor)


@given(amounts=st.lists(st.floats(0, 5)))
def test_a_histogram_is_consistent(amounts: list[float]) -> None:
    board, layout, (row,) = laid_out()
    for amount in amounts:
        observe(row, layout.cells(HISTOGRAM)["q",], HISTOGRAM.bounds, amount)
    registry = registry_of(board)

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

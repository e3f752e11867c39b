"""The board: whatever becomes of workers and rules, counts stay, never fall, and are bounded."""

import gc
import os
import sys
import threading
from collections import Counter
from collections.abc import Iterator
from pathlib import Path

import pytest
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import (
    RuleBasedStateMachine,
    initialize,
    invariant,
    precondition,
    rule,
)

from policyd.observe.board import Board
from policyd.observe.series import Family, Kind, Labels, Layout, Row, Series, map_row, observe
from tests.observe.counted import registry_of

SENT = Family("sent_total", Kind.COUNTER, "Sent.", ("code",), lasting=True)
MATCHED = Family("matched_total", Kind.COUNTER, "Matched.", ("rule",))
TIMED = Family("timed_seconds", Kind.HISTOGRAM, "Timed.", ("rule",), (0.1, 1.0))
HELD = Family("held", Kind.GAUGE, "Held, all together.")
UP = Family("up", Kind.GAUGE, "Up for all.", least=True)
INFO = Family("config_info", Kind.INFO, "Said.", ("hash",))

SLOTS = 2
RULES = [f"r{number}" for number in range(6)]
CODES = ("450", "451", "550", "554")


def series_of(rules: frozenset[str], codes: frozenset[str], hash_: str = "h") -> Series:
    def sets(values: frozenset[str]) -> tuple[Labels, ...]:
        return tuple((value,) for value in sorted(values))

    return {
        SENT: sets(codes),
        MATCHED: sets(rules),
        TIMED: sets(rules),
        HELD: ((),),
        UP: ((),),
        INFO: ((hash_,),),
    }


POLICIES = st.builds(
    series_of, st.frozensets(st.sampled_from(RULES)), st.frozensets(st.sampled_from(CODES))
)
COUNTED = (SENT, MATCHED, TIMED)
_Key = tuple[Family, Labels]
_Sample = tuple[str, ...]


def keys(series: Series) -> set[_Key]:
    return {(family, labels) for family, sets in series.items() for labels in sets}


def sample_of(family: Family, labels: Labels) -> _Sample:
    """The sample that says how often: its name and the values of its labels."""
    return (f"{family.name}_count" if family is TIMED else family.name, *labels)


class Process:
    """What a worker has: the generation it counts by, and the row mapped for it."""

    def __init__(self, board: Board, slot: int) -> None:
        self.board, self.slot = board, slot
        self.take()

    def take(self) -> None:
        self.layout: Layout = self.board.layout
        self.row: Row = map_row(self.board.descriptor(self.slot), self.layout)


class Boards(RuleBasedStateMachine):
    """Policies come and go, workers count by older ones than the newest, die and come back."""

    @initialize(series=POLICIES)
    def begin(self, series: Series) -> None:
        self.board = Board(SLOTS)
        self.policies: dict[int, Series] = {}
        self.workers: dict[int, Process] = {}
        self.counted: Counter[_Key] = Counter()
        self.seconds: dict[Labels, float] = {}
        self.gauges: dict[tuple[Family, int], float] = {}
        self.oldest = 1
        self.stands: set[_Key] = set()
        self.most: Counter[int] = Counter()
        self.before: dict[_Key, float] = {}
        self.board_takes(series)
        self.ours = Process(self.board, self.board.own)

    def board_takes(self, series: Series) -> None:
        layout = self.board.lay_out(series)
        self.policies[layout.generation] = series
        self.stands |= keys(series)
        self.see_most()

    def see_most(self) -> None:
        for width, count in Counter(family.width for family, _ in self.stands).items():
            self.most[width] = max(self.most[width], count)

    @rule(series=POLICIES)
    def a_policy_is_taken(self, series: Series) -> None:
        self.board_takes(series)

    @rule(slot=st.integers(0, SLOTS - 1))
    def a_worker_starts_or_takes_the_newest_policy(self, slot: int) -> None:
        if slot in self.workers:
            self.workers[slot].take()
        else:
            self.workers[slot] = Process(self.board, slot)

    @rule()
    def the_supervisor_takes_the_newest_policy(self) -> None:
        self.ours.take()

    @precondition(lambda self: self.workers)
    @rule(data=st.data())
    def a_worker_is_killed(self, data: st.DataObject) -> None:
        slot = data.draw(st.sampled_from(sorted(self.workers)))
        del self.workers[slot]
        self.board.gone(slot)
        self.gauges = {key: value for key, value in self.gauges.items() if key[1] != slot}

    @rule(data=st.data(), amount=st.sampled_from((0.05, 0.5, 5.0)))
    def somebody_counts(self, data: st.DataObject, amount: float) -> None:
        process = data.draw(st.sampled_from([self.ours, *self.workers.values()]))
        # by its own policy, or one that a session negotiated with and that is not released
        known = range(self.oldest, process.layout.generation + 1)
        series = self.policies[data.draw(st.sampled_from(known))]
        countable = sorted((key for key in keys(series) if key[0] in COUNTED), key=str)
        if not countable:
            return
        family, labels = key = data.draw(st.sampled_from(countable))
        place = process.layout.cells(family)[labels]
        self.counted[key] += 1
        if family is TIMED:
            observe(process.row, place, TIMED.bounds, amount)
            self.seconds[labels] = self.seconds.get(labels, 0.0) + amount
        else:
            process.row[place] += 1

    @rule(data=st.data(), family=st.sampled_from((HELD, UP)), value=st.integers(0, 3))
    def a_worker_sets_a_gauge(self, data: st.DataObject, family: Family, value: int) -> None:
        if self.workers:
            slot = data.draw(st.sampled_from(sorted(self.workers)))
            process = self.workers[slot]
            process.row[process.layout.cells(family)[()]] = value
            self.gauges[family, slot] = value

    @rule()
    def what_nobody_counts_is_released(self) -> None:
        processes = [self.ours, *self.workers.values()]
        self.oldest = min(process.layout.generation for process in processes)
        self.board.release(self.oldest)
        needed = {key for g, s in self.policies.items() if g >= self.oldest for key in keys(s)}
        for key in self.stands - needed:
            if not (key[0] is SENT and self.counted[key]):
                self.stands.discard(key)
                del self.counted[key]
                self.before.pop(key, None)
                if key[0] is TIMED:
                    self.seconds.pop(key[1], None)

    def scrape(self) -> dict[_Sample, float]:
        return {
            (sample.name, *sample.labels.values()): sample.value
            for metric in self.board.collector.collect()
            for sample in metric.samples
        }

    @invariant()
    def sums_equal_what_was_counted(self) -> None:
        found = self.scrape()
        for family, labels in self.stands:
            if family in COUNTED:
                assert found[sample_of(family, labels)] == self.counted[family, labels]
            if family is TIMED:
                total = self.seconds.get(labels, 0.0)
                assert found["timed_seconds_sum", *labels] == pytest.approx(total)

    @invariant()
    def gauges_are_those_of_workers_that_run(self) -> None:
        found = self.scrape()
        of_held = [self.gauges.get((HELD, slot), 0) for slot in self.workers]
        of_up = [self.gauges.get((UP, slot), 0) for slot in self.workers]
        assert found["held",] == sum(of_held)
        assert found["up",] == min(of_up, default=0)

    @invariant()
    def what_is_exposed_is_what_stands(self) -> None:
        exposed = {key for key in self.scrape() if not key[0].endswith(("_bucket", "_sum"))}
        newest = self.policies[self.board.layout.generation]
        assert exposed == {
            sample_of(family, labels)
            for family, labels in self.stands
            if family is not INFO or labels in newest[INFO]
        }

    @invariant()
    def counters_never_fall_while_they_stand(self) -> None:
        found = self.scrape()
        now = {key: found[sample_of(*key)] for key in self.stands if key[0] in COUNTED}
        assert all(now[key] >= value for key, value in self.before.items())
        self.before = now

    @invariant()
    def places_never_overlap_and_are_no_more_than_ever_stood_at_one_time(self) -> None:
        layout = self.board.layout
        taken = [
            place + offset
            for family in layout.families
            for place in layout.cells(family).values()
            for offset in range(family.width)
        ]
        assert len(set(taken)) == len(taken)
        assert all(place < layout.size for place in taken)
        assert layout.size == sum(width * count for width, count in self.most.items())


TestBoards = Boards.TestCase
TestBoards.settings = settings(max_examples=60, stateful_step_count=40, deadline=None)


@pytest.fixture
def board() -> Board:
    return Board(SLOTS)


def of_generation(number: int) -> Series:
    """A hundred rules, ten of them new in each generation."""
    rules = frozenset(f"rule {index}" for index in range(number * 10, number * 10 + 100))
    return series_of(rules, frozenset(CODES[: 1 + number % 4]), f"hash {number}")


def sizes(board: Board) -> list[int]:
    slots = [*range(SLOTS), board.own]
    return [os.fstat(board.descriptor(slot)).st_size for slot in slots]


def descriptors() -> int:
    """How many this process has, those of other tests' boards not."""
    gc.collect()
    return len([*Path("/proc/self/fd").iterdir()])


def test_a_thousand_changes_of_rules_leave_sizes_and_descriptors_as_they_were(board: Board) -> None:
    seen = []
    sent = 0
    for number in range(1000):
        layout = board.lay_out(of_generation(number))
        worker = map_row(board.descriptor(number % SLOTS), layout)
        worker[layout.cells(MATCHED)[f"rule {number * 10 + 50}",]] += 1
        worker[layout.cells(SENT)[CODES[number % 4],]] += 1
        sent += 1
        released = board.release()
        places = sum(map(len, released.places.values()))
        seen.append((*sizes(board), layout.size, places))
        if number == 10:
            before = descriptors()
    assert len({*seen[10:]}) == 1
    assert descriptors() == before
    registry = registry_of(board)
    assert sum(registry.get_sample_value("sent_total", {"code": c}) or 0 for c in CODES) == sent


def test_the_size_is_bounded_by_the_largest_two_layouts(board: Board) -> None:
    largest = 0
    for number in (3, 90, 20, 90, 50, 1):
        rules = frozenset(f"{number}-{index}" for index in range(number))
        layout = board.lay_out(series_of(rules, frozenset()))
        board.release()
        own = 2 + number * (MATCHED.width + TIMED.width)
        largest = max(largest, own)
        assert layout.size <= 2 * largest


def test_a_series_that_comes_back_after_its_release_begins_at_0(board: Board) -> None:
    first, other = series_of(frozenset({"a"}), frozenset()), series_of(frozenset("b"), frozenset())
    layout = board.lay_out(first)
    row = map_row(board.descriptor(0), layout)
    observe(row, layout.cells(TIMED)["a",], TIMED.bounds, 0.5)
    row[layout.cells(MATCHED)["a",]] += 7
    registry = registry_of(board)
    board.lay_out(other)
    assert registry.get_sample_value("matched_total", {"rule": "a"}) == 7, "still may be counted"
    board.release()
    assert registry.get_sample_value("matched_total", {"rule": "a"}) is None
    board.lay_out(first)
    assert registry.get_sample_value("matched_total", {"rule": "a"}) == 0
    assert registry.get_sample_value("timed_seconds_sum", {"rule": "a"}) == 0
    assert registry.get_sample_value("timed_seconds_count", {"rule": "a"}) == 0


def test_a_lasting_series_goes_on_where_it_was(board: Board) -> None:
    first = series_of(frozenset(), frozenset({"450", "550"}))
    other = series_of(frozenset(), frozenset({"451"}))
    layout = board.lay_out(first)
    row = map_row(board.descriptor(1), layout)
    row[layout.cells(SENT)["550",]] += 3
    registry = registry_of(board)
    board.lay_out(other)
    board.release()
    assert registry.get_sample_value("sent_total", {"code": "550"}) == 3
    assert registry.get_sample_value("sent_total", {"code": "450"}) is None, "it was 0"
    again = board.lay_out(first)
    map_row(board.descriptor(0), again)[again.cells(SENT)["550",]] += 1
    assert registry.get_sample_value("sent_total", {"code": "550"}) == 4


def test_series_of_a_generation_that_is_in_use_stay(board: Board) -> None:
    generations = [
        board.lay_out(series_of(frozenset({name}), frozenset())).generation for name in "abc"
    ]
    board.release(generations[1])
    assert set(board.layout.cells(MATCHED)) == {("b",), ("c",)}
    board.release()
    assert set(board.layout.cells(MATCHED)) == {("c",)}
    assert board.release(99) is board.layout


def test_a_row_cannot_be_made_smaller_by_who_has_it(board: Board) -> None:
    board.lay_out(series_of(frozenset("a"), frozenset()))
    with pytest.raises(PermissionError):
        os.truncate(board.descriptor(0), 8)


def test_the_descriptors_go_with_the_board() -> None:
    before = descriptors()
    board = Board(4)
    board.lay_out(series_of(frozenset("a"), frozenset()))
    assert descriptors() > before
    del board
    assert descriptors() == before


@pytest.fixture
def often_switched() -> Iterator[None]:
    """Threads take turns a hundred times as often as they do by default."""
    usual = sys.getswitchinterval()
    sys.setswitchinterval(usual / 100)
    yield
    sys.setswitchinterval(usual)


@pytest.mark.usefixtures("often_switched")
def test_a_scrape_never_sees_a_board_half_laid_out(board: Board) -> None:
    """Each generation's series are counted to the generation's number; places move about."""
    newest = 40 * 25
    failures: list[str] = []
    scrapes = 0
    stop = threading.Event()

    def of(number: int) -> Series:
        # sizes differ, so that rows grow while they are read
        rules = frozenset(f"{number}/{index}" for index in range(1 + number * 7 % 40))
        return series_of(rules, frozenset(), str(number))

    def look() -> None:
        for metric in board.collector.collect():
            by: dict[int, list[float]] = {}
            for sample in metric.samples:
                if sample.name == "matched_total":
                    number = int(sample.labels["rule"].split("/")[0])
                    by.setdefault(number, []).append(sample.value)
            for number, values in by.items():
                if len(values) != len(of(number)[MATCHED]) or not {*values} <= {0, number}:
                    failures.append(f"{number}: {values}")
            if by and max(by) - min(by) > 1:
                failures.append(f"generations {sorted(by)}")

    def scrape() -> None:
        nonlocal scrapes
        while not stop.is_set():
            look()
            scrapes += 1

    thread = threading.Thread(target=scrape)
    thread.start()
    try:
        for number in range(1, newest):
            layout = board.lay_out(of(number))
            row = map_row(board.descriptor(number % SLOTS), layout)
            for place in [layout.cells(MATCHED)[labels] for labels in of(number)[MATCHED]]:
                row[place] = number
            board.release()
    finally:
        stop.set()
        thread.join()
    assert failures == []
    assert scrapes > 20

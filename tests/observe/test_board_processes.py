"""Real processes count on a board and are killed in the middle of it."""

import pickle
import random
import subprocess
import sys
import time

from policyd.observe.board import Board
from policyd.observe.series import Family, Kind, Layout, Series
from tests.observe.counted import registry_of

FIRST = Family("first_total", Kind.COUNTER, "Counted first.", ("rule",))
SECOND = Family("second_total", Kind.COUNTER, "Counted right after it.", ("rule",))
KILLS = 30
PROGRAM = """
import pickle, sys
from policyd.observe.series import map_row
layout, first, second = pickle.load(sys.stdin.buffer)
row = map_row(int(sys.argv[1]), layout)
places = [(layout.cells(first)[labels], place) for labels, place in layout.cells(second).items()]
print(flush=True)
while True:
    for one, other in places:
        row[one] += 1.0
        row[other] += 1.0
"""


def series_of(*rules: str) -> Series:
    labels = tuple((rule,) for rule in rules)
    return {FIRST: labels, SECOND: labels}


class Worker:
    """A process that counts for ever, in a slot of a board."""

    def __init__(self, board: Board, slot: int, layout: Layout) -> None:
        descriptor = board.descriptor(slot)
        self.board, self.slot = board, slot
        self.process = subprocess.Popen(
            [sys.executable, "-c", PROGRAM, str(descriptor)],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            pass_fds=[descriptor],
        )
        assert self.process.stdin is not None
        assert self.process.stdout is not None
        self.process.stdin.write(pickle.dumps((layout, FIRST, SECOND)))
        self.process.stdin.close()
        self.process.stdout.readline()

    def kill(self) -> None:
        self.process.kill()
        self.process.wait()
        assert self.process.stdout is not None
        self.process.stdout.close()
        self.board.gone(self.slot)


def test_a_killed_process_loses_at_most_the_increment_under_way_and_the_next_goes_on() -> None:
    board = Board(2)
    layout = board.lay_out(series_of("a", "b"))
    registry = registry_of(board)

    def total(name: str, rule: str) -> float:
        found = registry.get_sample_value(name, {"rule": rule})
        assert found is not None
        return found

    workers = [Worker(board, slot, layout) for slot in range(2)]
    before = dict.fromkeys("ab", 0.0)
    for kill in range(1, KILLS + 1):
        time.sleep(random.uniform(0, 0.02))
        slot = kill % 2
        workers[slot].kill()
        stopped = board.copy()[1][slot]
        # one that is cut off between the two has counted one and lost the other, no more
        lost = [
            stopped[layout.cells(FIRST)[labels]] - stopped[place]
            for labels, place in layout.cells(SECOND).items()
        ]
        assert min(lost) >= 0
        assert sum(lost) <= (kill + 1) // 2, "one for each of its kills"
        now = {rule: total("first_total", rule) for rule in "ab"}
        assert all(now[rule] >= before[rule] for rule in "ab")
        before = now
        workers[slot] = Worker(board, slot, layout)
        assert board.copy()[1][slot][0] >= stopped[0], "it goes on where the other ended"
    for worker in workers:
        worker.kill()
    rows = board.copy()[1]
    for rule in "ab":
        firsts = [row[layout.cells(FIRST)[rule,]] for row in rows]
        assert total("first_total", rule) == sum(firsts)
        assert sum(firsts) > 1000


def test_a_process_that_counts_is_not_disturbed_by_another_layout() -> None:
    board = Board(1)
    layout = board.lay_out(series_of("a"))
    worker = Worker(board, 0, layout)
    registry = registry_of(board)
    last = 0.0
    try:
        for number in range(200):  # the row grows under it
            newest = board.lay_out(series_of("a", *(f"{number}/{i}" for i in range(number * 10))))
            board.release()
            found = registry.get_sample_value("first_total", {"rule": "a"})
            assert found is not None
            assert found >= last
            last = found
            others = [p for rule, p in newest.cells(FIRST).items() if rule != ("a",)]
            row = board.copy()[1][0]
            assert not any(row[place] for place in others)
    finally:
        worker.kill()
    assert last > 1000

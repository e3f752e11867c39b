"""Expiry by the daemon itself: when it works, how much at once, and when it rests."""

import asyncio
import time
from collections.abc import Awaitable, Callable

from policyd.store.memory import MemoryStore
from policyd.store.model import Expired, StoreError, Triplet
from policyd.store.upkeep import Upkeep

NOW = 1_700_000_000.0
EVERY = 0.05
SOON = 10.0
"""Seconds within which it is done."""


async def filled(count: int, expires: int) -> MemoryStore:
    store = MemoryStore()
    await store.put([Triplet("c", "s", str(n), 0, 0, False, expires) for n in range(count)], 0)
    return store


async def until(true: Callable[[], bool]) -> None:
    async with asyncio.timeout(SOON):
        while not true():  # noqa: ASYNC110 -- what comes true tells nobody
            await asyncio.sleep(0.001)


class Steps:
    """A store that a test makes slow or down, in front of a real one, and notes what is asked."""

    def __init__(self, store: MemoryStore) -> None:
        self.store = store
        self.now = 0.0
        self.takes = 0.0
        self.down = False
        self.asked: list[tuple[int, int]] = []
        self.found: list[Expired] = []

    async def expire(self, now: int, most: int) -> Expired:
        self.asked.append((now, most))
        self.now += self.takes
        if self.down:
            raise StoreError("down")
        return await self.store.expire(now, most)

    def upkeep(self, every: float = EVERY) -> Upkeep:
        return Upkeep(
            self,
            clock=lambda: NOW,
            timer=lambda: self.now,
            expired=self.found.append,
            every=every,
        )

    def dropped(self) -> int:
        return sum(each.entries for each in self.found)


def run(test: Callable[[Steps], Awaitable[None]], count: int = 5000, expires: int = 1) -> Steps:
    async def working() -> Steps:
        steps = Steps(await filled(count, expires))
        await test(steps)
        return steps

    return asyncio.run(working())


def test_all_that_has_expired_is_dropped_and_told() -> None:
    async def test(steps: Steps) -> None:
        upkeep = steps.upkeep()
        upkeep.start()
        await until(lambda: steps.dropped() == 5000)
        await upkeep.close()
        assert (await steps.store.stats(0)).triplets == 0

    steps = run(test)
    assert {now for now, _most in steps.asked} == {int(NOW * 1000)}


def test_what_has_not_expired_stays_and_nothing_is_told() -> None:
    async def test(steps: Steps) -> None:
        upkeep = steps.upkeep()
        upkeep.start()
        await until(lambda: len(steps.asked) >= 3)
        await upkeep.close()
        assert (await steps.store.stats(0)).triplets == 10

    assert run(test, 10, int(NOW * 1000) + 1).found == []


def test_steps_follow_each_other_while_there_is_more_and_then_it_rests() -> None:
    async def test(steps: Steps) -> None:
        upkeep = steps.upkeep(every=60.0)
        began = time.monotonic()
        upkeep.start()
        await until(lambda: steps.dropped() == 5000)
        assert time.monotonic() - began < SOON
        count = len(steps.asked)
        await asyncio.sleep(0.05)
        assert len(steps.asked) == count
        await upkeep.close()

    assert len(run(test).asked) > 5


def test_quick_steps_become_larger_and_slow_ones_smaller_within_bounds() -> None:
    async def test(steps: Steps) -> None:
        upkeep = steps.upkeep()
        upkeep.start()
        await until(lambda: steps.asked[-1:] == [(int(NOW * 1000), 1024)])
        steps.takes = 0.003
        await until(lambda: steps.asked[-1][1] == 16)
        await upkeep.close()

    sizes = [most for _now, most in run(test, 50_000).asked]
    assert sizes[0] == min(sizes) == 16
    assert max(sizes) == 1024


def test_after_a_slow_step_it_rests_for_nine_times_as_long() -> None:
    async def test(steps: Steps) -> None:
        steps.takes = 0.02
        upkeep = steps.upkeep(every=0.0)
        began = time.monotonic()
        upkeep.start()
        await until(lambda: len(steps.asked) == 3)
        assert time.monotonic() - began >= 2 * 0.18
        await upkeep.close()

    run(test)


def test_a_store_that_is_down_is_looked_at_again_and_no_oftener() -> None:
    async def test(steps: Steps) -> None:
        steps.down = True
        upkeep = steps.upkeep()
        upkeep.start()
        await asyncio.sleep(4.5 * EVERY)
        assert 1 <= len(steps.asked) <= 5
        assert steps.found == []
        steps.down = False
        await until(lambda: steps.dropped() == 5000)
        await upkeep.close()

    run(test)


def test_nothing_is_done_after_the_end_nor_before_the_beginning() -> None:
    async def test(steps: Steps) -> None:
        upkeep = steps.upkeep(every=0.0)
        await upkeep.close()
        assert steps.asked == []
        upkeep.start()
        await until(lambda: len(steps.asked) >= 2)
        await upkeep.close()
        count = len(steps.asked)
        await asyncio.sleep(0.03)
        assert len(steps.asked) == count

    run(test)

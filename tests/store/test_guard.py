"""The circuit breaker: who waits for a store that is down, for how long, and who is told."""

import asyncio
import contextlib
import time
from collections.abc import AsyncIterator, Awaitable, Callable, Coroutine, Iterable, Sequence
from typing import Any, Final

import pytest

from policyd.store.guard import GuardedStore
from policyd.store.interface import Store
from policyd.store.model import (
    Account,
    Charge,
    Client,
    Entry,
    Expired,
    GreylistAsk,
    GreylistFound,
    Message,
    Outcome,
    Standing,
    Stats,
    StoreError,
    Terms,
    Triplet,
)

TIMEOUT: Final = 0.2
PROBE: Final = 0.05
ASK: Final = GreylistAsk("c", "s", "r", Message(), Terms(), settles=False)
FOUND: Final = GreylistFound(Outcome.FIRST, 300_000)
CLIENTS: Final = tuple(Client(f"c{n}", n, allowed=False, last=0, expires=1) for n in range(3))


class Scripted:
    """
    A store that answers after `latency` seconds, never while `frozen`, or raises `failing`.

    `slow_operations` are slow by themselves: they take so many seconds, and pings do not. With
    `forgets`, whoever is cancelled goes on as if nothing were.
    """

    def __init__(self) -> None:
        self.latency = 0.0
        self.slow_operations = 0.0
        self.forgets = False
        self.failing: Exception | None = None
        self.wrong: Exception | None = None
        self.thawed = asyncio.Event()
        self.thawed.set()
        self.asked = 0
        self.pings = 0
        self.under_way = 0
        self.closed = False

    @property
    def frozen(self) -> bool:
        return not self.thawed.is_set()

    @frozen.setter
    def frozen(self, wanted: bool) -> None:
        if wanted:
            self.thawed.clear()
        else:
            self.thawed.set()

    async def _reached(self) -> None:
        if self.failing is not None:
            raise self.failing
        self.under_way += 1
        try:
            await asyncio.sleep(self.latency)
            await self.thawed.wait()
        except asyncio.CancelledError:
            if not self.forgets:
                raise
        finally:
            self.under_way -= 1

    async def _do(self) -> None:
        self.asked += 1
        if self.wrong is not None:
            raise self.wrong
        await self._reached()
        await asyncio.sleep(self.slow_operations)

    async def greylist(self, ask: GreylistAsk, now: int) -> GreylistFound:
        assert (ask, now) == (ASK, 1)
        await self._do()
        return FOUND

    async def triplet(self, client: str, sender: str, recipient: str, now: int) -> Triplet | None:
        assert (client, sender, recipient, now) == ("c", "s", "r", 1)
        await self._do()
        return None

    async def client(self, client: str, now: int) -> Client | None:
        await self._do()
        return CLIENTS[now] if client else None

    async def reserve(
        self, charges: Sequence[Charge], message: Message, now: int
    ) -> tuple[Standing, ...]:
        assert (message, now) == (Message("i"), 1)
        await self._do()
        return (Standing(exceeded=False, taken=True, used=0, waits=0),) * len(charges)

    async def give_back(
        self, charges: Sequence[Charge], message: Message, now: int, *, credit: str = ""
    ) -> None:
        assert (charges, message, now, credit) == ((), Message("i"), 1, "c")
        await self._do()

    async def settle(
        self, message: Message, now: int, *, accepted: bool, recipients: int = -1
    ) -> None:
        assert (message, now, accepted, recipients) == (Message("i"), 1, True, 2)
        await self._do()

    async def abandon(self, message: Message, now: int) -> None:
        assert (message, now) == (Message("i"), 1)
        await self._do()

    async def account(self, name: str, now: int) -> Account | None:
        await self._do()
        return Account(name, 60_000, {}, 0.0, now, now)

    async def expire(self, now: int, most: int) -> Expired:
        await self._do()
        return Expired(now + most)

    async def entries(self, now: int) -> AsyncIterator[Entry]:
        assert now == 1
        self.under_way += 1
        try:
            for client in CLIENTS:
                await self._do()
                yield client
        finally:
            self.under_way -= 1

    async def put(self, entries: Iterable[Entry], now: int) -> None:
        assert (entries, now) == (CLIENTS, 1)
        await self._do()

    async def remove(self, entries: Iterable[Entry]) -> None:
        assert entries == CLIENTS
        await self._do()

    async def stats(self, now: int) -> Stats:
        await self._do()
        return Stats(now, 0, 0, 0, -1)

    async def ping(self) -> None:
        self.pings += 1
        await self._reached()

    async def close(self) -> None:
        self.closed = True
        await self._reached()


Told = list[tuple[bool, str]]
"""What `changed` was called with."""


class Bench:
    """A scripted store under guard."""

    def __init__(self) -> None:
        self.store = Scripted()
        self.told: Told = []
        self._telling = asyncio.Event()
        self.guard = GuardedStore(self.store, timeout=TIMEOUT, changed=self._changed, probe=PROBE)

    def _changed(self, up: bool, why: str) -> None:
        self.told.append((up, why))
        self._telling.set()

    async def known(self, changes: int) -> None:
        """Wait until so many changes were told, for two seconds."""
        async with asyncio.timeout(2):
            while len(self.told) < changes:
                self._telling.clear()
                await self._telling.wait()

    async def refused(self) -> tuple[str, float]:
        """Ask and be refused: why, and after how many seconds."""
        begun = time.monotonic()
        with pytest.raises(StoreError) as caught:
            await self.guard.greylist(ASK, 1)
        return str(caught.value), time.monotonic() - begun


def run(story: Callable[[Bench], Coroutine[Any, Any, None]]) -> None:
    """Play a story on a bench, and see that nothing of it is left."""

    async def play() -> None:
        bench = Bench()
        bench.guard.start()
        await bench.known(1)
        await story(bench)
        bench.store.frozen = False
        await bench.guard.close()
        assert bench.store.closed
        assert bench.store.under_way == 0
        assert asyncio.all_tasks() == {asyncio.current_task()}

    asyncio.run(play())


def test_every_operation_of_the_store_is_passed_on_with_its_answer() -> None:
    async def story(bench: Bench) -> None:
        guard: Store = bench.guard
        assert await guard.greylist(ASK, 1) == FOUND
        assert await guard.triplet("c", "s", "r", 1) is None
        assert await guard.client("c", 2) == CLIENTS[2]
        charge = Charge("l", "l\x1fk", 1, 10, 60_000)
        assert len(await guard.reserve((charge, charge), Message("i"), 1)) == 2
        await guard.give_back((), Message("i"), 1, credit="c")
        await guard.settle(Message("i"), 1, accepted=True, recipients=2)
        await guard.abandon(Message("i"), 1)
        assert await guard.account("a", 1) == Account("a", 60_000, {}, 0.0, 1, 1)
        assert await guard.expire(3, 4) == Expired(7)
        await guard.put(CLIENTS, 1)
        await guard.remove(CLIENTS)
        assert await guard.stats(5) == Stats(5, 0, 0, 0, -1)
        asked = bench.store.asked
        assert [entry async for entry in guard.entries(1)] == list(CLIENTS)
        assert (asked, bench.store.asked) == (12, 15)
        pings = bench.store.pings
        await guard.ping()
        assert bench.store.pings == pings + 1

    run(story)


def operations(guard: Store) -> list[Callable[[], Awaitable[object]]]:
    return [
        lambda: guard.greylist(ASK, 1),
        lambda: guard.triplet("c", "s", "r", 1),
        lambda: guard.client("c", 1),
        lambda: guard.reserve((), Message("i"), 1),
        lambda: guard.give_back((), Message("i"), 1, credit="c"),
        lambda: guard.settle(Message("i"), 1, accepted=True, recipients=2),
        lambda: guard.abandon(Message("i"), 1),
        lambda: guard.account("a", 1),
        lambda: guard.expire(1, 1),
        lambda: anext(guard.entries(1)),
        lambda: guard.put(CLIENTS, 1),
        lambda: guard.remove(CLIENTS),
        lambda: guard.stats(1),
        guard.ping,
    ]


def test_every_operation_on_a_frozen_store_ends_in_time_and_then_at_once() -> None:
    async def story(bench: Bench) -> None:
        async def ended(operation: Callable[[], Awaitable[object]]) -> float:
            begun = time.monotonic()
            with pytest.raises(StoreError):
                await operation()
            return time.monotonic() - begun

        bench.store.frozen = True
        first = await asyncio.gather(*map(ended, operations(bench.guard)))
        assert max(first) < TIMEOUT + 0.1
        asked = bench.store.asked
        then = [await ended(operation) for operation in operations(bench.guard)]
        assert max(then) < 0.02
        assert bench.store.asked == asked
        assert [up for up, _ in bench.told] == [True, False]

    run(story)


def test_a_store_that_comes_back_is_asked_again_after_a_probe() -> None:
    async def story(bench: Bench) -> None:
        bench.store.frozen = True
        why, took = await bench.refused()
        assert why == "no answer within 0.2 s"
        assert took == pytest.approx(TIMEOUT, abs=0.05)
        bench.store.frozen = False
        begun = time.monotonic()
        await bench.known(3)
        assert time.monotonic() - begun < 3 * PROBE
        assert await bench.guard.greylist(ASK, 1) == FOUND
        assert [up for up, _ in bench.told] == [True, False, True]
        assert bench.told[-1] == (True, "")

    run(story)


def test_a_store_that_refuses_is_noticed_at_once_and_says_why() -> None:
    async def story(bench: Bench) -> None:
        bench.store.failing = ConnectionRefusedError("nobody listens")
        assert (await bench.refused())[0] == "ConnectionRefusedError: nobody listens"
        begun = time.monotonic()
        await bench.known(2)
        assert time.monotonic() - begun < PROBE
        assert bench.told[-1] == (False, "ConnectionRefusedError: nobody listens")
        asked = bench.store.asked
        assert (await bench.refused())[0] == "ConnectionRefusedError: nobody listens"
        assert bench.store.asked == asked

    run(story)


def test_a_store_that_is_down_at_the_start_is_told_once_and_comes_up() -> None:
    async def play() -> None:
        bench = Bench()
        bench.store.failing = StoreError("no such file")
        bench.guard.start()
        await bench.known(1)
        await asyncio.sleep(3 * PROBE)
        bench.store.failing = None
        await bench.known(2)
        await bench.guard.close()
        assert bench.told == [(False, "no such file"), (True, "")]

    asyncio.run(play())


def test_a_store_that_nobody_asks_is_looked_at_all_the_same() -> None:
    async def story(bench: Bench) -> None:
        bench.store.failing = StoreError("gone")
        await bench.known(2)
        assert bench.told[-1] == (False, "gone")

    run(story)


def test_an_operation_that_is_slow_by_itself_fails_alone() -> None:
    async def story(bench: Bench) -> None:
        bench.store.slow_operations = 2 * TIMEOUT
        why, took = await bench.refused()
        assert why == "no answer within 0.2 s"
        assert took == pytest.approx(TIMEOUT, abs=0.05)
        bench.store.slow_operations = 0.0
        assert await bench.guard.greylist(ASK, 1) == FOUND
        assert bench.told == [(True, "")]

    run(story)


def test_an_operation_that_fails_on_a_store_that_answers_fails_alone() -> None:
    async def story(bench: Bench) -> None:
        bench.store.wrong = StoreError("this key holds something else")
        pings = bench.store.pings
        for _ in range(100):
            assert (await bench.refused())[0] == "this key holds something else"
            await asyncio.sleep(PROBE / 50)
        assert bench.store.asked == 100
        assert bench.told == [(True, "")]
        # a hundred faults in two probes' time are no reason for a hundred pings
        assert 0 < bench.store.pings - pings < 40

    run(story)


@pytest.mark.parametrize("wrong", [ValueError("no such limit"), TypeError("no number")])
def test_a_wrong_argument_is_no_fault_of_the_store(wrong: Exception) -> None:
    async def story(bench: Bench) -> None:
        bench.store.wrong = wrong
        with pytest.raises(type(wrong)) as caught:
            await bench.guard.stats(1)
        assert caught.value is wrong
        assert bench.told == [(True, "")]

    run(story)


def test_a_fault_of_any_kind_becomes_a_store_error_with_its_cause() -> None:
    async def story(bench: Bench) -> None:
        bench.store.wrong = KeyError("x")
        with pytest.raises(StoreError, match="KeyError: 'x'") as caught:
            await bench.guard.stats(1)
        assert caught.value.__cause__ is bench.store.wrong

    run(story)


def test_a_caller_that_gives_up_is_no_fault_of_the_store() -> None:
    async def story(bench: Bench) -> None:
        bench.store.slow_operations = TIMEOUT / 2
        caller = asyncio.create_task(bench.guard.greylist(ASK, 1))
        await asyncio.sleep(TIMEOUT / 4)
        caller.cancel()
        with pytest.raises(asyncio.CancelledError):
            await caller
        assert bench.told == [(True, "")]

    run(story)


def test_a_caller_that_gives_up_does_so_though_the_store_forgets_it() -> None:
    async def story(bench: Bench) -> None:
        async def ask_again_and_again() -> None:
            for _ in range(100):
                await bench.guard.greylist(ASK, 1)

        bench.store.forgets = True
        bench.store.latency = TIMEOUT / 10
        caller = asyncio.create_task(ask_again_and_again())
        await asyncio.sleep(TIMEOUT / 4)
        caller.cancel()
        await asyncio.wait((caller,), timeout=TIMEOUT)
        assert caller.cancelled()
        assert bench.told == [(True, "")]

    run(story)


def test_callers_that_give_up_early_do_not_hide_that_the_store_is_frozen() -> None:
    async def story(bench: Bench) -> None:
        bench.store.frozen = True
        for _ in range(3):
            with contextlib.suppress(TimeoutError, StoreError):
                async with asyncio.timeout(TIMEOUT * 0.7):
                    await bench.guard.greylist(ASK, 1)
        assert [up for up, _ in bench.told] == [True, False]

    run(story)


def test_a_store_that_is_slow_for_everyone_is_as_good_as_down() -> None:
    async def story(bench: Bench) -> None:
        bench.store.latency = TIMEOUT * 0.8
        begun = time.monotonic()
        while len(bench.told) < 2:
            with contextlib.suppress(StoreError):
                await bench.guard.greylist(ASK, 1)
        assert time.monotonic() - begun < 2 * TIMEOUT
        assert (await bench.refused())[1] < 0.02
        bench.store.latency = 0.0
        await bench.known(3)
        assert await bench.guard.greylist(ASK, 1) == FOUND

    run(story)


def test_a_hundred_callers_at_once_wait_no_longer_than_one() -> None:
    async def story(bench: Bench) -> None:
        bench.store.frozen = True
        found = await asyncio.gather(*(bench.refused() for _ in range(100)))
        assert max(took for _, took in found) < TIMEOUT + 0.1
        assert [up for up, _ in bench.told] == [True, False]

    run(story)


def test_a_listing_has_time_for_each_step_not_for_the_whole() -> None:
    async def story(bench: Bench) -> None:
        bench.store.slow_operations = TIMEOUT * 0.45
        begun = time.monotonic()
        assert [entry async for entry in bench.guard.entries(1)] == list(CLIENTS)
        assert time.monotonic() - begun > TIMEOUT
        assert bench.told == [(True, "")]

    run(story)


def test_a_listing_that_is_broken_off_is_ended_in_the_store() -> None:
    async def story(bench: Bench) -> None:
        entries = bench.guard.entries(1)
        assert await anext(entries) == CLIENTS[0]
        assert bench.store.under_way == 1
        await entries.aclose()  # type: ignore[attr-defined]  # it is a generator
        assert bench.store.under_way == 0

    run(story)


def test_the_watch_ends_though_the_store_forgets_that_it_does() -> None:
    async def play() -> None:
        bench = Bench()
        bench.store.forgets = True
        bench.store.latency = TIMEOUT / 2
        bench.guard.start()
        await asyncio.sleep(TIMEOUT / 4)
        assert bench.store.pings == 1
        await bench.guard.close()
        bench.store.forgets = False
        assert asyncio.all_tasks() == {asyncio.current_task()}

    asyncio.run(play())


def test_a_store_that_cannot_be_closed_is_left_in_time() -> None:
    async def play() -> None:
        bench = Bench()
        bench.guard.start()
        await bench.known(1)
        bench.store.frozen = True
        begun = time.monotonic()
        await bench.guard.close()
        assert time.monotonic() - begun < 2 * TIMEOUT
        assert (await bench.refused())[0] == "the store is closed"
        assert asyncio.all_tasks() == {asyncio.current_task()}

    asyncio.run(play())

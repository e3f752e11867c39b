"""What goes out to a place: once for many, nothing when it is known, hardly anything when down."""

import asyncio
from collections.abc import Callable, Coroutine, Sequence
from typing import Any

import pytest
from msgspec import structs

from policyd.lists.remote.lookups import IDLE, MOST_ANSWERS, PAUSE, Lookups
from policyd.lists.remote.settings import Holds, Place, RedisPlace, RedisQuestion, RemoteList
from policyd.lists.remote.source import Question, SourceError

TIMEOUT = 0.1
WANTED = RemoteList(
    "boxes", RedisPlace("redis://a", timeout=TIMEOUT), RedisQuestion("boxes"), Holds.ADDRESSES
)
KEY = ("a",)


class Nearby:
    """A place in this process, which counts what it is asked."""

    def __init__(self) -> None:
        self.entries = {"a"}
        self.asked: list[tuple[str, ...]] = []
        self.failure: Exception | None = None
        self.hanging: asyncio.Event | None = None
        self.stubborn = 0.0
        self.closed = 0

    async def ask(self, _question: Question, keys: Sequence[str]) -> bool:
        self.asked.append(tuple(keys))
        try:
            if self.hanging is not None:
                await self.hanging.wait()
        except asyncio.CancelledError:
            await asyncio.sleep(self.stubborn)
            raise
        if self.failure is not None:
            raise self.failure
        return not self.entries.isdisjoint(keys)

    async def close(self) -> None:
        self.closed += 1


class World:
    """Lookups over such a place, with a clock to set."""

    def __init__(self) -> None:
        self.now = 1000.0
        self.place = Nearby()
        self.opened: list[Place] = []
        self.told: list[tuple[str, bool, str]] = []
        self.lookups = Lookups(lambda: self.now, self._changed, self._maker)

    async def reached(self, times: int = 1) -> None:
        """Wait until the place has been asked so often."""
        async with asyncio.timeout(5):
            while len(self.place.asked) < times:  # noqa: ASYNC110 -- the place has no event for it
                await asyncio.sleep(0)

    def _changed(self, name: str, up: bool, why: str) -> None:
        self.told.append((name, up, why))

    def _maker(self, place: Place) -> Callable[[], Nearby]:
        self.opened.append(place)
        return lambda: self.place

    async def ask(self, *keys: str, wanted: RemoteList = WANTED) -> bool:
        return await self.lookups.holds(wanted, keys)

    async def fail(self, *keys: str) -> str:
        with pytest.raises(SourceError) as raised:
            await self.ask(*keys)
        return str(raised.value)


def run(test: Callable[[World], Coroutine[Any, Any, None]]) -> None:
    async def begin() -> None:
        world = World()
        await test(world)
        await world.lookups.close()

    asyncio.run(begin())


def down(why: str = "refused") -> SourceError:
    return SourceError(why, down=True)


def test_an_answer_is_asked_for_once_until_it_expires_found_or_not() -> None:
    async def test(world: World) -> None:
        for _ in range(3):
            assert await world.ask("a")
            assert not await world.ask("b")
        assert world.place.asked == [("a",), ("b",)]
        world.now += WANTED.cache
        world.place.entries = {"b"}
        assert not await world.ask("a")
        assert await world.ask("b")

    run(test)


def test_without_keys_nobody_is_asked() -> None:
    async def test(world: World) -> None:
        assert not await world.ask()
        assert world.opened == []

    run(test)


def test_a_question_that_many_have_at_a_time_goes_out_once() -> None:
    async def test(world: World) -> None:
        world.place.hanging = asyncio.Event()
        together = [asyncio.ensure_future(world.ask("a")) for _ in range(50)]
        await world.reached()
        world.place.hanging.set()
        assert await asyncio.gather(*together) == [True] * 50
        assert world.place.asked == [KEY]
        assert len(world.opened) == 1

    run(test)


def test_one_who_gives_up_takes_the_answer_from_nobody() -> None:
    async def test(world: World) -> None:
        world.place.hanging = asyncio.Event()
        first, second = (asyncio.ensure_future(world.ask("a")) for _ in range(2))
        await world.reached()
        first.cancel()
        world.place.hanging.set()
        assert await second
        assert world.place.asked == [KEY]

    run(test)


def test_a_place_that_is_down_is_asked_once_in_the_pause_and_by_one_only() -> None:
    async def test(world: World) -> None:
        world.place.failure = down()
        assert await world.fail("a") == "refused"
        assert await world.fail("b") == "refused"
        assert len(world.place.asked) == 1
        world.now += PAUSE
        world.place.hanging = asyncio.Event()
        trial = asyncio.ensure_future(world.fail("c"))
        await world.reached(2)
        assert await world.fail("d") == "refused"
        world.place.hanging.set()
        assert await trial == "refused"
        assert len(world.place.asked) == 2

    run(test)


def test_the_first_answer_after_a_failure_ends_it() -> None:
    async def test(world: World) -> None:
        world.place.failure = down()
        await world.fail("a")
        world.place.failure = None
        world.now += PAUSE
        assert await world.ask("a")
        assert not await world.ask("b")
        assert world.told == [
            ("list boxes", False, "refused"),
            ("list boxes", True, ""),
        ]

    run(test)


def test_an_error_that_a_place_answers_with_is_that_look_ups_alone() -> None:
    async def test(world: World) -> None:
        world.place.failure = SourceError("no such table", down=False)
        assert await world.fail("a") == "no such table"
        world.place.failure = ValueError("of a driver")
        assert await world.fail("b") == "ValueError: of a driver"
        world.place.failure = None
        assert await world.ask("a")
        assert world.told == [("list boxes", True, "")]

    run(test)


def test_an_expired_answer_serves_while_there_is_no_better_one_and_not_for_ever() -> None:
    async def test(world: World) -> None:
        assert await world.ask("a")
        assert not await world.ask("b")
        world.place.failure = down()
        world.now += WANTED.cache + WANTED.stale - 1
        assert await world.ask("a")
        assert not await world.ask("b")
        assert len(world.place.asked) == 3  # the second is not even asked for
        world.now += 1
        await world.fail("a")

    run(test)


def test_without_stale_an_expired_answer_does_not_serve() -> None:
    async def test(world: World) -> None:
        wanted = structs.replace(WANTED, stale=0)
        assert await world.ask("a", wanted=wanted)
        world.place.failure = down()
        world.now += WANTED.cache
        with pytest.raises(SourceError):
            await world.ask("a", wanted=wanted)

    run(test)


def test_the_timeout_is_kept_however_long_a_driver_takes_to_give_up() -> None:
    async def test(world: World) -> None:
        world.place.hanging = asyncio.Event()
        world.place.stubborn = 0.4
        loop = asyncio.get_running_loop()
        started = loop.time()
        assert await world.fail("a") == "no answer within 0.1 s"
        assert loop.time() - started < 0.35
        assert world.told == [("list boxes", False, "no answer within 0.1 s")]

    run(test)


def test_those_who_wait_are_told_when_everything_is_closed() -> None:
    async def test(world: World) -> None:
        world.place.hanging = asyncio.Event()
        waiting = asyncio.ensure_future(world.fail("a"))
        await world.reached()
        await world.lookups.close()
        assert await waiting == "it was given up"
        assert world.place.closed == 1

    run(test)


def test_lists_at_one_place_share_it_and_keep_their_answers_apart() -> None:
    async def test(world: World) -> None:
        other = structs.replace(WANTED, question=RedisQuestion("other"))
        assert await world.ask("a")
        assert await world.ask("a", wanted=other)
        assert len(world.place.asked) == 2
        assert len(world.opened) == 1

    run(test)


def test_a_list_that_says_the_same_after_a_reload_keeps_its_answers() -> None:
    async def test(world: World) -> None:
        assert await world.ask("a")
        same = structs.replace(WANTED, place=structs.replace(WANTED.place))
        assert same is not WANTED
        assert await world.ask("a", wanted=same)
        assert len(world.place.asked) == 1

    run(test)


def test_a_list_that_nobody_asks_any_more_is_let_go_when_another_begins() -> None:
    async def test(world: World) -> None:
        await world.ask("a")
        world.now += IDLE + 1
        place = RedisPlace("redis://b", timeout=TIMEOUT)
        await world.ask("a", wanted=structs.replace(WANTED, place=place))
        await asyncio.sleep(0)
        assert world.place.closed == 1
        await world.ask("a")
        assert len(world.place.asked) == 3

    run(test)


def test_no_more_answers_are_kept_than_there_is_room_for() -> None:
    async def test(world: World) -> None:
        for number in range(MOST_ANSWERS + 1):
            await world.ask(f"{number}")
        before = len(world.place.asked)
        await world.ask(f"{MOST_ANSWERS}")
        assert len(world.place.asked) == before
        await world.ask("0")
        assert len(world.place.asked) == before + 1

    run(test)

"""
Looking remote lists up: what a worker has of them, made once and kept over reloads.

An answer is kept for a while. The same question, asked by many at a time, goes out once. A place
that does not answer is asked again a second later and by one only: nobody else waits for it.
Everything runs on one event loop.
"""

import asyncio
from collections.abc import Callable, Coroutine
from functools import partial
from typing import Any, Final, cast

from policyd.lists.remote.cache import Answers
from policyd.lists.remote.settings import LdapPlace, Place, RedisPlace, RemoteList, SqlPlace
from policyd.lists.remote.source import Source, SourceError

MOST_ANSWERS: Final = 10_000
"""Answers that are kept of each list; some 4 MB when they are all there."""
PAUSE: Final = 1.0
"""Seconds after a failure for which a place is not asked again."""
IDLE: Final = 600.0
"""Seconds after which a list that nobody asks any more, as after a reload, is let go."""
_LAST_WORDS: Final = 1.0
"""Seconds that closing connections may take."""

Keys = tuple[str, ...]
Changed = Callable[[str, bool, str], object]


def _nobody(_dependency: str, _up: bool, _why: str) -> None:
    """Stand for whoever might want to know how lists fare."""


def source_of(place: Place) -> Callable[[], Source]:
    """Import what speaks to a place, of an extra that may be missing, and give how to make it."""
    match place:
        case SqlPlace():
            from policyd.lists.remote.sql import SqlSource  # noqa: PLC0415 -- of an extra

            return partial(SqlSource, place)
        case RedisPlace():
            from policyd.lists.remote.redis import RedisSource  # noqa: PLC0415 -- as the others

            return partial(RedisSource, place)
        case LdapPlace():
            from policyd.lists.remote.ldap import LdapSource  # noqa: PLC0415 -- of an extra

            return partial(LdapSource, place)
    raise TypeError(place)


class Lookups:
    """
    The remote lists that are asked, with their answers and their connections.

    `clock` gives seconds of a monotonic clock. `changed(dependency, up, why)` is told when a list
    is first known to answer or not, and whenever that changes.
    """

    def __init__(
        self,
        clock: Callable[[], float],
        changed: Changed = _nobody,
        maker: Callable[[Place], Callable[[], Source]] = source_of,
    ) -> None:
        """Begin with nothing; what is asked is opened then, with what `maker` gives for a place."""
        self._clock = clock
        self._changed = changed
        self._maker = maker
        self._lists: dict[RemoteList, _Asked] = {}
        self._sources: dict[Place, Source] = {}
        self._tasks: set[asyncio.Task[None]] = set()

    async def holds(self, wanted: RemoteList, keys: Keys) -> bool:
        """
        Tell whether a list has any of the keys; none of them is asked for, if there are none.

        SourceError if that is not to be known within the list's timeout, and no earlier answer
        serves.
        """
        if not keys:
            return False
        asked = self._lists.get(wanted) or self._begin(wanted)
        now = asked.last_asked = self._clock()
        found = asked.answers.fresh(keys, now)
        if found is not None:
            return found
        try:
            return await self._ask(asked, keys, now)
        except SourceError:
            found = asked.answers.stale(keys, self._clock())
            if found is None:
                raise
            return found

    async def close(self) -> None:
        """Give up what is under way and close all connections, within a second."""
        tasks = set(self._tasks)
        for task in tasks:
            task.cancel()
        for source in self._sources.values():
            tasks.add(self._start(source.close()))
        self._lists.clear()
        self._sources.clear()
        if tasks:
            await asyncio.wait(tasks, timeout=_LAST_WORDS)

    def _begin(self, wanted: RemoteList) -> "_Asked":
        self._let_go_of_idle()
        asked = self._lists[wanted] = _Asked(wanted)
        return asked

    def _let_go_of_idle(self) -> None:
        before = self._clock() - IDLE
        for settings, asked in list(self._lists.items()):
            if asked.last_asked < before and not asked.flights:
                del self._lists[settings]
        used = {settings.place for settings in self._lists}
        for place in self._sources.keys() - used:
            self._start(self._sources.pop(place).close())

    async def _ask(self, asked: "_Asked", keys: Keys, now: float) -> bool:
        """Wait for the answer to a question, together with all who have the same one."""
        flight = asked.flights.get(keys)
        if flight is None:
            failure = asked.failure
            if failure is not None and (asked.flights or now < asked.failed_at + PAUSE):
                raise _again(failure)
            flight = asked.flights[keys] = asyncio.get_running_loop().create_future()
            flight.add_done_callback(_seen)
            self._start(self._fly(asked, keys, flight))
        try:
            return await asyncio.shield(flight)
        except SourceError as error:
            raise _again(error) from error

    async def _fly(self, asked: "_Asked", keys: Keys, flight: "asyncio.Future[bool]") -> None:
        """
        Get an answer for all who wait for it.

        When its time is over they are told, before what gets it has been cancelled: with a driver
        that takes leave of a server which does not answer, that can take seconds.
        """
        place = asked.settings.place
        timer: asyncio.TimerHandle | None = None
        try:
            source = await self._opened(place)
            task = cast("asyncio.Task[None]", asyncio.current_task())
            late = SourceError(f"no answer within {place.timeout:g} s", down=True)

            def give_up() -> None:
                self._landed(asked, keys, flight, late)
                task.cancel()

            timer = asyncio.get_running_loop().call_later(place.timeout, give_up)
            found = await source.ask(asked.settings.question, keys)
        except SourceError as error:
            self._landed(asked, keys, flight, error)
        except Exception as error:  # noqa: BLE001 -- a driver's own fault is a failed look-up
            fault = SourceError(f"{type(error).__name__}: {error}", down=False)
            self._landed(asked, keys, flight, fault)
        else:
            self._landed(asked, keys, flight, found)
        finally:
            if timer is not None:
                timer.cancel()
            self._landed(asked, keys, flight, SourceError("it was given up", down=False))

    def _landed(
        self,
        asked: "_Asked",
        keys: Keys,
        flight: "asyncio.Future[bool]",
        outcome: bool | SourceError,
    ) -> None:
        """Tell those who wait, unless they have been told, and remember what it means."""
        if flight.done():
            return
        del asked.flights[keys]
        now = self._clock()
        if isinstance(outcome, bool):
            asked.answers.put(keys, outcome, now)
            asked.failure = None
            self._tell(asked, up=True)
            flight.set_result(outcome)
            return
        if outcome.down:
            asked.failure, asked.failed_at = outcome, now
            self._tell(asked, up=False, why=str(outcome))
        flight.set_exception(outcome)

    def _tell(self, asked: "_Asked", *, up: bool, why: str = "") -> None:
        if asked.up is not up:
            asked.up = up
            self._changed(asked.settings.dependency, up, why)

    async def _opened(self, place: Place) -> Source:
        source = self._sources.get(place)
        if source is None:
            # a driver takes a third of a second to import, for which the loop does not stand still
            make = await asyncio.to_thread(self._maker, place)
            source = self._sources.get(place)
            if source is None:
                source = self._sources[place] = make()
        return source

    def _start(self, work: Coroutine[Any, Any, None]) -> asyncio.Task[None]:
        task = asyncio.get_running_loop().create_task(work)
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)
        return task


class _Asked:
    """A list that is asked: its answers, its questions under way, and how its place fares."""

    def __init__(self, settings: RemoteList) -> None:
        self.settings = settings
        self.answers = Answers(fresh=settings.cache, stale=settings.stale, most=MOST_ANSWERS)
        self.flights: dict[Keys, asyncio.Future[bool]] = {}
        self.failure: SourceError | None = None
        self.failed_at = 0.0
        self.last_asked = 0.0
        self.up: bool | None = None


def _again(error: SourceError) -> SourceError:
    """Give an error of one's own to who waits: a traceback grows with every raising."""
    return SourceError(str(error), down=error.down)


def _seen(flight: "asyncio.Future[bool]") -> None:
    """Take note of a failure that nobody waited for: it is no fault of the program."""
    if not flight.cancelled():
        flight.exception()

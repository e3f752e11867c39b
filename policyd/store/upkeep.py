"""Expiry in steps so small that they hold up no mail."""

import asyncio
from collections.abc import Callable
from typing import Final, Protocol

from policyd.store.model import Expired, StoreError

_LONGEST: Final = 0.002
"""Seconds that a step is to take; the next one drops fewer entries, or more."""
_FEWEST: Final = 16
_MOST: Final = 1024
_REST: Final = 9.0
"""So many times as long as a step took nothing is done, so that nine tenths are for mail."""
_SHORTEST_REST: Final = 0.01
"""Seconds between two steps."""


class Expiring(Protocol):
    """What upkeep asks of a store."""

    async def expire(self, now: int, most: int) -> Expired:
        """Do Store.expire."""
        ...


class Upkeep:
    """
    Drops what has expired, between start() and close().

    Every `every` seconds, and step after step while there is more. While the store is down nothing
    is done but to look again. `clock` is in seconds since the epoch, `timer` in seconds; `expired`
    is called with what a step did if that was anything.
    """

    def __init__(
        self,
        store: Expiring,
        *,
        clock: Callable[[], float],
        timer: Callable[[], float],
        expired: Callable[[Expired], object],
        every: float = 5.0,
    ) -> None:
        self._store = store
        self._clock = clock
        self._timer = timer
        self._expired = expired
        self._every = every
        self._most = _FEWEST
        self._task: asyncio.Task[None] | None = None

    def start(self) -> None:
        """Begin; needs a running loop."""
        if self._task is None:
            self._task = asyncio.get_running_loop().create_task(self._run())

    async def close(self) -> None:
        """End, in the middle of a step if need be: a step is done as a whole or not at all."""
        if self._task is not None:
            self._task.cancel()
            await asyncio.wait((self._task,))
            self._task = None

    async def _run(self) -> None:
        while True:
            rest = await self._step()
            await asyncio.sleep(rest)

    async def _step(self) -> float:
        """Do a step, and give the seconds until the next."""
        began = self._timer()
        try:
            found = await self._store.expire(round(self._clock() * 1000), self._most)
        except StoreError:
            return self._every
        took = self._timer() - began
        if found.entries or found.unsettled:
            self._expired(found)
        if took > _LONGEST:
            self._most = max(_FEWEST, self._most // 2)
        elif found.more and took < _LONGEST / 4:
            self._most = min(_MOST, self._most * 2)
        return max(_SHORTEST_REST, took * _REST) if found.more else self._every

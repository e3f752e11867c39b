"""A steady load on a guarded store while something befalls it and is mended, and the figures."""

import asyncio
import itertools
import time
from collections import deque
from collections.abc import Awaitable, Callable
from typing import Final

import msgspec

from policyd.store.guard import GuardedStore
from policyd.store.interface import Store
from policyd.store.model import Charge, GreylistAsk, Message, StoreError, Terms, account_name

CALLERS: Final = 4
PAUSE: Final = 0.01
"""Seconds between two operations of a caller."""
TIMEOUT: Final = 1.0
NOTICED: Final = 1.3
"""Seconds after which a fault is to have been noticed: one operation's time, and some for us."""
ENOUGH: Final = 50
"""Operations in a row without a failure, after which service is normal."""
PATIENCE: Final = 15.0

Happening = Callable[[], Awaitable[object]]


class Operation(msgspec.Struct, frozen=True):
    """One of the load; `failed` says why, empty if it did not."""

    begun: float
    took: float
    failed: str


class Figures(msgspec.Struct, frozen=True):
    """
    What the load saw. Times are in seconds.

    `longest` is the longest operation of all, `later` that of those that began when the fault had
    been there for NOTICED; `back` is from the mending to the first operation of many that went
    well. `changes` is what the breaker told.
    """

    operations: int
    failed: int
    longest: float
    later: float
    back: float
    changes: tuple[tuple[bool, str], ...]


class Load:
    """Callers that ask a store one after the other, with new keys each time."""

    def __init__(self, store: Store) -> None:
        self.done: list[Operation] = []
        self._latest: deque[Operation] = deque(maxlen=ENOUGH)
        self._store = store
        self._numbers = itertools.count()
        self._callers: list[asyncio.Task[None]] = []

    def start(self) -> None:
        self._callers = [asyncio.create_task(self._ask()) for _ in range(CALLERS)]

    async def stop(self) -> None:
        for caller in self._callers:
            caller.cancel()
        await asyncio.wait(self._callers)

    async def well_since(self, moment: float) -> float:
        """Wait until enough in a row went well that began after a moment; when the first began."""
        while True:
            latest = list(self._latest)
            if len(latest) == ENOUGH and all(o.begun >= moment and not o.failed for o in latest):
                return min(operation.begun for operation in latest)
            await asyncio.sleep(PAUSE)

    async def _ask(self) -> None:
        while True:
            begun, failed = time.monotonic(), ""
            try:
                await self._one(next(self._numbers))
            except StoreError as error:
                failed = str(error) or "no reason"
            finally:
                operation = Operation(begun, time.monotonic() - begun, failed)
                self.done.append(operation)
            self._latest.append(operation)
            await asyncio.sleep(PAUSE)

    async def _one(self, number: int) -> None:
        message, now = Message(f"{number:x}"), time.time_ns() // 1_000_000
        if number % 2:
            key = account_name("login", f"user{number}", shadow=False)
            charge = Charge("login", key, 1, 10, 60_000)
            (standing,) = await self._store.reserve((charge,), message, now)
            assert standing.taken
        else:
            ask = GreylistAsk("c", f"s{number}", "r", message, Terms(), settles=True)
            found = await self._store.greylist(ask, now)
            assert found.greylisted


async def suffer(store: Store, fault: Happening, mend: Happening, lasts: float) -> Figures:
    """Put a store under guard and load, let something befall it for so long, and mend it."""
    changes: list[tuple[bool, str]] = []
    guard = GuardedStore(store, timeout=TIMEOUT, changed=lambda up, why: changes.append((up, why)))
    guard.start()
    load = Load(guard)
    load.start()
    broken = mended = float("inf")
    try:
        async with asyncio.timeout(PATIENCE + lasts):
            await load.well_since(0.0)
            broken = time.monotonic()
            await fault()
            await asyncio.sleep(lasts)
            mended = time.monotonic()
            await mend()
            well = await load.well_since(mended)
    except TimeoutError:
        well = float("inf")
    finally:
        await load.stop()
        await guard.close()
    during = [o for o in load.done if broken <= o.begun < mended]
    return Figures(
        operations=len(load.done),
        failed=sum(bool(operation.failed) for operation in load.done),
        longest=max(operation.took for operation in load.done),
        later=max((o.took for o in during if o.begun > broken + NOTICED), default=0.0),
        back=well - mended,
        changes=tuple(changes),
    )

"""
A store behind a circuit breaker: nobody waits for one that is down, and its return is noticed.

Only pings tell whether the store answers, since an operation may be slow, or fail, by itself. One
is sent when an operation fails or has taken half of its time, every few seconds when nothing is
wrong, and one after the other while the breaker is open.
"""

import asyncio
import contextlib
from collections.abc import AsyncGenerator, AsyncIterator, Awaitable, Callable, Iterable, Sequence
from typing import Final, TypeVar

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
    Standing,
    Stats,
    StoreError,
    Triplet,
)

_CALM: Final = 10
"""While the store answers it is pinged once in so many times `probe`."""
_BREATH: Final = 0.1
"""The part of `probe` that is let go by between two pings, however many operations fail."""

_Result = TypeVar("_Result")


class GuardedStore:
    """
    A store whose every operation ends within `timeout` seconds, with StoreError if need be.

    When it does not answer, operations fail at once with the reason, until a ping succeeds; one is
    sent `probe` seconds after the one before. A ping fails after half of `timeout` or after
    `probe`, whichever is longer. `changed(up, why)` is called when it is first known whether the
    store answers, and when that changes; `why` is empty if it does. An operation that is merely
    wrong (ValueError, TypeError) or cancelled is no fault of the store.

    The breaker works between start() and close().
    """

    def __init__(
        self,
        store: Store,
        *,
        timeout: float,
        changed: Callable[[bool, str], object],
        probe: float = 0.5,
    ) -> None:
        self._store = store
        self._timeout = timeout
        self._changed = changed
        self._probe = probe
        self._patience = max(timeout / 2, probe)
        self._why = ""  # why operations fail at once; empty if they do not
        self._known = False
        self._answers = 0  # pings that succeeded
        self._doubted = asyncio.Event()
        self._watching: asyncio.Task[None] | None = None

    def start(self) -> None:
        """Begin to watch the store; needs a running loop."""
        if self._watching is None:
            self._watching = asyncio.get_running_loop().create_task(self._watch())

    async def close(self) -> None:
        """End the watch and let go of the store, within the time of two operations."""
        self._why = "the store is closed"
        if self._watching is not None:
            self._watching.cancel()
            await asyncio.wait((self._watching,), timeout=self._timeout)
            self._watching = None
        # What cannot be closed is left behind: the process ends, or goes on without it.
        with contextlib.suppress(Exception):
            async with asyncio.timeout(self._timeout):
                await self._store.close()

    async def greylist(self, ask: GreylistAsk, now: int) -> GreylistFound:
        """Do Store.greylist."""
        return await self._do(lambda: self._store.greylist(ask, now))

    async def triplet(self, client: str, sender: str, recipient: str, now: int) -> Triplet | None:
        """Do Store.triplet."""
        return await self._do(lambda: self._store.triplet(client, sender, recipient, now))

    async def client(self, client: str, now: int) -> Client | None:
        """Do Store.client."""
        return await self._do(lambda: self._store.client(client, now))

    async def reserve(
        self, charges: Sequence[Charge], message: Message, now: int
    ) -> tuple[Standing, ...]:
        """Do Store.reserve."""
        return await self._do(lambda: self._store.reserve(charges, message, now))

    async def give_back(
        self, charges: Sequence[Charge], message: Message, now: int, *, credit: str = ""
    ) -> None:
        """Do Store.give_back."""
        await self._do(lambda: self._store.give_back(charges, message, now, credit=credit))

    async def settle(
        self, message: Message, now: int, *, accepted: bool, recipients: int = -1
    ) -> None:
        """Do Store.settle."""
        await self._do(
            lambda: self._store.settle(message, now, accepted=accepted, recipients=recipients)
        )

    async def abandon(self, message: Message, now: int) -> None:
        """Do Store.abandon."""
        await self._do(lambda: self._store.abandon(message, now))

    async def account(self, name: str, now: int) -> Account | None:
        """Do Store.account."""
        return await self._do(lambda: self._store.account(name, now))

    async def expire(self, now: int, most: int) -> Expired:
        """Do Store.expire."""
        return await self._do(lambda: self._store.expire(now, most))

    async def entries(self, now: int) -> AsyncIterator[Entry]:
        """Do Store.entries; each step is an operation."""
        entries = self._store.entries(now)
        try:
            while (entry := await self._do(lambda: anext(entries, None))) is not None:
                yield entry
        finally:
            if isinstance(entries, AsyncGenerator):
                await entries.aclose()

    async def put(self, entries: Iterable[Entry], now: int) -> None:
        """Do Store.put."""
        await self._do(lambda: self._store.put(entries, now))

    async def remove(self, entries: Iterable[Entry]) -> None:
        """Do Store.remove."""
        await self._do(lambda: self._store.remove(entries))

    async def stats(self, now: int) -> Stats:
        """Do Store.stats."""
        return await self._do(lambda: self._store.stats(now))

    async def ping(self) -> None:
        """Do Store.ping."""
        await self._do(self._store.ping)

    async def _do(self, operation: Callable[[], Awaitable[_Result]]) -> _Result:
        if self._why:
            raise StoreError(self._why)
        answers = -1  # as they were at half-time

        def doubt() -> None:
            nonlocal answers
            answers = self._answers
            self._doubted.set()

        half_time = asyncio.get_running_loop().call_later(self._timeout / 2, doubt)
        try:
            return await _within(self._timeout, operation)
        except (ValueError, TypeError):
            raise
        except Exception as error:
            why = self._reason(error)
            if answers == self._answers:
                self._take(why)
            self._doubted.set()
            raise StoreError(why) from error
        finally:
            half_time.cancel()

    def _reason(self, error: Exception, within: float = 0.0) -> str:
        match error:
            case StoreError() if str(error):
                return str(error)
            case TimeoutError():
                return f"no answer within {within or self._timeout:g} s"
        return f"{type(error).__name__}: {error}"

    async def _watch(self) -> None:
        while True:
            self._doubted.clear()
            self._take(await self._asked())
            if self._why:
                await asyncio.sleep(self._probe)
            else:
                await asyncio.sleep(self._probe * _BREATH)
                with contextlib.suppress(TimeoutError):
                    async with asyncio.timeout(self._probe * _CALM):
                        await self._doubted.wait()

    async def _asked(self) -> str:
        """Ask the store whether it answers: why not, or nothing."""
        try:
            await _within(self._patience, self._store.ping)
        except Exception as error:  # noqa: BLE001  whatever it is, the store does not answer
            return self._reason(error, self._patience)
        self._answers += 1
        return ""

    def _take(self, why: str) -> None:
        """Take note of why the store does not answer, empty if it does."""
        new = not self._known or bool(why) != bool(self._why)
        self._known, self._why = True, why
        if new:
            self._changed(not why, why)


async def _within(seconds: float, operation: Callable[[], Awaitable[_Result]]) -> _Result:
    """Await an operation for so long; a caller that is cancelled is, whatever became of it."""
    task = asyncio.current_task()
    before = 0 if task is None else task.cancelling()
    try:
        async with asyncio.timeout(seconds):
            return await operation()
    finally:
        # asyncio.wait_for of Python 3.11, by which redis-py sends, forgets that it was cancelled
        # when it is done at the same time; who ends a task that goes on for ever waits for ever
        if task is not None and task.cancelling() > before:
            raise asyncio.CancelledError

"""
Asks one store, in a process of its own, what it is told to on standard input (`Orders`).

The process stands for a worker: an event loop of uvloop and one Store object. Orders and answers
are lines of JSON. Between orders its loop goes on, as the store may have something to finish.
"""

import asyncio
import contextlib
import os
import random
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Final, Literal

import msgspec
import uvloop

from bench.state.triplets import BEGIN, ask
from policyd.store.interface import Store
from policyd.store.model import Expired, Outcome
from policyd.store.opening import open_store
from policyd.store.place import StateSettings
from policyd.store.upkeep import Upkeep

Kind = Literal["look-up", "new", "mixed"]

NEW: Final = 0.3
"""The part of mixed requests that are first attempts."""
_TIMEOUT: Final = 5.0


class Order(msgspec.Struct, frozen=True):
    """
    What to ask: look-ups of triplets that passed, first attempts, or both.

    `tasks` ask at once, each again when it has been answered and `pause` seconds have passed.
    `ahead`: milliseconds from the time for which the triplets were made to the time in the store.
    `upkeep`: what has expired is dropped meanwhile, as a worker does.
    """

    kind: Kind
    tasks: int
    seconds: float
    seed: int
    pause: float = 0.0
    ahead: int = 0
    upkeep: bool = False


class Asked(msgspec.Struct, frozen=True):
    """What came of it: latencies in nanoseconds, answers that were not the right ones."""

    seconds: float
    latencies: list[int]
    wrong: int
    expired: int
    resident: int
    """Octets of memory that the process has (proc(5), statm)."""


class Asker:
    """Asks a store that has the first `known` triplets; each `every`-th of them waits."""

    def __init__(self, store: Store, known: int, every: int) -> None:
        self._store = store
        self._known = known
        self._every = every
        self._next = known
        self._requests = 0
        self._began = time.monotonic()

    async def obey(self, order: Order) -> Asked:
        """Ask for so long, and say what came of it."""
        latencies: list[int] = []
        wrong = dropped = 0

        def count(expired: Expired) -> None:
            nonlocal dropped
            dropped += expired.entries

        async def ask_on(chance: random.Random) -> None:
            nonlocal wrong
            while time.perf_counter() < end:
                if order.pause:
                    await asyncio.sleep(order.pause * chance.uniform(0.5, 1.5))
                new = order.kind == "new" or (order.kind == "mixed" and chance.random() < NEW)
                number = self._number(chance, new=new)
                self._requests += 1
                asking = ask(number, self._requests, self._now(order))
                asked = time.perf_counter_ns()
                found = await self._store.greylist(asking, self._now(order))
                latencies.append(time.perf_counter_ns() - asked)
                wrong += found.outcome is not (Outcome.FIRST if new else Outcome.PASSED)
                # others have their turn, as between two requests that are read
                await asyncio.sleep(0)

        upkeep = Upkeep(
            self._store,
            clock=lambda: self._now(order) / 1000,
            timer=time.perf_counter,
            expired=count,
        )
        began = time.perf_counter()
        end = began + order.seconds
        if order.upkeep:
            upkeep.start()
        chances = [random.Random(order.seed * 1000 + task) for task in range(order.tasks)]
        await asyncio.gather(*map(ask_on, chances))
        seconds = time.perf_counter() - began
        await upkeep.close()
        return Asked(seconds, latencies, wrong, dropped, _resident())

    def _number(self, chance: random.Random, *, new: bool) -> int:
        if new:
            self._next += 1
            return self._next - 1
        number = chance.randrange(self._known)
        # of every two or more neighbours at most one waits
        return number ^ 1 if self._every and number % self._every == 0 else number

    def _now(self, order: Order) -> int:
        return BEGIN + order.ahead + round((time.monotonic() - self._began) * 1000)


def _resident() -> int:
    return int(Path("/proc/self/statm").read_text().split()[1]) * os.sysconf("SC_PAGE_SIZE")


async def _serve(url: str, known: int, every: int, read: Callable[[], bytes]) -> None:
    store = open_store(StateSettings(url, timeout=_TIMEOUT))
    asker = Asker(store, known, every)
    await store.ping()
    try:
        while line := await asyncio.to_thread(read):
            asked = await asker.obey(msgspec.json.decode(line, type=Order))
            sys.stdout.buffer.write(msgspec.json.encode(asked) + b"\n")
            sys.stdout.buffer.flush()
    finally:
        await store.close()


def main() -> None:
    """Ask the store of a url; the arguments after it are those of Asker."""
    url, known, every = sys.argv[1:]
    with contextlib.suppress(KeyboardInterrupt):
        uvloop.run(_serve(url, int(known), int(every), sys.stdin.buffer.readline))


if __name__ == "__main__":
    main()

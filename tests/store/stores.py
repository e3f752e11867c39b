"""The stores that the contract suite runs on: what each needs, and fresh objects on one state."""

from collections.abc import AsyncIterator, Callable
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from pathlib import Path
from typing import Final

from policyd.store.interface import Store
from policyd.store.memory import MemoryStore
from policyd.store.sqlite import SqliteStore
from tests.store.redis_running import on_redis

Fresh = Callable[[], Store]
"""Gives another Store object, as of another worker, on the same state; the context closes it."""


@asynccontextmanager
async def memory(_directory: Path) -> AsyncIterator[Fresh]:
    """State of this process: every object is the same."""
    store = MemoryStore()
    yield lambda: store


@asynccontextmanager
async def sqlite(directory: Path) -> AsyncIterator[Fresh]:
    """State in a file; each object has it open by itself."""
    opened: list[SqliteStore] = []

    def fresh() -> Store:
        opened.append(SqliteStore(directory / "state.sqlite"))
        return opened[-1]

    yield fresh
    for store in opened:
        await store.close()


STORES: Final[dict[str, Callable[[Path], AbstractAsyncContextManager[Fresh]]]] = {
    "memory": memory,
    "sqlite": sqlite,
    "redis": on_redis("redis"),
    "sentinel": on_redis("sentinel"),
    "cluster": on_redis("cluster"),
}
"""
By name, a context with an empty state for one test; the argument is an empty directory.

Servers are started once for all tests, and each test has a state of its own there.
"""

DROPPING: Final = frozenset({"memory", "sqlite"})
"""Those that drop what has expired when they are told to; servers do it by themselves."""

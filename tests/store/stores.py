"""The stores that the contract suite runs on: what each needs, and fresh objects on one state."""

from collections.abc import AsyncIterator, Callable
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from pathlib import Path
from typing import Final

from policyd.store.interface import Store
from policyd.store.memory import MemoryStore
from tests.store.redis_running import on_redis

Fresh = Callable[[], Store]
"""Gives another Store object, as of another worker, on the same state; the context closes it."""


@asynccontextmanager
async def memory(_directory: Path) -> AsyncIterator[Fresh]:
    """State of this process: every object is the same."""
    store = MemoryStore()
    yield lambda: store


STORES: Final[dict[str, Callable[[Path], AbstractAsyncContextManager[Fresh]]]] = {
    "memory": memory,
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

"""Redis, Sentinel and Cluster for all tests: started when the first one asks, killed at the end."""

import atexit
import contextlib
import functools
import itertools
import tempfile
from collections.abc import AsyncIterator, Callable
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from pathlib import Path
from typing import Final

from policyd.store.interface import Store
from policyd.store.redis import redis_store
from tools.redis_servers import RedisCluster, RedisSentinel, RedisServer

_PREFIXES: Final = (f"test{number}:" for number in itertools.count())
_MAKE: Final[dict[str, Callable[[Path], RedisServer | RedisSentinel | RedisCluster]]] = {
    "redis": RedisServer,
    "sentinel": RedisSentinel,
    "cluster": RedisCluster,
}


def running(kind: str) -> str:
    """Give the url of what is running for all tests."""
    return _started(kind)


def on_redis(kind: str) -> Callable[[Path], AbstractAsyncContextManager[Callable[[], Store]]]:
    """Make a context with an empty state: keys of a prefix that is used once."""

    @asynccontextmanager
    async def context(_directory: Path) -> AsyncIterator[Callable[[], Store]]:
        prefix = next(_PREFIXES)
        stores: list[Store] = []

        def fresh() -> Store:
            stores.append(redis_store(running(kind), timeout=10, prefix=prefix))
            return stores[-1]

        try:
            yield fresh
        finally:
            for store in stores:
                await store.close()

    return context


@functools.cache
def _started(kind: str) -> str:
    directory = _stack().enter_context(tempfile.TemporaryDirectory(prefix="policyd-redis-"))
    server: RedisServer | RedisSentinel | RedisCluster = _MAKE[kind](Path(directory))
    _stack().enter_context(server)
    return server.url


@functools.cache
def _stack() -> contextlib.ExitStack:
    stack = contextlib.ExitStack()
    atexit.register(stack.close)
    return stack

"""
A Redis or Valkey server, alone, behind Sentinel or as a Cluster: connections and time limits.

Connections are redis-py's. No command is waited for longer than the time limit, connecting to the
server and asking the sentinels included; a command whose connection is lost is sent once more, at
once, over a new one. What goes wrong is a StoreError that names the servers.
"""

import asyncio
import contextlib
from abc import ABC, abstractmethod
from collections.abc import AsyncIterator, Awaitable, Callable, Iterable, Sequence
from pathlib import Path
from typing import Any, Final, TypeVar

from redis.asyncio import ConnectionPool, Redis, RedisCluster
from redis.asyncio.cluster import ClusterNode
from redis.asyncio.connection import Connection, SSLConnection
from redis.asyncio.retry import Retry
from redis.asyncio.sentinel import MasterNotFoundError, Sentinel
from redis.backoff import NoBackoff
from redis.exceptions import (
    ConnectionError as LostError,
)
from redis.exceptions import (
    NoScriptError,
    RedisClusterException,
    RedisError,
)

from policyd.store.model import StoreError
from policyd.store.place import Kind, Place
from policyd.store.redis_keys import Keys, tag
from policyd.store.redis_scripts import Script

_AT_ONCE: Final = 32
"""Commands of a worker that are under way together, each on a connection; others wait for one."""
_CONNECTIONS: Final = 256
"""More than are ever used."""
_PROBE_LASTS: Final = 1000
_PROBES: Final = 10_000
"""How many keys are tried to find one of each master."""
_PART: Final = 0.4
"""
Of the time limit, what one node of a Cluster gets: there is to be time to ask another.

Less than half, after which a ping is given up (guard): redis-py looks for a new master when a node
was too slow, not when nobody waits any more.
"""
_SENTINEL_PART: Final = 0.25

_Result = TypeVar("_Result")
Node = Redis | ClusterNode
"""One server with keys."""


class Client(ABC):
    """What a store asks of servers; `timeout` is in seconds. Connects at the first command."""

    def __init__(
        self, place: Place, *, timeout: float, username: str, password: str, ca_file: str
    ) -> None:
        if ca_file:
            Path(ca_file).read_bytes()  # OSError now rather than at each connection
        self.name: Final = place.url
        self._place: Final = place
        self._timeout: Final = timeout
        self._turns: Final = asyncio.Semaphore(_AT_ONCE)
        # RESP2 needs no greeting that older servers do not know, and gets no maintenance messages
        user = {"username": username or None, "password": password} if password else {}
        self._options: Final[dict[str, Any]] = {"protocol": 2, "driver_info": None} | user
        self._tls: Final[dict[str, Any]] = {"ssl_ca_certs": ca_file or None} if place.tls else {}

    async def run(self, script: Script, keys: Sequence[str], *arguments: str | bytes) -> Any:
        """Run a script on the server of its keys (EVALSHA; EVAL where it is not known yet)."""
        return await self.command("EVALSHA", script, len(keys), *keys, *arguments)

    async def command(self, *command: Any, node: Node | None = None) -> Any:
        """Send a command, to the server of its keys or a node; a Script is sent by its digest."""
        return await self._do(lambda: self._sent(command, node))

    async def values(self, keys: Sequence[bytes]) -> list[bytes | None]:
        """Give the values of keys, None for those that are not there (MGET)."""
        return await self._do(lambda: self._values(keys))

    async def keys(self, pattern: str, step: int) -> AsyncIterator[list[bytes]]:
        """Give keys in lists of about `step`, some perhaps twice (SCAN)."""
        for node in await self.nodes():
            cursor = 0
            while True:
                found = await self.command(
                    "SCAN", cursor, "MATCH", pattern, "COUNT", step, node=node
                )
                cursor, keys = int(found[0]), found[1]
                if keys:
                    yield keys
                if not cursor:
                    break

    @abstractmethod
    async def nodes(self) -> list[Node]:
        """Give all nodes that hold keys."""

    @abstractmethod
    def together(self, keys: Iterable[str]) -> list[list[int]]:
        """Divide keys, by their places, into groups that one script or command can have."""

    async def ping(self, keys: Keys) -> None:
        """Write something for a second (SET): to a replica, or to a full server, nobody can."""
        numbers = await self._do(lambda: self._probes(keys))
        await asyncio.gather(
            *(self.command("SET", keys.probe(number), "", "PX", _PROBE_LASTS) for number in numbers)
        )

    @abstractmethod
    async def close(self) -> None:
        """Close all connections."""

    async def _do(self, operation: Callable[[], Awaitable[_Result]]) -> _Result:
        try:
            async with asyncio.timeout(self._timeout), self._turns:
                return await operation()
        except TimeoutError as error:
            raise StoreError(f"{self.name}: no answer within {self._timeout:g} s") from error
        except MasterNotFoundError as error:
            raise StoreError(f"{self.name}: no sentinel tells of a master") from error
        except (RedisError, RedisClusterException, OSError) as error:
            await self._failed(error)
            raise StoreError(f"{self.name}: {str(error) or type(error).__name__}") from error

    async def _sent(self, command: Sequence[Any], node: Node | None) -> Any:
        execute: Any = (node or await self._ready()).execute_command  # it has no types
        first, script, *rest = command
        if not isinstance(script, Script):
            return await execute(*command)
        try:
            return await execute(first, script.digest, *rest)
        except NoScriptError:
            return await execute("EVAL", script.text, *rest)

    @abstractmethod
    async def _ready(self) -> Redis | RedisCluster: ...

    @abstractmethod
    async def _values(self, keys: Sequence[bytes]) -> list[bytes | None]: ...

    @abstractmethod
    async def _probes(self, keys: Keys) -> Iterable[int]: ...

    @abstractmethod
    async def _failed(self, error: Exception) -> None: ...


class OneServer(Client):
    """A server, or the master that Sentinel tells of."""

    _redis: Redis | None = None
    _sentinel: Sentinel | None = None

    async def nodes(self) -> list[Node]:
        """Give the one that there is."""
        return [await self._ready()]

    def together(self, keys: Iterable[str]) -> list[list[int]]:
        """Leave them as they are."""
        return [places] if (places := [place for place, _ in enumerate(keys)]) else []

    async def close(self) -> None:
        """Close all connections."""
        redis, sentinel = self._redis, self._sentinel
        self._redis = self._sentinel = None
        for each in (redis, sentinel):
            if each is not None:
                with contextlib.suppress(RedisError, OSError):
                    await each.aclose()

    async def _ready(self) -> Redis:
        if self._redis is None:
            self._redis = self._opened()
        return self._redis

    def _opened(self) -> Redis:
        place = self._place
        # None: `_do` limits the whole command, and redis-py needs no task of its own for that
        options = self._options | {
            "socket_timeout": None,
            "socket_connect_timeout": self._timeout,
            "retry": Retry(NoBackoff(), 1, supported_errors=(LostError,)),
            "db": place.database,
            "max_connections": _CONNECTIONS,
        }
        if place.kind is not Kind.SENTINEL:
            (host, port) = place.hosts[0]
            kind = SSLConnection if place.tls else Connection
            return Redis.from_pool(
                ConnectionPool(kind, host=host, port=port, **options, **self._tls)
            )
        make: Any = Sentinel  # it has no types
        sentinel = make(place.hosts, sentinel_kwargs=self._for_sentinels(), **options)
        client: Redis = sentinel.master_for(place.master, **self._tls, ssl=place.tls)
        self._sentinel = sentinel
        return client

    def _for_sentinels(self) -> dict[str, Any]:
        """
        Tell how sentinels are asked: one after the other until one answers.

        With the same password, as the user `default`: who has none takes any (ACL SETUSER nopass).
        """
        options = self._options | {
            "socket_timeout": self._timeout * _SENTINEL_PART,
            "socket_connect_timeout": self._timeout * _SENTINEL_PART,
            "retry": Retry(NoBackoff(), 1, supported_errors=(LostError,)),
        }
        if "password" in options:
            options["username"] = "default"
        return options | self._tls | {"ssl": self._place.tls}

    async def _values(self, keys: Sequence[bytes]) -> list[bytes | None]:
        found: list[bytes | None] = await self._sent(("MGET", *keys), None)
        return found

    async def _probes(self, keys: Keys) -> Iterable[int]:  # noqa: ARG002  # Cluster's needs them
        if self._sentinel is not None:
            # a master that was replaced in good health takes writes for ten seconds more
            pool: Any = (await self._ready()).connection_pool  # it has no types
            before = pool.master_address
            if await pool.get_master_address() != before:
                await pool.update_active_connections_for_reconnect()
        return (0,)

    async def _failed(self, error: Exception) -> None:
        # a master that became a replica: behind its name there may be another server by now
        if self._redis is not None and "READONLY" in str(error):
            with contextlib.suppress(RedisError, OSError):
                await self._redis.connection_pool.disconnect(inuse_connections=False)


class Cluster(Client):
    """All masters of a Redis Cluster."""

    _cluster: RedisCluster | None = None

    async def nodes(self) -> list[Node]:
        """Give the masters."""
        return [*await self._do(self._masters)]

    def together(self, keys: Iterable[str]) -> list[list[int]]:
        """Put those together whose slot is surely the same."""
        groups: dict[str, list[int]] = {}
        for place, key in enumerate(keys):
            groups.setdefault(tag(key), []).append(place)
        return list(groups.values())

    async def close(self) -> None:
        """Close all connections."""
        cluster, self._cluster = self._cluster, None
        if cluster is not None:
            with contextlib.suppress(RedisError, OSError):
                await cluster.aclose()

    async def _ready(self) -> RedisCluster:
        if self._cluster is None:
            self._cluster = RedisCluster(
                startup_nodes=[ClusterNode(host, port) for host, port in self._place.hosts],
                require_full_coverage=False,  # the servers know whether they want that
                reinitialize_steps=0,  # else a few MOVED close connections that others wait on
                retry=Retry(NoBackoff(), 1),
                socket_timeout=self._timeout * _PART,
                socket_connect_timeout=self._timeout * _PART,
                max_connections=_CONNECTIONS,
                ssl=self._place.tls,
                **self._tls,
                **self._options,
            )
        # by itself a command that finds no table of slots goes to any node
        return await self._cluster.initialize()

    async def _masters(self) -> list[ClusterNode]:
        return (await self._ready()).get_primaries()

    async def _values(self, keys: Sequence[bytes]) -> list[bytes | None]:
        pipeline = (await self._ready()).pipeline()
        for key in keys:
            pipeline.execute_command("GET", key)
        found: list[bytes | None] = await pipeline.execute()
        return found

    async def _probes(self, keys: Keys) -> Iterable[int]:
        """Find a key of each master that has slots."""
        client = await self._ready()
        masters = {node.name for node in client.get_primaries()}
        found: dict[str, int] = {}
        for number in range(_PROBES):
            if len(found) == len(masters):
                break
            node = client.get_node_from_key(keys.probe(number))
            if node is not None:
                found.setdefault(node.name, number)
        return found.values()

    async def _failed(self, error: Exception) -> None:
        # none of the nodes that were found last: begin with those that were configured
        if isinstance(error, RedisClusterException):
            await self.close()


def client_of(place: Place, **options: Any) -> Client:
    """Make the client for a place; options as of Client."""
    return Cluster(place, **options) if place.kind is Kind.CLUSTER else OneServer(place, **options)

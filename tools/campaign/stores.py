"""The stores of the campaign `faults`, and the faults that befall each."""

import contextlib
import os
import sqlite3
import subprocess
import threading
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Final, Self

from tools.redis_servers import RedisCluster, RedisSentinel, RedisServer, until

_PAUSED: Final = 300
"""Milliseconds of every second in which the slow server does nothing (CLIENT PAUSE)."""
_DISK: Final = 48 * 2**20
"""Octets of the disk that is filled; the log of the state file alone comes to 16 MiB."""
_BLOCK: Final = b"\0" * 2**16


def _nothing() -> None:
    pass


@dataclass(frozen=True)
class Fault:
    """
    Something that befalls a store.

    `end` returns when the store is back, and `after` makes everything as it was before. One that
    is not `held` is ended as soon as it can be; one that is not `down` the store need not show.
    """

    name: str
    begin: Callable[[], object] = _nothing
    end: Callable[[], object] = _nothing
    after: Callable[[], object] = _nothing
    held: bool = True
    down: bool = True


UNDISTURBED: Final = Fault("undisturbed", down=False)


@dataclass(frozen=True)
class Troubled:
    """A store, by what it is called and its `[state] url`, and what befalls it in turn."""

    name: str
    url: str
    faults: Sequence[Fault]


# Redis


@contextlib.contextmanager
def redis(directory: Path) -> Iterator[Troubled]:
    """Run one server."""
    with RedisServer(directory / "redis") as server, _Slow(server) as slow:
        faults = (
            UNDISTURBED,
            Fault("killed, started again", server.kill, server.restart),
            Fault("frozen (SIGSTOP), thawed", server.freeze, server.thaw),
            Fault(f"{_PAUSED} ms of each second paused", slow.begin, slow.end, down=False),
        )
        yield Troubled("Redis", server.url, faults)


class _Slow:
    """Pauses a server again and again, from begin() to end(); in between it is at its service."""

    def __init__(self, server: RedisServer) -> None:
        self._server = server
        self._going = threading.Event()
        self._ended = threading.Event()
        self._thread = threading.Thread(target=self._run)

    def __enter__(self) -> Self:
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._ended.set()
        self._going.set()
        self._thread.join()

    def begin(self) -> None:
        self._going.set()

    def end(self) -> None:
        self._going.clear()

    def _run(self) -> None:
        while self._going.wait() and not self._ended.is_set():
            self._server.ask("CLIENT", "PAUSE", _PAUSED)
            self._ended.wait(1.0)


@contextlib.contextmanager
def sentinel(directory: Path) -> Iterator[Troubled]:
    """Run a master and a replica, and three sentinels that miss a master after a second."""
    with RedisSentinel(directory / "sentinel") as servers:
        first = servers.master

        def promoted() -> bool:
            return servers.master is not first and servers.master.ask("ROLE")[0] == "master"

        name = "master killed, replica promoted"
        faults = (Fault(name, first.kill, lambda: until(promoted), held=False),)
        yield Troubled("Sentinel", servers.url, faults)


@contextlib.contextmanager
def cluster(directory: Path) -> Iterator[Troubled]:
    """Run three masters with a replica each."""
    with RedisCluster(directory / "cluster", replicas=1) as servers:
        first, second = servers.nodes[0], servers.nodes[1]
        its_replica, other_replica = servers.nodes[3], servers.nodes[4]

        def promoted() -> bool:
            return its_replica.ask("ROLE")[0] == "master" and servers.complete()

        def first_back() -> None:
            first.restart()
            until(servers.complete)

        def lose_both() -> None:
            second.kill()
            other_replica.kill()

        def both_back() -> None:
            for node in (second, other_replica):
                node.start()
            for node in (second, other_replica):
                node.wait()
            until(servers.complete)

        faults = (
            Fault(
                "node killed, replica promoted",
                first.kill,
                lambda: until(promoted),
                first_back,
                held=False,
            ),
            Fault("node lost with its replica, both back", lose_both, both_back),
        )
        yield Troubled("Cluster", servers.url, faults)


# SQLite


@contextlib.contextmanager
def sqlite(directory: Path) -> Iterator[Troubled]:
    """Have a state file."""
    path = directory / "state.sqlite"
    with contextlib.ExitStack() as locked:

        def lock() -> None:
            other = locked.enter_context(contextlib.closing(_connected(path)))
            other.execute("BEGIN EXCLUSIVE")

        def replace() -> None:
            path.rename(directory / "state.damaged")

        faults = (
            UNDISTURBED,
            Fault("locked by another process", lock, locked.close),
            Fault("overwritten with garbage, moved away", lambda: _overwrite(path), replace),
            Fault("deleted", path.unlink, held=False, down=False),
        )
        yield Troubled("SQLite", f"sqlite:{path}", faults)


def _connected(path: Path) -> sqlite3.Connection:
    return sqlite3.connect(path, timeout=10, isolation_level=None)


def _overwrite(path: Path) -> None:
    """Put noise in the place of all that a file holds, of which it stays the same one."""
    size = path.stat().st_size
    with path.open("r+b") as file:
        file.write(os.urandom(size))


@contextlib.contextmanager
def small_disk(directory: Path) -> Iterator[Troubled]:
    """Have a state file on a disk that can be filled; none where tmpfs(5) cannot be mounted."""
    disk = directory / "disk"
    disk.mkdir()
    mounted = subprocess.run(
        ["mount", "-t", "tmpfs", "-o", f"size={_DISK}", "tmpfs", disk],
        capture_output=True,
        check=False,
    )
    filler = disk / "filler"
    faults = [Fault("disk full, then not", lambda: _fill(filler), filler.unlink)]
    if mounted.returncode:
        faults = []
    try:
        yield Troubled("SQLite", f"sqlite:{disk}/state.sqlite", faults)
    finally:
        if not mounted.returncode:
            subprocess.run(["umount", "--lazy", disk], check=True)


def _fill(path: Path) -> None:
    with contextlib.suppress(OSError), path.open("wb", buffering=0) as file:
        while file.write(_BLOCK):
            pass

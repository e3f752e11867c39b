"""
What befalls a store under guard, with a steady load on it: no operation waits, service comes back.

All faults happen at the same time, each to a store of its own, and each test looks at one.
"""

import asyncio
import contextlib
import os
import sqlite3
import subprocess
import sys
from collections.abc import AsyncIterator, Callable, Iterator, Mapping
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from functools import partial
from pathlib import Path
from typing import Final, NamedTuple

import pytest

from policyd.store.opening import open_store
from policyd.store.place import StateSettings
from tests.store.suffering import TIMEOUT, Figures, Happening, suffer
from tools.redis_servers import RedisCluster, RedisSentinel, RedisServer

pytestmark = pytest.mark.integration

_LOCK: Final = """
import sqlite3, sys
connection = sqlite3.connect(sys.argv[1], isolation_level=None)
connection.execute("BEGIN EXCLUSIVE")
print("locked", flush=True)
sys.stdin.read()
"""


class Fault(NamedTuple):
    """What befalls the store at a url, for so many seconds, and how it is mended."""

    url: str
    happens: Happening
    mended: Happening
    lasts: float = 2.5


async def by_itself() -> None:
    """What is mended by waiting."""


def apart(action: Callable[..., object], *arguments: object) -> Happening:
    """Do what takes time in a thread."""
    return partial(asyncio.to_thread, action, *arguments)


@asynccontextmanager
async def started(
    server: RedisServer | RedisSentinel | RedisCluster,
) -> AsyncIterator[None]:
    """Run servers, which take a while to start, beside everything else."""
    async with contextlib.AsyncExitStack() as stack:
        await asyncio.to_thread(server.__enter__)
        stack.callback(server.__exit__, None, None, None)
        yield


@asynccontextmanager
async def killed(directory: Path) -> AsyncIterator[Fault]:
    server = RedisServer(directory)
    async with started(server):
        yield Fault(server.url, apart(server.kill), apart(server.restart))


@asynccontextmanager
async def frozen(directory: Path) -> AsyncIterator[Fault]:
    server = RedisServer(directory)
    async with started(server):
        yield Fault(server.url, apart(server.freeze), apart(server.thaw))


@asynccontextmanager
async def slow(directory: Path) -> AsyncIterator[Fault]:
    """A server that answers nobody for two and a half seconds (CLIENT PAUSE)."""
    server = RedisServer(directory)
    async with started(server):
        yield Fault(server.url, apart(server.ask, "CLIENT", "PAUSE", 2500, "ALL"), by_itself)


@asynccontextmanager
async def failing_over(directory: Path) -> AsyncIterator[Fault]:
    """A master that is lost; Sentinel has another one after a second or two, and tells of it."""
    servers = RedisSentinel(directory)
    async with started(servers):
        yield Fault(servers.url, apart(servers.servers[0].kill), by_itself)


@asynccontextmanager
async def node_lost(directory: Path) -> AsyncIterator[Fault]:
    cluster = RedisCluster(directory)
    async with started(cluster):
        node = cluster.masters[1]
        yield Fault(cluster.url, apart(node.kill), apart(node.restart))


@asynccontextmanager
async def node_frozen(directory: Path) -> AsyncIterator[Fault]:
    cluster = RedisCluster(directory)
    async with started(cluster):
        node = cluster.masters[1]
        yield Fault(cluster.url, apart(node.freeze), apart(node.thaw))


def state_in(directory: Path) -> tuple[Path, str]:
    file = directory / "state.sqlite"
    return file, f"sqlite:{file}"


async def triplets(url: str) -> int:
    """Count those that whoever opens the file now finds in it."""
    store = open_store(StateSettings(url))
    stats = await store.stats(0)
    await store.close()
    return stats.triplets


@asynccontextmanager
async def locked(directory: Path) -> AsyncIterator[Fault]:
    """Another process writes, and does not end."""
    file, url = state_in(directory)
    other: list[subprocess.Popen[bytes]] = []

    def lock() -> None:
        command = [sys.executable, "-c", _LOCK, str(file)]
        other.append(subprocess.Popen(command, stdin=-1, stdout=-1))
        assert other[0].stdout is not None
        assert other[0].stdout.readline() == b"locked\n"

    def unlock() -> None:
        other[0].communicate()

    try:
        yield Fault(url, apart(lock), apart(unlock))
    finally:
        for process in other:
            process.kill()
            process.communicate()


@contextlib.contextmanager
def small_disk(directory: Path) -> Iterator[Path]:
    """A file system of a megabyte."""
    directory.mkdir()
    mount = ["mount", "-t", "tmpfs", "-o", "size=1m", "tmpfs", str(directory)]
    if subprocess.run(mount, capture_output=True, check=False).returncode != 0:
        pytest.skip("no file system can be mounted here")
    try:
        yield directory
    finally:
        subprocess.run(["umount", "-l", str(directory)], check=True)


@asynccontextmanager
async def disk_full(directory: Path) -> AsyncIterator[Fault]:
    with small_disk(directory / "disk") as disk:
        _, url = state_in(disk)
        ballast = disk / "ballast"

        def fill() -> None:
            with ballast.open("wb", buffering=0) as octets, contextlib.suppress(OSError):
                while True:
                    octets.write(bytes(4096))

        yield Fault(url, apart(fill), apart(ballast.unlink))


@asynccontextmanager
async def corrupted(directory: Path) -> AsyncIterator[Fault]:
    """The file is overwritten where it stands, and a sound one is put in its place."""
    file, url = state_in(directory)

    def overwrite() -> None:
        with file.open("r+b") as octets:
            octets.write(os.urandom(max(65536, file.stat().st_size)))

    def replace() -> None:
        sound = directory / "sound.sqlite"
        with contextlib.closing(sqlite3.connect(sound)) as connection:
            connection.execute("VACUUM")
        sound.replace(file)

    yield Fault(url, apart(overwrite), apart(replace))
    assert await triplets(url)


@asynccontextmanager
async def deleted(directory: Path) -> AsyncIterator[Fault]:
    """The file goes, with all that belongs to it; policyd makes it anew."""
    file, url = state_in(directory)

    def delete() -> None:
        for each in directory.glob(f"{file.name}*"):
            each.unlink()

    yield Fault(url, apart(delete), by_itself)
    assert await triplets(url)


Befalling = Callable[[Path], AbstractAsyncContextManager[Fault]]
FAULTS: Final[Mapping[str, Befalling]] = {
    "Redis killed": killed,
    "Redis frozen": frozen,
    "Redis slow": slow,
    "Sentinel failing over": failing_over,
    "Cluster node lost": node_lost,
    "Cluster node frozen": node_frozen,
    "SQLite locked": locked,
    "disk full": disk_full,
    "file corrupted": corrupted,
    "file deleted": deleted,
}


async def befallen(befalling: Befalling, directory: Path) -> Figures:
    async with befalling(directory) as fault:
        store = open_store(StateSettings(fault.url, timeout=TIMEOUT))
        return await suffer(store, fault.happens, fault.mended, fault.lasts)


Found = Mapping[str, Figures | BaseException]


@pytest.fixture(scope="module")
def found(tmp_path_factory: pytest.TempPathFactory) -> Found:
    def directory(fault: str) -> Path:
        return tmp_path_factory.mktemp(fault.replace(" ", "-"))

    async def all_at_once() -> Found:
        every = await asyncio.gather(
            *(befallen(fault, directory(name)) for name, fault in FAULTS.items()),
            return_exceptions=True,
        )
        return dict(zip(FAULTS, every, strict=True))

    return asyncio.run(all_at_once())


def figures_of(fault: str, found: Found) -> Figures:
    figures = found[fault]
    if isinstance(figures, BaseException):
        raise figures
    return figures


@pytest.mark.parametrize("fault", FAULTS)
def test_every_operation_ends_in_time(fault: str, found: Found) -> None:
    assert figures_of(fault, found).longest < 2


@pytest.mark.parametrize("fault", FAULTS)
def test_what_has_been_noticed_is_waited_for_no_more(fault: str, found: Found) -> None:
    assert figures_of(fault, found).later < 0.2


@pytest.mark.parametrize("fault", FAULTS)
def test_service_is_normal_again_soon_after_the_stores_return(fault: str, found: Found) -> None:
    assert figures_of(fault, found).back < 5


@pytest.mark.parametrize("fault", [fault for fault in FAULTS if fault != "file deleted"])
def test_the_breaker_tells_of_the_fault_and_of_its_end(fault: str, found: Found) -> None:
    figures = figures_of(fault, found)
    assert figures.failed > 0
    assert [up for up, _ in figures.changes] == [True, False, True]
    assert figures.changes[1][1]


def test_a_file_that_was_deleted_costs_no_operation(found: Found) -> None:
    figures = figures_of("file deleted", found)
    assert (figures.failed, figures.changes) == (0, ((True, ""),))

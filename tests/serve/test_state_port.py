"""A store that lives in another process, looked at and changed from outside."""

import asyncio
import json
import os
import socket
import subprocess
import sys
from collections.abc import Awaitable, Callable
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from policyd.serve.local import _names
from policyd.serve.state_port import ServedState, StatePort
from policyd.store.memory import MemoryStore
from policyd.store.model import (
    Account,
    Client,
    Entry,
    Expired,
    Stats,
    StoreError,
    Triplet,
    account_name,
)

NOW = 1_700_000_000_000
LATER = NOW + 1000
TRIPLET = Triplet("192.0.2.0/24", "a\udcff@example.net", "b@example.org", NOW, NOW, True, LATER)
CLIENT = Client("example.net", 3, allowed=True, last=NOW, expires=LATER)
PART = NOW * 60 // 3_600_000
ACCOUNT = Account(
    account_name("logins", "jo", shadow=False), 3_600_000, {PART: 3}, 1.5, NOW, NOW + 3_660_000
)

AS_ANOTHER_USER = """
import asyncio, os, sys
from pathlib import Path
from policyd.serve.state_port import ServedState
from policyd.store.model import StoreError
os.setgroups([])
os.setresgid(65534, 65534, 65534)
os.setresuid(65534, 65534, 65534)
try:
    asyncio.run(ServedState(Path(sys.argv[1])).ping())
except StoreError as error:
    print(error)
"""


def run(path: Path, test: Callable[[MemoryStore, ServedState], Awaitable[None]]) -> None:
    async def served() -> None:
        store, port = MemoryStore(), ServedState(path / "policyd.toml")
        listener = StatePort(path / "policyd.toml", store)
        await listener.start()
        try:
            await test(store, port)
        finally:
            await port.close()
            listener.stop()

    asyncio.run(served())


async def all_of(store: ServedState | MemoryStore, now: int = NOW) -> list[Entry]:
    return [entry async for entry in store.entries(now)]


def test_every_operation_does_what_the_store_itself_does(tmp_path: Path) -> None:
    async def test(store: MemoryStore, port: ServedState) -> None:
        await port.ping()
        assert await all_of(port) == []
        assert await port.client("example.net", NOW) is None
        assert await port.triplet("a", "b", "c", NOW) is None
        assert await port.account("none", NOW) is None
        await port.put([TRIPLET, CLIENT, ACCOUNT], NOW)
        assert await all_of(port) == await all_of(store) == [TRIPLET, CLIENT, ACCOUNT]
        key = (TRIPLET.client, TRIPLET.sender, TRIPLET.recipient)
        assert await port.triplet(*key, NOW) == TRIPLET
        assert await port.client("example.net", NOW) == CLIENT
        assert await port.account(ACCOUNT.name, NOW) == ACCOUNT
        assert await port.stats(NOW) == Stats(1, 1, 1, 0, -1)
        await port.remove([CLIENT])
        assert await store.client("example.net", NOW) is None
        assert await all_of(port, LATER) == [ACCOUNT]
        assert await port.expire(LATER, 1) == Expired(1, {}, more=True)
        assert await port.stats(LATER) == Stats(0, 0, 1, 0, -1)

    run(tmp_path, test)


def test_more_than_fit_into_one_line_arrive_and_leave(tmp_path: Path) -> None:
    many = [Triplet("\udcff" * 256, "s" * 256, str(n), NOW, NOW, False, LATER) for n in range(2001)]

    async def test(store: MemoryStore, port: ServedState) -> None:
        await port.put(iter(many), NOW)
        assert await all_of(port) == many
        seen = 0
        async for entry in port.entries(NOW):
            await port.remove([entry])  # while others are still coming
            seen += 1
        assert seen == 2001
        assert (await store.stats(NOW)).triplets == 0

    run(tmp_path, test)


def test_others_are_answered_while_all_is_given_out(tmp_path: Path) -> None:
    async def test(store: MemoryStore, port: ServedState) -> None:
        await store.put(
            [Triplet("c", "s", str(n), NOW, NOW, False, LATER) for n in range(20_000)], NOW
        )
        longest = 0.0
        loop = asyncio.get_running_loop()
        given = asyncio.create_task(all_of(port))
        while not given.done():
            began = loop.time()
            await asyncio.sleep(0)
            longest = max(longest, loop.time() - began)
        assert len(given.result()) == 20_000
        assert longest < 0.1

    run(tmp_path, test)


def test_what_the_store_cannot_do_is_told(tmp_path: Path) -> None:
    class Down(MemoryStore):
        async def ping(self) -> None:
            raise StoreError("the disk is full")

        async def stats(self, now: int) -> Stats:
            del now
            raise StoreError

    async def test() -> None:
        listener = StatePort(tmp_path / "policyd.toml", Down())
        await listener.start()
        port = ServedState(tmp_path / "policyd.toml")
        with pytest.raises(StoreError, match=r"^the disk is full$"):
            await port.ping()
        with pytest.raises(StoreError, match=r"^the store does not answer$"):
            await port.stats(NOW)
        assert await port.client("still there", NOW) is None
        await port.close()
        listener.stop()

    asyncio.run(test())


def test_where_nobody_serves_it_says_so(tmp_path: Path) -> None:
    with pytest.raises(StoreError, match=r"^no policyd serves .*toml: Connection refused; memory:"):
        asyncio.run(ServedState(tmp_path / "policyd.toml").ping())


def test_a_second_one_for_the_same_file_is_refused(tmp_path: Path) -> None:
    async def test(store: MemoryStore, port: ServedState) -> None:
        with pytest.raises(OSError, match="Address already in use"):
            await StatePort(tmp_path / "policyd.toml", store).start()
        await port.ping()

    run(tmp_path, test)


@pytest.mark.skipif(os.geteuid() != 0, reason="only root can become another user")
def test_another_user_may_not_ask(tmp_path: Path) -> None:
    async def test(_store: MemoryStore, _port: ServedState) -> None:
        program = [sys.executable, "-c", AS_ANOTHER_USER, str(tmp_path / "policyd.toml")]
        child = await asyncio.create_subprocess_exec(*program, stdout=subprocess.PIPE)
        said, _ = await child.communicate()
        assert said.startswith(b"policyd gave no answer: it has stopped, or this user may not ask")

    run(tmp_path, test)


@given(st.binary() | st.sampled_from([{"do": "drop"}, {"do": "put", "entries": [{}]}, []]))
def test_who_says_nonsense_is_hung_up_on_and_others_served(said: object) -> None:
    line = said if isinstance(said, bytes) else json.dumps(said).encode()

    async def test(_store: MemoryStore, port: ServedState) -> None:
        connection = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
        connection.connect(_names(Path("/nowhere/policyd.toml"), "state")[0])
        reader, writer = await asyncio.open_unix_connection(sock=connection)
        writer.write(line + b"\n")
        writer.write_eof()
        assert await reader.read() == b""
        writer.close()
        await port.ping()

    run(Path("/nowhere"), test)

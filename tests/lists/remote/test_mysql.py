"""MySQL and MariaDB as far as that goes without a server: none there, and one that says nothing."""

import asyncio
import importlib
import socket
import time
from pathlib import Path

import pytest

from policyd.lists.remote.lookups import Lookups
from policyd.lists.remote.settings import Holds, RemoteList, SqlPlace, SqlQuestion
from policyd.lists.remote.source import SourceError
from tests.lists.remote.places import QUERY


@pytest.fixture(scope="module", autouse=True)
def _imported() -> None:
    """Import beforehand what takes a while, and is not counted as waiting for a server."""
    for module in ("aiomysql", "policyd.lists.remote.sql"):
        importlib.import_module(module)


def why_not(url: str) -> tuple[SourceError, float]:
    """Give why a look-up fails, and after how many seconds."""
    place = SqlPlace(url, timeout=0.4, password="geheim")
    wanted = RemoteList("boxes", place, SqlQuestion(QUERY), Holds.ADDRESSES)

    async def ask() -> None:
        lookups = Lookups(time.monotonic)
        try:
            await lookups.holds(wanted, ("a",))
        finally:
            await lookups.close()

    started = time.monotonic()
    with pytest.raises(SourceError) as raised:
        asyncio.run(ask())
    return raised.value, time.monotonic() - started


def test_nobody_listens() -> None:
    with socket.create_server(("127.0.0.1", 0)) as server:
        port = server.getsockname()[1]
    error, took = why_not(f"mysql://policyd@127.0.0.1:{port}/mail")
    assert error.down
    assert "Can't connect to MySQL server on '127.0.0.1'" in str(error)
    assert "geheim" not in str(error)
    assert took < 0.4


def test_a_socket_that_is_not_there(tmp_path: Path) -> None:
    error, _ = why_not(f"mysql://policyd@/mail?unix_socket={tmp_path}/mysqld.sock")
    assert error.down
    assert "Can't connect to MySQL server" in str(error)


def test_a_server_that_says_nothing() -> None:
    with socket.create_server(("127.0.0.1", 0)) as server:
        error, took = why_not(f"mysql://policyd@127.0.0.1:{server.getsockname()[1]}/mail")
    assert error.down
    assert str(error) == "no answer within 0.4 s"
    assert took < 1.2

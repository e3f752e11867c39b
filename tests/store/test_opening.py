"""Opening a store touches nothing, so one that is down is down at the first operation only."""

import asyncio
import time
from pathlib import Path

import pytest

from policyd.store.memory import MemoryStore
from policyd.store.model import StoreError
from policyd.store.opening import open_store
from policyd.store.place import StateSettings
from policyd.store.sqlite import SqliteStore

REDIS = [
    "redis://127.0.0.1:1/3",
    "redis://jo:secret@[::1]:1",
    "redis+sentinel://127.0.0.1:1,localhost:1/mail/1",
    "redis+cluster://127.0.0.1:1,127.0.0.1:2",
    "rediss://127.0.0.1:1",
    "rediss+sentinel://127.0.0.1:1/mail",
    "rediss+cluster://127.0.0.1:1",
]


def test_a_url_names_the_store(tmp_path: Path) -> None:
    async def play() -> None:
        assert isinstance(open_store(StateSettings("memory:")), MemoryStore)
        stores = [open_store(StateSettings(f"sqlite:{tmp_path}/state.sqlite"))]
        assert isinstance(stores[0], SqliteStore)
        stores += [open_store(StateSettings(url)) for url in REDIS]
        for store in stores:
            await store.close()

    asyncio.run(play())
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("url", ["mysql://localhost/state", "redis://", "sqlite:state", ""])
def test_a_url_of_no_known_form_opens_nothing(url: str) -> None:
    with pytest.raises(ValueError, match="; write "):
        open_store(StateSettings(url))


@pytest.mark.parametrize("url", [*REDIS, "sqlite:/nowhere/at/all/state.sqlite"])
def test_a_store_that_is_down_says_so_at_the_first_operation(url: str) -> None:
    async def play() -> None:
        store = open_store(StateSettings(url, timeout=1.0, password="hunter2"))
        begun = time.monotonic()
        with pytest.raises(StoreError) as caught:
            await store.ping()
        assert time.monotonic() - begun < 2
        assert str(caught.value)
        assert "hunter2" not in str(caught.value)
        assert "secret" not in str(caught.value)
        await store.close()

    asyncio.run(play())

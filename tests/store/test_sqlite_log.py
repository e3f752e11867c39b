"""The log of a state file is written back while writing goes on, and is then short again."""

import asyncio
import itertools
import shutil
import sqlite3
from pathlib import Path

import pytest

from policyd.store.model import Triplet
from policyd.store.sqlite import SqliteStore
from policyd.store.sqlite_file import StateFile
from policyd.store.sqlite_log import SqliteLog
from policyd.store.sqlite_writer import _LONG_LOG

NOW = 1_790_000_000_000


def triplets(part: int) -> list[Triplet]:
    return [
        Triplet(
            "192.0.2.0/24", f"{part}@sender.example", f"{n}@example.org", NOW, NOW, True, NOW * 2
        )
        for n in range(500)
    ]


def test_a_log_that_has_become_long_begins_anew(tmp_path: Path) -> None:
    log = tmp_path / "state-wal"
    sizes: list[int] = []

    async def write() -> None:
        store = SqliteStore(tmp_path / "state")
        try:
            for part in itertools.count():
                await store.put(triplets(part)[:100], NOW)
                sizes.append(log.stat().st_size)
                if len(sizes) > 2 and sizes[-1] < sizes[-2]:
                    break
                assert part < 1000
            assert (await store.stats(NOW)).triplets == 100 * len(sizes)
        finally:
            await store.close()

    asyncio.run(write())

    assert max(sizes) >= _LONG_LOG
    assert sizes[-1] < _LONG_LOG / 4


def test_what_is_written_back_is_in_the_database_and_others_write_meanwhile(tmp_path: Path) -> None:
    file = tmp_path / "state"

    async def write() -> int:
        store = SqliteStore(file)
        try:
            await store.put(triplets(0), NOW)
            log = SqliteLog(StateFile(file))
            log.write_back()
            await store.put(triplets(1), NOW)
            log.close()
            shutil.copy(file, tmp_path / "alone")
            return (await store.stats(NOW)).triplets
        finally:
            await store.close()

    assert asyncio.run(write()) == 1000
    alone = sqlite3.connect(tmp_path / "alone")
    (rows,) = alone.execute("SELECT count(*) FROM triplet").fetchone()
    (whole,) = alone.execute("PRAGMA integrity_check").fetchone()
    alone.close()
    assert rows >= 500
    assert whole == "ok"


def test_a_file_that_cannot_be_read_has_no_log(tmp_path: Path) -> None:
    file = tmp_path / "state"
    file.write_bytes(b"no database at all" * 1000)

    with pytest.raises(sqlite3.DatabaseError):
        SqliteLog(StateFile(file))

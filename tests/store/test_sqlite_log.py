"""The log of a state file is written back while writing goes on, and is then short again."""

import asyncio
import itertools
from pathlib import Path

from policyd.store.model import Triplet
from policyd.store.sqlite import SqliteStore
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
                await store.put(triplets(part), NOW)
                sizes.append(log.stat().st_size)
                if len(sizes) > 2 and sizes[-1] < sizes[-2]:
                    break
                assert part < 1000
            assert (await store.stats(NOW)).triplets == 500 * len(sizes)
        finally:
            await store.close()

    asyncio.run(write())

    assert max(sizes) >= _LONG_LOG
    assert sizes[-1] < _LONG_LOG / 4

"""The state file: how it is made, known, migrated and shared, and what outlives whom."""

import asyncio
import os
import signal
import sqlite3
import stat
import subprocess
import sys
import textwrap
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import TypeVar

import pytest

from policyd.store.interface import Store
from policyd.store.model import Charge, Message, StoreError, Triplet
from policyd.store.sqlite import SqliteStore
from policyd.store.sqlite_schema import APPLICATION_ID, MIGRATIONS, migrate
from policyd.store.sqlite_writer import LOOK

T = TypeVar("T")
NOW = 1_800_000_000_000
ROOT = Path(__file__).parents[2]


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "state.sqlite"


def on(path: Path, work: Callable[[SqliteStore], Awaitable[T]], timeout: float = 1.0) -> T:
    async def run() -> T:
        store = SqliteStore(path, timeout=timeout)
        try:
            return await work(store)
        finally:
            await store.close()

    return asyncio.run(run())


def triplet(number: int) -> Triplet:
    return Triplet("192.0.2.0/24", f"s{number}@a", "r@b", NOW, NOW, False, NOW + 1000, "")


def known(number: int) -> Callable[[Store], Awaitable[Triplet | None]]:
    return lambda store: store.triplet("192.0.2.0/24", f"s{number}@a", "r@b", NOW)


def test_nothing_is_opened_before_the_first_operation(path: Path) -> None:
    store = SqliteStore(path)
    assert not path.exists()
    asyncio.run(store.close())
    assert not path.exists()


def test_the_file_is_readable_by_its_group_and_no_further(path: Path) -> None:
    before = os.umask(0)
    try:
        on(path, lambda store: store.ping())
    finally:
        os.umask(before)
    assert stat.S_IMODE(path.stat().st_mode) == 0o640


def test_what_was_written_is_there_for_who_opens_it_later(path: Path) -> None:
    on(path, lambda store: store.put([triplet(1)], NOW))
    assert on(path, known(1)) == triplet(1)


def test_a_file_of_an_older_version_becomes_new_and_keeps_what_it_has(path: Path) -> None:
    on(path, lambda store: store.put([triplet(1)], NOW))
    with sqlite3.connect(path, isolation_level=None) as connection:
        later = (*MIGRATIONS, ("ALTER TABLE triplet ADD COLUMN note TEXT NOT NULL DEFAULT ''",))
        migrate(connection, later)
        assert connection.execute("PRAGMA user_version").fetchone() == (len(later),)
        rows = connection.execute("SELECT sender, note FROM triplet").fetchall()
    assert rows == [("s1@a", "")]


def test_a_migration_that_fails_changes_nothing(path: Path) -> None:
    on(path, lambda store: store.put([triplet(1)], NOW))
    broken = (*MIGRATIONS, ("DROP TABLE client", "SELECT * FROM nowhere"))
    with sqlite3.connect(path, isolation_level=None) as connection:
        with pytest.raises(sqlite3.OperationalError, match="nowhere"):
            migrate(connection, broken)
        assert connection.execute("PRAGMA user_version").fetchone() == (len(MIGRATIONS),)
    assert on(path, known(1)) == triplet(1)
    assert on(path, lambda store: store.client("x", NOW)) is None


@pytest.mark.parametrize(
    ("statement", "said"),
    [
        (f"PRAGMA user_version = {len(MIGRATIONS) + 1}", "start the newer policyd"),
        ("PRAGMA application_id = 1", "another program's database"),
    ],
)
def test_a_file_that_is_not_ours_to_change_is_refused_and_left(
    path: Path, statement: str, said: str
) -> None:
    on(path, lambda store: store.put([triplet(1)], NOW))
    with sqlite3.connect(path) as connection:
        connection.execute(statement)
    connection.close()
    before = path.read_bytes()
    with pytest.raises(StoreError, match=said):
        on(path, lambda store: store.ping())
    assert path.read_bytes() == before


def test_a_state_file_says_whose_it_is(path: Path) -> None:
    on(path, lambda store: store.ping())
    connection = sqlite3.connect(path)
    assert connection.execute("PRAGMA application_id").fetchone() == (APPLICATION_ID,)
    assert connection.execute("PRAGMA journal_mode").fetchone() == ("wal",)
    connection.close()


def test_what_is_no_database_is_told_with_the_mend(path: Path) -> None:
    path.write_bytes(b"no database at all, however long" * 100)
    with pytest.raises(StoreError, match=r"state\.sqlite is damaged .*; move it away"):
        on(path, lambda store: store.ping())


def test_a_directory_that_is_not_there_is_named(tmp_path: Path) -> None:
    with pytest.raises(StoreError, match="nowhere: No such file"):
        on(tmp_path / "nowhere" / "state.sqlite", lambda store: store.ping())


def test_an_operation_that_fails_takes_no_other_of_its_group_with_it(path: Path) -> None:
    async def work(store: SqliteStore) -> list[object]:
        await store.ping()
        odd = Charge("l", "l\x1fk", 1, 1, 0)  # a window of no length
        asked: list[Awaitable[object]] = [
            store.put([triplet(1)], NOW),
            store.reserve([odd], Message("i"), NOW),
            store.put([triplet(2)], NOW),
        ]
        return list(await asyncio.gather(*asked, return_exceptions=True))

    first, odd, second = on(path, work)
    assert (first, second) == (None, None)
    assert isinstance(odd, ZeroDivisionError)
    assert on(path, known(1)) == triplet(1)
    assert on(path, known(2)) == triplet(2)


def test_the_thread_that_writes_outlives_a_fault_of_its_own(path: Path) -> None:
    async def work(store: SqliteStore) -> None:
        await store.ping()

        def fault() -> int:
            raise RuntimeError("a fault of our own")

        store._writer._file.log_size = fault  # type: ignore[method-assign] # no other way to it
        await store.put([triplet(1)], NOW)
        store._writer._file.log_size = lambda: 0  # type: ignore[method-assign] # well again
        await store.put([triplet(2)], NOW)

    on(path, work)
    assert on(path, known(2)) == triplet(2)


def test_who_gives_up_waiting_leaves_the_others_their_answer(path: Path) -> None:
    async def work(store: SqliteStore) -> None:
        await store.ping()
        gone = asyncio.ensure_future(store.put([triplet(1)], NOW))
        await asyncio.sleep(0)
        gone.cancel()
        await store.put([triplet(2)], NOW)

    on(path, work)
    assert on(path, known(2)) == triplet(2)


def test_files_of_another_worker_are_left_though_their_inodes_were_ours(path: Path) -> None:
    index, kept = path.with_name(f"{path.name}-shm"), path.with_name("kept")

    async def work(store: SqliteStore) -> None:
        await store.ping()
        inode = index.stat().st_ino
        path.with_name("old").hardlink_to(path)
        kept.hardlink_to(index)
        garbage = path.with_name("garbage")
        garbage.write_bytes(b"no database at all" * 1000)
        garbage.replace(path)
        await asyncio.sleep(LOOK)
        with pytest.raises(StoreError, match="damaged"):
            await store.ping()
        path.unlink()  # noqa: ASYNC240 -- nobody else is kept from running
        other = SqliteStore(path)
        await other.put([triplet(1)], NOW)
        await other.close()
        index.hardlink_to(kept)
        assert await known(1)(store) == triplet(1)
        assert index.stat().st_ino == inode

    on(path, work)


def test_what_a_deleted_file_leaves_behind_is_not_taken_for_the_new_ones(path: Path) -> None:
    async def work(store: SqliteStore) -> None:
        await store.put([triplet(1)], NOW)
        path.unlink()  # noqa: ASYNC240 -- nobody else is kept from running
        await asyncio.sleep(LOOK)
        assert await known(1)(store) is None
        await store.put([triplet(2)], NOW)

    on(path, work)
    assert on(path, known(1)) is None
    assert on(path, known(2)) == triplet(2)
    connection = sqlite3.connect(path)
    assert connection.execute("PRAGMA integrity_check").fetchone() == ("ok",)
    connection.close()


def test_a_worker_that_comes_after_a_deletion_shares_the_new_file_with_the_others(
    path: Path,
) -> None:
    async def work(one: SqliteStore) -> None:
        await one.put([triplet(1)], NOW)
        path.unlink()  # noqa: ASYNC240 -- nobody else is kept from running
        other = SqliteStore(path)
        await other.put([triplet(2)], NOW)
        await asyncio.sleep(LOOK)
        for number in range(3, 203, 2):
            await one.put([triplet(number)], NOW)
            await other.put([triplet(number + 1)], NOW)
        assert await known(202)(one) == triplet(202)
        assert await known(201)(other) == triplet(201)
        assert (await one.stats(NOW)).triplets == 201
        await other.close()

    on(path, work)
    assert on(path, lambda store: store.stats(NOW)).triplets == 201


def test_several_processes_may_make_the_file_at_once(path: Path) -> None:
    program = textwrap.dedent(
        """
        import asyncio, sys
        from pathlib import Path
        from policyd.store.sqlite import SqliteStore

        async def main():
            store = SqliteStore(Path(sys.argv[1]), timeout=5.0)
            await store.ping()
            await store.close()

        asyncio.run(main())
        """
    )
    started = [
        subprocess.Popen([sys.executable, "-c", program, str(path)], cwd=ROOT) for _ in range(4)
    ]
    assert [process.wait(20) for process in started] == [0, 0, 0, 0]


def test_what_was_answered_outlives_a_kill(path: Path) -> None:
    program = textwrap.dedent(
        """
        import asyncio, sys
        from pathlib import Path
        from policyd.store.model import Triplet
        from policyd.store.sqlite import SqliteStore

        async def write(store, number):
            entry = Triplet("192.0.2.0/24", f"s{number}@a", "r@b", NOW, NOW, False, NOW + 1000, "")
            await store.put([entry], NOW)
            print(number, flush=True)

        async def main():
            store = SqliteStore(Path(sys.argv[1]))
            for start in range(0, 1_000_000, 20):
                await asyncio.gather(*(write(store, start + each) for each in range(20)))

        asyncio.run(main())
        """
    ).replace("NOW", str(NOW))
    process = subprocess.Popen(
        [sys.executable, "-c", program, str(path)], cwd=ROOT, stdout=subprocess.PIPE, text=True
    )
    assert process.stdout is not None
    told = [int(process.stdout.readline()) for _ in range(200)]
    process.send_signal(signal.SIGKILL)
    told += [int(line) for line in process.stdout.read().splitlines()]
    process.wait()
    process.stdout.close()

    async def count(store: SqliteStore) -> int:
        found = [await known(number)(store) for number in told]
        return sum(each is not None for each in found)

    assert on(path, count) == len(told) >= 200

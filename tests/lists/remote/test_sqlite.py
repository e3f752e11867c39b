"""Lists in a SQLite file: what a query's row means, and what becomes of a file that changes."""

import asyncio
import sqlite3
import time
from contextlib import closing
from pathlib import Path

import pytest
from msgspec import structs

from policyd.lists.remote.lookups import Lookups
from policyd.lists.remote.settings import Holds, RemoteList, SqlPlace, SqlQuestion
from policyd.lists.remote.source import SourceError
from tests.lists.remote.places import ENTRIES, QUERY, write_sqlite


def boxes(path: Path, query: str = QUERY) -> RemoteList:
    place = SqlPlace(f"sqlite:{path}", timeout=0.3)
    return RemoteList("boxes", place, SqlQuestion(query), Holds.ADDRESSES, cache=0, stale=0)


async def ask(wanted: RemoteList, *keys: str) -> bool:
    lookups = Lookups(time.monotonic)
    try:
        return await lookups.holds(wanted, keys)
    finally:
        await lookups.close()


@pytest.fixture
def path(tmp_path: Path) -> Path:
    path = tmp_path / "mail #1% ?.sqlite"
    write_sqlite(path, ENTRIES)
    return path


def test_what_is_in_the_file_is_found_and_nothing_else(path: Path) -> None:
    for entry in ENTRIES:
        assert asyncio.run(ask(boxes(path), "nobody@example.org", entry)), entry
    assert not asyncio.run(ask(boxes(path), "bob@example.org", "' OR 1 --"))


@pytest.mark.parametrize(
    ("query", "found"),
    [
        ("SELECT EXISTS (SELECT 1 FROM mailboxes WHERE address IN :keys)", (True, False)),
        ("SELECT count(*) FROM mailboxes WHERE address IN :keys", (True, False)),
        ("SELECT address FROM mailboxes WHERE address IN :keys", (True, False)),
        ("WITH m AS (SELECT * FROM mailboxes) SELECT 1 FROM m WHERE address IN :keys",
         (True, False)),
        ("SELECT NULL FROM mailboxes WHERE address IN :keys", (False, False)),
        ("SELECT 0 FROM mailboxes WHERE address IN :keys", (False, False)),
        ("SELECT '' FROM mailboxes WHERE address IN :keys", (True, False)),
    ],
)  # fmt: skip
def test_a_row_counts_if_its_first_column_is_neither_null_nor_0(
    path: Path, query: str, found: tuple[bool, bool]
) -> None:
    wanted = boxes(path, query)
    assert asyncio.run(ask(wanted, ENTRIES[0])) is found[0]
    assert asyncio.run(ask(wanted, "nobody@example.org")) is found[1]


def test_a_file_that_is_not_there_is_a_failure_and_is_not_made(tmp_path: Path) -> None:
    with pytest.raises(SourceError, match="unable to open"):
        asyncio.run(ask(boxes(tmp_path / "none.sqlite"), "a"))
    assert list(tmp_path.iterdir()) == []


def test_nothing_can_be_written(path: Path) -> None:
    query = "WITH k AS (SELECT 1 WHERE 'a' IN :keys) INSERT INTO mailboxes SELECT * FROM k"
    with pytest.raises(SourceError, match="readonly"):
        asyncio.run(ask(boxes(path, query), "a"))


def test_a_wrong_query_is_a_failure_in_the_databases_words_without_the_keys(path: Path) -> None:
    with pytest.raises(SourceError) as raised:
        asyncio.run(ask(boxes(path, "SELECT 1 FROM nowhere WHERE x IN :keys"), "secret@key"))
    assert str(raised.value) == "no such table: nowhere"


def test_a_file_that_is_locked_is_waited_for_within_the_timeout(path: Path) -> None:
    with closing(sqlite3.connect(path, isolation_level=None)) as other:
        other.execute("BEGIN EXCLUSIVE")
        started = time.monotonic()
        with pytest.raises(SourceError, match="locked"):
            asyncio.run(ask(boxes(path), ENTRIES[0]))
        assert time.monotonic() - started < 1


def test_a_query_that_takes_too_long_is_ended_and_does_not_go_on(path: Path) -> None:
    endless = "WITH RECURSIVE n(x) AS (SELECT 1 UNION ALL SELECT x + 1 FROM n) SELECT 1 FROM n"
    before = time.process_time()
    with pytest.raises(SourceError, match="interrupted"):
        asyncio.run(ask(boxes(path, f"{endless} WHERE x IN :keys"), "a"))
    assert time.process_time() - before < 2


def test_a_file_that_takes_the_place_of_another_is_read_within_two_seconds(path: Path) -> None:
    async def watch() -> None:
        lookups = Lookups(time.monotonic)
        assert not await lookups.holds(boxes(path), ("new@example.org",))
        write_sqlite(path.with_name("next"), ["new@example.org"])
        path.with_name("next").rename(path)
        deadline = time.monotonic() + 3
        while not await lookups.holds(boxes(path), ("new@example.org",)):
            assert time.monotonic() < deadline
            await asyncio.sleep(0.1)
        await lookups.close()

    asyncio.run(watch())


def test_a_password_is_in_no_representation(path: Path) -> None:
    place = SqlPlace("postgresql://u:secret@h/d", password="secret")
    assert "secret" not in repr(structs.replace(boxes(path), place=place))

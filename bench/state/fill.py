"""
Files of SQLite with many triplets, made quickly and kept for the next run, and Redis filled.

Rows come in the order of time, which is none in a table whose rows stand under hashes, so pages are
as full as they become by and by. Where many rows go in together, they are sorted first: what is
written is the same, but for the order within each of some hundred parts.
"""

import hashlib
import itertools
import operator
import os
import shutil
import sqlite3
import time
from collections import deque
from collections.abc import Callable, Iterator
from concurrent.futures import Future, ProcessPoolExecutor
from pathlib import Path
from typing import Any, Final

from bench.state.triplets import BEGIN, triplet
from policyd.store import sqlite_book, sqlite_schema
from policyd.store.interface import Store
from policyd.store.sqlite_book import SqliteBook
from policyd.store.sqlite_file import StateFile

_PART: Final = 50_000
"""Rows that are sorted and written together."""
_PROCESSES: Final = 2
_BLOCK: Final = 2**20
_PUT: Final = 512
"""Entries that are put into a store at once."""

Say = Callable[[str], None]


class _Rows(SqliteBook):
    """A book whose writing leaves rows to be written later."""

    def __init__(self, connection: sqlite3.Connection) -> None:
        super().__init__(connection)
        self.statement = ""
        self.rows: list[tuple[Any, ...]] = []

    def _write(self, statement: str, values: tuple[object, ...]) -> None:
        self.statement = statement
        self.rows.append(values)


def kept_file(directory: Path, count: int, every: int, say: Say) -> Path:
    """Give a file with so many triplets; made unless it is there from before. Not to be changed."""
    path = directory / f"triplets-{count}-{every}-{_made_by()}.sqlite"
    for old in directory.glob(f"triplets-{count}-{every}-*"):
        if old != path:
            old.unlink()
    if not path.exists():
        say(f"{path}: {count:,} triplets are written; they are kept for the next run")
        began = time.monotonic()
        half = path.with_name(f"new-{os.getpid()}.sqlite")
        try:
            fill_file(half, count, every)
            half.rename(path)
        finally:
            half.unlink(missing_ok=True)
        say(f"{path}: {time.monotonic() - began:.0f} s")
    return path


def copied(kept: Path, path: Path) -> Path:
    """Copy a file that is kept, to be changed, and have it in memory as one in use is."""
    shutil.copyfile(kept, path)
    path.chmod(0o640)
    with path.open("rb") as copy:
        while copy.read(_BLOCK):
            continue
    return path


def fill_file(path: Path, count: int, every: int = 0) -> None:
    """Make a state file with so many triplets."""
    StateFile(path).open().connection.close()
    connection = sqlite3.connect(path, isolation_level=None)
    try:
        # it is whole or thrown away, so nothing is written twice
        connection.execute("PRAGMA journal_mode = OFF")
        connection.execute("PRAGMA synchronous = OFF")
        connection.execute("PRAGMA cache_spill = OFF")
        connection.execute("PRAGMA cache_size = -6000000")
        connection.execute("BEGIN IMMEDIATE")
        with ProcessPoolExecutor(_PROCESSES) as pool:
            under_way: deque[Future[tuple[str, list[tuple[Any, ...]]]]] = deque()
            for part in _parts(count, _PART):
                under_way.append(pool.submit(_rows, part, every))
                if len(under_way) > 2 * _PROCESSES:
                    connection.executemany(*under_way.popleft().result())
            for left in under_way:
                connection.executemany(*left.result())
        connection.execute("COMMIT")
        connection.execute("PRAGMA journal_mode = WAL")
    finally:
        connection.close()


async def fill_store(store: Store, count: int) -> None:
    """Put so many triplets into a store, as an import does."""
    for part in _parts(count, _PUT):
        await store.put([triplet(number) for number in part], BEGIN)


def octets_by_table(path: Path) -> dict[str, int]:
    """Give the octets of the pages of each table (https://www.sqlite.org/dbstat.html)."""
    # it is not in use, so SQLite need put nothing beside it
    connection = sqlite3.connect(f"{path.absolute().as_uri()}?immutable=1", uri=True)
    try:
        sizes = connection.execute("SELECT name, pgsize FROM dbstat WHERE aggregate = TRUE")
        return dict(sizes.fetchall())
    finally:
        connection.close()


def _rows(part: range, every: int) -> tuple[str, list[tuple[Any, ...]]]:
    """Give the statement and the rows that write triplets, in the order of the table."""
    book = _Rows(sqlite3.connect(":memory:"))
    for number in part:
        book.write_triplet(triplet(number, every))
    book.connection.close()
    book.rows.sort(key=operator.itemgetter(0))
    return book.statement, book.rows


def _parts(count: int, size: int) -> Iterator[range]:
    starts = itertools.count(0, size)
    for start in itertools.takewhile(lambda start: start < count, starts):
        yield range(start, min(count, start + size))


def _made_by() -> str:
    """Tell apart what different programs would make."""
    sources = (sqlite_book.__file__, sqlite_schema.__file__, triplet.__code__.co_filename, __file__)
    texts = b"".join(Path(str(source)).read_bytes() for source in sources)
    return hashlib.sha256(texts).hexdigest()[:12]

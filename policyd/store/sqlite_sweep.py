"""
Expiry in a state file: a sweep through each table in the order of its rows, step by step.

There is no index on the moment of expiry: it would cost each triplet some twenty octets and each
write a second page. A step looks at a stretch of rows outside of any transaction, and only then
drops those of them that have expired, so the write lock is held for the drops alone.
"""

import sqlite3
from typing import Final

import msgspec

from policyd.store.model import Expired
from policyd.store.sqlite_book import unsettled_of

SWEEP_EVERY: Final = 600_000
"""Milliseconds between the beginnings of two sweeps through what is large; see Sweep."""

_SMALL: Final = ("message", "connection")
_LARGE: Final = ("account", "client", "triplet")
_FIRST: Final = -(2**63)


class Stretch(msgspec.Struct, frozen=True):
    """Rows of a table that have expired, and where the next stretch begins; None: at its end."""

    table: str
    rows: tuple[int, ...]
    after: int | None


class Sweep:
    """
    Where one store object is in its sweep.

    Messages and connections, of which there is an hour's worth, are gone through each time, all
    else once in SWEEP_EVERY: what has expired is no longer found, it only takes up room.
    """

    def __init__(self) -> None:
        self._tables: list[str] = []
        self._after = _FIRST
        self._began: int | None = None

    def stretch(self, connection: sqlite3.Connection, now: int, most: int) -> Stretch:
        """Look at the next rows, at most so many."""
        if not self._tables:
            self._begin(now)
        table = self._tables[0]
        last, seen = connection.execute(
            f"SELECT max(id), count(*) FROM (SELECT id FROM {table} WHERE id >= ?"  # noqa: S608  # our own names
            " ORDER BY id LIMIT ?)",
            (self._after, most),
        ).fetchone()
        if not seen:
            return Stretch(table, (), None)
        kept = "AND NOT by_hand" if table == "client" else ""
        rows = connection.execute(
            f"SELECT id FROM {table} WHERE id BETWEEN ? AND ? AND expires <= ? {kept}",  # noqa: S608  # our own names
            (self._after, last, now),
        )
        found = tuple(row for (row,) in rows)
        return Stretch(table, found, None if seen < most or last == -_FIRST - 1 else last + 1)

    def drop(self, connection: sqlite3.Connection, stretch: Stretch, now: int) -> Expired:
        """Drop what a stretch found, unless it was written again since, and say what it was."""
        unsettled: dict[str, int] = {}
        if stretch.table == "message":
            statement = "SELECT record FROM message WHERE id = ? AND expires <= ?"
            for row in stretch.rows:
                for (record,) in connection.execute(statement, (row, now)):
                    for limit in unsettled_of(record):
                        unsettled[limit] = unsettled.get(limit, 0) + 1
        kept = "AND NOT by_hand" if stretch.table == "client" else ""
        dropped = connection.executemany(
            f"DELETE FROM {stretch.table} WHERE id = ? AND expires <= ? {kept}",  # noqa: S608  # our own names
            [(row, now) for row in stretch.rows],
        ).rowcount
        return Expired(0 if stretch.table in _SMALL else max(0, dropped), unsettled)

    def advance(self, stretch: Stretch) -> bool:
        """Go on behind a stretch; tell whether there is more to look at."""
        if stretch.after is not None:
            self._after = stretch.after
        elif self._tables and self._tables[0] == stretch.table:
            del self._tables[0]
            self._after = _FIRST
        return bool(self._tables)

    def _begin(self, now: int) -> None:
        self._tables = list(_SMALL)
        self._after = _FIRST
        if self._began is None or not 0 <= now - self._began < SWEEP_EVERY:
            self._began = now
            self._tables += _LARGE

"""
What stands in a state file of SQLite: its tables, and how files of older versions become new.

`PRAGMA application_id` tells a state file from other programs' databases, `PRAGMA user_version` is
the version of its schema (https://www.sqlite.org/pragma.html). Each row stands under a 64-bit hash
of its key as its rowid, so that a table is one B-tree without an index beside it.
"""

import sqlite3
from collections.abc import Sequence
from typing import Final

from policyd.store.model import StoreError

APPLICATION_ID: Final = 0x70_6F_6C_64
"""The letters `pold`."""

Migration = tuple[str, ...]
"""Statements that take a file from one version to the next."""

_VERSION_1: Final[Migration] = (
    # seen: milliseconds from first to last, which takes less room than last
    """
    CREATE TABLE triplet (
        id INTEGER PRIMARY KEY, client TEXT NOT NULL, sender TEXT NOT NULL,
        recipient TEXT NOT NULL, first INTEGER NOT NULL, seen INTEGER NOT NULL,
        passed INTEGER NOT NULL, expires INTEGER NOT NULL, instance TEXT NOT NULL)
    """,
    """
    CREATE TABLE client (
        id INTEGER PRIMARY KEY, client TEXT NOT NULL, successes INTEGER NOT NULL,
        allowed INTEGER NOT NULL, last INTEGER NOT NULL, expires INTEGER NOT NULL,
        by_hand INTEGER NOT NULL, instance TEXT NOT NULL)
    """,
    # parts: amounts by part of the window, in MessagePack
    """
    CREATE TABLE account (
        id INTEGER PRIMARY KEY, name TEXT NOT NULL, width INTEGER NOT NULL, parts BLOB NOT NULL,
        level REAL NOT NULL, at INTEGER NOT NULL, expires INTEGER NOT NULL)
    """,
    # record: what the message reserved, in MessagePack
    """
    CREATE TABLE message (
        id INTEGER PRIMARY KEY, instance TEXT NOT NULL, expires INTEGER NOT NULL,
        record BLOB NOT NULL)
    """,
    """
    CREATE TABLE connection (
        id INTEGER PRIMARY KEY, connection TEXT NOT NULL, expires INTEGER NOT NULL,
        instance TEXT NOT NULL)
    """,
    # how often a worker asked whether the file can be written
    "CREATE TABLE asked (id INTEGER PRIMARY KEY, times INTEGER NOT NULL)",
)

MIGRATIONS: Final[tuple[Migration, ...]] = (_VERSION_1,)
"""In order; the version of a file is how many of them it has had."""


def refuse_unknown(connection: sqlite3.Connection, known: int) -> int:
    """Give the version of a file; StoreError if it is a newer one's or another program's."""
    (version,) = connection.execute("PRAGMA user_version").fetchone()
    (application,) = connection.execute("PRAGMA application_id").fetchone()
    (tables,) = connection.execute("SELECT count(*) FROM sqlite_schema").fetchone()
    if application != APPLICATION_ID and (tables or version or application):
        raise StoreError("this is another program's database; name another file in state.url")
    if version > known:
        raise StoreError(
            f"the file has schema version {version}, and this policyd knows versions up to"
            f" {known}; start the newer policyd, or name another file in state.url"
        )
    return int(version)


def migrate(connection: sqlite3.Connection, migrations: Sequence[Migration] = MIGRATIONS) -> None:
    """
    Bring a file to the newest version, in one transaction under the write lock.

    StoreError, and nothing is changed, if the file is not one that these migrations know.
    """
    if refuse_unknown(connection, len(migrations)) == len(migrations):
        return
    connection.execute("BEGIN IMMEDIATE")
    try:
        # another process may have been quicker
        for migration in migrations[refuse_unknown(connection, len(migrations)) :]:
            for statement in migration:
                connection.execute(statement)
        connection.execute(f"PRAGMA application_id = {APPLICATION_ID}")
        connection.execute(f"PRAGMA user_version = {len(migrations)}")
        connection.execute("COMMIT")
    finally:
        if connection.in_transaction:
            connection.execute("ROLLBACK")

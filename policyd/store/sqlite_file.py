"""
The state file: made, opened, known again, and what its errors mean.

A file can be deleted or replaced while it is open, and its log and index (`-wal`, `-shm`) may then
stay behind under their names. They belong to the file that is gone, and one made anew must never
meet them (https://www.sqlite.org/howtocorrupt.html, section 2.5), so they are unlinked before. A
lock on the directory lets one process at a time do that.
"""

import contextlib
import fcntl
import os
import sqlite3
from collections.abc import Iterator
from pathlib import Path
from typing import Final

import msgspec

from policyd.store.model import StoreError
from policyd.store.sqlite_schema import migrate

MODE: Final = 0o640
_BESIDE: Final = ("-wal", "-shm")
_LOG_KEPT: Final = 2**18
"""Octets of the log when it begins anew: its size then tells how much is to be written back."""

_BUSY: Final = frozenset({sqlite3.SQLITE_BUSY, sqlite3.SQLITE_LOCKED, sqlite3.SQLITE_PROTOCOL})
_DAMAGED: Final = frozenset({sqlite3.SQLITE_CORRUPT, sqlite3.SQLITE_NOTADB})

Identity = tuple[int, int]
"""Device and inode, by which a file is told from another of its name."""


class BusyError(Exception):
    """Another process holds a lock; it may be gone in a moment."""


class Opened(msgspec.Struct, frozen=True):
    """A connection for writing, and which files it is of: the database, its log and its index."""

    connection: sqlite3.Connection
    identity: Identity
    beside: tuple[Identity | None, ...]


class StateFile:
    """
    A state file by its path.

    What goes wrong is StoreError, or BusyError where trying again may help.
    """

    def __init__(self, path: Path) -> None:
        self.path: Final = path

    def identity(self) -> Identity | None:
        """Tell which file has the name now; None if none has, or it cannot be told."""
        return _identity(self.path)

    def open(self) -> Opened:
        """Open the file for writing, made if it is not there, and bring it to the newest schema."""
        try:
            with self._directory_locked():
                if _identity(self.path) is None:
                    self._clear_away(None)
                    self._make()
                return self._open()
        except (sqlite3.Error, OSError, StoreError) as error:
            raise self.fault(error) from error

    def let_go(self, before: Opened) -> None:
        """
        Close what is open, and unlink what it leaves behind if its file is gone.

        Once only: while they are open, files are told apart by their inodes, which may be used
        again for those of another worker as soon as they are closed.
        """
        try:
            with self._directory_locked():
                if _identity(self.path) != before.identity:
                    self._clear_away(before)
                before.connection.close()
        except (sqlite3.Error, OSError) as error:
            raise self.fault(error) from error

    def log_size(self) -> int:
        """Give the octets of the log; 0 where there is none."""
        return _size(self.path.with_name(self.path.name + "-wal"))

    def octets(self) -> int:
        """Give the octets of the database and what stands beside it."""
        return sum(_size(self.path.with_name(self.path.name + s)) for s in ("", *_BESIDE))

    def reader(self) -> sqlite3.Connection:
        """Open the file for reading, for use in any one thread at a time; sqlite3.Error."""
        connection = self._connect()
        connection.execute("PRAGMA query_only = 1")
        return connection

    def writer(self) -> sqlite3.Connection:
        """Open the file, which is there, for writing; sqlite3.Error."""
        connection = self._connect()
        # what is committed survives the process, and the database survives the machine
        connection.execute("PRAGMA synchronous = NORMAL")
        connection.execute("PRAGMA wal_autocheckpoint = 0")
        connection.execute(f"PRAGMA journal_size_limit = {_LOG_KEPT}")
        return connection

    def fault(self, error: Exception) -> StoreError | BusyError:
        """Say what an error means, with the file and the mend where there is one."""
        if isinstance(error, BlockingIOError):
            return BusyError(f"{self.path}: another process is opening it")
        if isinstance(error, OSError):
            return StoreError(f"{error.filename or self.path}: {error.strerror}")
        code = getattr(error, "sqlite_errorcode", 0) & 0xFF
        if code in _BUSY:
            return BusyError(f"{self.path}: {error}")
        if code in _DAMAGED:
            return StoreError(
                f"{self.path} is damaged ({error}); move it away, and policyd makes a new one"
            )
        return StoreError(f"{self.path}: {error}")

    def _connect(self) -> sqlite3.Connection:
        uri = self.path.absolute().as_uri() + "?mode=rw"
        return sqlite3.connect(
            uri, uri=True, timeout=0, isolation_level=None, check_same_thread=False
        )

    @contextlib.contextmanager
    def _directory_locked(self) -> Iterator[None]:
        descriptor = os.open(self.path.absolute().parent, os.O_RDONLY | os.O_DIRECTORY)
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
            yield
        finally:
            os.close(descriptor)

    def _clear_away(self, before: Opened | None) -> None:
        """Unlink the log and the index that stand there; with `before` only if they are its own."""
        for number, suffix in enumerate(_BESIDE):
            beside = self.path.with_name(self.path.name + suffix)
            found = _identity(beside)
            if found is not None and (before is None or found == before.beside[number]):
                beside.unlink()

    def _make(self) -> None:
        descriptor = os.open(self.path, os.O_CREAT | os.O_EXCL | os.O_RDWR, MODE)
        try:
            # made by root on the command line, it is the daemon's, as its directory is
            if os.geteuid() == 0:
                owner = self.path.absolute().parent.stat()
                os.fchown(descriptor, owner.st_uid, owner.st_gid)
        finally:
            os.close(descriptor)

    def _open(self) -> Opened:
        connection = self.writer()
        try:
            identity = self._prepare(connection)
            beside = tuple(
                _identity(self.path.with_name(self.path.name + suffix)) for suffix in _BESIDE
            )
            return Opened(connection, identity, beside)
        except BaseException:
            connection.close()
            raise

    def _prepare(self, connection: sqlite3.Connection) -> Identity:
        migrate(connection)
        (mode,) = connection.execute("PRAGMA journal_mode = WAL").fetchone()
        if mode != "wal":
            raise StoreError("its file system cannot share memory; name a local file in state.url")
        # a transaction opens the log and the index
        connection.execute("BEGIN IMMEDIATE")
        connection.execute("ROLLBACK")
        identity = self.identity()
        if identity is None:
            raise BusyError(f"{self.path}: it was deleted while it was opened")
        return identity


def _size(path: Path) -> int:
    try:
        return path.stat().st_size
    except OSError:
        return 0


def _identity(path: Path) -> Identity | None:
    try:
        status = path.stat()
    except OSError:
        return None
    return status.st_dev, status.st_ino

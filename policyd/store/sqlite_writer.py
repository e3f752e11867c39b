"""
The one thread of a store object that writes to its state file.

What is asked meanwhile is done in one transaction and answered after its COMMIT. Other workers
write to the same file: a transaction that cannot begin is tried again after a short time drawn at
random, as SQLite's own wait gives way to whoever asks more often.
"""

import asyncio
import queue
import random
import sqlite3
import threading
import time
from collections.abc import Callable, Sequence
from typing import Any, Final, TypeVar

from policyd.store.model import StoreError
from policyd.store.sqlite_book import SqliteBook
from policyd.store.sqlite_file import BusyError, Identity, Opened, StateFile
from policyd.store.sqlite_log import SqliteLog

LOOK: Final = 0.5
"""Seconds between looks whether the file is still the one that is open."""
_GROUP: Final = 256
"""Operations of one transaction at most."""
_PAUSE: Final = (0.0002, 0.003)
"""Seconds between two tries to begin: at least, at most."""
_IDLE: Final = 0.2
"""Seconds without work after which the log is written back."""
_LONG_LOG: Final = 4 * 2**20
"""
Octets of the log after which it is written back in between, by a thread of its own.

The longer it is, the longer it takes to write it back and to cut it off. While half a million
triplets expire, one decision in a thousand takes 4 to 5 ms or more; with 16 MB it is 7 to 19 ms.
Two workers write as much with one as with the other.
"""
_TOO_LONG_LOG: Final = 64 * 2**20
"""Octets of the log after which nothing else is written meanwhile, so that it begins anew."""

_T = TypeVar("_T")


class _Job:
    """An operation, whoever waits for it, and until when it can be begun."""

    __slots__ = ("alone", "deadline", "do", "future", "loop", "result")

    def __init__(
        self, do: Callable[[SqliteBook], Any], deadline: float, *, alone: bool = False
    ) -> None:
        self.do = do
        self.deadline = deadline
        self.alone = alone
        self.loop = asyncio.get_running_loop()
        self.future: asyncio.Future[Any] = self.loop.create_future()
        self.result: Any = None


class Writer:
    """Does operations on a file one group after the other; see the module."""

    def __init__(self, file: StateFile, timeout: float) -> None:
        """Prepare; the thread begins with the first operation."""
        self._file = file
        self._timeout = timeout
        self._jobs: queue.SimpleQueue[_Job | None] = queue.SimpleQueue()
        self._thread: threading.Thread | None = None
        self._opened: Opened | None = None
        self._before: Opened | None = None
        self._looked = 0.0
        self._written = False
        self._log: SqliteLog | None = None

    @property
    def identity(self) -> Identity | None:
        """Which file is open; None if none is."""
        opened = self._opened
        return None if opened is None else opened.identity

    async def do(self, operation: Callable[[SqliteBook], _T], *, alone: bool = False) -> _T:
        """
        Do an operation in a transaction, which others may share; StoreError if it cannot be done.

        `alone` is outside of any, for one that only looks.
        """
        job = _Job(operation, time.monotonic() + self._timeout, alone=alone)
        if self._thread is None:
            self._thread = threading.Thread(target=self._run, name="state", daemon=True)
            self._thread.start()
        self._jobs.put(job)
        result: _T = await job.future
        return result

    async def close(self) -> None:
        """Finish what was asked, and close the file."""
        if self._thread is not None:
            self._jobs.put(None)
            await asyncio.to_thread(self._thread.join)
            self._thread = None

    # on the thread

    def _run(self) -> None:
        while True:
            try:
                job = self._jobs.get(timeout=_IDLE)
            except queue.Empty:
                self._write_back(idle=True)
                continue
            if job is None:
                break
            group = [job]
            while len(group) < _GROUP and not self._jobs.empty():
                more = self._jobs.get()
                if more is None:
                    self._jobs.put(None)
                    break
                group.append(more)
            try:
                self._serve(group)
            except Exception as error:  # noqa: BLE001 -- the thread goes on for the others
                self._let_go()
                self._answer(group, StoreError(f"{type(error).__name__}: {error}"))
        self._write_back(idle=True)
        self._close()

    def _serve(self, group: list[_Job]) -> None:
        group = [job for job in group if not job.future.cancelled()]
        for job in (job for job in group if job.alone):
            self._answer([job], self._look(job))
        shared = [job for job in group if not job.alone]
        while shared:
            failure, culprit = self._transact(shared)
            if culprit is None:
                self._answer(shared, failure)
                break
            self._answer([culprit], failure)
            shared.remove(culprit)
        self._write_back(idle=False)

    def _look(self, job: _Job) -> Exception | None:
        try:
            opened = self._open(job.deadline)
            job.result = job.do(SqliteBook(opened.connection))
        except StoreError as error:
            return error
        except sqlite3.Error as error:
            return self._fault(error)
        except Exception as error:  # noqa: BLE001 -- whoever asked is told
            return error
        return None

    def _transact(self, group: Sequence[_Job]) -> tuple[Exception | None, _Job | None]:
        """Do a group in one transaction; give what went wrong, and with whose operation."""
        deadline = min(job.deadline for job in group)
        try:
            connection = self._begin(deadline)
        except StoreError as error:
            return error, None
        book = SqliteBook(connection)
        culprit: _Job | None = None
        try:
            for culprit in group:
                culprit.result = culprit.do(book)
            culprit = None
            connection.execute("COMMIT")
        except sqlite3.Error as error:
            failure: Exception = self._fault(error)
            self._roll_back(connection)
            return failure, None
        except Exception as error:  # noqa: BLE001 -- the others are done without it
            self._roll_back(connection)
            return error, culprit
        self._written = True
        return None, None

    def _begin(self, deadline: float) -> sqlite3.Connection:
        while True:
            opened = self._open(deadline)
            try:
                opened.connection.execute("BEGIN IMMEDIATE")
            except sqlite3.Error as error:
                fault = self._file.fault(error)
                self._wait(fault, deadline)
            else:
                return opened.connection

    def _open(self, deadline: float) -> Opened:
        while True:
            now = time.monotonic()
            if self._opened is not None and now - self._looked >= LOOK:
                self._looked = now
                if self._file.identity() != self._opened.identity:
                    self._let_go()
            if self._opened is not None:
                return self._opened
            try:
                if self._before is not None:
                    self._file.let_go(self._before)
                    self._before = None
                self._opened = self._file.open()
                self._looked = now
                self._log = SqliteLog(self._file)
            except (StoreError, BusyError) as error:
                self._wait(error, deadline)
            except sqlite3.Error as error:
                self._let_go()
                self._wait(self._file.fault(error), deadline)

    def _wait(self, error: StoreError | BusyError, deadline: float) -> None:
        """Wait a little before another try, if it is worth one."""
        if isinstance(error, StoreError):
            self._let_go()
            raise error
        pause = random.uniform(*_PAUSE)  # noqa: S311 -- no secret: to get out of others' way
        if time.monotonic() + pause > deadline:
            raise StoreError(f"{error} for {self._timeout:g} s") from error
        time.sleep(pause)

    def _fault(self, error: sqlite3.Error) -> StoreError:
        fault = self._file.fault(error)
        if isinstance(fault, BusyError):
            return StoreError(str(fault))
        self._let_go()
        return fault

    def _let_go(self) -> None:
        """Open the file anew the next time: it may be another one."""
        if self._log is not None:
            self._log.close()
            self._log = None
        if self._opened is not None:
            self._before, self._opened = self._opened, None

    def _roll_back(self, connection: sqlite3.Connection) -> None:
        try:
            if connection.in_transaction:
                connection.execute("ROLLBACK")
        except sqlite3.Error:
            self._let_go()

    def _answer(self, jobs: Sequence[_Job], failure: Exception | None) -> None:
        for loop in {job.loop for job in jobs}:
            own = [job for job in jobs if job.loop is loop]
            try:
                loop.call_soon_threadsafe(_resolve, own, failure)
            except RuntimeError:  # the loop is closed: nobody waits any more
                continue

    def _write_back(self, *, idle: bool) -> None:
        """Bring what is in the log into the database, when nothing else is to be done."""
        if not self._written or self._opened is None or self._log is None or self._log.busy:
            return
        size = self._file.log_size()
        if not idle and size < _TOO_LONG_LOG:
            if size >= _LONG_LOG:
                self._log.write_back()
            return
        try:
            mode = "TRUNCATE" if idle and size >= _LONG_LOG else "PASSIVE"
            self._opened.connection.execute(f"PRAGMA wal_checkpoint({mode})").fetchone()
            self._written = not idle
        except sqlite3.Error as error:
            self._fault(error)

    def _close(self) -> None:
        if self._log is not None:
            self._log.close()
        for opened in (self._opened, self._before):
            if opened is not None:
                opened.connection.close()
        self._opened = self._before = None


def _resolve(jobs: Sequence[_Job], failure: Exception | None) -> None:
    for job in jobs:
        if job.future.done():
            continue
        if failure is None:
            job.future.set_result(job.result)
        else:
            job.future.set_exception(type(failure)(*failure.args))

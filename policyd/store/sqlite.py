"""
The store in a file of SQLite, which all workers of a host share.

What changes nothing is answered from a look at the file, on the loop: a triplet that passed long
ago, a client that is allowed, a message that reserved nothing. All else is done by a thread that
writes (see sqlite_writer), and looks at the file anew. State survives the end of any process;
what was committed in the last moments may be lost with the machine (synchronous = NORMAL).
"""

import asyncio
import sqlite3
import time
from collections.abc import AsyncIterator, Callable, Iterable, Sequence
from pathlib import Path
from typing import Final, TypeVar

import msgspec

from policyd.store import account as accounts
from policyd.store import ledger
from policyd.store.model import (
    Account,
    Charge,
    Client,
    Entry,
    Expired,
    GreylistAsk,
    GreylistFound,
    Message,
    Standing,
    Stats,
    StoreError,
    Triplet,
)
from policyd.store.sqlite_book import LISTED, ChangesError, ReadingBook, SqliteBook, listed
from policyd.store.sqlite_file import BusyError, Identity, StateFile
from policyd.store.sqlite_sweep import Sweep
from policyd.store.sqlite_writer import LOOK, Writer

_AT_ONCE: Final = 200
"""Entries that are read without a turn for others."""
_FIRST: Final = -(2**63)

_T = TypeVar("_T")


class SqliteStore:
    """A store in the file at `path`; `timeout` is how long an operation waits for others, in s."""

    def __init__(self, path: Path, *, timeout: float = 1.0) -> None:
        """Prepare; the file is opened, and made if it is not there, by the first operation."""
        self._file: Final = StateFile(path)
        self._writer: Final = Writer(self._file, timeout)
        self._sweep: Final = Sweep()
        self._reader: sqlite3.Connection | None = None
        self._identity: Identity | None = None
        self._looked = 0.0

    # greylisting

    async def greylist(self, ask: GreylistAsk, now: int) -> GreylistFound:
        """Do Store.greylist."""
        return await self._do(lambda book: ledger.attempt(book, ask, now))

    async def triplet(self, client: str, sender: str, recipient: str, now: int) -> Triplet | None:
        """Do Store.triplet."""
        return await self._do(
            lambda book: ledger.current(book.triplet(client, sender, recipient), now)
        )

    async def client(self, client: str, now: int) -> Client | None:
        """Do Store.client."""
        return await self._do(lambda book: ledger.current(book.client(client), now))

    # limits

    async def reserve(
        self, charges: Sequence[Charge], message: Message, now: int
    ) -> tuple[Standing, ...]:
        """Do Store.reserve."""
        return await self._writer.do(lambda book: ledger.reserve(book, charges, message, now))

    async def give_back(
        self, charges: Sequence[Charge], message: Message, now: int, *, credit: str = ""
    ) -> None:
        """Do Store.give_back."""
        await self._writer.do(lambda book: ledger.give_back(book, charges, message, now, credit))

    async def settle(
        self, message: Message, now: int, *, accepted: bool, recipients: int = -1
    ) -> None:
        """Do Store.settle."""
        await self._do(
            lambda book: ledger.settle(book, message, now, accepted=accepted, recipients=recipients)
        )

    async def abandon(self, message: Message, now: int) -> None:
        """Do Store.abandon."""
        await self._do(lambda book: ledger.abandon(book, message, now))

    async def account(self, name: str, now: int) -> Account | None:
        """Do Store.account."""
        return await self._do(lambda book: accounts.live(book.account(name), now))

    # upkeep

    async def expire(self, now: int, most: int) -> Expired:
        """Do Store.expire."""
        sweep = self._sweep
        stretch = await self._writer.do(
            lambda book: sweep.stretch(book.connection, now, most), alone=True
        )
        done = Expired()
        if stretch.rows:
            done = await self._writer.do(lambda book: sweep.drop(book.connection, stretch, now))
        return msgspec.structs.replace(done, more=sweep.advance(stretch))

    async def entries(self, now: int) -> AsyncIterator[Entry]:
        """Do Store.entries."""
        for table in LISTED:
            after = _FIRST
            while True:
                some = await self._do(_batch(table, after))
                for _, entry in some:
                    if ledger.has_expired(entry, now):
                        continue
                    live = accounts.live(entry, now) if isinstance(entry, Account) else entry
                    if live is not None:
                        yield live
                if len(some) < _AT_ONCE or some[-1][0] == -_FIRST - 1:
                    break
                after = some[-1][0] + 1
                await asyncio.sleep(0)

    async def put(self, entries: Iterable[Entry], now: int) -> None:
        """Do Store.put."""
        every = list(entries)
        await self._writer.do(lambda book: ledger.put(book, every, now))

    async def remove(self, entries: Iterable[Entry]) -> None:
        """Do Store.remove."""
        every = list(entries)

        def remove(book: SqliteBook) -> None:
            for entry in every:
                book.remove(entry)

        await self._writer.do(remove)

    async def stats(self, now: int) -> Stats:  # noqa: ARG002 -- the protocol's; what expired counts
        """Do Store.stats."""
        await self._do(lambda book: book.client(""))
        return await asyncio.to_thread(self._stats)

    async def ping(self) -> None:
        """Do Store.ping."""
        await self._do(lambda book: book.client(""))
        await self._writer.do(lambda book: book.ask())

    async def close(self) -> None:
        """Do Store.close."""
        self._close_reader()
        await self._writer.close()

    # reading

    async def _do(self, operation: Callable[[SqliteBook], _T]) -> _T:
        """Do an operation here if it only looks, else have it written."""
        reader = self._opened()
        if reader is not None:
            try:
                return operation(ReadingBook(reader))
            except ChangesError:
                pass
            except sqlite3.Error as error:
                self._close_reader()
                fault = self._file.fault(error)
                if isinstance(fault, StoreError):
                    raise fault from error
        return await self._writer.do(operation)

    def _opened(self) -> sqlite3.Connection | None:
        """Give a connection to the file that has the name now; None if there is none to be had."""
        now = time.monotonic()
        if self._reader is not None and now - self._looked < LOOK:
            return self._reader
        self._looked = now
        there = self._file.identity()
        if self._reader is not None and there != self._identity:
            self._close_reader()
        # opened by the writer first, which knows what is to be cleared away before
        if self._reader is None and there is not None and there == self._writer.identity:
            try:
                self._reader, self._identity = self._file.reader(), there
            except sqlite3.Error:
                self._reader = None
        return self._reader

    def _close_reader(self) -> None:
        if self._reader is not None:
            self._reader.close()
            self._reader = None
        self._looked = 0.0

    def _stats(self) -> Stats:
        try:
            connection = self._file.reader()
        except sqlite3.Error as error:
            raise _plain(self._file.fault(error)) from error
        try:
            book = ReadingBook(connection)
            triplets, clients, accounts_, messages = map(book.count, (*LISTED, "message"))
            return Stats(triplets, clients, accounts_, messages, self._file.octets())
        except sqlite3.Error as error:
            raise _plain(self._file.fault(error)) from error
        finally:
            connection.close()


def _batch(table: str, after: int) -> Callable[[SqliteBook], list[tuple[int, Entry]]]:
    return lambda book: list(listed(book.connection, table, after, _AT_ONCE))


def _plain(fault: StoreError | BusyError) -> StoreError:
    return fault if isinstance(fault, StoreError) else StoreError(str(fault))

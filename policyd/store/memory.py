"""State in the memory of one process: for a single worker, and forgotten when it ends."""

import asyncio
import heapq
from collections.abc import AsyncIterator, Iterable, Sequence
from typing import Final

from policyd.store import account as accounts
from policyd.store import ledger
from policyd.store.ledger import Record
from policyd.store.model import (
    SETTLED_WITHIN,
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
    Triplet,
)

_AT_ONCE: Final = 500
"""Entries that are given out between two turns of the loop."""

_Key = tuple[str, ...]
_Kept = Triplet | Client | Account | Record


class _Dictionaries:
    """
    A book in dictionaries, with a heap of what expires next.

    A key stands in the heap once, under a moment at or before that at which its entry expires, so
    writing an entry again costs nothing; the heap is put right when that moment has come.
    """

    def __init__(self) -> None:
        self.triplets: dict[_Key, Triplet] = {}
        self.clients: dict[_Key, Client] = {}
        self.accounts: dict[_Key, Account] = {}
        self.records: dict[_Key, Record] = {}
        self.connections: dict[_Key, tuple[str, int]] = {}
        self.tables: Final = (self.triplets, self.clients, self.accounts, self.records)
        self.due: list[tuple[int, int, _Key]] = []

    def triplet(self, client: str, sender: str, recipient: str) -> Triplet | None:
        return self.triplets.get((client, sender, recipient))

    def write_triplet(self, triplet: Triplet) -> None:
        key = (triplet.client, triplet.sender, triplet.recipient)
        self._due(key not in self.triplets, triplet.expires, 0, key)
        self.triplets[key] = triplet

    def client(self, client: str) -> Client | None:
        return self.clients.get((client,))

    def write_client(self, client: Client) -> None:
        key = (client.client,)
        self._due(key not in self.clients, client.expires, 1, key)
        self.clients[key] = client

    def account(self, name: str) -> Account | None:
        return self.accounts.get((name,))

    def write_account(self, account: Account) -> None:
        key = (account.name,)
        self._due(key not in self.accounts, account.expires, 2, key)
        self.accounts[key] = account

    def record(self, instance: str) -> Record | None:
        return self.records.get((instance,))

    def write_record(self, record: Record) -> None:
        key = (record.instance,)
        self._due(key not in self.records, record.expires, 3, key)
        self.records[key] = record

    def drop_record(self, instance: str) -> None:
        self.records.pop((instance,), None)

    def newest(self, connection: str) -> str:
        return self.connections.get((connection,), ("", 0))[0]

    def write_newest(self, connection: str, instance: str, now: int) -> None:
        key = (connection,)
        if not instance:
            self.connections.pop(key, None)
            return
        expires = now + SETTLED_WITHIN
        self._due(key not in self.connections, expires, 4, key)
        self.connections[key] = (instance, expires)

    def _due(self, new: bool, expires: int, table: int, key: _Key) -> None:
        if new:
            heapq.heappush(self.due, (expires, table, key))

    def remove(self, entry: Entry) -> None:
        match entry:
            case Triplet():
                self.triplets.pop((entry.client, entry.sender, entry.recipient), None)
            case Client():
                self.clients.pop((entry.client,), None)
            case Account():
                self.accounts.pop((entry.name,), None)

    def drop_next(self, now: int) -> _Kept | None:
        """Drop the entry that is next due, if it has expired; a connection is not given."""
        _, table, key = heapq.heappop(self.due)
        if table == 4:
            self._drop_connection(key, now)
            return None
        kept: dict[_Key, _Kept] = self.tables[table]  # type: ignore[assignment]  # taken out only
        entry = kept.get(key)
        if entry is None or (isinstance(entry, Client) and entry.by_hand):
            return None
        if now < entry.expires:
            heapq.heappush(self.due, (entry.expires, table, key))
            return None
        return kept.pop(key)

    def _drop_connection(self, key: _Key, now: int) -> None:
        _, expires = self.connections.get(key, ("", now))
        if now < expires:
            heapq.heappush(self.due, (expires, 4, key))
        else:
            self.connections.pop(key, None)


class MemoryStore:
    """
    The store of one process. Everything is done within one turn of its loop, so all is atomic.

    Nothing here fails, and nothing outlives the process.
    """

    def __init__(self) -> None:
        self._book: Final = _Dictionaries()

    async def greylist(self, ask: GreylistAsk, now: int) -> GreylistFound:
        """Do Store.greylist."""
        return ledger.attempt(self._book, ask, now)

    async def triplet(self, client: str, sender: str, recipient: str, now: int) -> Triplet | None:
        """Do Store.triplet."""
        return ledger.current(self._book.triplet(client, sender, recipient), now)

    async def client(self, client: str, now: int) -> Client | None:
        """Do Store.client."""
        return ledger.current(self._book.client(client), now)

    async def reserve(
        self, charges: Sequence[Charge], message: Message, now: int
    ) -> tuple[Standing, ...]:
        """Do Store.reserve."""
        return ledger.reserve(self._book, charges, message, now)

    async def give_back(
        self, charges: Sequence[Charge], message: Message, now: int, *, credit: str = ""
    ) -> None:
        """Do Store.give_back."""
        ledger.give_back(self._book, charges, message, now, credit)

    async def settle(
        self, message: Message, now: int, *, accepted: bool, recipients: int = -1
    ) -> None:
        """Do Store.settle."""
        ledger.settle(self._book, message, now, accepted=accepted, recipients=recipients)

    async def abandon(self, message: Message, now: int) -> None:
        """Do Store.abandon."""
        ledger.abandon(self._book, message, now)

    async def account(self, name: str, now: int) -> Account | None:
        """Do Store.account."""
        return accounts.live(self._book.account(name), now)

    async def expire(self, now: int, most: int) -> Expired:
        """Do Store.expire."""
        dropped = 0
        unsettled: dict[str, int] = {}
        due = self._book.due
        for _ in range(most):
            if not due or due[0][0] > now:
                break
            entry = self._book.drop_next(now)
            if entry is None:
                continue
            dropped += not isinstance(entry, Record)
            for limit in entry.unsettled if isinstance(entry, Record) else ():
                unsettled[limit] = unsettled.get(limit, 0) + 1
        return Expired(dropped, unsettled, more=bool(due) and due[0][0] <= now)

    async def entries(self, now: int) -> AsyncIterator[Entry]:
        """Do Store.entries."""
        given = 0
        kept: dict[_Key, Entry]
        for kept in self._book.tables[:3]:  # type: ignore[assignment]  # read only
            for key in list(kept):
                entry = kept.get(key)
                if entry is None or ledger.has_expired(entry, now):
                    continue
                if isinstance(entry, Account) and (entry := accounts.live(entry, now)) is None:
                    continue
                yield entry
                given += 1
                if given % _AT_ONCE == 0:
                    await asyncio.sleep(0)

    async def put(self, entries: Iterable[Entry], now: int) -> None:
        """Do Store.put."""
        ledger.put(self._book, entries, now)

    async def remove(self, entries: Iterable[Entry]) -> None:
        """Do Store.remove."""
        for entry in entries:
            self._book.remove(entry)

    async def stats(self, now: int) -> Stats:  # noqa: ARG002  # the protocol's; what expired counts
        """Do Store.stats."""
        book = self._book
        return Stats(
            len(book.triplets), len(book.clients), len(book.accounts), len(book.records), -1
        )

    async def ping(self) -> None:
        """Do Store.ping."""

    async def close(self) -> None:
        """Do Store.close."""

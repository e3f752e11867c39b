"""What an operator does with a store, apart from deciding mail: a part of the interface of all."""

from collections.abc import AsyncIterator, Iterable
from typing import Protocol

from policyd.store.model import Account, Client, Entry, Expired, Stats, Triplet


class Contents(Protocol):
    """The operations of interface.Store by which its contents are looked at and changed."""

    async def triplet(self, client: str, sender: str, recipient: str, now: int) -> Triplet | None:
        """Do Store.triplet."""
        ...

    async def client(self, client: str, now: int) -> Client | None:
        """Do Store.client."""
        ...

    async def account(self, name: str, now: int) -> Account | None:
        """Do Store.account."""
        ...

    async def expire(self, now: int, most: int) -> Expired:
        """Do Store.expire."""
        ...

    def entries(self, now: int) -> AsyncIterator[Entry]:
        """Do Store.entries."""
        ...

    async def put(self, entries: Iterable[Entry], now: int) -> None:
        """Do Store.put."""
        ...

    async def remove(self, entries: Iterable[Entry]) -> None:
        """Do Store.remove."""
        ...

    async def stats(self, now: int) -> Stats:
        """Do Store.stats."""
        ...

    async def ping(self) -> None:
        """Do Store.ping."""
        ...

    async def close(self) -> None:
        """Do Store.close."""
        ...

"""A store in which a question can be asked as if it were served, and nothing is changed."""

from collections.abc import AsyncIterator, Awaitable, Callable, Iterable, Sequence
from typing import Final, TypeVar

from policyd.store.contents import Contents
from policyd.store.memory import MemoryStore
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
    Triplet,
)

_E = TypeVar("_E", Triplet, Client, Account)


class Rehearsal:
    """
    What another store knows, copied into memory as it is asked about.

    `opened` opens the other store for one look at it, None where there is none yet. What
    messages have reserved is not copied: the question is asked as of a message of its own.
    """

    def __init__(self) -> None:
        """Start without another store."""
        self.opened: Callable[[], Contents | None] = lambda: None
        self._memory: Final = MemoryStore()

    async def greylist(self, ask: GreylistAsk, now: int) -> GreylistFound:
        """Do Store.greylist in memory."""
        await self.triplet(ask.client, ask.sender, ask.recipient, now)
        await self.client(ask.client, now)
        return await self._memory.greylist(ask, now)

    async def triplet(self, client: str, sender: str, recipient: str, now: int) -> Triplet | None:
        """Look a triplet up, in memory first."""
        return await self._look(lambda store: store.triplet(client, sender, recipient, now), now)

    async def client(self, client: str, now: int) -> Client | None:
        """Look a client up, in memory first."""
        return await self._look(lambda store: store.client(client, now), now)

    async def account(self, name: str, now: int) -> Account | None:
        """Look an account up, in memory first."""
        return await self._look(lambda store: store.account(name, now), now)

    async def _look(self, look: Callable[[Contents], Awaitable[_E | None]], now: int) -> _E | None:
        found = await look(self._memory)
        if found is None and (other := self.opened()) is not None:
            try:
                found = await look(other)
            finally:
                await other.close()
            if found is not None:
                await self._memory.put([found], now)
        return found

    async def reserve(
        self, charges: Sequence[Charge], message: Message, now: int
    ) -> tuple[Standing, ...]:
        """Do Store.reserve in memory."""
        for charge in charges:
            await self.account(charge.account, now)
        return await self._memory.reserve(charges, message, now)

    async def give_back(
        self, charges: Sequence[Charge], message: Message, now: int, *, credit: str = ""
    ) -> None:
        """Do Store.give_back in memory."""
        await self._memory.give_back(charges, message, now, credit=credit)

    async def settle(
        self, message: Message, now: int, *, accepted: bool, recipients: int = -1
    ) -> None:
        """Do Store.settle in memory."""
        await self._memory.settle(message, now, accepted=accepted, recipients=recipients)

    async def abandon(self, message: Message, now: int) -> None:
        """Do Store.abandon in memory."""
        await self._memory.abandon(message, now)

    async def expire(self, now: int, most: int) -> Expired:
        """Do Store.expire in memory."""
        return await self._memory.expire(now, most)

    def entries(self, now: int) -> AsyncIterator[Entry]:
        """Give what is in memory."""
        return self._memory.entries(now)

    async def put(self, entries: Iterable[Entry], now: int) -> None:
        """Do Store.put in memory."""
        await self._memory.put(entries, now)

    async def remove(self, entries: Iterable[Entry]) -> None:
        """Do Store.remove in memory."""
        await self._memory.remove(entries)

    async def stats(self, now: int) -> Stats:
        """Count what is in memory."""
        return await self._memory.stats(now)

    async def ping(self) -> None:
        """Answer."""

    async def close(self) -> None:
        """Forget what is in memory."""
        await self._memory.close()

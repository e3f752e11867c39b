"""
The one interface of every store.

Every operation is atomic against those of other connections, workers and hosts. All raise
StoreError when they cannot be done, and then may or may not have been; asked again with the same
message they change nothing twice.
"""

from collections.abc import AsyncIterator, Iterable, Sequence
from typing import Protocol

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


class Store(Protocol):
    """State of greylisting and limits. `now` is in milliseconds since the epoch."""

    # greylisting

    async def greylist(self, ask: GreylistAsk, now: int) -> GreylistFound:
        """Tell whether a triplet is to wait, and take note of the attempt (see greylist)."""
        ...

    async def triplet(self, client: str, sender: str, recipient: str, now: int) -> Triplet | None:
        """Give a triplet that has not expired, and change nothing."""
        ...

    async def client(self, client: str, now: int) -> Client | None:
        """Give what is known of a client and has not expired, and change nothing."""
        ...

    # limits

    async def reserve(
        self, charges: Sequence[Charge], message: Message, now: int
    ) -> tuple[Standing, ...]:
        """
        Charge all, each once a message, or none if one is exceeded (see account).

        A charge that the message has already paid is admitted again and costs nothing, whatever
        its account has come to. With an empty instance each request pays.
        """
        ...

    async def give_back(
        self, charges: Sequence[Charge], message: Message, now: int, *, credit: str = ""
    ) -> None:
        """
        Take back charges that a request took and, of `credit`, the success reserved for a client.

        Only what that request took (`Standing.taken`, `GreylistFound.credited`) is to be given
        back: the message or this recipient is refused in the same answer. With an empty instance
        the amounts go back to the part of `now`.
        """
        ...

    async def settle(
        self, message: Message, now: int, *, accepted: bool, recipients: int = -1
    ) -> None:
        """
        End what a message reserved: spend it or give it back, and count its clients' successes.

        By its instance, or with an empty one by its connection: the newest message reserved on it.
        `recipients` is how many the message really has, -1 if not known: what a limit in
        recipients, with one account in the message, reserved beyond it is given back. A message
        that was accepted can be refused afterwards (the milter decides after the policy
        protocol); one that was refused is forgotten. Settling what is not there does nothing.
        """
        ...

    async def abandon(self, message: Message, now: int) -> None:
        """Give back what a message reserved unless it was settled as accepted: it ended early."""
        ...

    async def account(self, name: str, now: int) -> Account | None:
        """Give an account that still holds something, and change nothing."""
        ...

    # upkeep

    async def expire(self, now: int, most: int) -> Expired:
        """Drop about so many of what has expired, in a time that holds up nobody."""
        ...

    def entries(self, now: int) -> AsyncIterator[Entry]:
        """Give all that has not expired, while others go on; each once unless it changes."""
        ...

    async def put(self, entries: Iterable[Entry], now: int) -> None:
        """
        Take entries in; one that is there already is joined with it.

        Of a triplet the earliest first, the latest last, passed if one is; of a client the most
        successes, allowed if one is; of an account the larger amount of each part.
        """
        ...

    async def remove(self, entries: Iterable[Entry]) -> None:
        """Forget entries; those that are not there are no error."""
        ...

    async def stats(self, now: int) -> Stats:
        """Count what is there."""
        ...

    async def ping(self) -> None:
        """Ask the store whether it answers: for reading and for writing."""
        ...

    async def close(self) -> None:
        """Let go of connections and files."""
        ...

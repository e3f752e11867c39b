"""
State in one server of Redis or Valkey, alone or as the master behind Sentinel.

Every operation is one script (EVALSHA) or command, so that those of other connections, workers and
hosts come before or after it as a whole. All keys have an expiry (SET PX) by which the server drops
them, but those of clients that were allowed by hand. Settling reaches for accounts and clients that
only the message's record names. Redis 6.2 and later, Valkey.
"""

import asyncio
import itertools
from collections.abc import AsyncIterator, Iterable, Sequence
from typing import Any, Final

from policyd.store import account as accounts
from policyd.store import redis_keys as keyed
from policyd.store.ledger import current, has_expired
from policyd.store.model import (
    Account,
    Charge,
    Client,
    Entry,
    Expired,
    GreylistAsk,
    GreylistFound,
    Message,
    Outcome,
    Standing,
    Stats,
    StoreError,
    Triplet,
)
from policyd.store.redis_client import Client as Servers
from policyd.store.redis_client import Node
from policyd.store.redis_keys import Keys, packed, plain, quoted
from policyd.store.redis_scripts import (
    EXPIRE,
    GIVE_BACK,
    GREYLIST,
    PUT,
    REFUND,
    RESERVE,
    SETTLE,
    TALLY,
)

_STEP: Final = 500
"""Keys that are looked at at once."""
_PUT: Final = 128
"""Keys that are put in or removed at once."""
_TALLIED: Final = 1000
"""Keys that a server counts at once: it does nothing else for about two milliseconds."""
_DROPPED: Final = 1000
"""Messages that are taken note of at once, at most."""


class RedisStore:
    """A Store in one server, of which all keys are within reach of a script."""

    _BUCKETS: int = 1

    def __init__(self, servers: Servers, prefix: str) -> None:
        self._servers: Final = servers
        self._keys: Final = Keys(prefix, self._BUCKETS)

    async def greylist(self, ask: GreylistAsk, now: int) -> GreylistFound:
        """Do Store.greylist."""
        keys = [*self._asked(ask)]
        if ask.settles and ask.message.instance:
            keys += self._noted(ask.message)
        return found_of(await self._servers.run(GREYLIST, keys, attempt_request(ask, now)))

    async def triplet(self, client: str, sender: str, recipient: str, now: int) -> Triplet | None:
        """Do Store.triplet (GET)."""
        value = await self._servers.command("GET", self._keys.triplet(client, sender, recipient))
        return current(value and keyed.triplet(client, sender, recipient, value), now)

    async def client(self, client: str, now: int) -> Client | None:
        """Do Store.client (GET)."""
        value = await self._servers.command("GET", self._keys.client(client))
        return current(value and keyed.client(client, value), now)

    async def reserve(
        self, charges: Sequence[Charge], message: Message, now: int
    ) -> tuple[Standing, ...]:
        """Do Store.reserve."""
        if not charges:
            return ()
        names = list(dict.fromkeys(self._keys.account(charge.account) for charge in charges))
        keys = names + (self._noted(message) if message.instance else [])
        asked = [self._charge(charge, names) for charge in charges]
        request = packed((now, quoted(message.instance), now, False, asked))
        return standings_of(await self._servers.run(RESERVE, keys, str(len(names)), request))

    async def give_back(
        self, charges: Sequence[Charge], message: Message, now: int, *, credit: str = ""
    ) -> None:
        """Do Store.give_back."""
        if not message.instance:
            await self._refund(charges, now)
            return
        names = [self._keys.account(charge.account) for charge in charges]
        given = [(name, quoted(c.mark)) for name, c in zip(names, charges, strict=True)]
        keys = [*self._keys.record(message.instance), *dict.fromkeys(names)]
        request = packed((now, given, self._keys.client(credit), False, True))
        await self._servers.run(GIVE_BACK, keys, request)

    async def settle(
        self, message: Message, now: int, *, accepted: bool, recipients: int = -1
    ) -> None:
        """Do Store.settle."""
        await self._end(message, now, "accepted" if accepted else "refused", recipients)

    async def abandon(self, message: Message, now: int) -> None:
        """Do Store.abandon."""
        await self._end(message, now, "abandoned", -1)

    async def account(self, name: str, now: int) -> Account | None:
        """Do Store.account (GET)."""
        value = await self._servers.command("GET", self._keys.account(name))
        return accounts.live(keyed.account(name, value) if value else None, now)

    async def expire(self, now: int, most: int) -> Expired:
        """Do Store.expire; the server has dropped entries by itself, and none is counted."""
        request = packed((now, min(most, _DROPPED)))
        unsettled: dict[str, int] = {}
        more = False
        for over in await asyncio.gather(
            *(self._servers.run(EXPIRE, [key], request) for key in self._keys.unsettled)
        ):
            for each in over:
                limit = plain(each.decode().partition("\x1f")[0])
                unsettled[limit] = unsettled.get(limit, 0) + 1
            more = more or len(over) == min(most, _DROPPED)
        return Expired(0, unsettled, more)

    async def entries(self, now: int) -> AsyncIterator[Entry]:
        """Do Store.entries (SCAN)."""
        seen: set[int] = set()  # SCAN may give a key twice
        async for found in self._servers.keys(self._keys.pattern("tca"), _STEP):
            new = [key for key in found if hash(key) not in seen]
            seen.update(map(hash, new))
            for key, value in zip(new, await self._servers.values(new) if new else (), strict=True):
                entry = self._keys.entry(key, value) if value else None
                if isinstance(entry, Account):
                    entry = accounts.live(entry, now)
                if entry is not None and not has_expired(entry, now):
                    yield entry

    async def put(self, entries: Iterable[Entry], now: int) -> None:
        """Do Store.put."""
        fresh = (entry for entry in entries if not has_expired(entry, now))
        while step := list(itertools.islice(fresh, _PUT)):
            keys = [self._keys.of_entry(entry) for entry in step]
            await asyncio.gather(
                *(self._put(step, keys, group, now) for group in self._servers.together(keys))
            )

    async def remove(self, entries: Iterable[Entry]) -> None:
        """Do Store.remove (UNLINK)."""
        rest = iter(entries)
        while step := list(itertools.islice(rest, _PUT)):
            keys = [self._keys.of_entry(entry) for entry in step]
            await asyncio.gather(
                *(
                    self._servers.command("UNLINK", *(keys[place] for place in group))
                    for group in self._servers.together(keys)
                )
            )

    async def stats(self, now: int) -> Stats:  # noqa: ARG002  # the server drops what expired
        """Do Store.stats; octets are all that the servers use (INFO), whosever keys they are."""
        totals = [0, 0, 0, 0]
        octets = 0
        prefix = str(len(self._keys.prefix.encode()))
        pattern = self._keys.pattern("tcam")
        for node in await self._servers.nodes():
            cursor = b"0"
            while True:
                arguments = (cursor, pattern, str(_TALLIED), prefix)
                cursor, *found = await self._servers.command(
                    "EVALSHA", TALLY, 0, *arguments, node=node
                )
                totals = [total + number for total, number in zip(totals, found, strict=True)]
                if cursor == b"0":
                    break
            octets = await self._octets(node, octets)
        triplets, clients, accounts_, messages = totals
        return Stats(triplets, clients, accounts_, messages, octets)

    async def ping(self) -> None:
        """Do Store.ping (SET)."""
        await self._servers.ping(self._keys)

    async def close(self) -> None:
        """Do Store.close."""
        await self._servers.close()

    def _asked(self, ask: GreylistAsk) -> tuple[str, str]:
        client = self._keys.client(ask.client)
        return client, self._keys.triplet(ask.client, ask.sender, ask.recipient)

    def _noted(self, message: Message) -> list[str]:
        """Give the keys under which is written down what a message reserved."""
        keys = [*self._keys.record(message.instance)]
        return [*keys, self._keys.newest(message.connection)] if message.connection else keys

    def _charge(self, charge: Charge, names: Sequence[str]) -> tuple[Any, ...]:
        return (
            quoted(charge.limit),
            names.index(self._keys.account(charge.account)) + 1,
            charge.amount,
            charge.most,
            charge.window,
            charge.burst,
            quoted(charge.mark),
            charge.settles,
        )

    def _reserved(self, charge: Charge, now: int) -> tuple[Any, ...]:
        """Write a charge down as library.lua keeps it (ledger.Reserved)."""
        return (
            quoted(charge.limit),
            self._keys.account(charge.account),
            quoted(charge.mark),
            charge.window,
            now,
            charge.amount,
            charge.most,
            charge.settles,
        )

    async def _refund(self, charges: Sequence[Charge], now: int) -> None:
        reserved = [self._reserved(charge, now) for charge in charges]
        keys = [each[1] for each in reserved]
        for group in self._servers.together(keys):
            request = packed((now, [reserved[place] for place in group]))
            await self._servers.run(REFUND, [keys[place] for place in group], request)

    async def _end(self, message: Message, now: int, how: str, recipients: int) -> None:
        if message.instance:
            keys = self._keys.record(message.instance)
        elif message.connection:
            keys = self._keys.newest(message.connection), self._keys.unsettled[0]
        else:
            return
        request = packed((now, how, recipients, not message.instance, False))
        await self._servers.run(SETTLE, keys, request)

    async def _put(
        self, entries: Sequence[Entry], keys: Sequence[str], places: Sequence[int], now: int
    ) -> None:
        request = packed((now, [keyed.kind_of(entries[place]) for place in places]))
        values = [keyed.value_of(entries[place]) for place in places]
        await self._servers.run(PUT, [keys[place] for place in places], request, *values)

    async def _octets(self, node: Node, so_far: int) -> int:
        if so_far < 0:
            return -1
        try:
            found = await self._servers.command("INFO", "memory", node=node)
        except StoreError:  # not everybody may ask
            return -1
        return so_far + int(found.get("used_memory", -1 - so_far))


def attempt_request(ask: GreylistAsk, now: int) -> bytes:
    """Write what greylist.lua is asked."""
    terms = ask.terms
    return packed(
        (
            now,
            quoted(ask.message.instance),
            terms.delay,
            terms.retry_window,
            terms.lifetime,
            terms.auto_allow_after,
            ask.settles,
        )
    )


def found_of(answer: Sequence[Any]) -> GreylistFound:
    """Read what greylist.lua answers; what is only to be noted is not credited yet."""
    outcome, waits, late, credited = answer
    return GreylistFound(Outcome(outcome.decode()), waits, late, credited == 2)


def standings_of(answer: Sequence[int]) -> tuple[Standing, ...]:
    """Read what reserve.lua answers."""
    return tuple(
        Standing(bool(answer[at]), bool(answer[at + 1]), answer[at + 2], answer[at + 3])
        for at in range(0, len(answer), 4)
    )

"""
State in a Redis Cluster, where a script reaches the keys of one slot only.

A triplet and its client are in one slot, and so are an account and what each message has reserved
in it, so both are changed as a whole. What a message reserved altogether is written down beside
them, after they are charged and before they are given back: if the daemon is lost in between, the
rest counts as spent. The limits of one rule are first asked, then reserved one by one, and released
if one has been used up in between: never is more admitted, and for a moment perhaps less.
"""

import asyncio
from collections.abc import Iterable, Sequence
from typing import Any, Final

import msgspec

from policyd.store.model import (
    SETTLED_WITHIN,
    Charge,
    GreylistAsk,
    GreylistFound,
    Message,
    Standing,
)
from policyd.store.redis_keys import packed, plain, quoted
from policyd.store.redis_scripts import CREDIT, GIVE_BACK, GREYLIST, NOTE, RESERVE, SETTLE
from policyd.store.redis_server import RedisStore, attempt_request, found_of, standings_of


class _Record(msgspec.Struct, array_like=True):
    """A message's record as library.lua keeps it, and of `reserved` what begins each."""

    instance: str
    at: int
    spent: bool
    reserved: list[tuple[Any, ...]]


class _Newest(msgspec.Struct, array_like=True):
    """The newest message of a connection."""

    instance: str
    expires: int


_newest: Final = msgspec.msgpack.Decoder(_Newest).decode
_record: Final = msgspec.msgpack.Decoder(_Record).decode
_Pairs = list[tuple[str, str]]
"""Keys of accounts, and quoted marks."""


class ClusterStore(RedisStore):
    """A Store in a Cluster. What messages reserved is spread over few slots."""

    _BUCKETS = 16

    async def greylist(self, ask: GreylistAsk, now: int) -> GreylistFound:
        """Do Store.greylist."""
        answer = await self._servers.run(GREYLIST, self._asked(ask), attempt_request(ask, now))
        found = found_of(answer)
        if answer[3] != 1:
            return found
        terms = ask.terms
        credit = (self._keys.client(ask.client), terms.auto_allow_after, terms.lifetime)
        return msgspec.structs.replace(
            found, credited=await self._note(ask.message, now, [], [credit])
        )

    async def reserve(
        self, charges: Sequence[Charge], message: Message, now: int
    ) -> tuple[Standing, ...]:
        """Do Store.reserve."""
        record = await self._recorded(message, now)
        groups = _by_account(charges)
        refused = False
        if len(groups) > 1:  # who is over one limit is to hold up nobody in another
            found, refused = await self._charged(charges, groups, message, now, record, dry=True)
        if not refused:
            found, refused = await self._charged(charges, groups, message, now, record, dry=False)
        if refused:
            taken = [charges[place] for place, each in found.items() if each.taken]
            await self._release(taken, message, now)
            return tuple(
                msgspec.structs.replace(found[place], taken=False) for place in range(len(charges))
            )
        if message.instance:
            written = {(each[1], each[2]) for each in record.reserved} if record else set()
            reserved = [self._reserved(charge, now) for charge in charges]
            # also what an attempt paid that was lost before it had written it down
            new = {(each[1], each[2]): each for each in reversed(reserved)}
            rest = [each for pair, each in reversed(new.items()) if pair not in written]
            if rest:
                await self._note(message, now, rest, [])
        return tuple(found[place] for place in range(len(charges)))

    async def give_back(
        self, charges: Sequence[Charge], message: Message, now: int, *, credit: str = ""
    ) -> None:
        """Do Store.give_back."""
        if not message.instance:
            await self._refund(charges, now)
            return
        given = [(self._keys.account(c.account), quoted(c.mark)) for c in charges]
        request = packed((now, given, self._keys.client(credit), True, True))
        answer = await self._servers.run(GIVE_BACK, self._keys.record(message.instance), request)
        await self._give_back(_pairs(answer), message.instance, now)

    async def _end(self, message: Message, now: int, how: str, recipients: int) -> None:
        instance = message.instance
        if not instance and message.connection:
            instance = await self._newest(message.connection, now)
        if not instance:
            return
        request = packed((now, how, recipients, False, True))
        accounts, clients = await self._servers.run(SETTLE, self._keys.record(instance), request)
        await self._give_back(_pairs(accounts), instance, now)
        for at in range(0, len(clients), 3):
            client, success = clients[at].decode(), how == "accepted"
            request = packed((now, quoted(instance), clients[at + 1], clients[at + 2], success))
            if not await self._servers.run(CREDIT, [client], request):
                request = packed((now, [], client, True, True, True))
                await self._servers.run(GIVE_BACK, self._keys.record(instance), request)

    async def _newest(self, connection: str, now: int) -> str:
        """Give the newest message of a connection, and forget that it is (GETDEL)."""
        value = await self._servers.command("GETDEL", self._keys.newest(connection))
        newest = _newest(value) if value else None
        return plain(newest.instance) if newest and now < newest.expires else ""

    async def _recorded(self, message: Message, now: int) -> _Record | None:
        if not message.instance:
            return None
        value = await self._servers.command("GET", self._keys.record(message.instance)[0])
        record = _record(value) if value else None
        return record if record and now < record.at + SETTLED_WITHIN else None

    async def _charged(
        self,
        charges: Sequence[Charge],
        groups: Iterable[Sequence[int]],
        message: Message,
        now: int,
        record: _Record | None,
        *,
        dry: bool,
    ) -> tuple[dict[int, Standing], bool]:
        """Charge one account after the other; once one has refused, only ask."""
        found: dict[int, Standing] = {}
        refused = False
        for places in groups:
            account = self._keys.account(charges[places[0]].account)
            keys = [account]
            if message.instance:
                keys.append(self._keys.held(account, message.instance))
            asked = [self._charge(charges[place], keys) for place in places]
            at = record.at if record else now
            request = packed((now, quoted(message.instance), at, dry or refused, asked))
            standings = standings_of(await self._servers.run(RESERVE, keys, "1", request))
            found |= zip(places, standings, strict=True)
            refused = refused or any(each.exceeded for each in standings)
        return found, refused

    async def _release(self, taken: Sequence[Charge], message: Message, now: int) -> None:
        """Give back what was charged before another account refused."""
        if message.instance:
            pairs = [(self._keys.account(c.account), quoted(c.mark)) for c in taken]
            await self._give_back(pairs, message.instance, now)
        else:
            await self._refund(taken, now)

    async def _give_back(self, pairs: _Pairs, instance: str, now: int) -> None:
        by_account: dict[str, _Pairs] = {}
        for account, mark in pairs:
            by_account.setdefault(account, []).append((account, mark))
        await asyncio.gather(
            *(
                self._servers.run(
                    GIVE_BACK,
                    [self._keys.held(account, instance), account],
                    packed((now, given, "", False, False)),
                )
                for account, given in by_account.items()
            )
        )

    async def _note(
        self, message: Message, now: int, reserved: Sequence[Any], credits_: Sequence[Any]
    ) -> bool:
        """Write down what a message holds elsewhere; tell whether that is new."""
        instance = quoted(message.instance)
        request = packed((now, instance, reserved, credits_))
        new = await self._servers.run(NOTE, self._keys.record(message.instance), request)
        if new and message.connection:
            key = self._keys.newest(message.connection)
            value = packed(_Newest(instance, now + SETTLED_WITHIN))
            await self._servers.command("SET", key, value, "PX", SETTLED_WITHIN)
        return bool(new)


def _by_account(charges: Iterable[Charge]) -> list[list[int]]:
    """Divide charges by account, in an order that is the same for all who ask."""
    groups: dict[str, list[int]] = {}
    for place, charge in enumerate(charges):
        groups.setdefault(charge.account, []).append(place)
    return [groups[name] for name in sorted(groups)]


def _pairs(answer: Sequence[bytes]) -> _Pairs:
    texts = [each.decode() for each in answer]
    return list(zip(texts[::2], texts[1::2], strict=True))

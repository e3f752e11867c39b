"""
The state that lives in a worker's memory, for commands: asked for over a socket of its own.

Requests and answers are lines of JSON, the entries in them as in an export (store.portable).
"""

import asyncio
import json
from collections.abc import AsyncGenerator, AsyncIterator, Iterable, Iterator
from contextlib import aclosing
from itertools import islice
from pathlib import Path
from typing import Any, Final, Literal

import msgspec

from policyd.serve.local import LocalListener, NotServingError, connected
from policyd.store.contents import Contents
from policyd.store.model import Account, Client, Entry, Expired, Stats, StoreError, Triplet
from policyd.store.portable import entry_of, plain

_AT_ONCE: Final = 100
"""Entries in one line, so that mail is answered in between."""
_LONGEST: Final = 4 * 1024 * 1024
"""Octets of a line."""


class _Request(msgspec.Struct, frozen=True, omit_defaults=True):
    do: Literal[
        "triplet", "client", "account", "expire", "entries", "put", "remove", "stats", "ping"
    ]
    now: int = 0
    key: tuple[str, ...] = ()
    most: int = 0
    entries: tuple[Any, ...] = ()


class _Answer(msgspec.Struct, frozen=True, omit_defaults=True):
    """`more`: another line follows. `error`: it could not be done, and nothing else is said."""

    value: Any = None
    entries: tuple[Any, ...] = ()
    more: bool = False
    error: str = ""


class StatePort(LocalListener):
    """Lets commands at the contents of a store, between start() and stop()."""

    def __init__(self, path: Path, store: Contents) -> None:
        """Take the configuration file's path; the store stays the caller's."""
        super().__init__(path, "state", self._converse, longest=_LONGEST)
        self._store = store

    async def _converse(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        while line := await reader.readline():
            request = msgspec.convert(json.loads(line), _Request)
            try:
                async with aclosing(self._answers(request)) as answers:
                    async for answer in answers:
                        writer.write(_line(answer))
                        await writer.drain()
            except StoreError as error:
                writer.write(_line(_Answer(error=str(error) or "the store does not answer")))
                await writer.drain()

    async def _answers(self, request: _Request) -> AsyncGenerator[_Answer, None]:
        if request.do != "entries":
            yield _Answer(value=await self._done(request))
            return
        batch: list[Entry] = []
        async for entry in self._store.entries(request.now):
            batch.append(entry)
            if len(batch) == _AT_ONCE:
                yield _Answer(entries=tuple(batch), more=True)
                batch.clear()
                await asyncio.sleep(0)
        yield _Answer(entries=tuple(batch))

    async def _done(self, request: _Request) -> object:
        store, now = self._store, request.now
        match request.do, request.key:
            case "triplet", (client, sender, recipient):
                return await store.triplet(client, sender, recipient, now)
            case "client", (client,):
                return await store.client(client, now)
            case "account", (name,):
                return await store.account(name, now)
            case "expire", ():
                return await store.expire(now, request.most)
            case "stats", ():
                return await store.stats(now)
            case "put", ():
                await store.put(map(entry_of, request.entries), now)
            case "remove", ():
                await store.remove(map(entry_of, request.entries))
            case "ping", ():
                await store.ping()
            case _:
                raise ValueError("a key of another form")
        return None


class ServedState:
    """
    The contents of the store of the policyd that serves a configuration: see Contents.

    Connects when it is first asked; StoreError when nobody serves, or this user may not ask.
    """

    def __init__(self, path: Path) -> None:
        self._path = path
        self._open: _Conversation | None = None

    async def triplet(self, client: str, sender: str, recipient: str, now: int) -> Triplet | None:
        """Do Store.triplet."""
        found = await self._ask(_Request("triplet", now, (client, sender, recipient)))
        return None if found is None else msgspec.convert(found, Triplet)

    async def client(self, client: str, now: int) -> Client | None:
        """Do Store.client."""
        found = await self._ask(_Request("client", now, (client,)))
        return None if found is None else msgspec.convert(found, Client)

    async def account(self, name: str, now: int) -> Account | None:
        """Do Store.account."""
        found = await self._ask(_Request("account", now, (name,)))
        return None if found is None else msgspec.convert(found, Account, str_keys=True)

    async def expire(self, now: int, most: int) -> Expired:
        """Do Store.expire."""
        return msgspec.convert(await self._ask(_Request("expire", now, most=most)), Expired)

    async def entries(self, now: int) -> AsyncIterator[Entry]:
        """Do Store.entries, on a connection of its own, so that others can be asked meanwhile."""
        conversation = await _Conversation.begin(self._path)
        try:
            conversation.say(_Request("entries", now))
            more = True
            while more:
                answer = await conversation.hear()
                for entry in answer.entries:
                    yield entry_of(entry)
                more = answer.more
        finally:
            conversation.end()

    async def put(self, entries: Iterable[Entry], now: int) -> None:
        """Do Store.put, a hundred at a time."""
        for batch in _batches(entries):
            await self._ask(_Request("put", now, entries=batch))

    async def remove(self, entries: Iterable[Entry]) -> None:
        """Do Store.remove, a hundred at a time."""
        for batch in _batches(entries):
            await self._ask(_Request("remove", entries=batch))

    async def stats(self, now: int) -> Stats:
        """Do Store.stats."""
        return msgspec.convert(await self._ask(_Request("stats", now)), Stats)

    async def ping(self) -> None:
        """Do Store.ping."""
        await self._ask(_Request("ping"))

    async def close(self) -> None:
        """Do Store.close."""
        if self._open is not None:
            self._open.end()
            self._open = None

    async def _ask(self, request: _Request) -> Any:
        if self._open is None:
            self._open = await _Conversation.begin(self._path)
        self._open.say(request)
        return (await self._open.hear()).value


class _Conversation:
    """A connection to a StatePort; StoreError when it fails."""

    def __init__(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self._reader = reader
        self._writer = writer

    @classmethod
    async def begin(cls, path: Path) -> "_Conversation":
        try:
            connection = connected(path, "state")
        except NotServingError as error:
            raise StoreError(f"{error}; memory: is the state of one that does") from error
        return cls(*await asyncio.open_unix_connection(sock=connection, limit=_LONGEST))

    def say(self, request: _Request) -> None:
        self._writer.write(_line(request))

    async def hear(self) -> _Answer:
        try:
            await self._writer.drain()
            line = await self._reader.readline()
        except ConnectionError:
            line = b""
        if not line.endswith(b"\n"):
            raise StoreError("policyd gave no answer: it has stopped, or this user may not ask")
        answer = msgspec.convert(json.loads(line), _Answer)
        if answer.error:
            raise StoreError(answer.error)
        return answer

    def end(self) -> None:
        self._writer.close()


def _line(message: msgspec.Struct) -> bytes:
    return json.dumps(plain(message), separators=(",", ":")).encode("ascii") + b"\n"


def _batches(entries: Iterable[Entry]) -> Iterator[tuple[Entry, ...]]:
    each = iter(entries)
    while batch := tuple(islice(each, _AT_ONCE)):
        yield batch

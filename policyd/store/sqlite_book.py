"""A book of the ledger in an open SQLite database, within whatever transaction there is."""

import json
import sqlite3
from collections.abc import Callable, Iterator, Mapping
from hashlib import blake2b
from typing import Any, Final

import msgspec

from policyd.store.ledger import Record
from policyd.store.model import SETTLED_WITHIN, Account, Client, Entry, Triplet

LISTED: Final = ("triplet", "client", "account")
"""The tables of what can be listed."""

_COLUMNS: Final = {
    "triplet": "client, sender, recipient, first, seen, passed, expires, instance",
    "client": "client, successes, allowed, last, expires, by_hand, instance",
    "account": "name, width, parts, level, at, expires",
}
_RECORD: Final = msgspec.msgpack.Decoder(Record)
_PARTS: Final = msgspec.msgpack.Decoder(dict[int, int])
_PACK: Final = msgspec.msgpack.Encoder()

_Text = str | bytes


def row_id(*key: str) -> int:
    """Hash a key to the rowid under which it stands: 64 bits, signed."""
    lengths = ",".join(str(len(text)) for text in key)
    octets = f"{lengths}:{''.join(key)}".encode("utf-8", "surrogatepass")
    return int.from_bytes(blake2b(octets, digest_size=8).digest(), "big", signed=True)


def _written(text: str) -> _Text:
    """Give a text as it is stored: one that is no Unicode (lone surrogates) as octets."""
    try:
        text.encode()
    except UnicodeEncodeError:
        return text.encode("utf-8", "surrogatepass")
    return text


def _read(text: _Text) -> str:
    return text if isinstance(text, str) else text.decode("utf-8", "surrogatepass")


def _packed(record: Record) -> bytes:
    try:
        return _PACK.encode(record)
    except UnicodeEncodeError:  # lone surrogates: JSON in ASCII escapes them
        return json.dumps(msgspec.to_builtins(record)).encode("ascii")


def _unpacked(octets: bytes) -> Record:
    # MessagePack begins no map with this octet
    if octets.startswith(b"{"):
        return msgspec.convert(json.loads(octets), Record)
    return _RECORD.decode(octets)


def _triplet(row: tuple[Any, ...]) -> Triplet:
    client, sender, recipient, first, seen, passed, expires, instance = row
    return Triplet(
        _read(client),
        _read(sender),
        _read(recipient),
        first,
        first + seen,
        passed=bool(passed),
        expires=expires,
        instance=_read(instance),
    )


def _client(row: tuple[Any, ...]) -> Client:
    client, successes, allowed, last, expires, by_hand, instance = row
    return Client(
        _read(client),
        successes,
        allowed=bool(allowed),
        last=last,
        expires=expires,
        by_hand=bool(by_hand),
        instance=_read(instance),
    )


def _account(row: tuple[Any, ...]) -> Account:
    name, width, parts, level, at, expires = row
    return Account(_read(name), width, _PARTS.decode(parts), level, at, expires)


_ENTRY: Final[Mapping[str, Callable[[tuple[Any, ...]], Entry]]] = {
    "triplet": _triplet,
    "client": _client,
    "account": _account,
}


class ChangesError(Exception):
    """An operation on a book that can only be read would change something."""


class SqliteBook:
    """
    See ledger.Book. A row whose texts are not those asked for, though their hashes are, is none.

    sqlite3.Error passes through.
    """

    def __init__(self, connection: sqlite3.Connection) -> None:
        self.connection: Final = connection
        self._execute: Final = connection.execute

    def _row(self, table: str, key: int) -> tuple[Any, ...] | None:
        row: tuple[Any, ...] | None = self._execute(
            f"SELECT {_COLUMNS[table]} FROM {table} WHERE id = ?",  # noqa: S608  # our own names
            (key,),
        ).fetchone()
        return row

    def _write(self, statement: str, values: tuple[object, ...]) -> None:
        self._execute(statement, values)

    def triplet(self, client: str, sender: str, recipient: str) -> Triplet | None:
        """Do Book.triplet."""
        row = self._row("triplet", row_id(client, sender, recipient))
        found = _triplet(row) if row else None
        if found and (found.client, found.sender, found.recipient) == (client, sender, recipient):
            return found
        return None

    def write_triplet(self, triplet: Triplet) -> None:
        """Do Book.write_triplet."""
        self._write(
            "REPLACE INTO triplet VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?)",
            (
                row_id(triplet.client, triplet.sender, triplet.recipient),
                _written(triplet.client),
                _written(triplet.sender),
                _written(triplet.recipient),
                triplet.first,
                triplet.last - triplet.first,
                triplet.passed,
                triplet.expires,
                _written(triplet.instance),
            ),
        )

    def client(self, client: str) -> Client | None:
        """Do Book.client."""
        row = self._row("client", row_id(client))
        found = _client(row) if row else None
        return found if found and found.client == client else None

    def write_client(self, client: Client) -> None:
        """Do Book.write_client."""
        self._write(
            "REPLACE INTO client VALUES (?, ?, ?, ?, ?, ?, ?, ?)",
            (
                row_id(client.client),
                _written(client.client),
                client.successes,
                client.allowed,
                client.last,
                client.expires,
                client.by_hand,
                _written(client.instance),
            ),
        )

    def account(self, name: str) -> Account | None:
        """Do Book.account."""
        row = self._row("account", row_id(name))
        found = _account(row) if row else None
        return found if found and found.name == name else None

    def write_account(self, account: Account) -> None:
        """Do Book.write_account."""
        self._write(
            "REPLACE INTO account VALUES (?, ?, ?, ?, ?, ?, ?)",
            (
                row_id(account.name),
                _written(account.name),
                account.window,
                _PACK.encode(account.parts),
                account.level,
                account.at,
                account.expires,
            ),
        )

    def record(self, instance: str) -> Record | None:
        """Do Book.record."""
        row = self._execute(
            "SELECT record FROM message WHERE id = ?", (row_id(instance),)
        ).fetchone()
        found = _unpacked(row[0]) if row else None
        return found if found and found.instance == instance else None

    def write_record(self, record: Record) -> None:
        """Do Book.write_record."""
        self._write(
            "REPLACE INTO message VALUES (?, ?, ?, ?)",
            (
                row_id(record.instance),
                _written(record.instance),
                record.expires,
                _packed(record),
            ),
        )

    def drop_record(self, instance: str) -> None:
        """Do Book.drop_record."""
        self._write("DELETE FROM message WHERE id = ?", (row_id(instance),))

    def newest(self, connection: str) -> str:
        """Do Book.newest."""
        row = self._execute(
            "SELECT connection, instance FROM connection WHERE id = ?", (row_id(connection),)
        ).fetchone()
        return _read(row[1]) if row and _read(row[0]) == connection else ""

    def write_newest(self, connection: str, instance: str, now: int) -> None:
        """Do Book.write_newest."""
        key = row_id(connection)
        if not instance:
            self._write("DELETE FROM connection WHERE id = ?", (key,))
            return
        self._write(
            "REPLACE INTO connection VALUES (?, ?, ?, ?)",
            (key, _written(connection), now + SETTLED_WITHIN, _written(instance)),
        )

    # beside the ledger's

    def remove(self, entry: Entry) -> None:
        """Forget an entry if it is there."""
        match entry:
            case Triplet():
                key = row_id(entry.client, entry.sender, entry.recipient)
                self._write("DELETE FROM triplet WHERE id = ?", (key,))
            case Client():
                self._write("DELETE FROM client WHERE id = ?", (row_id(entry.client),))
            case Account():
                self._write("DELETE FROM account WHERE id = ?", (row_id(entry.name),))

    def ask(self) -> None:
        """Write a little, to see whether that can be done."""
        self._write(
            "INSERT INTO asked VALUES (1, 1) ON CONFLICT (id) DO UPDATE SET times = times + 1", ()
        )

    def count(self, table: str) -> int:
        """Give how many rows a table has."""
        (rows,) = self._execute(f"SELECT count(*) FROM {table}").fetchone()  # noqa: S608  # our own
        return int(rows)


class ReadingBook(SqliteBook):
    """A book that can only be read; ChangesError where something would be written."""

    def _write(self, statement: str, values: tuple[object, ...]) -> None:
        """Refuse."""
        raise ChangesError(statement, values)


def listed(
    connection: sqlite3.Connection, table: str, after: int, most: int
) -> Iterator[tuple[int, Entry]]:
    """Give so many entries of a table with their rowids, from one rowid on."""
    statement = f"SELECT id, {_COLUMNS[table]} FROM {table} WHERE id >= ? ORDER BY id LIMIT ?"  # noqa: S608  # our own names
    for row_id_, *row in connection.execute(statement, (after, most)):
        yield row_id_, _ENTRY[table](tuple(row))


def unsettled_of(octets: bytes) -> frozenset[str]:
    """Give the limits of which a message's record holds what was never settled."""
    return _unpacked(octets).unsettled

"""Real places to look lists up in: each a running server, or a file, and a list of addresses."""

import sqlite3
from base64 import b64encode
from collections.abc import Callable, Iterator, Sequence
from contextlib import AbstractContextManager, closing, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from policyd.lists.remote.settings import (
    Holds,
    LdapPlace,
    LdapQuestion,
    RedisPlace,
    RedisQuestion,
    RemoteList,
    SqlPlace,
    SqlQuestion,
)
from tools.list_servers import (
    LDAP_ADMIN,
    LDAP_BASE,
    LDAP_PASSWORD,
    PostgresServer,
    RedisServer,
    Server,
    SlapdServer,
)

ENTRIES: Final = ("alice@example.org", "@example.com", "o'hara@example.org", "zoë@example.org")
TIMEOUT: Final = 0.4
QUERY: Final = "SELECT 1 FROM mailboxes WHERE address IN :keys"


@dataclass(frozen=True)
class There:
    """A list with ENTRIES at a place, and the server that it is at."""

    wanted: RemoteList
    server: Server


@contextmanager
def postgres() -> Iterator[There]:
    with PostgresServer() as server:
        server.fill()
        server.sql(
            "CREATE TABLE mailboxes (address text PRIMARY KEY)",
            *(f"INSERT INTO mailboxes VALUES ({quoted(entry)})" for entry in ENTRIES),
            "GRANT SELECT ON mailboxes TO policyd",
        )
        url = f"postgresql://policyd@127.0.0.1:{server.port}/mail"
        place = SqlPlace(url, timeout=TIMEOUT, password=server.password)
        yield There(RemoteList("boxes", place, SqlQuestion(QUERY), Holds.ADDRESSES), server)


@contextmanager
def redis() -> Iterator[There]:
    with RedisServer() as server:
        server.cli("SADD", "boxes", *ENTRIES)
        place = RedisPlace(f"redis://127.0.0.1:{server.port}/0", timeout=TIMEOUT)
        yield There(RemoteList("boxes", place, RedisQuestion("boxes"), Holds.ADDRESSES), server)


@contextmanager
def ldap() -> Iterator[There]:
    with SlapdServer(people(ENTRIES)) as server:
        place = LdapPlace(
            f"ldap://127.0.0.1:{server.port}",
            timeout=TIMEOUT,
            password=LDAP_PASSWORD,
            bind_dn=LDAP_ADMIN,
        )
        question = LdapQuestion(f"ou=people,{LDAP_BASE}", "(|(mail={key})(description={key}))")
        yield There(RemoteList("boxes", place, question, Holds.ADDRESSES), server)


SERVERS: Final[dict[str, Callable[[], AbstractContextManager[There]]]] = {
    "postgresql": postgres,
    "redis": redis,
    "ldap": ldap,
}
"""What can be killed and frozen."""


def write_sqlite(path: Path, entries: Sequence[str]) -> None:
    """Write a table of mailboxes into a new file."""
    with closing(sqlite3.connect(path)) as database:
        database.execute("CREATE TABLE mailboxes (address TEXT PRIMARY KEY)")
        database.executemany("INSERT INTO mailboxes VALUES (?)", [(entry,) for entry in entries])
        database.commit()


def quoted(text: str) -> str:
    return "'" + text.replace("'", "''") + "'"


def attribute(entry: str) -> str:
    """Write an entry as an attribute; `mail` has ASCII alone (RFC 4524 section 2.16)."""
    if entry.isascii():
        return f"mail: {entry}"
    return f"description:: {b64encode(entry.encode()).decode()}"


def people(entries: Sequence[str]) -> str:
    return "\n".join(
        f"dn: uid=u{number},ou=people,{LDAP_BASE}\nobjectClass: inetOrgPerson\nuid: u{number}\n"
        f"cn: x\nsn: x\n{attribute(entry)}\n"
        for number, entry in enumerate(entries)
    )

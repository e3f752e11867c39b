"""
Where state is kept, as `[state] url` says it, and how it is reached.

The forms are those of redis-py's urls where it has them; several hosts are joined by commas.
"""

import re
from collections.abc import Mapping
from enum import StrEnum
from typing import Final, NoReturn
from urllib.parse import unquote

import msgspec

_HOST: Final = re.compile(r"(?:\[([0-9A-Fa-f:.]+)\]|([A-Za-z0-9._-]+))(?::([0-9]{1,5}))?", re.ASCII)
_MASTER: Final = re.compile(r"[A-Za-z0-9._-]+", re.ASCII)
"""What Sentinel takes for the name of a master (sentinel.conf, `sentinel monitor`)."""
_DATABASE: Final = re.compile(r"[0-9]{1,6}", re.ASCII)
_REDIS_PORT: Final = 6379
_SENTINEL_PORT: Final = 26379


class Kind(StrEnum):
    """What keeps the state."""

    MEMORY = "memory"
    SQLITE = "sqlite"
    REDIS = "redis"
    SENTINEL = "redis+sentinel"
    CLUSTER = "redis+cluster"


FORMS: Final[Mapping[Kind, str]] = {
    Kind.SQLITE: "sqlite:/path",
    Kind.REDIS: "redis://[user[:password]@]host[:6379][/database]",
    Kind.SENTINEL: "redis+sentinel://host[:26379],host…/master[/database]",
    Kind.CLUSTER: "redis+cluster://host[:6379],host…",
    Kind.MEMORY: "memory:",
}
"""How a place is written; Redis with TLS is `rediss`."""
_ANY: Final = f"write {', '.join(FORMS.values())}; rediss is redis with TLS"


class PlaceError(ValueError):
    """A url that names no place: `what` is wrong, without any part that may be secret, and mend."""

    def __init__(self, what: str, mend: str = _ANY) -> None:
        """Keep both beside the message."""
        super().__init__(f"{what}; {mend}")
        self.what = what
        self.mend = mend


class Place(msgspec.Struct, frozen=True):
    """
    A place for state. `url` is as written, without user and password.

    `path` is that of SQLite's file. The rest is Redis's: `hosts` with their ports (Sentinel: the
    sentinels'), the name of the `master` that Sentinel watches, the number of the database.
    """

    kind: Kind
    url: str
    path: str = ""
    tls: bool = False
    hosts: tuple[tuple[str, int], ...] = ()
    master: str = ""
    database: int = 0
    username: str = ""
    password: str = ""

    def __repr__(self) -> str:
        """Show what is no secret."""
        return f"Place({self.url!r})"

    @property
    def remote(self) -> bool:
        """Whether it is a server's: keys have a prefix, and there may be a password."""
        return self.kind not in (Kind.MEMORY, Kind.SQLITE)


class StateSettings(msgspec.Struct, frozen=True):
    """
    Where state is kept and how it is reached, as a process is told it.

    `timeout` is that of one operation, in seconds. All but `url` and `timeout` are for Redis
    alone: `prefix` begins each key, `ca_file` is whom to trust with TLS, empty for the system's.
    """

    url: str
    timeout: float = 1.0
    prefix: str = "policyd:"
    username: str = ""
    password: str = ""
    ca_file: str = ""

    def __repr__(self) -> str:
        """Show what is no secret, also of a url that still has its user and password."""
        return f"StateSettings({re.sub('//.*@', '//', self.url)!r})"


def read_place(url: str) -> Place:
    """Read a url; PlaceError (a ValueError) for one of no known form."""
    scheme, colon, rest = url.partition(":")
    tls = scheme.startswith("rediss")
    plain = scheme.replace("rediss", "redis", 1) if tls else scheme
    if not colon or plain not in set(Kind):
        # what stands before the first colon may be a password too, if all else is missing
        shown = f'"{scheme}:"' if rest.startswith("/") else "it"
        raise PlaceError(f"{shown} is no place for state")
    if not url.isprintable() or url != url.strip():
        raise PlaceError("it has blanks at its ends or control characters in it")
    kind = Kind(plain)
    match kind:
        case Kind.MEMORY:
            if rest:
                raise PlaceError("memory: has nothing after it", 'write "memory:"')
            return Place(kind, url)
        case Kind.SQLITE:
            if not re.fullmatch(r"/(?!/).*[^/]", rest):
                _refuse(kind, "sqlite: names no file by an absolute path")
            return Place(kind, url, path=rest)
    return _remote(kind, scheme, rest, tls=tls)


def _remote(kind: Kind, scheme: str, rest: str, *, tls: bool) -> Place:
    if not rest.startswith("//"):
        _refuse(kind, f"{scheme}: names no host")
    authority, _, path = rest.removeprefix("//").partition("/")
    user, _, hosts = authority.rpartition("@")
    if "@" in path or "@" in user or "?" in rest or "#" in rest:
        raise PlaceError(
            "it cannot be read: one of / @ ? # stands where none can",
            "write them as %2F %40 %3F %23 in a password, or use password_file",
        )
    username, _, password = user.partition(":")
    port = _SENTINEL_PORT if kind is Kind.SENTINEL else _REDIS_PORT
    read = tuple(_host(kind, scheme, host, port) for host in hosts.split(","))
    if kind is Kind.REDIS and len(read) > 1:
        mend = f"write {scheme}+cluster://… or {scheme}+sentinel://…/master"
        raise PlaceError(f"{scheme}: names {len(read)} hosts", mend)
    master, database = _within(kind, scheme, path)
    return Place(
        kind,
        f"{scheme}://{hosts}/{path}".removesuffix("/"),
        tls=tls,
        hosts=read,
        master=master,
        database=database,
        username=unquote(username),
        password=unquote(password),
    )


def _host(kind: Kind, scheme: str, text: str, port: int) -> tuple[str, int]:
    if not text:
        _refuse(kind, f"{scheme}: names no host")
    found = _HOST.fullmatch(text)
    if found is None:
        # it may be half of a password, so it is not shown
        _refuse(kind, f"{scheme}: has a host that is no name or address with a port")
    number = int(found[3] or port)
    if not 0 < number < 65536:
        raise PlaceError(f"{number} is no port", "choose one from 1 to 65535")
    return found[1] or found[2], number


def _within(kind: Kind, scheme: str, path: str) -> tuple[str, int]:
    """Read what follows the hosts: the master's name and the number of the database."""
    master, database = "", path
    if kind is Kind.SENTINEL:
        master, _, database = path.partition("/")
        if not _MASTER.fullmatch(master):
            _refuse(kind, f"{scheme}: names no master")
    if kind is Kind.CLUSTER and path:
        _refuse(kind, f"{scheme}: has no databases")
    if database and not _DATABASE.fullmatch(database):
        _refuse(kind, "the database is no number")
    return master, int(database or 0)


def _refuse(kind: Kind, what: str) -> NoReturn:
    raise PlaceError(what, f"write {FORMS[kind]}")

"""
A list that is looked up remotely, as the configuration describes it: where, and what is asked.

Everything here is a value that pickle(3) takes; a password is in it and in no repr().
"""

from enum import StrEnum

import msgspec


class Holds(StrEnum):
    """What the entries of a remote list are, and so which facts may be looked up in it."""

    ADDRESSES = "addresses"
    DOMAINS = "domains"
    TEXTS = "texts"


class Place(msgspec.Struct, frozen=True):
    """
    A server, and how to speak to it; lists at the same place share its connections.

    `timeout` is in seconds, of one look-up. With `tls` the server's certificate is verified, by
    `ca_file` or else by what the system trusts.
    """

    url: str
    timeout: float = 1.0
    password: str = ""
    tls: bool = False
    ca_file: str = ""

    def __repr__(self) -> str:
        """Leave out what may hold a password, the URL too."""
        return f"{type(self).__name__}(...)"


class SqlPlace(Place, frozen=True):
    """A database: `postgresql://`, `mysql://` or `sqlite:/path`."""


class RedisPlace(Place, frozen=True):
    """A Redis server: `redis://` or `rediss://`."""


class LdapPlace(Place, frozen=True):
    """A directory: `ldap://` or `ldaps://`; with `tls`, `ldap://` begins with StartTLS."""

    bind_dn: str = ""


class SqlQuestion(msgspec.Struct, frozen=True):
    """A query with the expanding bind parameter `:keys`."""

    query: str


class RedisQuestion(msgspec.Struct, frozen=True):
    """The key of a set."""

    set: str


class LdapQuestion(msgspec.Struct, frozen=True):
    """A search below `base`, by a filter with `{key}` in it (RFC 4515)."""

    base: str
    filter: str


class RemoteList(msgspec.Struct, frozen=True):
    """
    A `[lists.NAME]` table that names a place.

    Times are in seconds. An answer is kept for `cache`; when the place fails, one that is no older
    than `stale` beyond that still serves. What a list holds is unknown where its table is wrong.
    """

    name: str
    place: SqlPlace | RedisPlace | LdapPlace
    question: SqlQuestion | RedisQuestion | LdapQuestion
    holds: Holds | None
    recipient_delimiter: str = ""
    cache: float = 60.0
    stale: float = 3600.0

    @property
    def dependency(self) -> str:
        """What metrics and logs call it."""
        return f"list {self.name}"

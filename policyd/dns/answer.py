"""What is asked of the DNS, and what it answers (RFC 1035, RFC 2308)."""

from collections.abc import Iterator
from enum import StrEnum
from typing import Final, Protocol

import msgspec

DEPENDENCY: Final = "dns"
"""The dependency that stands for the resolver."""


class Kind(StrEnum):
    """A type of records that checks ask for."""

    A = "A"
    AAAA = "AAAA"
    CNAME = "CNAME"
    MX = "MX"
    PTR = "PTR"
    TXT = "TXT"


class Record(msgspec.Struct, frozen=True, array_like=True):
    """
    A record: its owner, its type, and its value as text.

    Names are in lower case without the final dot; `.` (a null MX, RFC 7505) is the empty text. A
    TXT record's strings are joined; octets that are not ASCII are lone surrogates (PEP 383).
    """

    name: str
    kind: Kind
    value: str
    preference: int = 0


class Found(msgspec.Struct, frozen=True, array_like=True):
    """
    An answer: the records of the asked type and the CNAMEs that led to them.

    `exists` is False for NXDOMAIN. A name that exists without such records has none here: both
    are answers, never failures. `ttl` are the seconds for which the answer may be kept, 0 where
    that is not known: how long nothing stays so, the resolver alone knows.
    """

    records: tuple[Record, ...]
    exists: bool = True
    ttl: float = 0.0

    def values(self, kind: Kind) -> Iterator[str]:
        """Give the values of the records of a type, in the order of the answer."""
        return (record.value for record in self.records if record.kind is kind)


class DnsError(Exception):
    """
    The DNS gave no answer: SERVFAIL, REFUSED, nothing within the time; says which.

    `late` tells that nothing came in time.
    """

    def __init__(self, why: str, *, late: bool = False) -> None:
        """Keep whether it was time that ran out."""
        super().__init__(why)
        self.late = late


class Resolver(Protocol):
    """What asks the DNS."""

    async def ask(self, name: str, kind: Kind) -> Found:
        """
        Ask for the records of a name, which is a domain as facts.read.domain gives it.

        A name that cannot be asked for (names.labels) does not exist. DnsError if there is no
        answer.
        """
        ...


class BlockingResolver(Protocol):
    """What asks the DNS for code that waits: libraries, in a process of their own."""

    def ask(self, name: str, kind: Kind) -> Found:
        """Do as Resolver.ask does, and block."""
        ...

"""
What is written above a message that is accepted, and which of its fields go as forged.

It never keeps a message from being accepted: what cannot be found out in time is written as a
temporary error (RFC 8601 section 2.7, RFC 7208 section 2.6.6).
"""

import socket
from collections.abc import Callable, Collection
from typing import Final, Protocol, cast

import msgspec

from policyd.facts import read
from policyd.facts.table import Attributes
from policyd.mail.forged import forged
from policyd.mail.results import (
    AUTHENTICATION_RESULTS,
    RECEIVED_SPF,
    Envelope,
    Results,
    authentication_results,
    received_spf,
)
from policyd.mail.stamping import Method, Stamping

Field = tuple[str, str]
"""A field's name and its value; lines of a folded one end in LF."""


class Authenticates(Protocol):
    """What finds out who a message is from (checks.authentication.Authentication)."""

    async def results(
        self, attributes: Attributes, methods: Collection[Method], seconds: float
    ) -> tuple[Results, tuple[str, ...]]:
        """Give the answers of these methods within so many seconds, and why others are missing."""
        ...


class Stamped(msgspec.Struct, frozen=True):
    """
    What becomes of a message: `removed` are fields by name and how manyth of it, the last first.

    `added` stand above all others, in this order.
    """

    removed: tuple[tuple[str, int], ...] = ()
    added: tuple[Field, ...] = ()


UNSTAMPED: Final = Stamped()
"""The message stays as it is."""


def name_of(stamping: Stamping, attributes: Attributes) -> str:
    """Give the name that results are written under: as configured, Postfix's, or this host's."""
    own = read.text(attributes.get("myhostname"))
    return stamping.authserv_id or own or socket.gethostname()


def forged_in(stamping: Stamping, attributes: Attributes) -> tuple[tuple[str, int], ...]:
    """Give the fields that only pretend to be ours."""
    headers = cast("tuple[Field, ...]", attributes.get("headers", ()))
    return tuple(forged(headers, name_of(stamping, attributes)))


def methods_of(stamping: Stamping, attributes: Attributes) -> frozenset[Method]:
    """Give the methods whose results are wanted: none where nothing is to be written."""
    if stamping.skip_logins and attributes.get("sasl_username"):
        return frozenset()
    wanted = frozenset(stamping.results)
    return wanted | {Method.SPF} if stamping.received_spf else wanted


class Stamper:
    """
    Writes fields, and lets no message wait or fail for it.

    `authenticates` is None where nothing can be asked; then all is a temporary error. `failed` is
    told why something could not be found out.
    """

    def __init__(self, failed: Callable[[str], object]) -> None:
        """Start with nobody to ask."""
        self.authenticates: Authenticates | None = None
        self._failed = failed

    async def fields(
        self, stamping: Stamping, attributes: Attributes, seconds: float
    ) -> tuple[Field, ...]:
        """Give what is to be written, the topmost first, with what is found out in so long."""
        results = Results()
        failures: tuple[str, ...] = ("nobody can be asked",)
        try:
            if self.authenticates is not None:
                wanted = methods_of(stamping, attributes)
                results, failures = await self.authenticates.results(attributes, wanted, seconds)
        except Exception as error:  # noqa: BLE001 -- the mail goes on, whatever becomes of it
            failures = (f"{type(error).__name__}: {error}",)
        for failure in failures:
            self._failed(failure)
        return _fields(stamping, attributes, results)


def _fields(stamping: Stamping, attributes: Attributes, results: Results) -> tuple[Field, ...]:
    name = name_of(stamping, attributes)
    envelope = Envelope(
        client_address=read.ip(attributes.get("client_address")),
        helo=read.text(attributes.get("helo_name")),
        sender=read.text(attributes.get("sender")),
        login=read.text(attributes.get("sasl_username")),
        resolved=read.text(attributes.get("client_resolve")),
    )
    fields = []
    if stamping.results:
        value = authentication_results(name, stamping.results, envelope, results)
        fields.append((AUTHENTICATION_RESULTS, value))
    if stamping.received_spf:
        fields.append((RECEIVED_SPF, received_spf(name, envelope, results.spf)))
    return tuple(fields)

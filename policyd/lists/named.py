"""A list under its name: what conditions ask."""

from functools import lru_cache

from policyd.facts import read
from policyd.lists.load import Reading, Snapshot
from policyd.lists.source import Kind, ListSource

_LONGEST_NAME = 255
"""Octets; no domain is longer (RFC 1035 section 2.3.4), so none of a longer one's parents match."""

_NEVER_SPLIT = frozenset({"postmaster", "mailer-daemon", "double-bounce"})


class NamedList:
    """
    A list and its present entries.

    Only entries of the kind that a question is about are looked at, and patterns. `snapshot` is
    replaced whole when a file changes, so each lookup sees one version; any thread may look up.
    """

    __slots__ = ("signatures", "snapshot", "source")

    def __init__(self, source: ListSource, reading: Reading) -> None:
        self.source = source
        self.snapshot: Snapshot = reading.snapshot
        self.signatures = reading.signatures

    @property
    def name(self) -> str:
        """Its name in conditions."""
        return self.source.name

    @property
    def kinds(self) -> frozenset[Kind]:
        """The kinds of entry that it may have."""
        return self.source.kinds

    def __len__(self) -> int:
        return len(self.snapshot)

    def holds_mail(self, address: str) -> bool:
        """
        Tell whether it has a mail address, given as facts.read.mail does (empty: the null sender).

        Tried are user+tag@domain, user@domain, @domain, then the patterns.
        """
        snapshot = self.snapshot
        if not snapshot.addresses.isdisjoint(mail_keys(address, self.source.recipient_delimiter)):
            return True
        return snapshot.patterns is not None and snapshot.patterns.match(address)

    def holds_domain(self, name: str) -> bool:
        """Tell whether it has a domain, given as facts.read.domain does, or one above it."""
        snapshot = self.snapshot
        if not snapshot.domains.isdisjoint(domain_keys(name)):
            return True
        return snapshot.patterns is not None and snapshot.patterns.match(name)

    def holds_address(self, address: str) -> bool:
        """Tell whether a network of it has an IP address; False for the empty text."""
        return self.snapshot.networks.holds(address)

    def holds_text(self, value: str) -> bool:
        """
        Tell whether it has a text, such as a login, among its addresses; then the patterns.

        The empty text is no address: no login is not the null sender.
        """
        snapshot = self.snapshot
        if value and read.mail(value) in snapshot.addresses:
            return True
        return snapshot.patterns is not None and snapshot.patterns.match(value)


def mail_keys(address: str, delimiters: str) -> tuple[str, ...]:
    """
    Give the entries that an address, given as facts.read.mail does, is found under.

    `delimiters`: see ListSource. Many lists are asked about one address.
    """
    local, at, domain = address.rpartition("@")
    if not at:
        return (address, without_extension(domain, delimiters))
    plain = without_extension(local, delimiters)
    if plain == local:
        return (address, at + domain)
    return (address, plain + at + domain, at + domain)


@lru_cache(maxsize=16384)
def domain_keys(name: str) -> tuple[str, ...]:
    """
    Give the entries that a domain, given as facts.read.domain does, is found under.

    These are the domain itself, and with a leading dot each one above it.
    """
    keys = [] if name.startswith(".") else [name]
    if len(name) <= _LONGEST_NAME:
        dot = name.find(".", 1)
        while dot > 0:
            keys.append(name[dot:])
            dot = name.find(".", dot + 1)
    return tuple(keys)


def without_extension(local: str, delimiters: str) -> str:
    """
    Cut an address extension off a local part, as Postfix does (recipient_delimiter, postconf(5)).

    Its own addresses are never split, nor with `-` the owner-list and list-request
    (owner_request_special, postconf(5)).
    """
    cut = min((end for end in map(local.find, delimiters) if end >= 0), default=0)
    if cut == 0 or local in _NEVER_SPLIT:
        return local
    if "-" in delimiters and (local.startswith("owner-") or local.endswith("-request")):
        return local
    return local[:cut]

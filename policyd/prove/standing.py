"""What state means to a postmaster: whom an entry is about, and what it would take to pass."""

from collections.abc import Mapping
from ipaddress import ip_network
from typing import Final

import msgspec

from policyd.checks.greylist import SHADOW, GreylistSettings, recipient_key
from policyd.checks.keys import key_part
from policyd.checks.limits import Limit
from policyd.checks.provider import network_key
from policyd.checks.rate import Rate
from policyd.checks.sender import folded
from policyd.checks.wording import duration_text
from policyd.dns.suffix import registered_domain
from policyd.facts import read
from policyd.store import account as accounts
from policyd.store.model import Account, Charge, Client, Entry, Terms, Triplet

_SEPARATOR: Final = "\x1f"
_SHADOW: Final = "shadow"


class Sought(msgspec.Struct, frozen=True):
    """Under which keys a client, a login or an address can be known."""

    clients: frozenset[str]
    sender: str
    recipient: str
    keys: frozenset[str]


class NoClientError(ValueError):
    """A text names no client of greylisting. Says why, and what would do."""


def sought(text: str, settings: GreylistSettings) -> Sought:
    """Give the keys of what somebody looks for; `<>` is the null sender."""
    try:
        clients = frozenset({client_of(text, settings)})
    except NoClientError:
        clients = frozenset()
    plain = key_part(text.lower())
    return Sought(
        clients | {plain},
        _sender(text),
        recipient_key(text),
        frozenset({plain, read.ip(text) or plain}),
    )


def _sender(text: str) -> str:
    if text == "<>":
        return ""
    # what has no domain is more likely something else: an address folds to as little as #
    return folded(text) if "@" in text else key_part(read.mail(text))


def client_of(text: str, settings: GreylistSettings) -> str:
    """Give the client that an address, a network or a host is to greylisting; NoClientError."""
    network = network_key(text, settings.ipv4, settings.ipv6)
    if network:
        return network
    if "/" in text:
        return _network(text, settings)
    name = registered_domain(read.domain(text))
    if not name:
        raise NoClientError(f"{text!r} is no address, and no host or domain of a provider")
    return name


def _network(text: str, settings: GreylistSettings) -> str:
    try:
        network = ip_network(text)
    except ValueError as error:
        raise NoClientError(str(error)) from error
    length = settings.ipv4 if network.version == 4 else settings.ipv6
    if network.prefixlen != length:
        raise NoClientError(
            f"greylisting knows networks of /{length} ([greylist] client_prefix), not "
            f"/{network.prefixlen}; write a rule for others: client_address in '{network}'"
        )
    return str(network)


def concerns(entry: Entry, whom: Sought) -> bool:
    """Tell whether an entry is of somebody: in full, not in part."""
    match entry:
        case Triplet():
            return (
                _enforced(entry.client) in whom.clients
                or entry.recipient == whom.recipient
                or entry.sender == whom.sender
            )
        case Client():
            return _enforced(entry.client) in whom.clients
        case Account():
            _limit, _, rest = entry.name.partition(_SEPARATOR)
            return any(key in (rest, *rest.split(_SEPARATOR)) for key in whom.keys)


def mentions(entry: Entry, text: str) -> bool:
    """Tell whether a text stands in a key of an entry, without case."""
    match entry:
        case Triplet():
            keys = [entry.client, entry.sender, entry.recipient]
        case Client():
            keys = [entry.client]
        case Account():
            keys = entry.name.split(_SEPARATOR)
    return any(text.lower() in key.lower() for key in keys)


def _enforced(client: str) -> str:
    """Give a client as it is known where rules are enforced."""
    return client.removeprefix(SHADOW)


# what it takes


def triplet_outlook(triplet: Triplet, terms: Terms, now: int) -> str:
    """Say what a triplet would be told now; times in milliseconds since the epoch."""
    left = duration_text(triplet.expires - now)
    if triplet.passed:
        return f"passes; forgotten in {left} unless it is seen"
    waits = triplet.first + terms.delay - now
    if waits > 0:
        return f"a retry passes in {duration_text(waits)}; forgotten in {left}"
    return f"a retry passes now; forgotten in {left}"


def client_outlook(client: Client, terms: Terms, now: int) -> str:
    """Say whether a client is greylisted."""
    left = duration_text(client.expires - now)
    if client.by_hand:
        return "never greylisted: allowed by hand"
    if client.allowed and client.last > now:
        return f"not greylisted for {left}: allowed by hand"
    if client.allowed:
        return f"not greylisted; forgotten in {left} unless it is seen"
    if not terms.auto_allow_after:
        return f"greylisted; forgotten in {left}"
    missing = max(1, terms.auto_allow_after - client.successes)
    return f"greylisted until {missing} more of its messages passed; forgotten in {left}"


class Spending(msgspec.Struct, frozen=True):
    """
    What a key has spent of a limit.

    `rate` is empty where the configuration has no such limit, `without limit` for a key that is
    excepted. `waits`: milliseconds until the least that can be asked for would be admitted.
    """

    limit: str
    key: str
    shadow: bool
    used: int
    rate: str = ""
    waits: int = 0

    @property
    def outlook(self) -> str:
        """Say what it would be told now."""
        if not self.rate:
            return "no such limit in the configuration"
        if self.waits > 0:
            return f"exceeded; retry after {duration_text(self.waits)}"
        return "admitted"


def spending(account: Account, limits: Mapping[str, Limit], now: int) -> Spending:
    """Say what an account holds, by the limit as it is configured."""
    name, *parts = account.name.split(_SEPARATOR)
    limit = limits.get(name)
    parts_of_key = len(limit.key) if limit is not None else len(parts) - 1
    shadow = len(parts) > max(1, parts_of_key) and parts[-1] == _SHADOW
    key = _SEPARATOR.join(parts[:-1] if shadow else parts)
    live = accounts.live(account, now)
    used = sum(live.parts.values()) if live is not None else 0
    shown = key.replace(_SEPARATOR, " ")
    if limit is None:
        return Spending(name, shown, shadow, used)
    most, burst = limit.most, limit.burst
    override = limit.overrides.get(key)
    if override is not None:
        most, burst = override.most, burst if override.burst is None else override.burst
    if not most:
        return Spending(name, shown, shadow, used, "without limit")
    fit = accounts.fit(account, Charge(name, account.name, 1, most, limit.window, burst), now)
    rate = str(Rate(most, limit.unit, limit.window))
    return Spending(name, shown, shadow, fit.used, rate, fit.waits)

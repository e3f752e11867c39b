"""
Checks of domains and of the client's name, by the DNS: whether they exist and lead anywhere.

What the DNS does not tell fails the check, unless something else that it tells decides: then its
failure is none. NXDOMAIN is an answer (RFC 8020).
"""

import asyncio
from collections.abc import Awaitable, Callable, Iterable
from ipaddress import IPv4Address, IPv6Address, ip_address
from typing import Final

from policyd.checks.interface import Answer, Check, CheckFailedError
from policyd.dns.answer import DEPENDENCY, DnsError, Found, Kind, Resolver
from policyd.dns.suffix import registered_domain
from policyd.facts import read
from policyd.facts.table import Attributes, FactType

MOST_NAMES: Final = 10
"""Names of a client's address that are looked up, as SPF does (RFC 7208 section 4.6.4)."""

_ADDRESSES: Final = (Kind.A, Kind.AAAA)
_UNKNOWN: Final = frozenset({"", "unknown"})
"""How Postfix says that a client has no name."""
_IPV6: Final = "ipv6:"


def checks(resolver: Resolver | None) -> tuple[Check, ...]:
    """Give the checks; without a resolver they are for loading only, and fail when asked."""
    asked = _Nobody() if resolver is None else resolver

    async def helo_resolves(attributes: Attributes) -> bool:
        return await _helo_resolves(asked, read.domain(attributes.get("helo_name")))

    async def reverse_resolves(attributes: Attributes) -> bool:
        if read.domain(attributes.get("reverse_client_name")) not in _UNKNOWN:
            return True
        return bool(await _names(asked, attributes))

    async def fcrdns(attributes: Attributes) -> bool:
        if read.domain(attributes.get("client_name")) not in _UNKNOWN:
            return True
        return await _leads_back(asked, attributes)

    return (
        _of_domain(asked, "resolves", _resolves, "mail can be sent to a domain, by MX or address"),
        _of_domain(asked, "has_mx", _has_mx, "a domain has a mail server by MX"),
        _of_domain(asked, "null_mx", _null_mx, "a domain says that it accepts no mail"),
        _of_client(
            "helo_resolves",
            helo_resolves,
            ("helo_name",),
            "helo_resolves(): the name given with HELO is in the DNS, or a valid address literal",
        ),
        _of_client(
            "reverse_resolves",
            reverse_resolves,
            ("client_address", "reverse_client_name"),
            "reverse_resolves(): the client's address has a name",
        ),
        _of_client(
            "fcrdns",
            fcrdns,
            ("client_address", "client_name"),
            "fcrdns(): the client's address has a name that leads back to it",
        ),
        Check(
            "registered_domain",
            _registered,
            parameters=(FactType.DOMAIN,),
            result=FactType.DOMAIN,
            says="registered_domain(domain): the part of it that its owner has registered",
        ),
    )


def _of_domain(
    resolver: Resolver,
    name: str,
    find: Callable[[Resolver, str], Awaitable[bool]],
    says: str,
) -> Check:
    async def ask(_attributes: Attributes, domain: str) -> Answer:
        return await _answer(find(resolver, domain))

    return Check(
        name,
        ask,
        parameters=(FactType.DOMAIN,),
        remote=True,
        says=f"{name}(domain): {says}",
        dependency=DEPENDENCY,
    )


def _of_client(
    name: str,
    find: Callable[[Attributes], Awaitable[bool]],
    needs: tuple[str, ...],
    says: str,
) -> Check:
    async def ask(attributes: Attributes) -> Answer:
        return await _answer(find(attributes))

    return Check(name, ask, needs=needs, remote=True, says=says, dependency=DEPENDENCY)


async def _answer(finding: Awaitable[bool]) -> Answer:
    try:
        found = await finding
    except DnsError as error:
        raise CheckFailedError(str(error), DEPENDENCY) from error
    return Answer(found, "true" if found else "false")


def _registered(_attributes: Attributes, domain: str) -> Answer:
    found = registered_domain(domain)
    return Answer(found, "true" if found else "false")


async def _resolves(resolver: Resolver, domain: str) -> bool:
    """
    Tell whether mail for a domain has somewhere to go (RFC 5321 section 5.1).

    A server that MX names need not exist: only sending shows. Without a domain, as <> and local
    addresses are, there is nothing that could be missing.
    """
    if not domain:
        return True
    if domain.startswith("["):
        return _is_valid_literal(domain)
    try:
        servers = await resolver.ask(domain, Kind.MX)
    except DnsError:
        return await _any(resolver, domain, (*_ADDRESSES, Kind.MX))
    if not servers.exists:
        return False
    names = tuple(servers.values(Kind.MX))
    return any(names) if names else await _any(resolver, domain, _ADDRESSES)


async def _has_mx(resolver: Resolver, domain: str) -> bool:
    return bool(domain) and any((await resolver.ask(domain, Kind.MX)).values(Kind.MX))


async def _null_mx(resolver: Resolver, domain: str) -> bool:
    """Tell whether the one MX is `.` (RFC 7505 section 3)."""
    return bool(domain) and tuple((await resolver.ask(domain, Kind.MX)).values(Kind.MX)) == ("",)


async def _helo_resolves(resolver: Resolver, name: str) -> bool:
    """Tell whether a name has an address or an MX, as Postfix does; without HELO: true."""
    if not name:
        return True
    if name.startswith("["):
        return _is_valid_literal(name)
    return not read.is_address_literal(name) and await _any(resolver, name, (*_ADDRESSES, Kind.MX))


def _is_valid_literal(name: str) -> bool:
    """Tell whether a name in brackets is an address (RFC 5321 section 4.1.3)."""
    inner = name.removeprefix("[").removesuffix("]")
    if len(name) - len(inner) != 2:
        return False
    try:
        if inner.startswith(_IPV6):
            IPv6Address(inner.removeprefix(_IPV6))
        else:
            IPv4Address(inner)
    except ValueError:
        return False
    return True


async def _any(resolver: Resolver, name: str, kinds: Iterable[Kind]) -> bool:
    """Tell whether a name has records of one of the types."""

    def decides(kind: Kind, found: Found) -> bool:
        return any(found.values(kind))

    return await _first(resolver, [(name, kind) for kind in kinds], decides)


async def _leads_back(resolver: Resolver, attributes: Attributes) -> bool:
    names = await _names(resolver, attributes)
    address = read.ip(attributes.get("client_address")).partition("%")[0]
    kind = Kind.AAAA if ":" in address else Kind.A

    def decides(kind: Kind, found: Found) -> bool:
        return address in map(read.ip, found.values(kind))

    return await _first(resolver, [(name, kind) for name in names[:MOST_NAMES]], decides)


async def _names(resolver: Resolver, attributes: Attributes) -> tuple[str, ...]:
    """Give the names of the client's address."""
    address = read.ip(attributes.get("client_address")).partition("%")[0]
    if not address:
        raise CheckFailedError("the client's address is not known")
    found = await resolver.ask(ip_address(address).reverse_pointer, Kind.PTR)
    return tuple(filter(None, found.values(Kind.PTR)))


async def _first(
    resolver: Resolver,
    questions: Iterable[tuple[str, Kind]],
    decides: Callable[[Kind, Found], bool],
) -> bool:
    """
    Ask at once, and tell whether any answer decides, as soon as it is there.

    DnsError if none does, and one that might is missing.
    """

    async def ask(name: str, kind: Kind) -> tuple[Kind, Found | DnsError]:
        try:
            return kind, await resolver.ask(name, kind)
        except DnsError as error:
            return kind, error

    tasks = [asyncio.ensure_future(ask(*question)) for question in questions]
    missing: DnsError | None = None
    exists = True
    try:
        for each in asyncio.as_completed(tasks):
            kind, found = await each
            if isinstance(found, DnsError):
                missing = found
            elif decides(kind, found):
                return True
            else:
                exists = exists and found.exists
    finally:
        for task in tasks:
            task.cancel()
    if missing is not None and exists:
        raise DnsError(str(missing), late=missing.late)
    return False


class _Nobody:
    """Stands for a resolver where a configuration is only loaded."""

    async def ask(self, name: str, kind: Kind) -> Found:
        raise DnsError(f"{name} {kind} is not looked up here")

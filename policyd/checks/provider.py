"""
Who a client is to greylisting: the provider that runs it, or the network that it is in.

Large providers try again from another host of the same name, and from IPv4 after IPv6, so a host
with a name of its own is known by the domain that its owner has registered (publicsuffix.org). The
name must be one that Postfix has confirmed, by looking up its addresses. Hosts of access and
hosting networks are named after their addresses, and have nothing in common but the network.
"""

import re
from functools import lru_cache
from ipaddress import IPv4Address, IPv6Address, ip_address, ip_network
from typing import Final

from policyd.dns.suffix import registered_domain
from policyd.facts import read

_CACHED: Final = 8_192
"""Clients remembered by a process, at about 400 octets each; a look-up else takes 10 to 60 µs."""

_NUMBER: Final = re.compile(r"[0-9]+")
_NUMBERS: Final = re.compile(r"[0-9]+(?:[-._x]{1,2}[0-9]+){2,}")
_SEPARATORS: Final = re.compile(r"[-._]+")
_HEX: Final = re.compile(r"[0-9a-f]{1,4}")
_ENOUGH_OCTETS: Final = 3  # of four; Outlook's and Mailchimp's hosts show two
_ENOUGH_GROUPS: Final = 4  # of eight; Gmail's hosts show one


@lru_cache(maxsize=_CACHED)
def client_key(address: str, name: str, *, ipv4: int, ipv6: int) -> str:
    """
    Give the domain that the owner of a confirmed name has registered, or else the network.

    `name` is Postfix's client_name, `unknown` or empty for none. A name in which the address is
    written counts as none. Domains are lower case and A-labels. Empty if `address` is none.
    """
    host = _host(address)
    if not host:
        return ""
    confirmed = read.domain(name)
    domain = registered_domain(confirmed)
    if not domain or spells_address(confirmed, ip_address(host)):
        return network_key(host, ipv4, ipv6)
    return domain


@lru_cache(maxsize=_CACHED)
def network_key(address: str, ipv4: int, ipv6: int) -> str:
    """Give an address's network by the lengths of prefixes: `192.0.2.0/24`; empty if it is none."""
    host = _host(address)
    if not host:
        return ""
    return str(ip_network((host, ipv6 if ":" in host else ipv4), strict=False))


def _host(address: str) -> str:
    """Give an address in canonical form, without the zone of a link-local one (RFC 4007)."""
    return read.ip(address).partition("%")[0]


def spells_address(name: str, address: IPv4Address | IPv6Address) -> bool:
    """
    Tell whether a name has been made of the address of its host, in any of the usual ways.

    Of IPv4 three octets in a row, or all in one number, padded or not; hexadecimal, or the whole
    as one decimal number. Of IPv6 half of it in a row: groups, or digits with whatever between.
    All of them from either end. `name` is lower case.
    """
    if isinstance(address, IPv4Address):
        return _spells_octets(name, address.packed)
    return _spells_groups(name, address)


def _spells_octets(name: str, octets: bytes) -> bool:
    for chain in _NUMBERS.findall(name):
        numbers = [int(number) for number in _NUMBER.findall(chain)]
        if any(_in_a_row(numbers, order, _ENOUGH_OCTETS) for order in (octets, octets[::-1])):
            return True
    numbers_alone = {number.lstrip("0") for number in _NUMBER.findall(name)}
    if str(int.from_bytes(octets)) in numbers_alone:
        return True
    for order in (octets, octets[::-1]):
        padded = "".join(f"{octet:03}" for octet in order)
        together = {padded.lstrip("0"), "".join(map(str, order)).lstrip("0")}
        if order.hex() in name or padded in name or together & numbers_alone:
            return True
    return False


def _spells_groups(name: str, address: IPv6Address) -> bool:
    digits = address.exploded.replace(":", "")
    groups = [int(digits[at : at + 4], 16) for at in range(0, len(digits), 4)]
    pieces = _SEPARATORS.split(name)
    written = [int(piece, 16) if _HEX.fullmatch(piece) else -1 for piece in pieces]
    if any(_in_a_row(written, order, _ENOUGH_GROUPS) for order in (groups, groups[::-1])):
        return True
    if str(address).replace(":", "-") in name:
        return True
    together = "".join(pieces)
    half = len(digits) // 2
    return any(
        order[at : at + half] in together
        for order in (digits, digits[::-1])
        for at in range(0, half + 1, 4)
    )


def _in_a_row(written: list[int], address: bytes | list[int], enough: int) -> bool:
    """Tell whether so many parts of an address, one after the other, are among what is written."""
    parts = list(address)
    runs = [parts[at : at + enough] for at in range(len(parts) - enough + 1)]
    return any(written[at : at + enough] in runs for at in range(len(written) - enough + 1))

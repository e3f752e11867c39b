"""A DNS list as the configuration defines it, `[dnsbl.NAME]`, and what it is asked (RFC 5782)."""

import ipaddress
import re
from enum import StrEnum
from typing import Final

import msgspec

from policyd.facts import read

LONGEST_ZONE: Final = 189
"""Octets of a zone's name: 64 for the nibbles of an IPv6 address, 253 for all (RFC 1035)."""

_LONGEST_NAME: Final = 253
_LABELS: Final = re.compile(r"[a-z0-9_-]{1,63}(?:\.[a-z0-9_-]{1,63})*", re.ASCII)
_NEVER_ASKED: Final = tuple(
    map(
        ipaddress.ip_network,
        (
            "0.0.0.0/8",  # this host (RFC 1122 section 3.2.1.3)
            "10.0.0.0/8",  # private, as are 172.16.0.0/12 and 192.168.0.0/16 (RFC 1918)
            "100.64.0.0/10",  # behind a provider's NAT (RFC 6598)
            "127.0.0.0/8",  # loopback
            "169.254.0.0/16",  # link-local (RFC 3927)
            "172.16.0.0/12",
            "192.168.0.0/16",
            "224.0.0.0/3",  # multicast and reserved (RFC 5771, RFC 1112)
            "::/127",  # unspecified and loopback (RFC 4291)
            "fc00::/7",  # unique local (RFC 4193)
            "fe80::/10",  # link-local (RFC 4291)
            "ff00::/8",  # multicast (RFC 4291)
        ),
    )
)


class ZoneKind(StrEnum):
    """What a zone lists, by the name of the fact that it is asked about."""

    CLIENT_ADDRESS = "client_address"
    SENDER_DOMAIN = "sender_domain"
    HELO_NAME = "helo_name"
    CLIENT_NAME = "client_name"


TEST_POINTS: Final = {
    ZoneKind.CLIENT_ADDRESS: ("127.0.0.2", "127.0.0.1"),
    ZoneKind.SENDER_DOMAIN: ("test", "invalid"),
    ZoneKind.HELO_NAME: ("test", "invalid"),
    ZoneKind.CLIENT_NAME: ("test", "invalid"),
}
"""What a zone of each kind must list and must not list (RFC 5782 section 5)."""


class Answers(msgspec.Struct, frozen=True):
    """IPv4 addresses from `first` to `last`, as numbers: what a zone may answer."""

    first: int
    last: int

    def __contains__(self, address: int) -> bool:
        """Tell whether an address is one of them."""
        return self.first <= address <= self.last


class Code(msgspec.Struct, frozen=True):
    """What some answers weigh."""

    answers: Answers
    weight: float


class Zone(msgspec.Struct, frozen=True):
    """
    A DNS list.

    An answer weighs what the first of the `codes` says that has it, or each of its bits that
    `masks` names, or else `weight`; None: it is no listing. `errors` are answers that say that the
    question was not answered. With `text` the reason is asked for, too. `listed` and `unlisted` are
    what it is tested with every `interval` seconds; empty for those of RFC 5782. Of zones that no
    table defines, `in_table` is False.
    """

    name: str
    zone: str
    kind: ZoneKind = ZoneKind.CLIENT_ADDRESS
    weight: float | None = 1.0
    codes: tuple[Code, ...] = ()
    masks: tuple[tuple[int, float], ...] = ()
    errors: tuple[Answers, ...] = ()
    text: bool = True
    listed: str = ""
    unlisted: str = ""
    interval: float = 900.0
    in_table: bool = True

    @property
    def dependency(self) -> str:
        """The name of the zone in the metrics of what policyd depends on."""
        return f"dnsbl {self.name}"


def is_domain(name: str) -> bool:
    """Tell whether a name that facts.read.domain has read can be asked for."""
    return len(name) <= _LONGEST_NAME and _LABELS.fullmatch(name) is not None


def question(zone: Zone, value: str) -> str:
    """
    Give the name to ask a zone for, of a value of its fact; empty where nothing is asked.

    That is so of an address that no client on the Internet has, of a literal or a name without a
    dot where a domain is wanted, and of what cannot be in the DNS.
    """
    if zone.kind is ZoneKind.CLIENT_ADDRESS:
        if not value:
            return ""
        address = ipaddress.ip_address(value)
        return "" if any(address in network for network in _NEVER_ASKED) else _name(address, zone)
    if "." not in value or read.is_address_literal(value):
        return ""
    name = f"{value}.{zone.zone}"
    return name if is_domain(name) else ""


def points(zone: Zone) -> tuple[str, str]:
    """Give the names that a zone must list and must not list (RFC 5782 section 5)."""
    listed, unlisted = TEST_POINTS[zone.kind]
    return _point(zone, zone.listed or listed), _point(zone, zone.unlisted or unlisted)


def _point(zone: Zone, value: str) -> str:
    if zone.kind is ZoneKind.CLIENT_ADDRESS:
        return _name(ipaddress.ip_address(value), zone)
    return f"{value}.{zone.zone}"


def _name(address: ipaddress.IPv4Address | ipaddress.IPv6Address, zone: Zone) -> str:
    """Turn an address around, by octets or by nibbles (RFC 5782 sections 2.1 and 2.4)."""
    reverse = address.reverse_pointer
    return f"{reverse.removesuffix('.in-addr.arpa').removesuffix('.ip6.arpa')}.{zone.zone}"

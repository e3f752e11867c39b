"""
How an entry of a list is written, and the form in which it is kept for comparison.

Mail addresses and domains take the form of facts.read: lower case, domains as A-labels.
"""

import ipaddress
import re
import socket
from functools import lru_cache
from typing import Final

from policyd.facts import read
from policyd.lists.source import Kind

LONGEST_ENTRY: Final = 1000
"""Characters; a path is at most 256 octets (RFC 5321 section 4.5.3.1.3), a pattern may be more."""

# Underscores are no host names (RFC 952) but names in the DNS (RFC 2181 section 11).
_LABELS: Final = re.compile(
    r"[a-z0-9_](?:[a-z0-9_-]{0,61}[a-z0-9_])?(?:\.[a-z0-9_](?:[a-z0-9_-]{0,61}[a-z0-9_])?)*",
    re.ASCII,
)
_LONGEST_DOMAIN: Final = 253  # RFC 1035 section 2.3.4, without the root's length octet and dot
_BLANK_OR_CONTROL: Final = re.compile(r"[\s\x00-\x1f\x7f]")
_QUOTED: Final = re.compile(r'"((?:[^"\\]|\\.)*)"(@.*)?', re.DOTALL)
_POSTFIX_LINE: Final = re.compile(r"/.+/[a-z]*(?:\s.*)?", re.DOTALL)

Network = tuple[int, int, int]
"""IP version, prefix length, and the prefix's bits as a number."""


class EntryError(ValueError):
    """An entry that cannot be read: `what` is wrong and how to `mend` it."""

    def __init__(self, what: str, mend: str) -> None:
        super().__init__(what)
        self.what = what
        self.mend = mend


def strip_comment(line: str, kind: Kind) -> str:
    """
    Give what a line of a file has for us: no comment, no blanks around it; empty if nothing.

    A comment begins with `#` at the start of the line or after a blank; in a file of patterns,
    where that may belong to the expression, only at the start of the line.
    """
    text = line.strip()
    if "#" not in text:
        return text
    if text.startswith("#"):
        return ""
    return text if kind is Kind.PATTERNS else re.split(r"\s#", text, maxsplit=1)[0].rstrip()


def parse_address(text: str) -> str:
    """
    Read `user@domain`, `@domain`, a name without a domain (a login) or `<>`, the null sender.

    The form kept is Postfix's internal one, without quotes; the null sender is empty.
    """
    if text == "<>":
        return ""
    _check_written(text)
    quoted = _QUOTED.fullmatch(text) if text.startswith('"') else None
    if quoted is not None:
        text = re.sub(r"\\(.)", r"\1", quoted[1]) + (quoted[2] or "")
    elif _BLANK_OR_CONTROL.search(text):
        raise EntryError(f"{text!r} has a blank", "write one entry a line, without a value")
    if text.startswith("<") or text.endswith(">"):
        raise EntryError(f"{text!r} has angle brackets", "write the address without them")
    local, at, domain = text.rpartition("@")
    if not at:
        return text.lower()
    if domain.startswith("."):
        raise EntryError(
            f"{text!r} means subdomains, which address entries cannot",
            "put the domain with its leading dot into `domains` and compare sender_domain "
            "or recipient_domain with the list",
        )
    return local.lower() + at + _domain_of_address(domain)


@lru_cache(maxsize=4096)
def _domain_of_address(domain: str) -> str:
    if domain.startswith("[") and domain.endswith("]"):  # RFC 5321 section 4.1.3
        return domain.lower()
    return _checked_domain(domain)


def parse_domain(text: str) -> str:
    """Read a domain, or with a leading dot its subdomains; the dot is kept."""
    _check_written(text)
    if text.startswith("*."):
        raise EntryError(f"{text!r} has a star", f"write {text[1:]!r} for the subdomains")
    if "@" in text:
        raise EntryError(f"{text!r} is no domain", "put mail addresses into `addresses`")
    if _BLANK_OR_CONTROL.search(text):
        raise EntryError(f"{text!r} has a blank", "write one entry a line, without a value")
    return "." + _checked_domain(text[1:]) if text.startswith(".") else _checked_domain(text)


def _checked_domain(text: str) -> str:
    name = read.domain(text)
    if len(name) > _LONGEST_DOMAIN:
        raise EntryError(f"{text[:40]!r}… is too long for a domain", "it has at most 253 octets")
    # A name beyond ASCII that IDNA refuses is compared as it stands, as facts.read does.
    labels_are_right = _LABELS.fullmatch(name) if name.isascii() else all(name.split("."))
    if not labels_are_right:
        raise EntryError(
            f"{text!r} is no domain",
            "write labels of letters, digits, hyphens and underscores, joined by dots",
        )
    return name


def parse_network(text: str) -> Network:
    """Read an IP address or a network; an IPv4-mapped IPv6 one as IPv4."""
    address, slash, length = text.partition("/")
    if address.startswith("[") and address.endswith("]"):  # as in Postfix's mynetworks
        address = address[1:-1]
    version, family = (6, socket.AF_INET6) if ":" in address else (4, socket.AF_INET)
    try:
        value = int.from_bytes(socket.inet_pton(family, address))
    except (OSError, ValueError) as error:
        raise EntryError(
            f"{text!r} is no IP address or network",
            "write it as 192.0.2.7, 192.0.2.0/24 or 2001:db8::/32",
        ) from error
    width = 32 if version == 4 else 128
    bits = _prefix_length(text, length, width) if slash else width
    shift = width - bits
    if value & ((1 << shift) - 1):
        network_type = ipaddress.IPv4Network if version == 4 else ipaddress.IPv6Network
        network = network_type((value >> shift << shift, bits))
        raise EntryError(
            f"{text!r} has bits set beyond its prefix length",
            f"write {network} for the network or {address} for the one address",
        )
    if version == 6 and value >> 32 == 0xFFFF and bits >= 96:
        return 4, bits - 96, (value & 0xFFFF_FFFF) >> shift
    return version, bits, value >> shift


def _prefix_length(text: str, length: str, width: int) -> int:
    if length.isascii() and length.isdecimal() and len(length) <= 3 and int(length) <= width:
        return int(length)
    raise EntryError(
        f"{text!r} has no right prefix length", f"after the slash write a number from 0 to {width}"
    )


def looks_like_postfix_line(pattern: str) -> bool:
    """Tell whether a pattern is written as in regexp_table(5): between slashes, with a result."""
    return _POSTFIX_LINE.fullmatch(pattern) is not None


def _check_written(text: str) -> None:
    if not text:
        raise EntryError("an entry is empty", "leave it out")
    if len(text) > LONGEST_ENTRY:
        raise EntryError(f"{text[:40]!r}… is {len(text)} characters long", "write one entry a line")

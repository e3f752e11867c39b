"""
How attributes are read as facts: each type's canonical form, in which values are compared.

Every function takes whatever an attribute holds and never raises: what cannot be read is absent.
Mail addresses and domains are compared without case, domains as A-labels (RFC 5891).
"""

import ipaddress
import re
from functools import lru_cache
from typing import Final

import idna

_DIGITS: Final = 18  # more than any count or size Postfix can send; int() of a long text is slow
_LITERAL: Final = re.compile(r"\[.*\]|[0-9.]+|[0-9a-f]*:[0-9a-f:.]*", re.IGNORECASE)

_OCTET: Final = r"(?:25[0-5]|2[0-4][0-9]|1[0-9][0-9]|[1-9]?[0-9])"
_IPV4: Final = re.compile(rf"{_OCTET}(?:\.{_OCTET}){{3}}", re.ASCII)


def text(value: object) -> str:
    """Read a text; empty if absent."""
    return value if isinstance(value, str) else ""


def number(value: object) -> int:
    """Read a count or a size; 0 if absent or no number (SMTPD_POLICY_README)."""
    if isinstance(value, int):
        return value
    if isinstance(value, str) and value.isascii() and value.isdecimal() and len(value) <= _DIGITS:
        return int(value)
    return 0


def domain(value: object) -> str:
    """Read a domain: lower case, A-labels, no final dot."""
    name = text(value)
    name = name.removesuffix(".")
    return name.lower() if name.isascii() else _a_label(name)


@lru_cache(maxsize=4096)
def _a_label(name: str) -> str:
    try:
        return idna.encode(name, uts46=True).decode("ascii").lower()
    except (idna.IDNAError, UnicodeError):
        return name.lower()


def mail(value: object) -> str:
    """Read a mail address in Postfix's internal form: no case, the domain as domain() does."""
    address = text(value)
    if address.isascii() and not address.endswith("."):
        return address.lower()
    local, at, name = address.rpartition("@")
    return local.lower() + at + domain(name) if at else address.lower()


def local_part(address: str) -> str:
    """Give what stands before the last `@` of an address that mail() has read."""
    local, at, rest = address.rpartition("@")
    return local if at else rest


def domain_part(address: str) -> str:
    """Give what stands after the last `@` of an address that mail() has read; else empty."""
    return address.rpartition("@")[2] if "@" in address else ""


def ip(value: object) -> str:
    """Read an IP address in canonical form, IPv4-mapped IPv6 as IPv4; empty if it is none."""
    if not isinstance(value, str):
        return ""
    if _IPV4.fullmatch(value) is not None:
        return value
    return _ipv6(value) if ":" in value else ""


@lru_cache(maxsize=16384)
def _ipv6(value: str) -> str:
    try:
        address = ipaddress.IPv6Address(value)
    except ValueError:
        return ""
    mapped = address.ipv4_mapped
    return str(address if mapped is None else mapped)


def is_address_literal(helo_name: str) -> bool:
    """Tell whether HELO gave an address, in brackets (RFC 5321 section 4.1.3) or bare."""
    return _LITERAL.fullmatch(helo_name) is not None and any(map(str.isdigit, helo_name))


def mails(value: object) -> tuple[str, ...]:
    """Read several mail addresses."""
    return tuple(map(mail, value)) if isinstance(value, tuple) else ()


def texts(value: object) -> tuple[str, ...]:
    """Read several texts; a pair, such as a header, as `name: value`."""
    if not isinstance(value, tuple):
        return ()
    return tuple(item if isinstance(item, str) else ": ".join(item) for item in value)


def header(value: object, name: str) -> str:
    """Give the values of all headers of that name (without case), joined by newlines."""
    if not isinstance(value, tuple):
        return ""
    wanted = name.lower()
    return "\n".join(item[1] for item in value if item[0].lower() == wanted)


def header_count(value: object, name: str) -> int:
    """Count the headers of that name (without case)."""
    if not isinstance(value, tuple):
        return 0
    wanted = name.lower()
    return sum(item[0].lower() == wanted for item in value)

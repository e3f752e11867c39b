"""
Values of the configuration that are texts of a certain form, read and checked.

Each reader takes what stands in the file and gives the value, or raises WrongValueError with what
would do.
"""

import re
from dataclasses import dataclass
from ipaddress import IPv4Network, IPv6Network, ip_address, ip_network
from typing import Final, Self

from pydantic_core import PydanticCustomError

from policyd.checks.rate import Amount, Rate, RateError, parse_amount, parse_rate
from policyd.config.problem import choose_from
from policyd.facts.units import parse_duration
from policyd.lists.entries import EntryError, parse_network
from policyd.store.place import FORMS, Kind, PlaceError, read_place

_UNIX_PATH: Final = 107  # octets of sun_path, without its NUL (unix(7))
_INET: Final = re.compile(r"(?:\[([0-9A-Fa-f:.]+)\]|([^\[\]:/@\s]+)):([0-9]{1,5})", re.ASCII)
_MILTER_INET: Final = re.compile(r"inet6?:([0-9]+)@(.+)", re.ASCII)
_SPLIT_SECONDS: Final = re.compile(r"([0-9]{1,9}(?:\.[0-9]{1,3})?)s", re.ASCII)
_TEN_YEARS: Final = "520w"
_DOMAIN: Final = re.compile(
    r"(?=.{1,253}\Z)[a-z0-9](?:[a-z0-9_-]{0,62})(?:\.[a-z0-9_-]{1,63})*", re.ASCII | re.IGNORECASE
)
_GROUP: Final = re.compile(r"[a-z_0-9][a-z0-9_.-]*", re.ASCII | re.IGNORECASE)
_ENDPOINT_MEND: Final = (
    'write it as Postfix does: "inet:127.0.0.1:10040", "inet:[::1]:10040" or "unix:/path"'
)
_MAPPED: Final = bytes(10) + b"\xff\xff"  # ::ffff:0:0/96 (RFC 4291 section 2.5.5.2)
_LONGEST_PREFIX: Final = 64
_KEY_PREFIX: Final = re.compile(rf"[!-z|~]{{1,{_LONGEST_PREFIX}}}", re.ASCII)  # all but { and }


class WrongValueError(PydanticCustomError):
    """A value that is not as it must be: `what` and `mend` of the problem."""

    def __new__(cls, what: str, mend: str) -> Self:
        """Make it; an exception of pydantic's core takes its arguments here."""
        return super().__new__(cls, "wrong_value", "{what}", {"what": what, "mend": mend})


def describe(value: object) -> str:
    """Name a value of TOML in a message."""
    match value:
        case bool():
            return "true" if value else "false"
        case str():
            return f'"{value}"' if len(value) <= 40 else f'"{value[:40]}…"'
        case int() | float():
            return f"the number {value}" if -(10**18) < value < 10**18 else "a very large number"
        case list() | tuple():
            return "a list"
        case dict():
            return "a table"
    return "a date or time"


def read_text(value: object, example: str) -> str:
    """Take a string that is not empty."""
    if not isinstance(value, str):
        raise WrongValueError(f"{describe(value)} is no string", f"write it as {example}")
    if not value.strip():
        raise WrongValueError("it is empty", f"write it as {example}")
    return value


def read_duration(value: object) -> float:
    """Read a duration in seconds, more than 0."""
    seconds = _seconds(value)
    if not seconds:
        raise WrongValueError("it is no time at all", 'write a longer one, such as "8s"')
    return seconds


def read_bounded_duration(value: object, *, longest: str) -> float:
    """Read a duration in seconds, from 0 to the longest, which is written as a duration too."""
    seconds = _seconds(value)
    if seconds > parse_duration(longest):
        raise WrongValueError(f"{describe(value)} is too long", f'write at most "{longest}"')
    return seconds


def read_long_duration(value: object) -> float:
    """Read a duration in seconds, more than 0 and at most ten years."""
    read_bounded_duration(value, longest=_TEN_YEARS)
    return read_duration(value)


def _seconds(value: object) -> float:
    text = read_text(value, '"8s"')
    try:
        return parse_duration(text)
    except ValueError as error:
        what = str(error).partition("; ")[0]
        raise WrongValueError(what, 'write it as "8s", "5m", "1h30m" or "2d"') from error


def read_rate(value: object) -> Rate:
    """Read the rate of a limit."""
    try:
        return parse_rate(read_text(value, '"500 recipients per 1h"'))
    except RateError as error:
        raise WrongValueError(error.what, error.mend) from error


def read_amount(value: object) -> Amount:
    """Read what a limit admits at once: a number, or a text with a unit."""
    digits = str(value) if isinstance(value, int) and not isinstance(value, bool) else value
    try:
        return parse_amount(read_text(digits, '50 or "10 MiB"'))
    except RateError as error:
        raise WrongValueError(error.what, error.mend) from error


def read_split_seconds(value: object, *, least: float, most: float) -> float:
    """Read a short time in seconds, which may be less than one or have a fraction: `0.5s`."""
    mend = f'write a time from "{least:g}s" to "{most:g}s", such as "1s" or "0.5s"'
    text = read_text(value, '"0.5s"')
    found = _SPLIT_SECONDS.fullmatch(text)
    if found is None:
        raise WrongValueError(f"{describe(value)} is no time in seconds", mend)
    seconds = float(found[1])
    if not least <= seconds <= most:
        how = "short" if seconds < least else "long"
        raise WrongValueError(f"{describe(value)} is too {how}", mend)
    return seconds


def read_network(value: object) -> IPv4Network | IPv6Network:
    """Read an IP address or a network, as lists do; an IPv4-mapped IPv6 one as IPv4."""
    text = read_text(value, '"192.0.2.0/24"')
    try:
        parse_network(text)
    except EntryError as error:
        raise WrongValueError(error.what, error.mend) from error
    network = ip_network(text.replace("[", "").replace("]", ""))
    mapped = network.network_address.packed[:12] == _MAPPED and network.prefixlen >= 96
    if isinstance(network, IPv6Network) and mapped:
        return IPv4Network((network.network_address.packed[12:], network.prefixlen - 96))
    return network


@dataclass(frozen=True, slots=True)
class Prefixes:
    """How many bits of an address name its network."""

    ipv4: int = 24
    ipv6: int = 64


_PREFIX_BOUNDS: Final = {"ipv4": (8, 32), "ipv6": (16, 128)}


def read_prefixes(value: object) -> Prefixes:
    """Read `{ ipv4 = 24, ipv6 = 64 }`; one that is left out is as there."""
    if not isinstance(value, dict):
        raise WrongValueError(
            f"{describe(value)} is no table of lengths", "write it as { ipv4 = 24, ipv6 = 64 }"
        )
    for family, length in value.items():
        if family not in _PREFIX_BOUNDS:
            mend = choose_from(family, tuple(_PREFIX_BOUNDS))
            raise WrongValueError(f'there are no networks of "{family}"', mend)
        least, most = _PREFIX_BOUNDS[family]
        if not isinstance(length, int) or isinstance(length, bool) or not least <= length <= most:
            raise WrongValueError(
                f"{describe(length)} is no length for {family}",
                f"write a number from {least} to {most}, such as {getattr(Prefixes(), family)}",
            )
    return Prefixes(**value)


def read_endpoint(value: object) -> str:
    """Check where to listen, in Postfix's notation."""
    text = read_text(value, '"inet:127.0.0.1:10040" or "unix:/path"')
    if text.startswith("inet:"):
        turned = _MILTER_INET.fullmatch(text)
        if turned is not None:
            mend = f'write it as Postfix does: "inet:{turned[2]}:{turned[1]}"'
            raise WrongValueError(f'"{text}" is written as for a milter', mend)
        return f"inet:{read_address(text.removeprefix('inet:'), _ENDPOINT_MEND)}"
    if text.startswith("unix:"):
        return f"unix:{_socket_path(text.removeprefix('unix:'))}"
    raise WrongValueError(f'"{text}" is no endpoint', _ENDPOINT_MEND)


def _socket_path(path: str) -> str:
    if not path.startswith("/") or path.endswith("/") or "\0" in path:
        raise WrongValueError(f'"{path}" is no absolute path', 'write "unix:/path/of/the/socket"')
    length = len(path.encode())
    if length > _UNIX_PATH:
        what = f"the path of the socket has {length} octets"
        raise WrongValueError(what, f"a unix socket's has at most {_UNIX_PATH}; shorten it")
    return path


def read_address(value: object, mend: str = 'write it as "127.0.0.1:9741" or "[::1]:9741"') -> str:
    """Check `host:port`; an IPv6 host stands in brackets."""
    text = read_text(value, '"127.0.0.1:9741"')
    found = _INET.fullmatch(text)
    if found is None:
        if text.count(":") > 1:
            mend = 'put an IPv6 address in brackets, as in "[::1]:10040"'
        raise WrongValueError(f'"{text}" is no host and port', mend)
    if found[2] == "*":
        mend = f'write "0.0.0.0:{found[3]}" for IPv4 or "[::]:{found[3]}" for both'
        raise WrongValueError(f'"{text}" has a star for a host', mend)
    if not 0 < int(found[3]) < 65536:
        raise WrongValueError(f"{found[3]} is no port", "choose one from 1 to 65535")
    return text


def read_name_server(value: object) -> str:
    """Read the address of a name server, with a port or without; gives it with its port."""
    text = read_text(value, '"192.0.2.53"')
    mend = 'write it as "192.0.2.53", "192.0.2.53:5353", "2001:db8::53" or "[2001:db8::53]:5353"'
    found = _INET.fullmatch(text)
    host, port = (found[1] or found[2], int(found[3])) if found else (_unbracketed(text), 53)
    try:
        address = ip_address(host)
    except ValueError:
        raise WrongValueError(f'"{text}" is no address of a name server', mend) from None
    if not 0 < port < 65536:
        raise WrongValueError(f"{port} is no port", "choose one from 1 to 65535")
    return f"[{address}]:{port}" if address.version == 6 else f"{address}:{port}"


def _unbracketed(host: str) -> str:
    return host[1:-1] if host.startswith("[") and host.endswith("]") else host


def read_mode(value: object) -> int:
    """
    Read the mode of a socket: octal digits as text, as chmod(1) takes it, or TOML's 0o660.

    A decimal 660, which is not what it looks like, is more than any mode and refused.
    """
    if isinstance(value, int) and not isinstance(value, bool) and 0 <= value <= 0o777:
        return value
    if isinstance(value, str) and re.fullmatch(r"0?[0-7]{3}", value, re.ASCII):
        return int(value, 8)
    what = f"{describe(value)} is no mode of a socket"
    raise WrongValueError(what, 'write it as chmod takes it, in quotes: "0660"')


def read_group(value: object) -> str:
    """Check the form of a group's name; whether it exists is seen when policyd listens."""
    text = read_text(value, '"postfix"')
    if _GROUP.fullmatch(text) is None:
        raise WrongValueError(f'"{text}" is no name of a group', 'write it as "postfix"')
    return text


def read_authserv_id(value: object) -> str:
    """Check the name that results are written under: a domain (RFC 8601 section 2.5)."""
    text = read_text(value, '"mx.example.org"')
    if _DOMAIN.fullmatch(text) is None:
        raise WrongValueError(f'"{text}" is no domain', 'write it as "mx.example.org"')
    return text


def read_state_url(value: object) -> str:
    """Check the form of a state URL; it may hold a password, so no message shows it."""
    text = read_text(value, f'"{FORMS[Kind.SQLITE]}"')
    try:
        read_place(text)
    except PlaceError as error:
        raise WrongValueError(error.what, error.mend) from error
    return text


def read_key_prefix(value: object) -> str:
    """Check what begins the keys of a shared server; braces would choose the node of a cluster."""
    text = read_text(value, '"policyd:"')
    if _KEY_PREFIX.fullmatch(text) is None:
        what = f"{describe(text)} cannot begin the keys in Redis"
        mend = f"write up to {_LONGEST_PREFIX} printable ASCII characters, no braces and no blanks"
        raise WrongValueError(what, mend)
    return text

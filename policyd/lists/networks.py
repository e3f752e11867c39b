"""
A set of networks, looked up by address.

A network is its version and the bits of its prefix, an octet for each bit, and so is an address:
a network holds the address that begins with it. Only that is asked, never the longest match. A few
networks are compared in turn; in a trie of many, one walk along the address meets all that hold
it, whatever their lengths.
"""

import socket
from collections.abc import Collection
from typing import Final

from policyd.lists.entries import Network
from policyd.lists.keys import Trie

_FEW: Final = 8
"""Networks up to which comparing takes no longer than a trie, which is never below 4 KiB."""

_BITS: Final = tuple(format(octet, "08b").encode() for octet in range(256))
_FIRST: Final = tuple(b"4" + bits for bits in _BITS)


class Networks:
    """IPv4 and IPv6 networks."""

    __slots__ = ("_few", "_many")

    def __init__(self, networks: Collection[Network] = ()) -> None:
        """Take networks as entries.parse_network() gives them; some may be the same."""
        self._few: tuple[bytes, ...] = ()
        self._many: Trie | None = None
        if len(networks) > _FEW:
            self._many = Trie.of(map(_bits_of, networks))
        else:
            self._few = tuple({_bits_of(network) for network in networks})

    def holds(self, address: str) -> bool:
        """Tell whether a network holds an address, given as facts.read.ip writes it."""
        return self.holds_number(number_of(address))

    def holds_number(self, number: bytes) -> bool:
        """Tell the same of an address in number_of()'s form."""
        return self._many.begins(number) if self._many is not None else number.startswith(self._few)

    def __len__(self) -> int:
        return len(self._few) if self._many is None else len(self._many)


def number_of(address: str) -> bytes:
    """Give the form in which an address is looked up: nothing, which no network holds, of none."""
    try:
        if ":" in address:
            value = int.from_bytes(socket.inet_pton(socket.AF_INET6, address))
            return bin(1 << 128 | value).encode()
        one, two, three, four = socket.inet_pton(socket.AF_INET, address)
    except (OSError, ValueError):
        return b""
    return _FIRST[one] + _BITS[two] + _BITS[three] + _BITS[four]


def _bits_of(network: Network) -> bytes:
    """
    Write a prefix: `4` and its bits, or for IPv6 `0b1` and its bits.

    The latter is how bin() writes a number of one bit more, in half the time of any other way.
    """
    version, length, prefix = network
    bits = bin(1 << length | prefix)
    return bits.encode() if version == 6 else b"4" + bits[3:].encode()

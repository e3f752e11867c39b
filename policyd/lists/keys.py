"""
The texts of a list, for looking up: a few in a frozenset, many in a trie.

A frozenset is the quicker, a trie (libmarisa's) takes a quarter of its memory in one stretch, which
processes can share (see lists.parcel).
"""

from collections.abc import Collection, Iterable
from mmap import MAP_PRIVATE, PROT_READ, mmap
from typing import Final, Self

from marisa_trie import BinaryTrie

FEW: Final = 10_000
"""Texts that each process keeps for itself: made and freed within a millisecond or two."""

_LEVELS: Final = 1  # libmarisa's default, 3, takes a third of the memory and twice the time


class Trie:
    """
    Many texts or octet strings, of which nothing is changed any more.

    Texts are kept as UTF-8. A lone surrogate, which a fact can hold and UTF-8 cannot, is written as
    if it could: so no look-up fails, and no two texts are one.
    """

    __slots__ = ("_memory", "_trie")

    def __init__(self, trie: BinaryTrie, memory: mmap | None = None) -> None:
        """Take a trie, and what it lies in if that is not its own memory, to keep that mapped."""
        self._trie = trie
        self._memory = memory

    @classmethod
    def of(cls, keys: Iterable[bytes]) -> Self:
        """Build one: a million keys take about a second."""
        return cls(BinaryTrie(keys, num_tries=_LEVELS))

    @classmethod
    def mapped(cls, descriptor: int) -> Self:
        """
        Map the octets() that a file holds; the descriptor can then be closed.

        The mapping is private although nothing writes to it: Linux before 6.7 refuses a shared one
        of a file that is sealed against writing and open for it.
        """
        memory = mmap(descriptor, 0, flags=MAP_PRIVATE, prot=PROT_READ)
        return cls(BinaryTrie().map(memory), memory)

    def octets(self) -> bytes:
        """Give it as libmarisa writes it to a file."""
        return self._trie.tobytes()

    def __reduce__(self) -> tuple[type[Self], tuple[BinaryTrie]]:
        """Travel by value: the receiver has its own memory."""
        return type(self), (self._trie,)

    def __contains__(self, key: str) -> bool:
        return key.encode("utf-8", "surrogatepass") in self._trie

    def isdisjoint(self, keys: Iterable[str]) -> bool:
        """Tell whether it has none of the texts, as a set does."""
        trie = self._trie
        for key in keys:  # noqa: SIM110 -- all() takes twice the time
            if key.encode("utf-8", "surrogatepass") in trie:
                return False
        return True

    def begins(self, octets: bytes) -> bool:
        """Tell whether it has what the octet string begins with, or all of that."""
        return bool(self._trie.prefixes(octets))

    def __len__(self) -> int:
        return len(self._trie)


Keys = frozenset[str] | Trie
"""Texts: `in`, isdisjoint() and len() are the same in both."""


def keys_of(texts: Collection[str]) -> Keys:
    """Give texts, of which some may be the same, for looking up."""
    if len(texts) <= FEW:
        return frozenset(texts)
    return Trie.of(text.encode("utf-8", "surrogatepass") for text in texts)

"""
A set of a million keys that can be filled and let go in small steps.

A dict is copied whole when it grows and freed whole when it is dropped, and nobody else runs
meanwhile: 25 and 45 ms for a million keys, during which no mail would be answered. Divided over
many small dicts each step stays below 3 ms. They are dicts and not sets because the garbage
collector does not visit a dict that holds only strings or numbers.
"""

from collections.abc import Hashable, Iterable
from typing import Final, Generic, TypeVar

FEW: Final = 10_000
"""Keys that can be freed at once: a millisecond."""

_COUNT: Final = 61  # prime: `hash % 61` leaves the low bits, by which a dict finds a slot, mixed

Key = TypeVar("Key", bound=Hashable)


class Buckets(Generic[Key]):
    """A set of keys that only grows."""

    __slots__ = ("parts",)

    def __init__(self) -> None:
        self.parts: tuple[dict[Key, None], ...] = tuple({} for _ in range(_COUNT))

    def add(self, key: Key) -> None:
        """Put a key in."""
        self.parts[hash(key) % _COUNT][key] = None

    def __contains__(self, key: Key) -> bool:
        return key in self.parts[hash(key) % _COUNT]

    def isdisjoint(self, keys: Iterable[Key]) -> bool:
        """Tell whether it has none of the keys."""
        return not any(key in self for key in keys)

    def __len__(self) -> int:
        return sum(map(len, self.parts))

    def settled(self) -> "Keys[Key]":
        """Give the same keys for looking up: a few in one set, which answers in C."""
        if len(self) > FEW:
            return self
        return frozenset(key for part in self.parts for key in part)


Keys = Buckets[Key] | frozenset[Key]


def pieces_of(keys: Keys[Key]) -> list[object]:
    """Give what keys are made of, each piece small enough to be freed at once."""
    return list(keys.parts) if isinstance(keys, Buckets) else [keys]

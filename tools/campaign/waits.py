"""How long clients waited, summed up."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Self


@dataclass(frozen=True)
class Waits:
    """Waits in milliseconds: how many, percentiles, the longest."""

    count: int = 0
    p50: float = 0.0
    p99: float = 0.0
    p999: float = 0.0
    longest: float = 0.0

    @classmethod
    def of(cls, seconds: Sequence[float]) -> Self:
        """Sum up waits in seconds; none at all are zeros."""
        if not seconds:
            return cls()
        ordered = sorted(seconds)

        def at(share: float) -> float:
            return round(ordered[min(int(share * len(ordered)), len(ordered) - 1)] * 1000, 3)

        return cls(len(ordered), at(0.5), at(0.99), at(0.999), at(1.0))


@dataclass(frozen=True)
class Slow:
    """One of the longest waits: who waited, when (CLOCK_MONOTONIC, seconds) and how long (ms).

    `lag` is the most (ms) that the client's own timer was late meanwhile: that much of the wait,
    or more, is the client's or the machine's.
    """

    frontend: str
    at: float
    wait: float
    lag: float

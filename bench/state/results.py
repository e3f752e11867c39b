"""What the benchmark of state found, to be kept as JSON and told in tables."""

import msgspec

from bench.report import Row
from bench.state.asking import Summary


class Circumstances(msgspec.Struct, frozen=True):
    """When a part was measured, and the load of the machine over the minute before it began."""

    date: str
    load_average: float
    rounds: int
    seconds: float
    """Of each run."""


class Cell(msgspec.Struct, frozen=True):
    """One load on a store with many triplets and on one with few."""

    kind: str
    tasks: int
    few: Summary
    many: Summary

    @property
    def ratio(self) -> float:
        """How much is asked of the full store for each request of the empty one."""
        return self.many.rate / self.few.rate


class Stores(msgspec.Struct, frozen=True):
    """
    A full and an empty store compared. `octets` is of all triplets: on disk, or a server's memory.

    `text` is how long a triplet's texts are on average, `resident` of the process that asks.
    """

    measured: Circumstances
    cells: list[Cell]
    triplets: int
    octets: int
    text: float
    resident_few: int
    resident_many: int

    @property
    def each(self) -> float:
        """Octets of a triplet."""
        return self.octets / self.triplets


class Latencies(msgspec.Struct, frozen=True):
    """All decisions of one kind of window; latencies in milliseconds."""

    windows: int
    asked: int
    p50: float
    p99: float
    p999: float
    max: float


class Expiry(msgspec.Struct, frozen=True):
    """Decisions while triplets are dropped, and twice while none are: the second shows noise."""

    measured: Circumstances
    triplets: int
    dropped: int
    dropping: float
    """Seconds of the windows in which they were dropped."""
    tasks: int
    pause: float
    with_expiry: Latencies
    without: Latencies
    control: Latencies


class Peers(msgspec.Struct, frozen=True):
    """Servers that greylist, side by side."""

    measured: Circumstances
    rows: list[Row]
    left_out: list[str]
    versions: dict[str, str]


class Results(msgspec.Struct, frozen=True):
    """All parts that have been measured."""

    machine: str
    software: dict[str, str]
    sqlite: Stores | None = None
    redis: Stores | None = None
    expiry: Expiry | None = None
    peers: Peers | None = None

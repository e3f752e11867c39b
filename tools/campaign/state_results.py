"""What the campaigns `faults` and `exactness` found, and their bars. Pure."""

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Final

from tools.campaign.bars import Bar, none

LONGEST: Final = 2.0
"""Seconds within which every request is answered, whatever befalls the store."""
BACK: Final = 5.0
"""Seconds after the store's return within which service is normal."""

# faults ------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Suffered:
    """
    What clients saw while something befell the store, so many times; waits are in ms.

    `otherwise` is what neither the store nor on_error answers. `counted` are the fallbacks by
    policyd_dependency_fallbacks_total, `noticed` and `back` are in seconds: from the fault until
    policyd_dependency_up was 0 (-1 if it never was), and from the store's return until the last
    answer by on_error. `missed` and `still_down` are how often that metric did not show the fault,
    or was not 1 in the end. `logged` are the lines check.failed of one rule at most, in `seconds`.
    """

    store: str
    fault: str
    times: int
    asked: int
    lost: int
    otherwise: int
    fallbacks: int
    counted: int
    examples: tuple[str, ...]
    longest: float
    lag: float
    """How late the clients' own timer was during the longest wait."""
    noticed: float
    missed: int
    back: float
    still_down: int
    logged: int
    seconds: float

    @property
    def name(self) -> str:
        """The store and what befell it."""
        return f"{self.store} {self.fault}"

    def joined(self, other: "Suffered") -> "Suffered":
        """Sum up with another time of the same."""
        worse = other if other.longest > self.longest else self
        return Suffered(
            self.store,
            self.fault,
            self.times + other.times,
            self.asked + other.asked,
            self.lost + other.lost,
            self.otherwise + other.otherwise,
            self.fallbacks + other.fallbacks,
            self.counted + other.counted,
            self.examples + other.examples,
            worse.longest,
            worse.lag,
            max(self.noticed, other.noticed),
            self.missed + other.missed,
            max(self.back, other.back),
            self.still_down + other.still_down,
            max(self.logged, other.logged),
            max(self.seconds, other.seconds),
        )

    def bars(self, workers: int) -> Iterator[Bar]:
        """Hold it against the bars."""
        yield none(f"{self.name}: requests unanswered", self.lost)
        figure = "; ".join((f"{self.otherwise}", *self.examples))
        yield Bar(f"{self.name}: answered otherwise", self.otherwise == 0, figure)
        agree = self.counted == self.fallbacks
        figure = f"{self.counted} counted, {self.fallbacks} seen"
        yield Bar(f"{self.name}: fallbacks", agree, figure)
        lines = workers * (int(self.seconds / 60) + 1)
        yield Bar(f"{self.name}: lines of a rule", self.logged <= lines, f"{self.logged}")
        held = self.longest <= LONGEST * 1000
        yield Bar(f"{self.name}: longest wait", held, f"{self.longest:,.0f} ms", timed=True)
        held = self.back <= BACK and not self.still_down
        yield Bar(f"{self.name}: normal again", held, f"{self.back:.2f} s", timed=True)
        shown = f"{self.missed} of {self.times} times not"
        yield Bar(f"{self.name}: shown", self.missed == 0, shown, timed=True)


@dataclass(frozen=True)
class Faults:
    """Everything that befell the stores under a steady load, of `rate` requests a second."""

    connections: int
    rate: int
    workers: int
    suffered: tuple[Suffered, ...]

    def bars(self) -> Iterator[Bar]:
        """Hold it against the bars."""
        for one in self.suffered:
            yield from one.bars(self.workers)


# exactness ---------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Exact:
    """
    What many connections were answered about one thing, with `killed` workers in the midst of it.

    `may` is how many are to be admitted, `otherwise` the answers that neither admit nor object,
    `changed` those that were another when asked again, `kept` what the store says was charged (-1
    where nothing is), and `rate` the answers a second.
    """

    store: str
    what: str
    killed: int
    lost: int
    """Connections that were lost with their worker: what was on them was asked again."""
    asked: int
    may: int
    admitted: int
    otherwise: int
    changed: int
    kept: int
    rate: int

    def bars(self) -> Iterator[Bar]:
        """Hold it against the bars."""
        name = f"{self.store}, {self.what}, {self.killed} killed"
        exact = f"{self.admitted} of {self.may}"
        yield Bar(f"{name}: admitted", self.admitted == self.may, exact)
        yield none(f"{name}: answered otherwise", self.otherwise)
        yield none(f"{name}: other answers afterwards", self.changed)
        if self.kept >= 0:
            yield Bar(f"{name}: charged", self.kept == self.may, f"{self.kept} of {self.may}")


@dataclass(frozen=True)
class Exactness:
    """One limit and one triplet of each store, asked about by all connections at once."""

    workers: int
    connections: int
    found: tuple[Exact, ...]

    def bars(self) -> Iterator[Bar]:
        """Hold it against the bars."""
        for one in self.found:
            yield from one.bars()

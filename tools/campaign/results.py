"""What each campaign found: its figures, and the bars that they are held against. Pure."""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Final

from tools.campaign.bars import Bar, none
from tools.campaign.state_results import Exactness, Faults
from tools.campaign.tally import Loaded
from tools.campaign.waits import Waits

LONGER: Final = 50.0
"""Milliseconds that the longest wait under reloads may exceed the undisturbed one by."""
LEAST_SHARE: Final = 0.40
"""Of all connections, for the worker of two with the fewest; of more, in proportion."""
GROWTH: Final = 1.05
"""The most that a size may be of what it was at first, to be called flat."""

# reload ------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class SlowDuring:
    """A long wait under reloads: milliseconds, and where it stood in the reload's course."""

    frontend: str
    wait: float
    lag: float
    after_reload_began: float


@dataclass(frozen=True)
class Reload:
    """Reloads one after another under load, beside an undisturbed run of the same length."""

    rules: int
    connections: int
    sessions: int
    reloads: int
    by_command: int
    """Of these by `policyd reload`, the others by SIGHUP."""
    seconds: Waits
    """Of a reload, from the signal or command until it was confirmed (the unit is ms)."""
    undisturbed: Loaded
    disturbed: Loaded
    slowest: tuple[SlowDuring, ...]

    @property
    def longer(self) -> float:
        """How much longer the longest wait was than undisturbed, in milliseconds."""
        return _longest(self.disturbed) - _longest(self.undisturbed)

    def bars(self) -> Iterator[Bar]:
        """Hold it against the bars."""
        fronts = (self.disturbed.policy, self.disturbed.milter)
        yield none("answers lost", sum(front.lost for front in fronts))
        yield none("connections closed", sum(front.closed for front in fronts))
        yield none("answers of no policy in force", sum(front.wrong for front in fronts))
        yield none("milter sessions of two policies", sum(front.mixed for front in fronts))
        held = self.longer <= LONGER
        yield Bar("longest wait beyond the undisturbed", held, f"{self.longer:.1f} ms", timed=True)


def _longest(loaded: Loaded) -> float:
    return max(loaded.policy.waits.longest, loaded.milter.waits.longest)


# kills -------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Counted:
    """One series of policyd_replies_total beside the answers that clients received.

    policyd counts before it writes. So what was received was counted, and what was counted and
    not received is at most what was asked and not answered when a worker died.
    """

    frontend: str
    codes: str
    received: int
    uncertain: int
    counted: int

    @property
    def agrees(self) -> bool:
        """Whether both tell the same."""
        return self.received <= self.counted <= self.received + self.uncertain


@dataclass(frozen=True)
class Kills:
    """Workers killed and frozen while mails pass through Postfix and other clients ask."""

    kills: int
    freezes: int
    replaced_after_kill: Waits
    replaced_after_freeze: Waits
    clients: int
    outcomes: Mapping[str, Mapping[str, int]]
    """Mails by what the policy answers, and by what the client got at last."""
    again: int
    """Mails whose milter session was in the worker that ended: 451 4.7.1, then tried again."""
    again_without_cause: int
    """Of these, those in whose SMTP session no worker ended."""
    wrong: int
    examples: tuple[str, ...]
    mail_waits: Waits
    loaded: Loaded
    counted: tuple[Counted, ...]

    def bars(self) -> Iterator[Bar]:
        """Hold it against the bars."""
        yield none("mails answered otherwise than by the policy", self.wrong)
        yield none("mails to be tried again with no worker ended", self.again_without_cause)
        fronts = (self.loaded.policy, self.loaded.milter)
        yield none("answers of no policy in force", sum(front.wrong for front in fronts))
        yield none("series that disagree", sum(not series.agrees for series in self.counted))


# flat --------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Level:
    """One figure over a long run: medians of the first and the last samples, and the most."""

    what: str
    unit: str
    first: float
    last: float
    most: float
    timed: bool = False

    @property
    def flat(self) -> bool:
        """Whether it has not grown."""
        return self.last <= self.first * GROWTH


@dataclass(frozen=True)
class Flat:
    """Reloads and restarts, many, with little load: what is left behind."""

    reloads: int
    restarts: int
    sampled: int
    """Samples in each of the two medians."""
    levels: tuple[Level, ...]

    def bars(self) -> Iterator[Bar]:
        """Hold it against the bars."""
        for level in self.levels:
            figure = f"{level.first:g} → {level.last:g} {level.unit}".rstrip()
            yield Bar(f"flat: {level.what}", level.flat, figure, timed=level.timed)


# spread ------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Spread:
    """How many connections each worker held at one moment."""

    workers: int
    when: str
    held: tuple[int, ...]
    told: tuple[int, ...]
    """The same by policyd_worker_connections."""

    @property
    def even(self) -> bool:
        """Whether no worker has much less than its share: at most 40/60 for two."""
        return min(self.held) >= LEAST_SHARE * 2 * sum(self.held) / self.workers


@dataclass(frozen=True)
class Throughput:
    """Policy requests a second by the number of workers, in interleaved runs."""

    workers: int
    rate: float
    least: float
    most: float
    p99: float


@dataclass(frozen=True)
class Shares:
    """The spread of connections, and what two workers do beside one."""

    spreads: tuple[Spread, ...]
    throughput: tuple[Throughput, ...]

    def bars(self) -> Iterator[Bar]:
        """Hold it against the bars."""
        for spread in self.spreads:
            figure = "/".join(map(str, spread.held))
            yield Bar(f"{spread.workers} workers, {spread.when}", spread.even, figure)
            if spread.told != spread.held:
                told = "/".join(map(str, spread.told))
                yield Bar("policyd_worker_connections says so too", held=False, figure=told)


# stop --------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Stop:
    """Stops with milter sessions, policy requests and mails in progress, all stops together."""

    stops: int
    sessions: int
    broken: int
    wrong: int
    requests: int
    unanswered: int
    mails: int
    mails_otherwise: int
    not_yet_asked: Mapping[str, int]
    """Mails that had no recipient yet when the stop began: what they got."""
    examples: tuple[str, ...]
    after_last: Waits
    """From the last session's end to the process's (the unit is ms)."""
    bound: float
    held_open: float
    """Seconds to the process's end when a session does not end, beside the bound."""
    statuses: Mapping[str, int]
    """Exit statuses."""

    def bars(self) -> Iterator[Bar]:
        """Hold it against the bars."""
        yield none("milter sessions broken", self.broken)
        yield none("milter answers wrong", self.wrong)
        yield none("policy requests unanswered", self.unanswered)
        yield none("mails in progress answered otherwise", self.mails_otherwise)
        others = sum(count for status, count in self.statuses.items() if status != "0")
        yield none("exit statuses other than 0", others)
        in_time = self.held_open <= self.bound + 5
        figure = f"{self.held_open:.1f} s, bound {self.bound:g} s"
        yield Bar("ended within the bound", in_time, figure, timed=True)


@dataclass(frozen=True)
class Results:
    """Those campaigns that were run."""

    machine: str
    software: Mapping[str, str]
    reload: tuple[Reload, ...] = ()
    kills: Kills | None = None
    flat: Flat | None = None
    spread: Shares | None = None
    stop: Stop | None = None
    faults: Faults | None = None
    exactness: Exactness | None = None

    def bars(self) -> Iterator[Bar]:
        """Give every bar of every campaign."""
        for name in ("kills", "flat", "spread", "stop", "faults", "exactness"):
            if (result := getattr(self, name)) is not None:
                yield from result.bars()
        for result in self.reload:
            yield from result.bars()

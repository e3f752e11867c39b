"""What a load of requests came to: each answer checked, each wait kept. Pure."""

from array import array
from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Final

from tools.campaign import policy
from tools.campaign.policy import Kind
from tools.campaign.waits import Slow, Waits

EXAMPLES: Final = 5
"""Wrong answers that are kept word by word, and slow ones that are."""
STALL: Final = 0.5
"""Seconds: of the long waits that end within the same half second, the longest is kept."""


@dataclass(frozen=True)
class Front:
    """The load on one front end, summed up."""

    answered: int = 0
    lost: int = 0
    """Asked and never answered: the connection was closed, or the time for an answer was up."""
    closed: int = 0
    """Connections that the server closed."""
    wrong: int = 0
    """Answers that no policy gives that could be in force."""
    mixed: int = 0
    """Milter sessions in which two policies answered."""
    examples: tuple[str, ...] = ()
    answers: Mapping[str, int] = field(default_factory=dict)
    """By codes; only the answers that policyd counts in policyd_replies_total."""
    unanswered: Mapping[str, int] = field(default_factory=dict)
    """Of `lost`, by the codes that were due."""
    waits: Waits = field(default_factory=Waits)


@dataclass(frozen=True)
class Loaded:
    """A whole load: both front ends, and how late the load's own timer was."""

    policy: Front
    milter: Front
    lag: Waits
    slowest: tuple[Slow, ...]
    seconds: float


class Tally:
    """Counts the answers of one front end as they come."""

    def __init__(self, frontend: str) -> None:
        self.frontend = frontend
        self.answered = self.lost = self.closed = self.wrong = self.mixed = 0
        self._examples: list[str] = []
        self._answers: Counter[str] = Counter()
        self._unanswered: Counter[str] = Counter()
        self._waits = array("d")
        self._stalls: dict[int, tuple[float, float]] = {}

    def waited(self, begun: float, ended: float) -> None:
        """Keep a wait; one that holds up many connections at once is one stall."""
        wait = ended - begun
        self._waits.append(wait)
        moment = int(ended / STALL)
        if wait > self._stalls.get(moment, (0.0, 0.0))[0]:
            self._stalls[moment] = wait, begun

    def answer(self, kind: Kind, answer: str, oldest: int, newest: int) -> None:
        """Count an answer and check it against the generations that may have given it."""
        self.answered += 1
        self._answers[policy.codes(answer)] += 1
        if not policy.fits(kind, answer, oldest, newest):
            self.wrong += 1
            self._example(f"{kind}: {answer!r} by generations {oldest} to {newest}")

    def mixes(self, what: str) -> None:
        """Count a session that more than one policy answered."""
        self.mixed += 1
        self._example(what)

    def never_answered(self, kind: Kind | None, generation: int) -> None:
        """Count a request that remained without an answer, and which answer was due, if any."""
        self.lost += 1
        if kind is not None:
            self._unanswered[policy.codes(policy.expected(kind, generation))] += 1

    def _example(self, what: str) -> None:
        if len(self._examples) < EXAMPLES:
            self._examples.append(what)

    def slowest(self, lags: "Lags") -> list[Slow]:
        """Give the longest waits, of each stall one, each with the lag during it."""
        longest = sorted(self._stalls.values(), reverse=True)[:EXAMPLES]
        return [
            Slow(self.frontend, begun, round(wait * 1000, 1), lags.worst(begun, begun + wait))
            for wait, begun in longest
        ]

    def summed(self) -> Front:
        """Sum up."""
        return Front(
            self.answered,
            self.lost,
            self.closed,
            self.wrong,
            self.mixed,
            tuple(self._examples),
            dict(self._answers),
            dict(self._unanswered),
            Waits.of(self._waits),
        )


class Lags:
    """How late a timer fired, each time, and when."""

    def __init__(self) -> None:
        self._all = array("d")
        self._late: list[tuple[float, float]] = []

    def fired(self, due: float, now: float) -> None:
        """Take one firing."""
        self._all.append(now - due)
        if now - due > 0.003:  # a loop whose timers count milliseconds is that late on its own
            self._late.append((due, now))

    def worst(self, begun: float, ended: float) -> float:
        """Give the most that it was late between these times, in milliseconds."""
        late = (now - due for due, now in self._late if due <= ended and now >= begun)
        return round(max(late, default=0.0) * 1000, 1)

    def summed(self) -> Waits:
        """Sum up."""
        return Waits.of(self._all)

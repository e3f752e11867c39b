"""
The interface between conditions and checks: what a check declares, and what it answers.

A check is a name in conditions. It declares the types of its arguments and of its result, whether
it waits for something remote, what becomes of a rule when it fails, what it counts beside its
results, and the values that a rule's text may show. The engine calls it, times it, counts it and
applies its failure; a check knows neither rules nor the metrics' places. Checks of other packages
declare themselves in the same way (see installed and foreign).
"""

from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass, field
from typing import Final, Protocol

import msgspec

from policyd.facts.table import FactType
from policyd.smtp.stage import Stage

SKIP: Final = "skip"
"""The `on_error` under which a rule whose check failed does not apply."""


class CheckFailedError(Exception):
    """
    A check could not be made: a time-out, a store that is down, SERVFAIL. Says which and why.

    `dependency` names what did not answer, as the metrics do; empty if nothing in particular.
    `counts` are of the check's `countings`, as in an Answer.
    """

    def __init__(self, why: str, dependency: str = "", counts: "tuple[Count, ...]" = ()) -> None:
        """Keep the dependency and what is counted beside the reason."""
        super().__init__(why)
        self.dependency = dependency
        self.counts = counts


class Site(msgspec.Struct, frozen=True):
    """
    Where a condition asks: at which stage, and whether its rule is in shadow.

    `settles`: some front end decides end-of-data, where what a message reserved is settled.
    """

    stage: Stage
    shadow: bool = False
    settles: bool = False


class Counting(msgspec.Struct, frozen=True):
    """
    A metric of a check beside those that every check has: a counter, or with `bounds` a histogram.

    `series` are all label values there can be, as many as `labels` each.
    """

    name: str
    says: str
    labels: tuple[str, ...] = ()
    series: tuple[tuple[str, ...], ...] = ((),)
    bounds: tuple[float, ...] = ()


Count = tuple[Counting, tuple[str, ...], float]
"""What is counted: of which metric, under which label values, how much."""


@dataclass(frozen=True, slots=True)
class Answer:
    """
    What a check found: the value for the condition, the result as a metric label, and values.

    `result` is one of the check's `results`; `values` may hold only names of its `values`;
    `counts` are of its `countings`. `give_back` takes back what asking has taken: it is awaited
    when the same request ends in a refusal. `without` tells of what was to be asked, did not
    answer, and was not needed to answer.
    """

    value: object
    result: str
    values: Mapping[str, str] = field(default_factory=dict)
    counts: tuple[Count, ...] = ()
    give_back: Callable[[], Awaitable[None]] | None = None
    without: tuple[CheckFailedError, ...] = ()


class Message(Protocol):
    """The fact `message` as a check of another package gets it."""

    @property
    def size(self) -> int:
        """Give the octets of headers and body."""
        ...

    def read(self) -> bytes:
        """Give all of it, lines ended by CR LF."""
        ...


Ask = Callable[..., Answer] | Callable[..., Awaitable[Answer]]


@dataclass(frozen=True, slots=True)
class Definition:
    """
    Something of the configuration that a condition names in a check's call: a limit, a DNS list.

    The check is asked with `value`, which pickle(3) can take, and the values of `key`, each
    an expression over facts as in conditions. `place` is where the file says it. `objection` tells
    why it cannot be asked at a stage, and the mend; None if it can. `dependency` is what asking
    relies on, beside what the check itself does.
    """

    value: object
    key: tuple[str, ...] = ()
    place: str = ""
    objection: Callable[[Stage], tuple[str, str] | None] = lambda _stage: None
    dependency: str = ""


class Follow(msgspec.Struct, frozen=True):
    """
    A later stage at which a rule is asked too, without saying so, of some requests only.

    `when` is the condition on these, `why` says in a few words which they are. `facts` may be read
    there although the stage as such does not know them: empty where a request has none.
    """

    stage: Stage
    when: str
    why: str
    facts: frozenset[str] = frozenset()


@dataclass(frozen=True, slots=True)
class Check:
    """
    A check: called as `ask(attributes, *arguments)`; a remote one's `ask` is a coroutine function.

    `asks_once`: it changes state or counts, so it is not asked again when a later stage repeats
    the rules of an earlier one; in accept and score rules it is an error. `needs`: the facts that
    it reads beside its arguments; `needs_at`: those that it reads at some stages only. `on_error`
    is `skip` or a reply, for rules that do not say.
    `values` names what a text may show, each with what it says. `dependency` is what it relies
    on, `countings` what it counts beside its results.

    With `sited`, the first argument is a Site. With `stages`, only rules there may ask. With
    `definitions`, a call names some of them, `check('a', 'b')`, and asks with a tuple `(value,
    *key)` of each; calls joined by `or` are one call if the result is a truth value. With `every`,
    a call without names asks with all whose keys are known where it stands. `configured` is asked
    with as the last argument, whatever the call says. `follows`: a rule that asks at a stage is
    asked at another too.

    A check of another package may take `limit` seconds. If it is not `remote` it is asked in a
    process of its own, which is killed then (see foreign).
    """

    name: str
    ask: Ask
    parameters: tuple[FactType, ...] = ()
    needs: tuple[str, ...] = ()
    needs_at: Mapping[Stage, tuple[str, ...]] = field(default_factory=dict)
    result: FactType = FactType.TRUTH
    results: tuple[str, ...] = ("true", "false")
    remote: bool = False
    asks_once: bool = False
    on_error: str = SKIP
    values: Mapping[str, str] = field(default_factory=dict)
    says: str = ""
    dependency: str = ""
    countings: tuple[Counting, ...] = ()
    sited: bool = False
    stages: frozenset[Stage] | None = None
    definitions: Mapping[str, Definition] | None = None
    every: bool = False
    configured: object = None
    follows: Mapping[Stage, Follow] = field(default_factory=dict)
    limit: float = 5.0

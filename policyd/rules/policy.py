"""The compiled policy: its rules, who decides which stage, and one question for each asking."""

from collections.abc import Awaitable, Callable, Iterator, Mapping
from dataclasses import dataclass
from typing import Final, Protocol

import msgspec

from policyd.checks.interface import Check, CheckFailedError
from policyd.facts.table import Attributes
from policyd.mail.stamping import Stamping
from policyd.rules.nodes import Node
from policyd.rules.source import RuleSource
from policyd.rules.template import Template
from policyd.smtp.decision import Mode, Verdict
from policyd.smtp.reply import EnhancedCode
from policyd.smtp.stage import FrontEnd, Stage

AT_RCPT: Final = (Stage.CONNECT, Stage.HELO, Stage.MAIL, Stage.RCPT)
"""The stages that a request at RCPT decides when its context names none."""


class Match(msgspec.Struct, frozen=True, eq=False, gc=False):
    """
    What a rule yields where it matches: the outcome of one rule at one stage.

    `stage` is the stage that the answer is counted under. `weight` orders the verbs of several
    stages that one request decides: one action can be sent, and the weightiest is.
    """

    rule: str
    stage: Stage
    verdict: Verdict
    mode: Mode
    code: int = 0
    enhanced: EnhancedCode | None = None
    text: Template | None = None
    argument: Template | None = None
    if_permitted: bool = False
    score: float = 0.0
    weight: int = 0
    reason: str = ""

    @property
    def code_label(self) -> str:
        """The basic code as a metric label."""
        return str(self.code) if self.code else ""

    @property
    def enhanced_label(self) -> str:
        """The enhanced code as a metric label."""
        return str(self.enhanced) if self.enhanced is not None else ""


class Context(Protocol):
    """What a question needs while it is decided; the service provides it."""

    now: float
    score: float
    hits: list[Match]
    trace: dict[int, object]

    def ask(self, check: Check, attributes: Attributes, *arguments: object) -> object:
        """Make a check and give its value; CheckFailedError if it cannot be made."""
        ...

    async def ask_remote(self, check: Check, attributes: Attributes, *arguments: object) -> object:
        """Do the same for a remote check, within the time that the decision has left."""
        ...

    def failed(self, match: Match, failure: CheckFailedError) -> None:
        """Take note that a rule's check could not be made."""
        ...


Ask = Callable[[Attributes, Context], Match | None]
AskRemote = Callable[[Attributes, Context], Awaitable[Match | None]]


@dataclass(frozen=True, slots=True, eq=False)
class Traced:
    """A question that records every node's value under its number in `Context.trace`."""

    ask: Ask | AskRemote
    rules: tuple["TracedRule", ...]


@dataclass(frozen=True, slots=True, eq=False)
class TracedRule:
    """A rule within a traced question: its nodes' numbers, root first, and its own mark."""

    rule: "Rule"
    carried: bool
    reached: int
    nodes: tuple[tuple[int, Node], ...]


class UntraceableError(RuntimeError):
    """A question that came without its rules, and so cannot be traced."""


@dataclass(frozen=True, slots=True, eq=False)
class Question:
    """
    What one asking decides: the stages, by one function over the attributes.

    `ask` is a plain function, or a coroutine function where a check is remote. `facts` are all
    that conditions, checks and texts read; `matches` all that it can yield. `trace` compiles the
    traced form; UntraceableError if the rules did not come along (see parcel).
    """

    front_end: FrontEnd
    stages: tuple[Stage, ...]
    remote: bool
    ask: Ask | AskRemote
    facts: frozenset[str]
    matches: tuple[Match, ...]
    trace: Callable[[], Traced]

    @property
    def verdicts(self) -> frozenset[Verdict]:
        """All verdicts that it can yield and that are sent."""
        return frozenset(match.verdict for match in self.matches if match.mode is Mode.ENFORCE)


@dataclass(frozen=True, slots=True, eq=False)
class Rule:
    """A rule at one stage, checked: its condition as a tree, and what it yields."""

    source: RuleSource
    stage: Stage
    condition: Node | None
    match: Match
    fallback: Match | None
    """What it yields when a check fails; None: it does not apply then."""

    @property
    def name(self) -> str:
        """The rule's name."""
        return self.source.name

    @property
    def goes_on(self) -> bool:
        """Whether evaluation goes on after it matched."""
        return self.match.mode is Mode.SHADOW or self.match.verdict is Verdict.SCORE


@dataclass(frozen=True, slots=True, eq=False)
class Policy:
    """
    Ordered rules and the questions they answer; immutable, swapped whole on a reload.

    `ruled` are the stages that have rules. `rules` is empty in a policy that another process
    compiled: what it decides by are its questions (see parcel). `asks` are the names
    of its checks, `dependencies` what they rely on, `defined` the values of the definitions that
    they ask with; `reserving` the
    front ends whose rules reserve what end-of-data settles; `stamping` says what the milter writes
    above messages, None if nothing.
    """

    rules: tuple[Rule, ...]
    ruled: frozenset[Stage]
    owners: Mapping[Stage, FrontEnd]
    delegation: Mapping[Stage, Question]
    at_rcpt: Question | None
    milter: Mapping[Stage, Question]
    local: Mapping[Stage, Question]
    hash: str = ""
    dependencies: tuple[str, ...] = ()
    reserving: frozenset[FrontEnd] = frozenset()
    defined: tuple[object, ...] = ()
    asks: frozenset[str] = frozenset()
    stamping: Stamping | None = None

    def asked(self, stage: Stage, *, alone: bool) -> Question | None:
        """Give the question of a policy request; None if policy delegation decides none of it."""
        if stage is Stage.RCPT and not alone:
            return self.at_rcpt
        return self.delegation.get(stage)

    def questions(self) -> Iterator[Question]:
        """Give every question once."""
        yield from self.delegation.values()
        if self.at_rcpt is not None:
            yield self.at_rcpt
        yield from self.milter.values()
        yield from self.local.values()

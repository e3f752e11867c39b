"""
One request decided with every step shown: which rule, why, what is answered, what the client sees.

The decision is made by the service and the prediction by `protocol.postfix`, as when serving.
"""

import random
from collections.abc import Awaitable, Callable, Mapping
from typing import Final

import msgspec

from policyd.checks.interface import Counting
from policyd.facts.table import Attributes
from policyd.observe.log import Level
from policyd.observe.series import Layout, Row
from policyd.protocol.delegation import Asked, action
from policyd.protocol.postfix import Prediction, Setting, predict
from policyd.rules import nodes
from policyd.rules.policy import Policy, Question, Traced, TracedRule
from policyd.service import Ids, Service, Settings
from policyd.smtp.decision import Decision, Mode, Source
from policyd.smtp.stage import FrontEnd, Stage

NOT_EVALUATED: Final = "not evaluated"
"""Stands for the value of a part that evaluation did not come to."""


class Asking(msgspec.Struct, frozen=True):
    """
    What is explained: what is asked, and `state`, the stage at which Postfix asks it.

    `hostname` is Postfix's myhostname, which it says in some replies.
    """

    asked: Asked
    state: Stage
    hostname: str = "mx.example.org"


class Part(msgspec.Struct, frozen=True):
    """A part of a condition, with its value; `evaluated` tells whether evaluation came to it."""

    source: str
    value: object
    evaluated: bool


class RuleTrace(msgspec.Struct, frozen=True):
    """
    A rule on the way to the decision.

    `carried`: an earlier stage's accept or score rule, evaluated again. `matched` is None where
    evaluation did not come to the rule.
    """

    rule: str
    stage: Stage
    place: str
    mode: Mode
    then: str
    carried: bool
    matched: bool | None
    parts: tuple[Part, ...]


class Explanation(msgspec.Struct, frozen=True):
    """The rules, the decision, the policy action if there is one, and what the client will see."""

    front_end: FrontEnd
    stages: tuple[Stage, ...]
    rules: tuple[RuleTrace, ...]
    decision: Decision
    action: str
    prediction: Prediction


class UndecidedError(Exception):
    """No front end decides what was asked; says so."""


async def _close_nothing() -> None:
    """Have nothing to close."""


def explain(
    policy: Policy,
    attributes: Attributes,
    asking: Asking,
    *,
    settings: Settings,
    now: float,
    close: Callable[[], Awaitable[None]] = _close_nothing,
) -> Explanation:
    """
    Decide one request at `now` (seconds since the epoch); UndecidedError if nobody would.

    `close` lets go of what its checks have opened.
    """
    question = _question(policy, attributes, asking.asked)
    silent = _Silent()
    service = Service(policy, silent, silent, Ids(random.getrandbits), settings, clock=lambda: now)
    restriction = asking.asked.restriction if question.front_end is FrontEnd.POLICY else None
    answer, traced, values = service.trace(
        question, attributes, restriction=restriction, state=asking.state, close=close
    )
    decision = answer.decision
    setting = Setting(question.front_end, asking.state, restriction, asking.hostname)
    return Explanation(
        front_end=question.front_end,
        stages=question.stages,
        rules=_rules(traced, values),
        decision=decision,
        action=action(decision) if question.front_end is FrontEnd.POLICY else "",
        prediction=predict(decision, attributes, setting),
    )


def _question(policy: Policy, attributes: Attributes, asked: Asked) -> Question:
    owner = policy.owners.get(asked.stage)
    question = None
    if owner is FrontEnd.MILTER:
        local = attributes.get("local_submission") is True
        question = (policy.local if local else policy.milter).get(asked.stage)
    if question is None:
        question = policy.asked(asked.stage, alone=asked.alone)
    if question is None:
        who = "no front end decides it" if owner is None else f"the {owner} has no rule for it"
        raise UndecidedError(f"nothing is decided at {asked.stage}: {who}")
    return question


def _rules(traced: Traced, values: Mapping[int, object]) -> tuple[RuleTrace, ...]:
    """Give each rule once; a carried rule that is evaluated in several ways by the one that ran."""
    found: dict[tuple[str, Stage], RuleTrace] = {}
    for one in traced.rules:
        trace = _rule(one, values)
        key = (trace.rule, trace.stage)
        if key not in found or found[key].matched is None:
            found[key] = trace
    return tuple(found.values())


def _rule(one: TracedRule, values: Mapping[int, object]) -> RuleTrace:
    source = one.rule.source
    reached = one.reached in values
    root = one.nodes[0][0] if one.nodes else one.reached
    return RuleTrace(
        rule=source.name,
        stage=one.rule.stage,
        place=f"{source.file}:{source.lines.get('', 0)}",
        mode=source.mode,
        then=source.then,
        carried=one.carried,
        matched=values.get(root) is True if reached else None,
        parts=tuple(
            Part(node.source, values.get(number, NOT_EVALUATED), number in values)
            for number, node in one.nodes
            if not isinstance(node, (nodes.Literal, nodes.CastNode))
        ),
    )


def why(explanation: Explanation) -> str:
    """Say in one line who decided."""
    decision = explanation.decision
    match decision.source:
        case Source.RULE:
            said = f'rule "{decision.rule}" at {decision.stage}'
        case Source.DEFAULT:
            said = "no rule objects"
        case Source.ERROR:
            said = "a fault of policyd's own"
    return f"{said} ({decision.reason})" if decision.reason else said


class _Silent:
    """Counts and logs nothing: an explanation is no answer."""

    def answered(
        self, front_end: FrontEnd, decision: Decision, stages: tuple[Stage, ...], seconds: float
    ) -> None:
        pass

    def check(self, check: str, result: str, seconds: float) -> None:
        pass

    def count(self, counting: Counting, labels: tuple[str, ...], amount: float) -> None:
        pass

    def dependency_up(self, name: str, up: bool) -> None:
        pass

    def unsettled(self, limit: str, count: int) -> None:
        pass

    def fallback(self, name: str) -> None:
        pass

    def protocol_error(self, front_end: FrontEnd, reason: str) -> None:
        pass

    def dropped(self, what: str, count: int) -> None:
        pass

    def move(self, layout: Layout, row: Row) -> None:
        pass

    def decision(
        self, decision: Decision, attributes: Attributes, front_end: FrontEnd, seconds: float
    ) -> None:
        pass

    def event(self, level: Level, event: str, /, **fields: object) -> None:
        pass

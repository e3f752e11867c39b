"""What is doubtful in rules that are each right in themselves: their order, and later stages."""

from collections.abc import Mapping, Sequence

from policyd.rules import nodes
from policyd.rules.compile import can_repeat, missing_facts
from policyd.rules.policy import Rule
from policyd.rules.scope import SPEAKERS
from policyd.rules.source import Complaint
from policyd.smtp.decision import Mode, Verdict
from policyd.smtp.stage import TRANSACTION, FrontEnd, Stage


def unreachable(rules: Sequence[Rule]) -> list[Complaint]:
    """Find rules behind one of their stage that always matches and ends it."""
    closed: dict[Stage, Rule] = {}
    found = []
    for rule in rules:
        before = closed.get(rule.stage)
        if before is not None:
            found.append(
                Complaint(
                    rule.source,
                    "name",
                    f'never reached at {rule.stage}: rule "{before.name}" before it always applies',
                    "move it up, or give the other a `when`",
                )
            )
        always = rule.condition is None or (
            isinstance(rule.condition, nodes.Literal) and rule.condition.value is True
        )
        if always and not rule.goes_on:
            closed.setdefault(rule.stage, rule)
    return found


def not_carried(rules: Sequence[Rule], owners: Mapping[Stage, FrontEnd]) -> list[Complaint]:
    """Warn of accept and score rules that a later stage of the other front end cannot repeat."""
    found = []
    for rule in rules:
        if rule.match.mode is Mode.SHADOW or rule.stage not in TRANSACTION:
            continue
        if rule.match.verdict not in (Verdict.ACCEPT, Verdict.SCORE):
            continue
        for stage in TRANSACTION[TRANSACTION.index(rule.stage) + 1 :]:
            later = owners.get(stage)
            if later is None or can_repeat(rule, later):
                continue
            facts = ", ".join(sorted(missing_facts(rule, later)))
            if facts:
                found.append(
                    Complaint(
                        rule.source,
                        "when",
                        f"{rule.match.verdict} does not carry over to {stage}: "
                        f"{SPEAKERS[later]} does not know {facts}",
                        f"repeat the rule at {stage} with facts known there",
                        error=False,
                    )
                )
                break
    return found

"""Every answer that a policy can give, known when it is compiled: the series of the metrics."""

from collections.abc import Iterator

from policyd.observe.metrics import Issue
from policyd.rules.policy import Match, Policy, Question
from policyd.service.reply import FAULT
from policyd.smtp.decision import Source, Verdict
from policyd.smtp.stage import FrontEnd, Stage


def issues_of(policy: Policy) -> tuple[Issue, ...]:
    """Give every answer, once: of rules, of nobody, and of faults of policyd's own."""
    found: dict[Issue, None] = {}
    for question in policy.questions():
        for match in question.matches:
            found[_of_rule(question, match)] = None
        for issue in _of_nobody(question.front_end, question.stages[-1]):
            found[issue] = None
    if FrontEnd.POLICY in policy.owners.values():
        # Postfix may ask at any stage, ours or not, and at one that we do not know
        for stage in (*Stage, ""):
            found[_no_objection(FrontEnd.POLICY, stage, Source.DEFAULT)] = None
    return tuple(found)


def _of_rule(question: Question, match: Match) -> Issue:
    return Issue(
        front_end=question.front_end,
        stage=match.stage,
        verdict=match.verdict,
        code=match.code_label,
        enhanced=match.enhanced_label,
        source=Source.RULE,
        rule=match.rule,
        mode=match.mode,
    )


def _of_nobody(front_end: FrontEnd, stage: Stage) -> Iterator[Issue]:
    yield _no_objection(front_end, stage, Source.DEFAULT)
    yield Issue(
        front_end,
        stage,
        Verdict.DEFER,
        str(FAULT.code),
        str(FAULT.enhanced),
        Source.ERROR,
    )
    if front_end is FrontEnd.MILTER or stage is Stage.RCPT:
        # local submissions and <postmaster> pass even then
        yield _no_objection(front_end, stage, Source.ERROR)


def _no_objection(front_end: FrontEnd, stage: str, source: Source) -> Issue:
    return Issue(front_end, stage, Verdict.PASS, "", "", source)

"""Every answer that a policy can give, known when it is compiled: the series of the metrics."""

from collections.abc import Iterator, Mapping
from typing import Final

from policyd import __version__
from policyd.checks.interface import Check
from policyd.observe.families import WORKER_CPU, WORKER_MEMORY, WORKER_UP
from policyd.observe.known import Issue, known_series
from policyd.observe.series import Series
from policyd.protocol import delegation, milter
from policyd.rules import nodes
from policyd.rules.policy import Match, Policy, Question
from policyd.service.context import FAILED
from policyd.service.reply import FAULT
from policyd.smtp.decision import Source, Verdict
from policyd.smtp.stage import TRANSACTION, FrontEnd, Stage

_REASONS: Final = {FrontEnd.POLICY: delegation.REASONS, FrontEnd.MILTER: milter.REASONS}


def issues_of(policy: Policy) -> tuple[Issue, ...]:
    """Give every answer, once: of rules, of nobody, and of faults of policyd's own."""
    found: dict[Issue, None] = {}
    for question in policy.questions():
        for match in question.matches:
            found[_of_rule(question, match)] = None
        for issue in _of_nobody(question.front_end, question.stages[-1]):
            found[issue] = None
    if FrontEnd.MILTER in policy.owners.values():
        # a fault can be met in any callback, whether a rule decides its stage or not
        found.update(dict.fromkeys(i for s in TRANSACTION for i in _of_nobody(FrontEnd.MILTER, s)))
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


def _asked(policy: Policy) -> frozenset[str]:
    """Give the names of the checks that a policy asks."""
    trees = [rule.condition for rule in policy.rules if rule.condition is not None]
    return frozenset(check.name for tree in trees for check in nodes.checks_of(tree))


def series_of(policy: Policy, checks: Mapping[str, Check]) -> Series:
    """
    Give every series that a policy can produce, wherever it is counted in a Board's rows.

    Of checks, those that its rules ask; so it has to have its rules (see rules.parcel).
    """
    owners = policy.owners
    asked = [check for name, check in checks.items() if name in _asked(policy)]
    return known_series(
        issues_of(policy),
        checks={check.name: (*check.results, FAILED) for check in asked},
        countings=dict.fromkeys(each for check in asked for each in check.countings),
        protocol_reasons={
            end: reasons for end, reasons in _REASONS.items() if end in owners.values()
        },
        owners=owners,
        dependencies=policy.dependencies,
        config_hash=policy.hash,
        version=__version__,
    )


def count_series(policy: Policy, checks: Mapping[str, Check], workers: int) -> int:
    """Count the samples of a scrape with so many workers, those of the process left out."""
    series = series_of(policy, checks)
    in_rows = sum(family.samples * len(label_sets) for family, label_sets in series.items())
    front_ends = len(set(policy.owners.values()))
    of_each_worker = front_ends + len((WORKER_UP, WORKER_MEMORY, WORKER_CPU))
    return in_rows + front_ends + workers * of_each_worker  # CONNECTIONS, all together and of each

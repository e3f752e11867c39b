"""
The series of a policy: every one that it can count, known before the first mail.

Label values come from the configuration and the catalogue only, never from mail.
"""

import sys
from collections.abc import Iterable, Mapping, Sequence
from typing import Final

import msgspec

from policyd.checks.interface import Counting
from policyd.observe.families import (
    BUILD_INFO,
    CHECK_DURATION,
    CHECKS,
    CONFIG_INFO,
    DEPENDENCY_UP,
    DROPPED,
    FALLBACKS,
    LAST_RELOAD_SUCCESSFUL,
    LAST_RELOAD_TIMESTAMP,
    PROTOCOL_ERRORS,
    RELOADS,
    REPLIES,
    REQUEST_DURATION,
    RULE_REPLIES,
    STAGE_REQUESTS,
    WORKER_RESTARTS,
    family_of,
)
from policyd.observe.series import Family, Labels, Series
from policyd.smtp.decision import Mode, Source, Verdict
from policyd.smtp.stage import FrontEnd, Stage

WHAT_IS_DROPPED: Final = ("log", "series")
"""Values of `what`: log lines that nobody took in time, counts for which there is no series."""
RESTARTS: Final = ("exit", "signal", "hung", "start")
"""Values of `reason` of WORKER_RESTARTS."""


class Issue(msgspec.Struct, frozen=True):
    """
    An answer that a policy can give; codes are empty where it gives none.

    With `rule` empty it is nobody's: no objection, or a fault of policyd's own. In shadow mode it
    is a rule's that is never sent.
    """

    front_end: FrontEnd
    stage: str
    verdict: Verdict
    code: str
    enhanced: str
    source: Source
    rule: str = ""
    mode: Mode = Mode.ENFORCE


def known_series(
    issues: Iterable[Issue],
    *,
    checks: Mapping[str, Sequence[str]],
    countings: Iterable[Counting] = (),
    protocol_reasons: Mapping[FrontEnd, Sequence[str]],
    owners: Mapping[Stage, FrontEnd],
    dependencies: Sequence[str],
    config_hash: str,
    version: str,
) -> Series:
    """
    Give the series of a policy, in the order in which they are exposed; they can be pickled.

    `checks`: the results of each check; `countings`: what they count besides;
    `protocol_reasons`: those of each front end that listens; `owners`: the front end that decides
    a stage.
    """
    issues = tuple(issues)
    asked = _asked(issues, owners, protocol_reasons)
    of_checks = [(check, result) for check, results in checks.items() for result in results]
    of_errors = [(end, why) for end, reasons in protocol_reasons.items() for why in reasons]
    found: dict[Family, Iterable[Labels]] = {
        REPLIES: [_reply(issue) for issue in issues if _is_sent(issue)],
        RULE_REPLIES: [_rule_reply(issue) for issue in issues if issue.rule],
        STAGE_REQUESTS: asked,
        REQUEST_DURATION: asked,
        CHECKS: of_checks,
        CHECK_DURATION: of_checks,
        **{family_of(counting): counting.series for counting in countings},
        PROTOCOL_ERRORS: of_errors,
        WORKER_RESTARTS: [(reason,) for reason in RESTARTS],
        DEPENDENCY_UP: [(name,) for name in dependencies],
        FALLBACKS: [(name,) for name in dependencies],
        RELOADS: [("success",), ("failure",)],
        LAST_RELOAD_SUCCESSFUL: [()],
        LAST_RELOAD_TIMESTAMP: [()],
        CONFIG_INFO: [(config_hash,)],
        BUILD_INFO: [(version,)],
        DROPPED: [(what,) for what in WHAT_IS_DROPPED],
    }
    return {family: _each_once(label_sets) for family, label_sets in found.items()}


def _each_once(label_sets: Iterable[Labels]) -> tuple[Labels, ...]:
    """
    Leave out what is there already; values are made strings that are shared.

    Pickled, a shared string is written once, and an enumeration's member would be looked up.
    """
    return tuple(dict.fromkeys(tuple(sys.intern(str(v)) for v in labels) for labels in label_sets))


def _asked(
    issues: Iterable[Issue],
    owners: Mapping[Stage, FrontEnd],
    front_ends: Iterable[FrontEnd],
) -> list[Labels]:
    """
    Give each front end with each stage it can be asked for.

    Postfix may ask over the policy protocol at every stage, wanted or not, and at one that policyd
    does not know (label empty). A milter is told what to ask.
    """
    asked: list[Labels] = []
    if FrontEnd.POLICY in front_ends:
        asked += [(FrontEnd.POLICY, stage) for stage in (*Stage, "")]
    asked += [(end, stage) for stage, end in owners.items()]
    asked += [(issue.front_end, issue.stage) for issue in issues if issue.mode is Mode.ENFORCE]
    return asked


def _is_sent(issue: Issue) -> bool:
    return issue.mode is Mode.ENFORCE and issue.verdict is not Verdict.SCORE


def _reply(issue: Issue) -> Labels:
    return (
        issue.front_end,
        issue.stage,
        issue.verdict,
        issue.code,
        issue.enhanced,
        issue.source,
    )


def _rule_reply(issue: Issue) -> Labels:
    return (issue.rule, issue.stage, issue.verdict, issue.code, issue.enhanced, issue.mode)

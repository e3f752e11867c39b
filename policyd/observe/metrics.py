"""
What policyd counts for Prometheus.

Label values come from the configuration and the catalogue only, never from mail. Every series
that the loaded policy can produce stands at 0 from the start. The caller holds the service's lock:
nothing here locks.
"""

from collections.abc import Iterable, Mapping, Sequence
from typing import Final

import msgspec
from prometheus_client import CollectorRegistry, GCCollector, PlatformCollector, ProcessCollector

from policyd.observe.families import (
    BUILD_INFO,
    CHECK_DURATION,
    CHECKS,
    CONFIG_INFO,
    CONNECTIONS,
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
)
from policyd.observe.series import Family, Labels, Layout, RowCollector, observe
from policyd.smtp.decision import Decision, Mode, RuleHit, Source, Verdict
from policyd.smtp.stage import FrontEnd, Stage

WHAT_IS_DROPPED: Final = ("log", "series")
"""Values of `what`: log lines that nobody took in time, counts for which there is no series."""

_BOUNDS: Final = REQUEST_DURATION.bounds
_SUM: Final = len(_BOUNDS) + 1

_Key = tuple[FrontEnd, tuple[Stage, ...], Stage | None, Verdict, Source, str, int, int, int]


class Issue(msgspec.Struct, frozen=True):
    """
    An answer that the loaded policy can give; codes are empty where it gives none.

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


class Metrics:
    """
    The counters of one writer, and the registry that exposes them.

    A count for which there is no series is no error: it is counted under
    `policyd_dropped_total{what="series"}`, which a test can hold at 0.
    """

    def __init__(
        self,
        issues: Iterable[Issue],
        *,
        checks: Mapping[str, Sequence[str]],
        protocol_reasons: Mapping[FrontEnd, Sequence[str]],
        owners: Mapping[Stage, FrontEnd],
        dependencies: Sequence[str],
        config_hash: str,
        version: str,
    ) -> None:
        """
        Lay out the series of a policy.

        `checks`: the results of each check; `protocol_reasons`: those of each front end that
        listens; `owners`: the front end that decides a stage.
        """
        issues = tuple(issues)
        asked = _asked(issues, owners, protocol_reasons)
        of_checks = [(check, result) for check, results in checks.items() for result in results]
        of_errors = [(end, why) for end, reasons in protocol_reasons.items() for why in reasons]
        layout = Layout(
            {
                REPLIES: [_reply(issue) for issue in issues if _is_sent(issue)],
                RULE_REPLIES: [_rule_reply(issue) for issue in issues if issue.rule],
                STAGE_REQUESTS: asked,
                REQUEST_DURATION: asked,
                CHECKS: of_checks,
                CHECK_DURATION: of_checks,
                PROTOCOL_ERRORS: of_errors,
                CONNECTIONS: [(end,) for end in protocol_reasons],
                DEPENDENCY_UP: [(name,) for name in dependencies],
                FALLBACKS: [(name,) for name in dependencies],
                RELOADS: [("success",), ("failure",)],
                LAST_RELOAD_SUCCESSFUL: [()],
                LAST_RELOAD_TIMESTAMP: [()],
                CONFIG_INFO: [(config_hash,)],
                BUILD_INFO: [(version,)],
                DROPPED: [(what,) for what in WHAT_IS_DROPPED],
            }
        )
        self._layout: Final = layout
        self._row: Final = layout.row()
        self._no_series: Final = layout.cells(DROPPED)["series",]
        self._answers: Final[dict[_Key, tuple[tuple[int, ...], int]]] = {}
        self.registry: Final = CollectorRegistry()
        self.registry.register(RowCollector(layout, (self._row,)))
        for collector in (ProcessCollector, PlatformCollector, GCCollector):
            collector(registry=self.registry)

    def answered(
        self, front_end: FrontEnd, decision: Decision, stages: tuple[Stage, ...], seconds: float
    ) -> None:
        """
        Count an answer that is written: the reply, the rules that matched, its stages, its time.

        `stages` are those that the question decided; none of an unknown stage. `seconds` run
        from the request's last octet to here.
        """
        reply = decision.reply
        if reply is None:
            code = subject = detail = 0
        else:
            code, subject, detail = reply.code, reply.subject, reply.detail
        key = (
            front_end,
            stages,
            decision.stage,
            decision.verdict,
            decision.source,
            decision.rule,
            code,
            subject,
            detail,
        )
        found = self._answers.get(key)
        counters, duration = self._resolve(key, decision) if found is None else found
        row = self._row
        for cell in counters:
            row[cell] += 1.0
        if duration >= 0:
            observe(row, duration, _BOUNDS, seconds)
        for hit in decision.also:
            row[self._cell(RULE_REPLIES, _hit(hit))] += 1.0

    def check(self, check: str, result: str, seconds: float) -> None:
        """Count a check that was made, its result and its time."""
        labels = (check, result)
        self._row[self._cell(CHECKS, labels)] += 1.0
        place = self._layout.cells(CHECK_DURATION).get(labels)
        if place is not None:
            observe(self._row, place, CHECK_DURATION.bounds, seconds)

    def protocol_error(self, front_end: FrontEnd, reason: str) -> None:
        """Count a request that broke its protocol."""
        self._row[self._cell(PROTOCOL_ERRORS, (front_end, reason))] += 1.0

    def connections(self, front_end: FrontEnd, delta: int) -> None:
        """Move the gauge of open connections."""
        place = self._layout.cells(CONNECTIONS).get((front_end,))
        if place is None:
            self._row[self._no_series] += 1.0
        else:
            self._row[place] += delta

    def dependency_up(self, name: str, up: bool) -> None:
        """Say whether something that policyd depends on answers."""
        self._set(DEPENDENCY_UP, (name,), float(up))

    def fallback(self, name: str) -> None:
        """Count an answer that did without a dependency."""
        self._row[self._cell(FALLBACKS, (name,))] += 1.0

    def dropped(self, what: str, count: int) -> None:
        """Count what was thrown away rather than waited for; one of WHAT_IS_DROPPED."""
        self._row[self._cell(DROPPED, (what,))] += count

    def loaded(self, when: float) -> None:
        """Say that the first policy stands, since `when` (seconds since the epoch)."""
        self._set(LAST_RELOAD_SUCCESSFUL, (), 1.0)
        self._set(LAST_RELOAD_TIMESTAMP, (), when)

    def reloaded(self, ok: bool, when: float) -> None:
        """Count a reload; a failed one leaves the old policy in force."""
        self._row[self._cell(RELOADS, ("success" if ok else "failure",))] += 1.0
        self._set(LAST_RELOAD_SUCCESSFUL, (), float(ok))
        self._set(LAST_RELOAD_TIMESTAMP, (), when)

    def _cell(self, family: Family, labels: Labels) -> int:
        """Give a counter's place, or that of the counts without a series."""
        return self._layout.cells(family).get(labels, self._no_series)

    def _set(self, family: Family, labels: Labels, value: float) -> None:
        place = self._layout.cells(family).get(labels)
        if place is None:
            self._row[self._no_series] += 1.0
        else:
            self._row[place] = value

    def _resolve(self, key: _Key, decision: Decision) -> tuple[tuple[int, ...], int]:
        """
        Find all places that an answer moves.

        They are kept: the parts of a key come from the policy, so there are only so many. What
        has no series is not kept.
        """
        front_end, stages = key[:2]
        stage = decision.stage or ""
        code, enhanced = decision.code, decision.enhanced
        source = decision.source
        counters = [
            self._cell(REPLIES, (front_end, stage, decision.verdict, code, enhanced, source))
        ]
        if decision.rule:
            labels = (decision.rule, stage, decision.verdict, code, enhanced, Mode.ENFORCE)
            counters.append(self._cell(RULE_REPLIES, labels))
        counters += [self._cell(STAGE_REQUESTS, (front_end, asked)) for asked in stages or ("",)]
        duration = self._layout.cells(REQUEST_DURATION).get((front_end, stage), -1)
        if duration < 0:
            counters.append(self._no_series)
        found = tuple(counters), duration
        if self._no_series not in counters:
            self._answers[key] = found
        return found


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


def _hit(hit: RuleHit) -> Labels:
    return (hit.rule, hit.stage, hit.verdict, hit.code, hit.enhanced, hit.mode)

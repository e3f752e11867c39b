"""
What policyd counts for Prometheus.

Series are those of the layout; nothing here makes one. The caller holds the service's lock:
nothing here locks.
"""

from typing import Final

from policyd.checks.interface import Counting
from policyd.checks.limits import unsettled
from policyd.observe.families import (
    CHECK_DURATION,
    CHECKS,
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
from policyd.observe.series import Family, Labels, Layout, Row, observe
from policyd.smtp.decision import Decision, Mode, RuleHit, Source, Verdict
from policyd.smtp.stage import FrontEnd, Stage

_BOUNDS: Final = REQUEST_DURATION.bounds
_UNSETTLED: Final = unsettled(()).name

_Key = tuple[FrontEnd, tuple[Stage, ...], Stage | None, Verdict, Source, str, int, int, int]


class Metrics:
    """
    The counters of one writer: of a worker, or of the supervisor.

    A count for which there is no series is no error: it is counted under
    `policyd_dropped_total{what="series"}`, which a test can hold at 0.
    """

    def __init__(self, layout: Layout, row: Row) -> None:
        """Count in a row of which nobody else is a writer."""
        self._answers: dict[_Key, tuple[tuple[int, ...], int]] = {}
        self.move(layout, row)

    def move(self, layout: Layout, row: Row) -> None:
        """Count by another layout of the same board from now on, in the row mapped for it."""
        self._layout = layout
        self._row = row
        self._no_series = layout.cells(DROPPED)["series",]
        self._answers.clear()

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

    def count(self, counting: Counting, labels: Labels, amount: float) -> None:
        """Count what a check counts beside its result: one more, or an amount in a histogram."""
        family = family_of(counting)
        if not counting.bounds:
            self._row[self._cell(family, labels)] += amount
            return
        place = self._layout.cells(family).get(labels)
        if place is None:
            self._row[self._no_series] += 1.0
        else:
            observe(self._row, place, counting.bounds, amount)

    def protocol_error(self, front_end: FrontEnd, reason: str) -> None:
        """Count a request that broke its protocol."""
        self._row[self._cell(PROTOCOL_ERRORS, (front_end, reason))] += 1.0

    def dependency_up(self, name: str, up: bool) -> None:
        """Say whether something that policyd depends on answers."""
        self._set(DEPENDENCY_UP, (name,), float(up))

    def fallback(self, name: str) -> None:
        """Count an answer that did without a dependency."""
        self._row[self._cell(FALLBACKS, (name,))] += 1.0

    def unsettled(self, limit: str, count: int) -> None:
        """Count what was reserved of a limit and never settled, if a rule still asks the limit."""
        place = self._layout.places.get(_UNSETTLED, {}).get((limit,))
        if place is not None:
            self._row[place] += count

    def dropped(self, what: str, count: int) -> None:
        """Count what was thrown away rather than waited for; one of known.WHAT_IS_DROPPED."""
        self._row[self._cell(DROPPED, (what,))] += count

    def restarted(self, reason: str) -> None:
        """Count a worker that is replaced; one of known.RESTARTS."""
        self._row[self._cell(WORKER_RESTARTS, (reason,))] += 1.0

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


def _hit(hit: RuleHit) -> Labels:
    return (hit.rule, hit.stage, hit.verdict, hit.code, hit.enhanced, hit.mode)

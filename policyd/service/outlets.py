"""Where the service counts and logs, as it sees them."""

from typing import Protocol

from policyd.checks.interface import Counting
from policyd.facts.table import Attributes
from policyd.observe.log import Level
from policyd.observe.series import Layout, Row
from policyd.smtp.decision import Decision
from policyd.smtp.stage import FrontEnd, Stage


class Counters(Protocol):
    """What counts (observe.metrics.Metrics)."""

    def answered(
        self, front_end: FrontEnd, decision: Decision, stages: tuple[Stage, ...], seconds: float
    ) -> None:
        """Count an answer."""

    def check(self, check: str, result: str, seconds: float) -> None:
        """Count a check."""

    def count(self, counting: Counting, labels: tuple[str, ...], amount: float) -> None:
        """Count what a check counts beside its result."""

    def dependency_up(self, name: str, up: bool) -> None:
        """Say whether something that policyd depends on answers."""

    def unsettled(self, limit: str, count: int) -> None:
        """Count what was reserved of a limit and never settled."""

    def fallback(self, name: str) -> None:
        """Count a check that did without a dependency."""

    def protocol_error(self, front_end: FrontEnd, reason: str) -> None:
        """Count a protocol error."""

    def dropped(self, what: str, count: int) -> None:
        """Count what was thrown away rather than waited for."""

    def move(self, layout: Layout, row: Row) -> None:
        """Count by another layout from now on."""


class Journal(Protocol):
    """What logs (observe.log.Log)."""

    def decision(
        self, decision: Decision, attributes: Attributes, front_end: FrontEnd, seconds: float
    ) -> None:
        """Write a decision's line."""

    def event(self, level: Level, event: str, /, **fields: object) -> None:
        """Write an event's line."""

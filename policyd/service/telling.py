"""What the service counts and logs beside its answers."""

from collections.abc import Callable, Mapping
from threading import Lock

from policyd.checks.interface import CheckFailedError, Count
from policyd.observe.log import Level
from policyd.rules.policy import Policy
from policyd.service.outlets import Counters, Journal
from policyd.service.throttle import Throttle
from policyd.smtp.stage import FrontEnd


class Telling:
    """
    The half of the service that tells; called on any thread.

    What can happen with every mail while something is down is logged once a minute.
    """

    def __init__(
        self,
        policy: Policy,
        metrics: Counters,
        log: Journal,
        connections: Callable[[FrontEnd, int], object],
        timer: Callable[[], float],
    ) -> None:
        """Count and log there; `timer` measures what passes."""
        self.policy = policy
        self.timer = timer
        self.lock = Lock()
        self._metrics = metrics
        self._log = log
        self._connections = connections
        self._throttle = Throttle()

    def protocol_error(self, front_end: FrontEnd, reason: str, **detail: object) -> None:
        """Count and log what a peer did wrong."""
        with self.lock:
            self._metrics.protocol_error(front_end, reason)
        self._log.event("warning", "protocol.error", frontend=front_end, reason=reason, **detail)

    def connected(self, front_end: FrontEnd, delta: int) -> None:
        """Tell of connections: one more or one less."""
        self._connections(front_end, delta)

    def checked(self, check: str, result: str, seconds: float) -> None:
        """Count a check."""
        with self.lock:
            self._metrics.check(check, result, seconds)

    def dropped(self, what: str, count: int) -> None:
        """Count what was thrown away rather than waited for (observe.known.WHAT_IS_DROPPED)."""
        with self.lock:
            self._metrics.dropped(what, count)

    def counted(self, counts: tuple[Count, ...]) -> None:
        """Count what a check counts beside its result."""
        with self.lock:
            for counting, labels, amount in counts:
                self._metrics.count(counting, labels, amount)

    def tell(self, level: Level, event: str, /, **fields: object) -> None:
        """Log an event of what decisions rely on."""
        self._log.event(level, event, **fields)

    def dependency_is(self, name: str, up: bool) -> None:
        """Show whether something answers, if the policy in force depends on it."""
        with self.lock:
            if name in self.policy.dependencies:
                self._metrics.dependency_up(name, up)

    def dependency_changed(self, name: str, up: bool, why: str) -> None:
        """Tell that something which policyd depends on answers again, or no longer does."""
        if up:
            self._log.event("info", "dependency.up", dependency=name)
        else:
            self._log.event("error", "dependency.down", dependency=name, reason=why)

    def unsettled(self, limits: Mapping[str, int]) -> None:
        """Count what messages reserved of limits and never settled."""
        with self.lock:
            for limit, count in limits.items():
                self._metrics.unsettled(limit, count)

    def check_failed(self, rule: str, failure: CheckFailedError) -> None:
        """Count a check that could not be made, and tell why, of each rule once a minute."""
        with self.lock:
            if failure.dependency:
                self._metrics.fallback(failure.dependency)
            left_out = self._throttle.left_out(rule, self.timer())
        if left_out is not None:
            self._log.event(
                "warning", "check.failed", rule=rule, failure=str(failure), left_out=left_out
            )

    def went_without(self, failure: CheckFailedError) -> None:
        """Count what did not answer a check that could do without; its state is told elsewhere."""
        if failure.dependency:
            with self.lock:
                self._metrics.fallback(failure.dependency)

    def stamp_failed(self, why: str) -> None:
        """Tell why a result above a message says temperror, once a minute."""
        with self.lock:
            left_out = self._throttle.left_out("stamp", self.timer())
        if left_out is not None:
            self._log.event("warning", "stamp.failed", failure=why, left_out=left_out)

    def settle_failed(self, why: str) -> None:
        """Tell why something that was reserved was not settled, once a minute."""
        with self.lock:
            left_out = self._throttle.left_out("", self.timer())
        if left_out is not None:
            self._log.event("warning", "settle.failed", failure=why, left_out=left_out)

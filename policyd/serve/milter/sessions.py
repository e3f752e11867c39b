"""The open milter sessions: how many, and under which policy each of them runs."""

import threading
from collections.abc import Callable

from policyd.rules.policy import Policy
from policyd.serve.milter.door import Service


class Sessions:
    """
    Counts sessions, refuses those that are too many, and knows which policies are still in use.

    Called on any thread. A session begins under the service's policy at that moment: it either is
    counted before `policies` is asked after a change, or begins under the new one.
    """

    def __init__(self, service: Service, most: int, changed: Callable[[int], object]) -> None:
        """Allow `most` at once; `changed` is told each new count, in order, and must not raise."""
        self.most = most
        self.open = 0
        self._service = service
        self._changed = changed
        self._under: dict[Policy, int] = {}
        self._lock = threading.Lock()

    def begin(self) -> Policy | None:
        """Count one more and give its policy; None if there are as many as may be."""
        with self._lock:
            if self.open >= self.most:
                return None
            policy = self._service.policy
            self._under[policy] = self._under.get(policy, 0) + 1
            self.open += 1
            self._changed(self.open)
            return policy

    def end(self, policy: Policy) -> None:
        """Count one less of those that began under a policy."""
        with self._lock:
            self._under[policy] -= 1
            if not self._under[policy]:
                del self._under[policy]
            self.open -= 1
            self._changed(self.open)

    @property
    def policies(self) -> frozenset[Policy]:
        """The policies under which sessions run."""
        with self._lock:
            return frozenset(self._under)

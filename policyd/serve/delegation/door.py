"""The one door, as this front end sees it: what it needs of a service.Service."""

from collections.abc import Coroutine
from typing import Any, Protocol

from policyd.facts.table import Attributes
from policyd.protocol.delegation import Asked, Request
from policyd.service import Answer, Memory
from policyd.smtp.stage import FrontEnd, Stage


class Door(Protocol):
    """What decides, counts and logs; it answers for its own faults and raises nothing."""

    def memory(self) -> Memory:
        """Make what is remembered about a connection."""

    def answer_policy(
        self, request: Request, asked: Asked, memory: Memory
    ) -> Answer | Coroutine[Any, Any, Answer]:
        """Decide; a coroutine's first yield means that it must wait, in a Task."""

    def decline(self, stage: Stage | None, attributes: Attributes | None = None) -> Answer:
        """Give the answer to a request that nobody here decides: DUNNO."""

    def written(self, answer: Answer) -> None:
        """Count and log an answer that is about to be written."""

    def protocol_error(self, front_end: FrontEnd, reason: str, **detail: object) -> None:
        """Count and log what a peer did wrong."""

    def connected(self, front_end: FrontEnd, delta: int) -> None:
        """Count connections: one more or one less."""

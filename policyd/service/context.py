"""What a question has while it is decided: the time, checks within their limit, what was found."""

import asyncio
import types
from collections.abc import Awaitable, Callable, Generator
from threading import Lock
from typing import Final, Protocol, cast

import msgspec

from policyd.checks.interface import Answer, Check, CheckFailedError, Count
from policyd.facts.table import Attributes
from policyd.mail.arrived import UnreadableError
from policyd.rules.policy import Match

FAILED: Final = "failed"
"""The result under which a check that could not be made is counted."""


class Notes(Protocol):
    """What a decision shares with the others: time, the lock, and where checks are counted."""

    timer: Callable[[], float]
    lock: Lock
    decision_timeout: float

    def checked(self, check: str, result: str, seconds: float) -> None:
        """Count a check."""
        ...

    def counted(self, counts: tuple[Count, ...]) -> None:
        """Count what a check counts beside its result."""
        ...

    def went_without(self, failure: CheckFailedError) -> None:
        """Tell what did not answer a check that could do without, and count it."""
        ...

    def check_failed(self, rule: str, failure: CheckFailedError) -> None:
        """Tell why a rule's check could not be made, and count that it was done without."""
        ...


@types.coroutine
def hand_over() -> Generator[None, None, None]:
    """
    Mark the place up to which a coroutine may be stepped outside a Task.

    Whoever steps it makes it a Task here; inside a Task it is a turn of the loop.
    """
    yield


class DecisionContext(msgspec.Struct):
    """
    The state of one decision (rules.policy.Context), begun at `now`.

    All remote checks together may take `decision_timeout` seconds. Checks that are not remote run
    under the service's lock, since milter callbacks decide on threads of their own. `taken` gives
    back what remote checks took, for a request that is refused. `asked` are the remote checks that
    were made, with what was found or why not: rules that ask the same are answered alike.
    """

    now: float
    notes: Notes
    score: float = 0
    hits: list[Match] = []
    trace: dict[int, object] = {}
    values: dict[str, str] = {}
    failures: list[str] = []
    deadline: float | None = None
    taken: list[Callable[[], Awaitable[None]]] = []
    asked: dict[tuple[object, ...], Answer | CheckFailedError] = {}

    def ask(self, check: Check, attributes: Attributes, *arguments: object) -> object:
        """Make a check that answers at once."""
        notes = self.notes
        started = notes.timer()
        try:
            with notes.lock:
                answer = cast("Answer", check.ask(attributes, *arguments))
        except CheckFailedError:
            notes.checked(check.name, FAILED, notes.timer() - started)
            raise
        return self._shown(self._counted(check, answer, started))

    async def ask_remote(self, check: Check, attributes: Attributes, *arguments: object) -> object:
        """Make a remote check within what is left of the decision's time."""
        if check.asks_once:
            return self._shown(await self._made(check, attributes, *arguments))
        question = (check.name, *arguments)
        found = self.asked.get(question)
        if found is None:
            try:
                found = await self._made(check, attributes, *arguments)
            except CheckFailedError as error:
                found = error
            self.asked[question] = found
        if isinstance(found, CheckFailedError):
            raise CheckFailedError(str(found), found.dependency)
        return self._shown(found)

    async def _made(self, check: Check, attributes: Attributes, *arguments: object) -> Answer:
        notes = self.notes
        if self.deadline is None:
            self.deadline = notes.timer() + notes.decision_timeout
            await hand_over()
        started = notes.timer()
        try:
            async with asyncio.timeout(max(0.0, self.deadline - started)):
                answer = await cast("Awaitable[Answer]", check.ask(attributes, *arguments))
        except (CheckFailedError, UnreadableError, TimeoutError) as error:
            notes.checked(check.name, FAILED, notes.timer() - started)
            if isinstance(error, UnreadableError):
                raise CheckFailedError(f"{check.name}(): {error}") from error
            if isinstance(error, TimeoutError):
                why = f"{check.name}() took longer than the decision's {notes.decision_timeout:g} s"
                raise CheckFailedError(why, check.dependency) from error
            if error.counts:
                notes.counted(error.counts)
            raise
        return self._counted(check, answer, started)

    def _counted(self, check: Check, answer: Answer, started: float) -> Answer:
        self.notes.checked(check.name, answer.result, self.notes.timer() - started)
        if answer.counts:
            self.notes.counted(answer.counts)
        for failure in answer.without:
            self.notes.went_without(failure)
        if answer.give_back is not None:
            self.taken.append(answer.give_back)
        return answer

    def _shown(self, answer: Answer) -> object:
        self.values.update(answer.values)
        return answer.value

    def failed(self, match: Match, failure: CheckFailedError) -> None:
        """Take note that a rule's check could not be made; its on_error says what then."""
        self.failures.append(f"{match.rule}: {failure}")
        self.notes.check_failed(match.rule, failure)

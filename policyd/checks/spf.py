"""
The checks `spf()` and `spf_helo()`: whether a client may send for a domain (RFC 7208).

What the DNS does not answer is the result temperror; only a fault of ours fails the check. An
answer is kept as long as the DNS lets its records be kept. One that depends on neither the local
part nor the HELO name, as nearly all do, serves every sender of its domain at the same client.
"""

import asyncio
import socket
import time
from collections import OrderedDict
from collections.abc import Callable, Hashable
from typing import Final, NamedTuple

import msgspec

from policyd.checks.interface import Answer, Check, CheckFailedError
from policyd.facts import read
from policyd.facts.table import Attributes, FactType
from policyd.mail.spf import (
    LONGEST_TEXT,
    POSTMASTER,
    RESULTS,
    Identity,
    SpfAnswer,
    SpfEvaluation,
    SpfQuestion,
    may_have_policy,
)
from policyd.processes.work import Runner

LIMIT: Final = 5.0
"""Seconds for an answer, within [server] decision_timeout; then the result is temperror."""
MOST_KEPT: Final = 10_000
"""Answers that are kept; some 10 MB when they are all there."""

_WORK: Final = "policyd.mail.spf_work:spf"
_KILLED_AFTER: Final = 40.0
"""Seconds for the work: it begins no question after LIMIT, and none takes longer than 30 s."""
_VALUES: Final = {
    "spf_result": "pass, fail, softfail, neutral, none, temperror or permerror",
    "spf_domain": "the domain whose policy was asked for",
    "spf_reason": "the mechanism that matched, or what is wrong with the policy",
    "spf_explanation": "what the domain says to a sender who fails; empty if nothing",
}

_Key = tuple[Hashable, ...]


class SenderPolicy:
    """
    Evaluates SPF by a runner; the same question, asked by many at a time, is evaluated once.

    `receiver` is the host of macro %{r}, by default this one. `clock` gives seconds of a monotonic
    clock. Without a runner it is for loading only, and fails. Everything runs on one event loop.
    """

    def __init__(
        self,
        runner: Runner | None,
        *,
        receiver: str = "",
        clock: Callable[[], float] = time.monotonic,
        limit: float = LIMIT,
    ) -> None:
        """Begin with no answers."""
        self._runner = runner
        self._receiver = receiver or socket.gethostname()
        self._clock = clock
        self._limit = limit
        self._kept: OrderedDict[_Key, _Made] = OrderedDict()
        self._flights: dict[_Key, _Flight] = {}

    async def evaluate(self, attributes: Attributes, identity: Identity) -> SpfAnswer:
        """
        Give the result for a client and one of its identities.

        For the null sender MAIL_FROM is the postmaster of the HELO name (section 2.4). Without
        the client's address there is none. CheckFailedError if a fault of ours prevents it.
        """
        question = self._question(attributes, identity)
        if not question.address:
            return _none(question, "the client's address is not known")
        if not may_have_policy(question.domain):
            return _none(question, f"{question.domain or 'nothing'} is no domain with a policy")
        if self._runner is None:
            raise CheckFailedError("SPF is not evaluated where a configuration is only loaded")
        return await self._answer(self._runner, question)

    def _question(self, attributes: Attributes, identity: Identity) -> SpfQuestion:
        helo = read.domain(attributes.get("helo_name"))
        sender = read.text(attributes.get("sender"))
        local, _, domain = sender.rpartition("@")
        if identity is Identity.HELO or not sender:
            local, domain = POSTMASTER, helo
        elif "@" not in sender:
            domain = ""
        return SpfQuestion(
            read.ip(attributes.get("client_address")).partition("%")[0],
            identity,
            local or POSTMASTER,
            read.domain(domain),
            helo,
            self._receiver,
            self._limit,
        )

    async def _answer(self, runner: Runner, question: SpfQuestion) -> SpfAnswer:
        """Give the answer to all senders of the domain at the client, or else to this one."""
        deadline = self._clock() + self._limit
        shared: _Key = (question.address, question.identity, question.domain)
        own: _Key = (*shared, question.local, question.helo)
        made = await self._made(runner, shared, own, question, deadline)
        if made is not None and made.evaluation.personal and made.own != own:
            made = await self._made(runner, own, own, question, deadline)
        if made is None:
            why = f"no answer within {self._limit:g} s"
            return SpfAnswer("temperror", question.identity, question.domain, why)
        return made.evaluation.answer

    async def _made(
        self, runner: Runner, key: _Key, own: _Key, question: SpfQuestion, deadline: float
    ) -> "_Made | None":
        """Give what is kept under a key, or evaluate it together with all who ask; None if late."""
        kept = self._kept.get(key)
        if kept is not None and self._clock() < kept.expires:
            self._kept.move_to_end(key)
            return kept
        flight = self._flights.get(key)
        if flight is None:
            flight = self._begin(runner, key, own, question)
        flight.waiting += 1
        try:
            await asyncio.wait((flight.task,), timeout=max(deadline - self._clock(), 0))
        finally:
            flight.waiting -= 1
            if not flight.waiting:
                flight.task.cancel()
                self._landed(key, flight)
        if flight.task.cancelled() or not flight.task.done():
            return None
        error = flight.task.exception()
        if error is not None:
            raise CheckFailedError(f"SPF cannot be evaluated: {error}") from error
        return flight.task.result()

    def _begin(self, runner: Runner, key: _Key, own: _Key, question: SpfQuestion) -> "_Flight":
        work = self._evaluate(runner, key, own, question)
        flight = self._flights[key] = _Flight(asyncio.get_running_loop().create_task(work))
        flight.task.add_done_callback(lambda _task: self._landed(key, flight))
        return flight

    def _landed(self, key: _Key, flight: "_Flight") -> None:
        """Let nobody else wait for it; a failure that nobody waited for is no fault of ours."""
        if self._flights.get(key) is flight:
            del self._flights[key]
        if flight.task.done() and not flight.task.cancelled():
            flight.task.exception()

    async def _evaluate(
        self, runner: Runner, key: _Key, own: _Key, question: SpfQuestion
    ) -> "_Made":
        payload = msgspec.msgpack.encode(question)
        result = await runner.run(_WORK, payload, limit=_KILLED_AFTER)
        evaluation = msgspec.msgpack.decode(result, type=SpfEvaluation)
        answer = evaluation.answer
        made = _Made(own, evaluation, self._clock() + answer.ttl)
        if answer.result != "temperror" and answer.ttl > 0:
            self._keep(key, made)
            if evaluation.personal:
                self._keep(own, made)
        return made

    def _keep(self, key: _Key, made: "_Made") -> None:
        self._kept[key] = made
        self._kept.move_to_end(key)
        if len(self._kept) > MOST_KEPT:
            self._kept.popitem(last=False)


class _Made(NamedTuple):
    """An evaluation: of which question, and until when it may be kept."""

    own: _Key
    evaluation: SpfEvaluation
    expires: float


class _Flight:
    """An evaluation under way, and how many wait for it; when nobody does, it is given up."""

    def __init__(self, task: "asyncio.Task[_Made]") -> None:
        self.task = task
        self.waiting = 0


def checks(sender: SenderPolicy) -> tuple[Check, ...]:
    """Give the checks, which ask a SenderPolicy."""
    return (
        _check(
            sender,
            "spf",
            Identity.MAIL_FROM,
            ("sender", "client_address", "helo_name"),
            "spf(): what SPF says of the client and the sender's domain, for <> the HELO name",
        ),
        _check(
            sender,
            "spf_helo",
            Identity.HELO,
            ("client_address", "helo_name"),
            "spf_helo(): what SPF says of the client and the name given with HELO",
        ),
    )


def _check(
    sender: SenderPolicy, name: str, identity: Identity, needs: tuple[str, ...], says: str
) -> Check:
    async def ask(attributes: Attributes) -> Answer:
        answer = await sender.evaluate(attributes, identity)
        values = {
            "spf_result": answer.result,
            "spf_domain": answer.domain,
            "spf_reason": answer.reason,
            "spf_explanation": answer.explanation,
        }
        cut = {key: value[:LONGEST_TEXT] for key, value in values.items()}
        return Answer(answer.result, answer.result, cut)

    return Check(
        name,
        ask,
        needs=needs,
        result=FactType.TEXT,
        results=RESULTS,
        remote=True,
        values=_VALUES,
        says=says,
    )


def _none(question: SpfQuestion, reason: str) -> SpfAnswer:
    return SpfAnswer("none", question.identity, question.domain, reason)

"""
The one door: both front ends ask here, and every answer leaves through here.

The service decides, lets checks take no longer than they may, falls back, and counts and logs
each answer where it is written. It is asked from the event loop by policy delegation and from
libmilter's threads by the milter: what it shares is guarded by one lock, held for microseconds.
"""

import asyncio
import time
from collections.abc import Awaitable, Callable, Coroutine, Mapping
from concurrent.futures import Future
from typing import Any, Final, TypeVar, cast

import msgspec

from policyd.checks.settling import Ends
from policyd.facts.table import Attributes
from policyd.observe.series import Layout, Row
from policyd.protocol.delegation import Asked, Request, encode_action
from policyd.rules.outcome import ignored_when_answered_there
from policyd.rules.policy import Ask, AskRemote, Match, Policy, Question, Traced
from policyd.service.context import DecisionContext, hand_over
from policyd.service.ids import Ids
from policyd.service.outlets import Counters, Journal
from policyd.service.reply import FAULT, argument_of, reply_of
from policyd.service.settling import Settling
from policyd.service.stamping import UNSTAMPED, Stamped, Stamper, forged_in, methods_of
from policyd.service.telling import Telling
from policyd.smtp.decision import Decision, RuleHit, Source, Verdict
from policyd.smtp.stage import FrontEnd, RestrictionList, Stage

_T = TypeVar("_T")
_REFUSALS: Final = frozenset({Verdict.DEFER, Verdict.REJECT})
_ENDING: Final = frozenset({Stage.DATA, Stage.END_OF_DATA})
"""Where a message ends: at DATA if it is refused, for clients then go away or begin another."""


class Settings(msgspec.Struct, frozen=True):
    """
    What the configuration says about every decision.

    `decision_timeout` is in seconds, for all remote checks of one decision together.
    """

    decision_timeout: float = 8.0
    show_id: bool = False
    utf8: bool = False
    log_decisions: bool = True


def _nobody(_front_end: FrontEnd, _delta: int) -> None:
    """Stand for whoever might want to know of connections."""


class Memory:
    """What is remembered about one policy connection: whose PREPEND the message has already."""

    __slots__ = ("instance", "prepended")

    def __init__(self) -> None:
        """Start with no message."""
        self.instance = ""
        self.prepended: set[str] = set()

    def first_time(self, instance: str, rule: str) -> bool:
        """Tell whether a rule's header is new to the message, and take note of it."""
        if instance != self.instance or not instance:
            self.instance = instance
            self.prepended.clear()
        if rule in self.prepended:
            return False
        self.prepended.add(rule)
        return True


class Answer(msgspec.Struct, frozen=True, gc=False):
    """A decision on its way out; `wire` is a policy answer, `started` a reading of the timer."""

    front_end: FrontEnd
    decision: Decision
    attributes: Attributes
    stages: tuple[Stage, ...]
    started: float
    wire: bytes = b""


class Service(Telling):
    """Decides what it is asked, by the policy in force; see the module."""

    def __init__(
        self,
        policy: Policy,
        metrics: Counters,
        log: Journal,
        ids: Ids,
        settings: Settings | None = None,
        *,
        connections: Callable[[FrontEnd, int], object] = _nobody,
        clock: Callable[[], float] = time.time,
        timer: Callable[[], float] = time.perf_counter,
    ) -> None:
        """
        Serve a policy; `clock` is the time of day, `timer` measures what passes.

        `connections` is told of one more or one less of a front end, on whichever thread it is.
        """
        super().__init__(policy, metrics, log, connections, timer)
        self.loop: asyncio.AbstractEventLoop | None = None
        self._ids = ids
        self._settings = settings or Settings()
        self._clock = clock
        self.decision_timeout = self._settings.decision_timeout
        self.settling = Settling(self.settle_failed)
        self.stamper = Stamper(self.stamp_failed)

    def take(self, policy: Policy, settings: Settings, layout: Layout, row: Row) -> None:
        """
        Serve another policy from the next question on, and count where its layout says.

        A milter session goes on with the policy that it negotiated with, which the layout is to
        have the series of, too.
        """
        with self.lock:
            self._metrics.move(layout, row)
            self.policy = policy
            self._settings = settings
            self.decision_timeout = settings.decision_timeout

    # policy delegation

    def memory(self) -> Memory:
        """Make what is remembered about a connection."""
        return Memory()

    def answer_policy(
        self, request: Request, asked: Asked, memory: Memory
    ) -> Answer | Coroutine[Any, Any, Answer]:
        """Decide a request; where checks are remote a coroutine, which waits at its first yield."""
        question = self.policy.asked(asked.stage, alone=asked.alone)
        ends = None
        if asked.stage in _ENDING:
            ends = self.settling.ends(self.policy, FrontEnd.POLICY)
        if question is None:
            declined = self.decline(asked.stage, request.attributes)
            return declined if ends is None else self._settle(declined, ends)
        asking = _Asking(
            question,
            request.attributes,
            self.timer(),
            self._clock(),
            asked.restriction,
            memory,
            request.stage,
        )
        if question.remote:
            return self._decide_remote(asking, ends)
        answer = self._decide(asking)
        return answer if ends is None else self._settle(answer, ends)

    def decline(self, stage: Stage | None, attributes: Attributes | None = None) -> Answer:
        """Answer DUNNO where there is nothing to decide: not our stage, or none that is known."""
        decision = Decision(self._ids.next(self._clock()), Verdict.PASS, stage, Source.DEFAULT)
        stages = () if stage is None else (stage,)
        wire = encode_action(decision)
        return Answer(FrontEnd.POLICY, decision, attributes or {}, stages, self.timer(), wire)

    # milter

    def decide_milter(self, stage: Stage, attributes: Attributes, policy: Policy) -> Answer:
        """
        Decide a milter's stage under the policy that its session negotiated with.

        Blocks, so it is called from libmilter's threads only; a stage with remote checks is
        decided on the loop. The end of a message is settled as it is decided.
        """
        ends = None
        if stage is Stage.END_OF_DATA and not _is_local(attributes):
            ends = self.settling.ends(policy, FrontEnd.MILTER)
        questions = policy.local if _is_local(attributes) else policy.milter
        question = questions.get(stage)
        started, now = self.timer(), self._clock()
        if question is None:
            decision = Decision(self._ids.next(now), Verdict.PASS, stage, Source.DEFAULT)
            return Answer(FrontEnd.MILTER, decision, attributes, (stage,), started)
        asking = _Asking(question, attributes, started, now)
        if question.remote:
            return self._on_loop(self._decide_remote(asking, ends))
        answer = self._decide(asking)
        return answer if ends is None else self._on_loop(self._settle(answer, ends))

    def settle_milter(self, attributes: Attributes, policy: Policy) -> None:
        """Spend what a message reserved that no rule decides at its end; blocks."""
        ends = self.settling.ends(policy, FrontEnd.MILTER)
        if ends is not None:
            self._on_loop(self.settling.settle(attributes, ends, accepted=True))

    def abandon_milter(self, attributes: Attributes, policy: Policy) -> Future[None] | None:
        """
        Give back what a message reserved that ended before its end; None if nothing did.

        Called on any thread; the future is for whoever must not go on before.
        """
        ends = self.settling.ends(policy, FrontEnd.MILTER)
        if ends is None or self.loop is None:
            return None
        abandoning = self.settling.abandon(attributes, ends, self._clock())
        return asyncio.run_coroutine_threadsafe(abandoning, self.loop)

    def stamp_milter(self, attributes: Attributes, policy: Policy) -> Stamped:
        """
        Give what is written above a message that is accepted, and which of its fields go; blocks.

        What is not found out within the time of a decision is written as a temporary error.
        """
        stamping = policy.stamping
        if stamping is None or _is_local(attributes):
            return UNSTAMPED
        removed = forged_in(stamping, attributes)
        if not methods_of(stamping, attributes):
            return Stamped(removed)
        writing = self.stamper.fields(stamping, attributes, self.decision_timeout)
        return Stamped(removed, self._on_loop(writing))

    def _on_loop(self, work: Coroutine[Any, Any, _T]) -> _T:
        if self.loop is None:
            work.close()
            raise RuntimeError("no event loop for what is remote")
        return asyncio.run_coroutine_threadsafe(work, self.loop).result()

    def fault_milter(self, stage: Stage, attributes: Attributes, error: BaseException) -> Answer:
        """Answer for a fault in the milter front end itself, at the stage that it was busy with."""
        return self._apologize(FrontEnd.MILTER, (stage,), attributes, self.timer(), error)

    # both

    def trace(
        self,
        question: Question,
        attributes: Attributes,
        *,
        restriction: RestrictionList | None,
        state: Stage,
        close: Callable[[], Awaitable[None]],
    ) -> tuple[Answer, Traced, Mapping[int, object]]:
        """
        Decide a question with every step kept; the answer is for showing, not for writing.

        `close` lets go of what remote checks have opened.
        """
        traced = question.trace()
        started, now = self.timer(), self._clock()
        asking = _Asking(question, attributes, started, now, restriction, state=state)
        context = DecisionContext(asking.now, self)
        try:
            found = traced.ask(attributes, context)
            match = (
                asyncio.run(_wait(found, close)) if question.remote else cast("Match | None", found)
            )
            answer = self._answer(asking, match, context)
        except Exception as error:  # noqa: BLE001 -- shown as it would be answered
            answer = self._fault(asking, error)
        return answer, traced, context.trace

    def written(self, answer: Answer) -> None:
        """Count and log an answer; called right before it is written."""
        seconds = self.timer() - answer.started
        with self.lock:
            self._metrics.answered(answer.front_end, answer.decision, answer.stages, seconds)
        if self._settings.log_decisions or _is_told(answer.decision):
            self._log.decision(answer.decision, answer.attributes, answer.front_end, seconds)

    def _decide(self, asking: "_Asking") -> Answer:
        try:
            context = DecisionContext(asking.now, self)
            match = cast("Ask", asking.question.ask)(asking.attributes, context)
            return self._answer(asking, match, context)
        except Exception as error:  # noqa: BLE001 -- a fault of ours is answered, never raised
            return self._fault(asking, error)

    async def _decide_remote(self, asking: "_Asking", ends: Ends | None = None) -> Answer:
        context = DecisionContext(asking.now, self)
        try:
            match = await cast("AskRemote", asking.question.ask)(asking.attributes, context)
            answer = self._answer(asking, match, context)
        except Exception as error:  # noqa: BLE001 -- a fault of ours is answered, never raised
            answer = self._fault(asking, error)
        if context.taken and answer.decision.verdict in _REFUSALS:
            await self.settling.give_back(context.taken)
        return answer if ends is None else await self._settle(answer, ends)

    async def _settle(self, answer: Answer, ends: Ends) -> Answer:
        """End the message that an answer is about, unless it goes on."""
        accepted = answer.decision.verdict not in _REFUSALS
        if accepted and Stage.DATA in answer.stages:
            return answer
        await hand_over()
        await self.settling.settle(answer.attributes, ends, accepted=accepted)
        return answer

    def _answer(self, asking: "_Asking", match: Match | None, context: DecisionContext) -> Answer:
        question = asking.question
        reason = "; ".join(context.failures) if context.failures else ""
        also: tuple[RuleHit, ...] = ()
        if context.hits:
            also = tuple(_hit(hit) for hit in context.hits if hit is not match)
        if match is None:
            decision = _default(self._ids.next(asking.now), question.stages[-1], reason, also)
        else:
            decision = self._by_rule(asking, match, context, reason, also)
        wire = encode_action(decision) if question.front_end is FrontEnd.POLICY else b""
        return Answer(
            question.front_end, decision, asking.attributes, question.stages, asking.started, wire
        )

    def _by_rule(
        self,
        asking: "_Asking",
        match: Match,
        context: DecisionContext,
        reason: str,
        also: tuple[RuleHit, ...],
    ) -> Decision:
        id_ = self._ids.next(asking.now)
        verdict, why = self._done(asking, match)
        if verdict is not match.verdict:
            reason = "; ".join(filter(None, (reason, why)))
            return _default(id_, asking.question.stages[-1], reason, (*also, _hit(match)))
        settings = self._settings
        return Decision(
            id_,
            verdict,
            match.stage,
            Source.RULE,
            reply=reply_of(
                match,
                asking.attributes,
                context,
                restriction=asking.restriction,
                utf8=settings.utf8,
                tail=f" [{id_}]" if settings.show_id else "",
            ),
            argument=argument_of(match, asking.attributes, context, utf8=settings.utf8),
            rule=match.rule,
            reason="; ".join(filter(None, (match.reason, reason))),
            if_permitted=match.if_permitted,
            also=also,
        )

    def _done(self, asking: "_Asking", match: Match) -> tuple[Verdict, str]:
        """Give the verdict that can be carried out here and now, and why if it is another."""
        state = asking.state
        if state is not None and ignored_when_answered_there(
            match.verdict, state, asking.question.front_end
        ):
            return Verdict.PASS, f"Postfix would ignore {match.verdict} at {state}"
        if match.verdict is Verdict.PREPEND and asking.memory is not None:
            instance = str(asking.attributes.get("instance", ""))
            if not asking.memory.first_time(instance, match.rule):
                return Verdict.PASS, "the message has the header already"
        return match.verdict, ""

    def _fault(self, asking: "_Asking", error: Exception) -> Answer:
        question = asking.question
        return self._apologize(
            question.front_end, question.stages, asking.attributes, asking.started, error
        )

    def _apologize(
        self,
        front_end: FrontEnd,
        stages: tuple[Stage, ...],
        attributes: Attributes,
        started: float,
        error: BaseException,
    ) -> Answer:
        """
        Answer for a fault of our own: 451 4.3.0, after which the client tries again.

        A submission that did not come by SMTP would be retried for ever, and <postmaster> is never
        refused (RFC 5321 section 4.5.1): both go on.
        """
        last = stages[-1]
        id_ = self._ids.next(self._clock())
        what = f"{type(error).__name__}: {error}"
        self._log.event("error", "decision.failed", id=id_, stage=last, error=what)
        spared = _is_local(attributes) or _is_postmaster(last, attributes)
        decision = Decision(
            id_,
            Verdict.PASS if spared else Verdict.DEFER,
            last,
            Source.ERROR,
            reply=None if spared else FAULT,
            reason=f"fault: {type(error).__name__}",
        )
        wire = encode_action(decision) if front_end is FrontEnd.POLICY else b""
        return Answer(front_end, decision, attributes, stages, started, wire)


class _Asking(msgspec.Struct, gc=False):
    """One question asked: what is known, since when, and what the answer depends on."""

    question: Question
    attributes: Attributes
    started: float
    now: float
    restriction: RestrictionList | None = None
    memory: Memory | None = None
    state: Stage | None = None


def _default(id_: str, stage: Stage, reason: str, also: tuple[RuleHit, ...]) -> Decision:
    """Decide that nobody objects."""
    return Decision(id_, Verdict.PASS, stage, Source.DEFAULT, reason=reason, also=also)


def _is_told(decision: Decision) -> bool:
    """Tell whether a decision is logged in any case: a milter's warn is logged by nobody else."""
    return decision.verdict is Verdict.WARN or decision.source is Source.ERROR


async def _wait(found: object, close: Callable[[], Awaitable[None]]) -> Match | None:
    try:
        return await cast("Awaitable[Match | None]", found)
    finally:
        await close()


def _is_local(attributes: Attributes) -> bool:
    """Tell whether a submission did not come by SMTP: cleanup(8) would retry it for ever."""
    return attributes.get("local_submission") is True


def _is_postmaster(stage: Stage, attributes: Attributes) -> bool:
    """Tell whether a recipient is the one that is never refused (RFC 5321 section 4.5.1)."""
    return stage is Stage.RCPT and str(attributes.get("recipient", "")).lower() == "postmaster"


def _hit(match: Match) -> RuleHit:
    return RuleHit(
        match.rule,
        match.stage,
        match.verdict,
        match.code_label,
        match.enhanced_label,
        match.mode,
    )

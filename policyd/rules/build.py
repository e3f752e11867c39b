"""
From rules as written to a Policy: each rule checked at each of its stages, all complaints at once.

The linter of replies is `smtp.pairing`, what Postfix will make of them `protocol.postfix`; this
module asks them, holds each rule against the verb table, and compiles the questions.
"""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Final

from policyd.checks.interface import SKIP, Check, Follow
from policyd.facts.table import FACTS, FactType, where_known
from policyd.mail.stamping import Stamping
from policyd.protocol import postfix
from policyd.rules import nodes
from policyd.rules.across import not_carried, unreachable
from policyd.rules.compile import compile_question
from policyd.rules.emit import Namespace
from policyd.rules.expression import parse as parse_condition
from policyd.rules.outcome import (
    WHOLE_MESSAGE,
    Outcome,
    OutcomeError,
    forbidden,
    ignored_when_answered_there,
    needs_whole_message,
)
from policyd.rules.outcome import parse as parse_outcome
from policyd.rules.policy import AT_RCPT, Match, Policy, Question, Rule
from policyd.rules.scope import SPEAKERS, Scope
from policyd.rules.source import Complaint, RuleSource
from policyd.smtp import pairing
from policyd.smtp.catalogue import NAMED
from policyd.smtp.decision import Mode, Verdict
from policyd.smtp.reply import EnhancedCode
from policyd.smtp.stage import TRANSACTION, FrontEnd, Stage

_WEIGHTS: Final[Mapping[Verdict, int]] = {
    verdict: weight
    for weight, verdict in enumerate(
        (
            Verdict.WARN,
            Verdict.PREPEND,
            Verdict.BCC,
            Verdict.REDIRECT,
            Verdict.FILTER,
            Verdict.HOLD,
        ),
        start=1,
    )
}
_LOCAL: Final = "local_submission"
_EVERY_REQUEST: Final = Follow(Stage.RCPT, "", "")
"""What a rule follows at its own stages: nothing."""


@dataclass(frozen=True, slots=True)
class Surroundings:
    """
    What rules are built with: who decides which stage, the lists, the checks.

    `stamping` goes with the policy as it is.
    """

    owners: Mapping[Stage, FrontEnd]
    scope: Mapping[Stage, Scope]
    utf8: bool = False
    hash: str = ""
    stamping: Stamping | None = None


def build(
    sources: Sequence[RuleSource], surroundings: Surroundings
) -> tuple[Policy | None, tuple[Complaint, ...]]:
    """Give the policy and all complaints; no policy when one of them is an error."""
    complaints: list[Complaint] = []
    rules: list[Rule] = []
    for source in sources:
        builder = _RuleBuilder(source, surroundings)
        rules.extend(builder.rules())
        complaints.extend(builder.complaints)
    complaints.extend(unreachable(rules))
    complaints.extend(not_carried(rules, surroundings.owners))
    unique = tuple(dict.fromkeys(complaints))
    if any(complaint.error for complaint in unique):
        return None, unique
    return _policy(tuple(rules), surroundings), unique


class _RuleBuilder:
    """Checks one rule at each of its stages."""

    def __init__(self, source: RuleSource, surroundings: Surroundings) -> None:
        self._source = source
        self._surroundings = surroundings
        self.complaints: list[Complaint] = []

    def _complain(self, key: str, what: str, mend: str, *, error: bool = True) -> None:
        self.complaints.append(Complaint(self._source, key, what, mend, error))

    def rules(self) -> list[Rule]:
        """Give the rule once for each of its stages; complaints are kept beside."""
        outcome = self._outcome("then", self._source.then)
        fallback = self._on_error()
        found = []
        for stage in self._source.stages:
            owner = self._surroundings.owners.get(stage)
            if owner is None:
                self._complain(
                    "stage",
                    f"no front end decides stage {stage}",
                    f"add {stage} to the stages of [policy_service] or [milter]",
                )
                continue
            rule = self._at(stage, owner, outcome, fallback)
            if rule is not None:
                found.append(rule)
                found.extend(self._following(rule, outcome, fallback))
        return found

    def _following(
        self, rule: Rule, outcome: Outcome | None, fallback: Outcome | None
    ) -> Iterator[Rule]:
        """Give the rule at the stages at which its checks are asked of some requests only."""
        checks = () if rule.condition is None else nodes.checks_of(rule.condition)
        for check in dict.fromkeys(check.name for check in checks):
            follow = self._surroundings.scope[rule.stage].checks[check].follows.get(rule.stage)
            if follow is None or follow.stage in self._source.stages:
                continue
            owner = self._surroundings.owners.get(follow.stage)
            complaints, self.complaints = self.complaints, []
            following = None
            if owner is not None:
                following = self._at(follow.stage, owner, outcome, fallback, follow)
            why = [complaint.what for complaint in self.complaints if complaint.error]
            self.complaints = complaints
            if following is not None:
                yield following
            else:
                self._complain(
                    "when",
                    f"{check}() does not ask for {follow.why} at {follow.stage}: "
                    f"{why[0] if why else 'no front end decides it'}",
                    f"give {follow.stage} a rule of its own, or the front end that stage",
                    error=False,
                )

    def _outcome(self, key: str, text: str) -> Outcome | None:
        """Read and judge a reply or a verb."""
        try:
            outcome = parse_outcome(text)
        except OutcomeError as error:
            self._complain(key, str(error), error.mend)
            return None
        if outcome.text is None:
            return outcome
        sound = True
        stages = self._source.stages
        if outcome.named:
            findings = pairing.judge_named(NAMED[outcome.named], outcome.text.text, stages)
        else:
            findings = pairing.judge(outcome.code, outcome.enhanced, outcome.text.text, stages)
        for finding in findings:
            sound = sound and finding.severity != "error"
            self._complain(key, finding.what, finding.mend, error=finding.severity == "error")
        if not (self._surroundings.utf8 or outcome.text.text.isascii()):
            self._complain(
                key,
                "the text is not ASCII; each other character is sent as ?",
                "write ASCII, or set utf8 = true in [replies]",
                error=False,
            )
        return outcome if sound else None

    def _on_error(self) -> Outcome | None:
        text = self._source.on_error
        if text in ("", SKIP):
            return None
        outcome = self._outcome("on_error", text)
        if outcome is not None and outcome.text is None:
            self._complain("on_error", f"on_error = {text!r} is a verb", 'write "skip" or a reply')
            return None
        return outcome

    def _at(
        self,
        stage: Stage,
        owner: FrontEnd,
        outcome: Outcome | None,
        fallback: Outcome | None,
        follow: Follow = _EVERY_REQUEST,
    ) -> Rule | None:
        before = sum(complaint.error for complaint in self.complaints)
        condition = self._condition(stage, follow)
        if outcome is not None:
            self._place(outcome, stage, owner)
            self._shows("then", outcome, stage, owner, condition, follow.facts)
            self._local(outcome, stage, owner, condition)
            self._asked_once(outcome, condition)
        if fallback is not None:
            self._shows("on_error", fallback, stage, owner, condition, follow.facts)
        if self._source.on_error and (condition is None or not nodes.checks_of(condition)):
            self._complain(
                "on_error", "no check in `when` that could fail", "leave on_error out", error=False
            )
        if outcome is None or sum(complaint.error for complaint in self.complaints) > before:
            return None
        return Rule(
            source=self._source,
            stage=stage,
            condition=condition,
            match=self._match(outcome, stage),
            fallback=self._fallback(fallback, condition, stage),
        )

    def _condition(self, stage: Stage, follow: Follow) -> nodes.Node | None:
        """Parse the rule's condition at a stage, where it holds for some requests only."""
        scope = replace(
            self._surroundings.scope[stage],
            facts=follow.facts,
            shadow=self._source.mode is Mode.SHADOW,
            settles=Stage.END_OF_DATA in self._surroundings.owners,
        )
        parts = []
        for text in filter(str.strip, (follow.when, self._source.when)):
            condition, faults = parse_condition(text, scope)
            for fault in faults:
                self._complain("when", fault.what, fault.mend)
            if condition is not None:
                parts.append(condition)
        if len(parts) < 2:
            return parts[0] if parts else None
        return nodes.Both(self._source.when, FactType.TRUTH, "and", tuple(parts))

    def _match(self, outcome: Outcome, stage: Stage, reason: str = "") -> Match:
        return Match(
            rule=self._source.name,
            stage=stage,
            verdict=outcome.verdict,
            mode=self._source.mode,
            code=outcome.code,
            enhanced=EnhancedCode.parse(outcome.enhanced) if outcome.code else None,
            text=outcome.text,
            argument=outcome.argument,
            if_permitted=outcome.if_permitted,
            score=outcome.score,
            weight=_WEIGHTS.get(outcome.verdict, 0),
            reason=reason,
        )

    def _fallback(
        self, configured: Outcome | None, condition: nodes.Node | None, stage: Stage
    ) -> Match | None:
        """Give the reply when a check fails: the rule's own, else its checks' default."""
        checks: tuple[Check, ...] = () if condition is None else nodes.checks_of(condition)
        if not checks or self._source.on_error == SKIP:
            return None
        if configured is None:
            texts = [check.on_error for check in checks if check.on_error != SKIP]
            if not texts:
                return None
            configured = parse_outcome(texts[0])
        return self._match(configured, stage, reason="a check failed")

    def _place(self, outcome: Outcome, stage: Stage, owner: FrontEnd) -> None:
        """Hold the outcome against the verb table, and say what Postfix will make of a reply."""
        why = forbidden(outcome.verdict, stage, owner)
        if why:
            self._complain(
                "then",
                f"{outcome.verdict} cannot be done at {stage} by {SPEAKERS[owner]}: {why}",
                _other_place(outcome.verdict, stage, owner),
            )
        if needs_whole_message(outcome.verdict, stage) and not self._source.whole_message:
            self._complain(
                "then",
                f"{outcome.verdict} at rcpt acts on the whole message, for every recipient",
                "say whole_message = true, or answer this recipient with a reply",
            )
        if self._source.whole_message and outcome.verdict not in WHOLE_MESSAGE:
            self._complain(
                "whole_message",
                f"whole_message says nothing with {outcome.verdict}",
                "leave it out",
                error=False,
            )
        if ignored_when_answered_there(outcome.verdict, stage, owner):
            self._complain(
                "then",
                f"Postfix ignores {outcome.verdict} when it asks at {stage} itself",
                "keep smtpd_delay_reject = yes, or use stage mail",
                error=False,
            )
        if outcome.code:
            enhanced = EnhancedCode.parse(outcome.enhanced)
            text = outcome.text.text if outcome.text is not None else ""
            for note in postfix.surprises(outcome.code, enhanced, owner, stage, text=text):
                self._complain("then", note, "see `policyd check` for what is sent", error=False)

    def _shows(  # noqa: PLR0917 -- what is shown, where, and what is known there
        self,
        key: str,
        outcome: Outcome,
        stage: Stage,
        owner: FrontEnd,
        condition: nodes.Node | None,
        facts: frozenset[str],
    ) -> None:
        """Refuse names in a text that nothing fills in."""
        checks = () if condition is None else nodes.checks_of(condition)
        values = {name for check in checks for name in check.values}
        for name in sorted(outcome.names - values):
            fact = FACTS.get(name)
            if fact is None:
                self._complain(
                    key,
                    f"{{{name}}} is neither a fact nor a value of a check in `when`",
                    "name a fact, or write {{ }} for braces",
                )
            elif fact.type is FactType.MESSAGE:
                self._complain(
                    key, f"{{{name}}} cannot be shown", "name another fact, or a value of a check"
                )
            elif stage not in fact.known[owner] and name not in facts:
                self._complain(
                    key,
                    f"{{{name}}} is not known at {stage} to {SPEAKERS[owner]}",
                    f"it is known {where_known(fact)}",
                )
        if outcome.verdict in (Verdict.REDIRECT, Verdict.BCC, Verdict.FILTER) and outcome.names:
            self._complain(key, "an address is fixed, not a template", "write it out")

    def _local(
        self, outcome: Outcome, stage: Stage, owner: FrontEnd, condition: nodes.Node | None
    ) -> None:
        """Hold rules that test local_submission to what cleanup(8) can do with such mail."""
        if condition is None or _LOCAL not in nodes.facts_of(condition):
            return
        if stage is Stage.RCPT:
            self._complain(
                "stage",
                "a recipient of a local submission cannot be refused (cleanup(8))",
                "use stage mail or end-of-data",
            )
        if outcome.verdict not in (Verdict.REJECT, Verdict.DISCARD) or owner is FrontEnd.POLICY:
            self._complain(
                "then",
                "a rule that tests local_submission may only reject or discard: "
                "a deferred submission is retried for ever",
                "write a 5yz reply or discard, or drop the test",
            )

    def _asked_once(self, outcome: Outcome, condition: nodes.Node | None) -> None:
        if condition is None or outcome.verdict not in (Verdict.ACCEPT, Verdict.SCORE):
            return
        for check in nodes.checks_of(condition):
            if check.asks_once:
                self._complain(
                    "when",
                    f"{check.name}() in a rule that says {outcome.verdict}: later stages "
                    "evaluate such rules again, and it is asked once",
                    "write pass, or a reply",
                )


def _defined(call: nodes.CheckCall) -> Iterator[object]:
    return (each.value for each in call.arguments if isinstance(each, nodes.Defined))


def _other_place(verdict: Verdict, stage: Stage, owner: FrontEnd) -> str:
    """Name the places where a verb can be done."""
    for front_end in (owner, *(f for f in FrontEnd if f is not owner)):
        stages = [s for s in Stage if not forbidden(verdict, s, front_end)]
        if front_end is FrontEnd.MILTER:
            stages = [s for s in stages if s in TRANSACTION]
        if stages and (front_end is not owner or stages != [stage]):
            return f"{SPEAKERS[front_end]} can at {', '.join(stages)}"
    return "use another verb"


def _policy(rules: tuple[Rule, ...], surroundings: Surroundings) -> Policy:
    owners = surroundings.owners
    by_stage = {stage: [r for r in rules if r.stage is stage] for stage in Stage}
    local = {
        stage: [
            r
            for r in by_stage[stage]
            if r.condition is not None and _LOCAL in nodes.facts_of(r.condition)
        ]
        for stage in TRANSACTION
    }

    namespace = Namespace()

    def single(stage: Stage, front_end: FrontEnd) -> Question:
        return compile_question(front_end, (stage,), by_stage, namespace)

    policy_owned = [s for s in Stage if owners.get(s) is FrontEnd.POLICY]
    milter_owned = [s for s in TRANSACTION if owners.get(s) is FrontEnd.MILTER]
    at_rcpt = tuple(stage for stage in AT_RCPT if stage in policy_owned)
    calls = [
        (owners[rule.stage], call)
        for rule in rules
        if rule.condition is not None
        for call in nodes.calls_of(rule.condition)
    ]
    return Policy(
        rules=rules,
        ruled=frozenset(rule.stage for rule in rules),
        owners=owners,
        delegation={stage: single(stage, FrontEnd.POLICY) for stage in policy_owned},
        at_rcpt=(
            compile_question(FrontEnd.POLICY, at_rcpt, by_stage, namespace) if at_rcpt else None
        ),
        milter={stage: single(stage, FrontEnd.MILTER) for stage in milter_owned if by_stage[stage]},
        local={
            stage: compile_question(FrontEnd.MILTER, (stage,), local, namespace, carry=False)
            for stage in milter_owned
            if local[stage]
        },
        hash=surroundings.hash,
        stamping=surroundings.stamping,
        dependencies=tuple(dict.fromkeys(each for _, call in calls for each in call.dependencies)),
        defined=tuple({id(each): each for _, call in calls for each in _defined(call)}.values()),
        asks=frozenset(call.check.name for _, call in calls),
        reserving=frozenset(owner for owner, call in calls if call.site and call.site.settles),
    )

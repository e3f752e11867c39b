"""
Questions: the rules of the stages that one asking decides, compiled into one function.

The function reads the facts it needs into locals and walks the rules in order. Earlier stages
that the asking does not decide come first in short form: their accept and score rules are
evaluated again over the facts at hand, since nothing joins the requests of one message reliably
("carrying over"). The generated source never holds a piece of a condition's text, only names of a
namespace (see emit).
"""

import itertools
from collections import Counter
from collections.abc import Mapping, Sequence
from types import CodeType, FunctionType
from typing import Final

import msgspec

from policyd.facts.table import FACTS
from policyd.rules import nodes
from policyd.rules.emit import Emitter, Namespace, assignments
from policyd.rules.policy import Match, Question, Rule, Traced, TracedRule
from policyd.smtp.decision import Mode, Verdict
from policyd.smtp.stage import TRANSACTION, FrontEnd, Stage

_RECIPIENT_FACTS: Final = frozenset({"recipient", "recipient_local", "recipient_domain"})
_REFUSALS: Final = frozenset({Verdict.DEFER, Verdict.REJECT})
_FINAL: Final = _REFUSALS | {Verdict.DISCARD}
_CARRIED: Final = frozenset({Verdict.ACCEPT, Verdict.SCORE})
_SESSION: Final = (Stage.CONNECT, Stage.HELO)

SOURCE: Final = "<policy>"
"""What a question's function has for the name of its file."""

RulesByStage = Mapping[Stage, Sequence[Rule]]


def compile_question(
    front_end: FrontEnd,
    stages: tuple[Stage, ...],
    rules: RulesByStage,
    namespace: Namespace,
    *,
    carry: bool = True,
) -> Question:
    """
    Compile what a front end is asked at `stages` (in order), all of which it decides.

    `rules` are those of every stage of the policy, whose questions share a namespace. Without
    `carry`, earlier stages do not matter: a submission that did not come by SMTP never passed
    them.
    """
    plan = _Plan(front_end, stages, rules, carry=carry)

    def trace() -> Traced:
        writer = _Writer(plan, Namespace(), traced=True)
        return Traced(writer.function(), tuple(writer.traced))

    return Question(
        front_end=front_end,
        stages=stages,
        remote=plan.remote,
        ask=_Writer(plan, namespace).function(),
        facts=plan.facts_with_texts(),
        matches=plan.matches(),
        trace=trace,
    )


def carried_rules(front_end: FrontEnd, rules: Sequence[Rule]) -> list[Rule]:
    """
    Give the rules of an earlier stage that a later asking evaluates again, in order.

    They end with the last accept or score rule. Refusals have had their effect and are left out,
    so are shadow rules. A rule that ends the stage before it stays, since an accept behind it was
    never reached; one that cannot be evaluated again ends the stage.
    """
    live = [r for r in rules if r.match.mode is Mode.ENFORCE and r.match.verdict not in _REFUSALS]
    repeated = [r.match.verdict in _CARRIED and can_repeat(r, front_end) for r in live]
    if not any(repeated):
        return []
    return live[: len(repeated) - repeated[::-1].index(True)]


def can_repeat(rule: Rule, front_end: FrontEnd) -> bool:
    """Tell whether a later asking by that front end has all that the rule needs."""
    if rule.condition is None:
        return True
    if any(check.asks_once for check in nodes.checks_of(rule.condition)):
        return False
    return not missing_facts(rule, front_end)


def missing_facts(rule: Rule, front_end: FrontEnd) -> frozenset[str]:
    """Give the facts of a rule that a front end does not know, even at that rule's own stage."""
    if rule.condition is None:
        return frozenset()
    used = nodes.facts_of(rule.condition)
    return frozenset(name for name in used if rule.stage not in FACTS[name].known[front_end])


class _Plan:
    """Which rules one question evaluates: those it decides, those carried over."""

    def __init__(
        self, front_end: FrontEnd, stages: tuple[Stage, ...], rules: RulesByStage, *, carry: bool
    ) -> None:
        self.front_end = front_end
        self.stages = stages
        self.last = stages[-1]
        self.blocks: list[tuple[Stage, bool, Sequence[Rule]]] = []
        for stage in _up_to(self.last):
            if stage in stages:
                self.blocks.append((stage, False, rules.get(stage, ())))
            elif carry and (carried := carried_rules(front_end, rules.get(stage, ()))):
                self.blocks.append((stage, True, carried))
        every = [rule.condition for _, _, block in self.blocks for rule in block]
        conditions = [condition for condition in every if condition is not None]
        self.remote = any(check.remote for tree in conditions for check in nodes.checks_of(tree))
        self.facts: frozenset[str] = frozenset().union(*map(nodes.facts_of, conditions))
        self.named: frozenset[str] = frozenset().union(*map(nodes.named_facts, conditions))
        self.once = _named_once(conditions, self.blocks)
        self._accepted: dict[int, Match] = {}

    def accepted(self, match: Match) -> Match:
        """Give a carried accept's match, which is counted under the stage that is asked."""
        here = msgspec.structs.replace(match, stage=self.last)
        return self._accepted.setdefault(id(match), here)

    def matches(self) -> tuple[Match, ...]:
        """Give all that can come out, fallbacks included."""
        found: list[Match] = []
        for _, carried, block in self.blocks:
            for rule in block:
                if not carried:
                    found.append(rule.match)
                    found.extend([rule.fallback] if rule.fallback is not None else [])
                elif rule.match.verdict is Verdict.ACCEPT:
                    found.append(self.accepted(rule.match))
        return tuple(found)

    def facts_with_texts(self) -> frozenset[str]:
        """Give the facts of conditions and of the texts that can be sent."""
        templates = [match.text or match.argument for match in self.matches()]
        shown = {name for template in templates if template for name in template.names}
        return self.facts | (shown & FACTS.keys())


def _named_once(
    conditions: Sequence[nodes.Node], blocks: Sequence[tuple[Stage, bool, Sequence[Rule]]]
) -> frozenset[str]:
    """Give the facts that are named once; carried rules of rcpt are written more than once."""
    counts = Counter(
        node.name
        for tree in conditions
        for node in nodes.walk(tree)
        if type(node) is nodes.FactNode
    )
    repeated = {
        name
        for stage, carried, block in blocks
        for rule in block
        if stage is Stage.RCPT and carried and rule.condition is not None
        for name in nodes.named_facts(rule.condition)
    }
    # what others are derived from is a local anyway
    bases = {"sender", "recipient"} & counts.keys()
    return frozenset(name for name, n in counts.items() if n == 1) - repeated - bases


def _up_to(last: Stage) -> tuple[Stage, ...]:
    """Give the stages that come before one in its session, and itself."""
    if last not in TRANSACTION:
        return (*_SESSION, last)
    return TRANSACTION[: TRANSACTION.index(last) + 1]


class _Numbers:
    """Numbers what is traced: nodes of conditions, and the marks of the rules that are reached."""

    def __init__(self) -> None:
        self._counter = itertools.count()
        self._nodes: list[tuple[int, nodes.Node]] = []

    def mark(self) -> int:
        """Give a number that stands for no node."""
        return next(self._counter)

    def number(self, node: nodes.Node) -> int:
        """Give a node its number."""
        number = next(self._counter)
        self._nodes.append((number, node))
        return number

    def take_nodes(self) -> tuple[tuple[int, nodes.Node], ...]:
        """Give the nodes that were numbered since the last call."""
        taken = tuple(self._nodes)
        self._nodes.clear()
        return taken


class _Writer:
    """Writes the function's source, plain or traced, and makes the function of it."""

    def __init__(self, plan: _Plan, namespace: Namespace, *, traced: bool = False) -> None:
        self._plan = plan
        self._namespace = namespace
        self._is_traced = traced
        self._numbers = _Numbers()
        self._emitter = Emitter(namespace, plan.once, self._numbers.number if traced else None)
        self._lines: list[str] = []
        self.traced: list[TracedRule] = []

    def _line(self, depth: int, text: str) -> None:
        self._lines.append("    " * depth + text)

    def _insert(self, place: int, depth: int) -> None:
        """Write the lines that the look-ups written since the last call rely on before them."""
        lines = ["    " * depth + line for line in self._emitter.take_keys()]
        self._lines[place:place] = lines

    def function(self) -> FunctionType:
        """
        Write and compile the function.

        It is no part of its own namespace: so no cycle keeps a policy that is let go, and with
        it all of its parts, until a garbage collection.
        """
        plan = self._plan
        self._line(0, f"{'async ' if plan.remote else ''}def question(a, ctx):")
        self._line(1, "score = 0")
        self._line(1, "kept = last = None")
        if Stage.RCPT in plan.stages:
            # <postmaster> without a domain is never refused (RFC 5321 section 4.5.1)
            self._line(1, "if a.get('recipient', '').lower() == 'postmaster':")
            self._line(2, "return None")
        for line in assignments(plan.named, plan.once):
            self._line(1, line)
        top = len(self._lines)
        for stage, carried, block in plan.blocks:
            if not carried:
                self._stage(block)
            elif stage is Stage.RCPT:
                self._insert(top, 1)
                self._carried_recipients(block)
            else:
                self._line(1, "while True:")
                self._carried(2, block, accept="return {}")
                self._line(2, "break")
        self._insert(top, 1)
        self._line(1, "return kept or last")
        module = compile("\n".join(self._lines), SOURCE, "exec", dont_inherit=True)
        (code,) = (const for const in module.co_consts if isinstance(const, CodeType))
        return FunctionType(code, self._namespace.names)

    def _stage(self, block: Sequence[Rule]) -> None:
        """Write the rules of a stage that is decided here; leaving the loop ends the stage."""
        self._line(1, "while True:")
        for rule in block:
            depth = self._if(2, rule, fallback=True)
            self._outcome(depth, rule.match)
            if rule.condition is None and not rule.goes_on:
                break
        self._line(2, "break")

    def _if(self, depth: int, rule: Rule, *, fallback: bool) -> int:
        """Write a rule's condition and give the depth of what follows it; a failed check: false."""
        mark = self._numbers.mark()
        if self._is_traced:
            self._line(depth, f"ctx.trace[{mark}] = True")
        condition = self._emitter.source(rule.condition) if rule.condition is not None else ""
        self.traced.append(TracedRule(rule, not fallback, mark, self._numbers.take_nodes()))
        if rule.condition is None:
            return depth
        if not nodes.checks_of(rule.condition):
            self._line(depth, f"if {condition}:")
            return depth + 1
        self._line(depth, "try:")
        self._line(depth + 1, f"found = {condition}")
        self._line(depth, "except CheckFailed as failure:")
        self._line(depth + 1, f"ctx.failed({self._namespace.add('r', rule.match)}, failure)")
        self._line(depth + 1, "found = False")
        if fallback and rule.fallback is not None:
            self._outcome(depth + 1, rule.fallback)
        self._line(depth, "if found:")
        return depth + 1

    def _outcome(self, depth: int, match: Match) -> None:
        """Write what happens when a rule of a decided stage matches."""
        name = self._namespace.add("r", match)
        if match.mode is Mode.ENFORCE and match.verdict in _FINAL:
            self._line(depth, f"return {name}")
            return
        self._line(depth, f"ctx.hits.append({name})")
        if match.mode is Mode.SHADOW:
            return
        match match.verdict:
            case Verdict.SCORE:
                self._line(depth, f"score = ctx.score = score + {match.score!r}")
            case Verdict.ACCEPT:
                self._line(depth, f"return kept or {name}")
            case Verdict.PASS:
                self._line(depth, f"last = {name}")
                self._line(depth, "break")
            case _:
                self._line(depth, f"if kept is None or kept.weight < {match.weight}:")
                self._line(depth + 1, f"kept = {name}")
                self._line(depth, "break")

    def _carried(
        self, depth: int, block: Sequence[Rule], *, accept: str, blind: bool = False
    ) -> None:
        """
        Write the accept and score rules of an earlier stage; `accept` is what accepting does.

        `blind`: the recipient is not known, so rules that look at it cannot be evaluated.
        """
        for rule in block:
            verdict = rule.match.verdict
            looks = rule.condition is not None and nodes.facts_of(rule.condition) & _RECIPIENT_FACTS
            if (blind and looks) or not can_repeat(rule, self._plan.front_end):
                if verdict in _CARRIED:
                    continue
                break  # it may have ended the stage: nothing behind it is sure
            inner = self._if(depth, rule, fallback=False)
            if verdict is Verdict.SCORE:
                self._line(inner, f"score = ctx.score = score + {rule.match.score!r}")
            elif verdict is Verdict.ACCEPT:
                name = self._namespace.add("r", self._plan.accepted(rule.match))
                self._line(inner, accept.format(name))
            else:
                self._line(inner, "break")
            if rule.condition is None and not rule.goes_on:
                break

    def _carried_recipients(self, block: Sequence[Rule]) -> None:
        """
        Write the carried rules of rcpt: accepted if every recipient is, scored by the worst.

        Policy delegation leaves `recipient` empty when there are several (SMTPD_POLICY_README);
        then only rules that do not look at it can be evaluated.
        """
        used = frozenset().union(*(nodes.named_facts(r.condition) for r in block if r.condition))
        write = self._line
        write(1, "given = a.get('recipients') or tuple(filter(None, (a.get('recipient'),)))")
        write(1, "base, scores, taken = score, [], []")
        write(1, "for one in given:")
        write(2, "score = base")
        for line in assignments(used & _RECIPIENT_FACTS):
            write(2, line.replace("a.get('recipient', '')", "one"))
        top = len(self._lines)
        write(2, "while True:")
        self._carried(3, block, accept="taken.append({}); break")
        write(3, "break")
        self._insert(top, 2)
        write(2, "scores.append(score)")
        write(1, "if given:")
        write(2, "score = ctx.score = max(scores)")
        write(1, "else:")
        write(2, "while True:")
        top = len(self._lines)
        self._carried(3, block, accept="taken.append({}); break", blind=True)
        self._insert(top, 3)
        write(3, "break")
        write(1, "if taken and len(taken) >= len(given):")
        write(2, "return taken[0]")

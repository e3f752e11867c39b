"""A small world to build policies in: lists, checks, and a context that records."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace

from policyd.checks.interface import Answer, Check, CheckFailedError
from policyd.facts.table import Attributes, FactType
from policyd.lists.load import load_list
from policyd.lists.named import NamedList
from policyd.lists.source import Kind
from policyd.lists.written import written_out
from policyd.rules.build import Surroundings, build
from policyd.rules.policy import Match, Policy
from policyd.rules.scope import Scope
from policyd.rules.source import Complaint, RuleSource
from policyd.smtp.decision import Mode
from policyd.smtp.stage import TRANSACTION, FrontEnd, Stage

PLAIN_OWNERS = dict.fromkeys(Stage, FrontEnd.POLICY) | {Stage.END_OF_DATA: FrontEnd.MILTER}
ALL_POLICY = dict.fromkeys(Stage, FrontEnd.POLICY)
ALL_MILTER = dict.fromkeys(TRANSACTION, FrontEnd.MILTER)


def listed(kind: str, entries: Sequence[str]) -> NamedList:
    return written_out(Kind(kind), entries, "+")


def named(name: str, kind: str, *entries: str) -> NamedList:
    source = replace(listed(kind, entries).source, name=name)
    return NamedList(source, load_list(source))


@dataclass
class Recorder:
    """A context without clock or loop."""

    now: float = 1_800_000_000.0
    score: float = 0
    hits: list[Match] = field(default_factory=list)
    trace: dict[int, object] = field(default_factory=dict)
    failures: list[str] = field(default_factory=list)
    asked: list[str] = field(default_factory=list)

    def ask(self, check: Check, attributes: Attributes, *arguments: object) -> object:
        self.asked.append(check.name)
        answer = check.ask(attributes, *arguments)
        assert isinstance(answer, Answer)
        return answer.value

    async def ask_remote(self, check: Check, attributes: Attributes, *arguments: object) -> object:
        self.asked.append(check.name)
        found = check.ask(attributes, *arguments)
        answer = found if isinstance(found, Answer) else await found
        return answer.value

    def failed(self, match: Match, failure: CheckFailedError) -> None:
        self.failures.append(f"{match.rule}: {failure}")


def _fails(_attributes: Attributes) -> Answer:
    raise CheckFailedError("the store is down")


CHECKS: Mapping[str, Check] = {
    check.name: check
    for check in (
        Check(
            "yes",
            lambda _: Answer(True, "true", {"retry_after": "300 s"}),
            values={"retry_after": "when to retry"},
        ),
        Check("no", lambda _: Answer(False, "false")),
        Check("fails", _fails),
        Check("fails_loudly", _fails, on_error="450 4.3.0 The store is away, please retry"),
        Check("once", lambda _: Answer(True, "true"), asks_once=True),
        Check(
            "count",
            lambda _a, n: Answer(n, "counted"),
            (FactType.NUMBER,),
            result=FactType.NUMBER,
            results=("counted",),
        ),
        Check("needy", lambda _: Answer(True, "true"), needs=("recipient",)),
        Check("far", lambda _: Answer(True, "true"), remote=True),
    )
}
LISTS: Mapping[str, NamedList] = {
    made.name: made
    for made in (
        named("local_domains", "domains", "example.org"),
        named("mailboxes", "addresses", "a@example.org", "b@example.org"),
        named("partners", "networks", "192.0.2.1"),
        named("bad_helo", "patterns", "localhost"),
    )
}


def rule(
    name: str, stage: Stage | Sequence[Stage], then: str, when: str = "", **rest: object
) -> RuleSource:
    stages = (stage,) if isinstance(stage, Stage) else tuple(stage)
    return RuleSource(name, stages, when, then, **rest)  # type: ignore[arg-type] # keys of RuleSource


def shadow(name: str, stage: Stage, then: str, when: str = "") -> RuleSource:
    return rule(name, stage, then, when, mode=Mode.SHADOW)


def scope(
    stage: Stage, owners: Mapping[Stage, FrontEnd], checks: Mapping[str, Check] = CHECKS
) -> Scope:
    return Scope(stage, owners[stage], LISTS, checks, listed)


def surroundings(
    owners: Mapping[Stage, FrontEnd], checks: Mapping[str, Check] = CHECKS
) -> Surroundings:
    return Surroundings(owners, {stage: scope(stage, owners, checks) for stage in owners})


def compiled(
    *sources: RuleSource,
    owners: Mapping[Stage, FrontEnd] = PLAIN_OWNERS,
    checks: Mapping[str, Check] = CHECKS,
) -> Policy:
    policy, complaints = build(sources, surroundings(owners, checks))
    assert policy is not None, [f"{c.what}; {c.mend}" for c in complaints if c.error]
    return policy


def complaints_of(
    *sources: RuleSource, owners: Mapping[Stage, FrontEnd] = PLAIN_OWNERS
) -> tuple[Complaint, ...]:
    return build(sources, surroundings(owners))[1]

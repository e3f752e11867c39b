"""Checks that are told where they are asked, and that name what the configuration defines."""

import asyncio
from collections.abc import Awaitable, Mapping
from typing import cast

import pytest

from policyd.checks.interface import Answer, Check, Definition, Follow, Site
from policyd.facts.table import Attributes, FactType
from policyd.rules.build import build
from policyd.rules.parcel import pack, unpack
from policyd.rules.policy import Match, Policy
from policyd.rules.source import Complaint, RuleSource
from policyd.smtp.stage import FrontEnd, Stage
from tests.rules.world import ALL_POLICY, LISTS, PLAIN_OWNERS, Recorder, rule, shadow, surroundings

RCPT, DATA = Stage.RCPT, Stage.DATA


class Asked:
    """Remembers how the checks here were asked, and says yes to the limits it is told."""

    def __init__(self, *over: str) -> None:
        self.over = over
        self.calls: list[tuple[object, ...]] = []

    async def limit(self, _attributes: Attributes, *arguments: tuple[object, ...]) -> Answer:
        self.calls.append(arguments)
        return Answer(any(each[0] in self.over for each in arguments[1:]), "true")

    async def grey(self, _attributes: Attributes, *arguments: object) -> Answer:
        self.calls.append(arguments)
        return Answer(True, "true")

    def checks(self) -> Mapping[str, Check]:
        def objection(stage: Stage) -> tuple[str, str] | None:
            return None if stage is Stage.END_OF_DATA else ("bytes come last", "ask at the end")

        limits = {
            "hour": Definition("HOUR", ("sasl_username", "recipient"), "limits.toml:3"),
            "day": Definition("DAY", ("'all'",), "limits.toml:7"),
            "bytes": Definition("BYTES", ("'all'",), "limits.toml:9", objection),
            "odd": Definition("ODD", ("recipients",), "limits.toml:12"),
        }
        greylisted = Check(
            "grey",
            self.grey,
            remote=True,
            sited=True,
            stages=frozenset({RCPT, DATA}),
            configured="TERMS",
            needs_at={RCPT: ("recipient",)},
            dependency="store",
            follows={
                RCPT: Follow(DATA, "sender == ''", "the null sender", frozenset({"recipient"}))
            },
        )
        limit = Check(
            "over", self.limit, remote=True, sited=True, definitions=limits, dependency="store"
        )
        return {check.name: check for check in (limit, greylisted)}


def built(
    asked: Asked, *sources: RuleSource, owners: Mapping[Stage, FrontEnd] = PLAIN_OWNERS
) -> tuple[Policy | None, tuple[Complaint, ...]]:
    return build(sources, surroundings(owners, asked.checks()))


def policy_of(
    asked: Asked, *sources: RuleSource, owners: Mapping[Stage, FrontEnd] = PLAIN_OWNERS
) -> Policy:
    policy, complaints = built(asked, *sources, owners=owners)
    assert policy is not None, complaints
    return unpack(pack(policy), LISTS, asked.checks())


def answer(policy: Policy, stage: Stage = RCPT, **attributes: str) -> Match | None:
    question = policy.delegation[stage]
    asking = cast("Awaitable[Match | None]", question.ask(attributes, Recorder()))

    async def wait() -> Match | None:
        return await asking

    return asyncio.run(wait())


def errors(asked: Asked, *sources: RuleSource) -> list[str]:
    return [c.what for c in built(asked, *sources)[1] if c.error]


def test_a_definition_is_asked_with_its_value_and_the_values_of_its_key() -> None:
    asked = Asked("HOUR")
    policy = policy_of(asked, rule("r", RCPT, "450 4.7.1 later", "over('hour')"))
    assert answer(policy, sasl_username="u", recipient="A@example.org") is not None
    assert asked.calls == [(Site(RCPT, settles=True), ("HOUR", "u", "a@example.org"))]


@pytest.mark.parametrize("when", ["over('hour') or over('day')", "over('hour', 'day')"])
def test_calls_joined_by_or_are_one_call(when: str) -> None:
    asked = Asked("DAY")
    policy = policy_of(asked, rule("r", RCPT, "450 4.7.1 later", when))
    assert answer(policy, sasl_username="u", recipient="b") is not None
    assert asked.calls == [(Site(RCPT, settles=True), ("HOUR", "u", "b"), ("DAY", "all"))]


def test_what_stands_between_or_around_calls_keeps_its_place() -> None:
    asked = Asked("DAY")
    when = "helo_name == 'x' or over('hour') or size > 5 or over('day') and sender == ''"
    policy = policy_of(asked, rule("r", RCPT, "450 4.7.1 later", when))
    assert answer(policy, helo_name="y", size="1", recipient="b") is not None
    assert [call[1] for call in asked.calls] == [("HOUR", "", "b"), ("DAY", "all")]
    asked.calls.clear()
    assert answer(policy, helo_name="x", size="1", recipient="b") is not None
    assert asked.calls == []


def test_a_shadow_rule_and_a_policy_without_an_end_say_so() -> None:
    asked = Asked()
    owners: dict[Stage, FrontEnd] = {**ALL_POLICY}
    del owners[Stage.END_OF_DATA]
    policy = policy_of(asked, shadow("s", RCPT, "450 4.7.1 x", "over('day')"), owners=owners)
    answer(policy)
    assert asked.calls == [(Site(RCPT, shadow=True, settles=False), ("DAY", "all"))]
    assert policy.reserving == frozenset()


def test_who_reserves_and_on_what_a_policy_depends_go_along_with_it() -> None:
    asked = Asked()
    rules = (
        rule("g", RCPT, "greylisted", "grey()"),
        rule("l", Stage.END_OF_DATA, "450 4.7.1 x", "over('bytes')"),
    )
    policy = policy_of(asked, *rules)
    assert policy.reserving == {FrontEnd.POLICY, FrontEnd.MILTER}
    assert policy.dependencies == ("store",)
    assert policy_of(asked, rule("p", RCPT, "pass")).dependencies == ()


@pytest.mark.parametrize(
    ("stage", "when", "said"),
    [
        (RCPT, "over()", "over() names nothing"),
        (RCPT, "over(sender)", "sender is no name in quotes"),
        (RCPT, "over('hours')", "over(): there is no 'hours'"),
        (RCPT, "over('bytes')", "bytes come last"),
        (Stage.MAIL, "over('hour')", "key of limits.toml:3: recipient is not known at mail"),
        (Stage.END_OF_DATA, "over('odd')", "key of limits.toml:12: recipients is a mail addresses"),
        (Stage.MAIL, "grey()", "grey() cannot be asked at mail"),
        (RCPT, "grey('x')", "grey() takes 0 arguments, not 1"),
    ],
)
def test_what_is_wrong_in_a_call_is_said(stage: Stage, when: str, said: str) -> None:
    found = errors(Asked(), rule("r", stage, "450 4.7.1 later", when))
    assert len(found) == 1
    assert found[0].startswith(said)


class TestFollowing:
    """A rule that asks at rcpt is asked at data too, for some requests only."""

    GREY = rule("g", RCPT, "greylisted", "helo_name != 'friend' and grey()")

    def test_the_rule_is_at_data_for_those_requests(self) -> None:
        asked = Asked()
        policy = policy_of(asked, self.GREY)
        assert answer(policy, DATA, sender="a@example.net", helo_name="x") is None
        assert asked.calls == []
        assert answer(policy, DATA, sender="", helo_name="friend") is None
        found = answer(policy, DATA, sender="", helo_name="x")
        assert found is not None
        assert (found.rule, found.stage) == ("g", DATA)
        assert asked.calls == [(Site(DATA, settles=True), "TERMS")]

    def test_the_whole_condition_is_held_to_those_requests(self) -> None:
        either = rule("g", RCPT, "greylisted", "helo_name == 'x' or grey()")
        assert answer(policy_of(Asked(), either), DATA, sender="a@b", helo_name="x") is None

    def test_a_rule_that_names_both_stages_is_there_once(self) -> None:
        policy, complaints = built(Asked(), rule("g", (RCPT, DATA), "greylisted", "grey()"))
        assert policy is not None
        assert [r.stage for r in policy.rules] == [RCPT, DATA]
        assert not [c for c in complaints if "grey()" in c.what]

    def test_a_fact_that_only_some_requests_have_may_be_read_there(self) -> None:
        named = rule("g", RCPT, "greylisted: {recipient}", "recipient == 'x@y.example' and grey()")
        policy = policy_of(Asked(), named)
        assert answer(policy, DATA, sender="", recipient="x@y.example") is not None
        assert answer(policy, DATA, sender="") is None

    def test_where_it_cannot_be_asked_a_warning_says_why(self) -> None:
        named = rule("g", RCPT, "greylisted", "recipient_local != 'x' and grey()")
        policy, complaints = built(Asked(), named)
        assert policy is not None
        assert [r.stage for r in policy.rules] == [RCPT]
        assert [c.error for c in complaints] == [False]
        assert (
            "for the null sender at data: recipient_local is not known at data"
            in complaints[0].what
        )

    def test_so_does_a_policy_that_does_not_decide_data(self) -> None:
        owners = {RCPT: FrontEnd.POLICY}
        policy, complaints = built(Asked(), self.GREY, owners=owners)
        assert policy is not None
        assert "no front end decides it" in complaints[0].what


def scored(zones: Mapping[str, Definition]) -> tuple[Asked, Mapping[str, Check]]:
    """Give a check that asks with all that is defined, or with what it is told."""
    asked = Asked()

    async def score(_attributes: Attributes, *arguments: tuple[object, ...]) -> Answer:
        asked.calls.append(arguments)
        return Answer(len(arguments), "true")

    check = Check(
        "score", score, result=FactType.NUMBER, remote=True, definitions=zones, every=True
    )
    return asked, {"score": check}


ZONES = {
    "first": Definition("FIRST", ("client_address",), dependency="dnsbl first"),
    "second": Definition("SECOND", ("sender_domain",), dependency="dnsbl second"),
    "third": Definition("THIRD", ("helo_name",), objection=lambda _: ("not here", "elsewhere")),
}


def test_a_call_without_names_asks_with_all_that_are_known_there() -> None:
    asked, checks = scored(ZONES)
    made = rule("r", RCPT, "450 4.7.1 x", "score() >= 2")
    policy, complaints = build((made,), surroundings(ALL_POLICY, checks))
    assert policy is not None, complaints
    assert policy.dependencies == ("dnsbl first", "dnsbl second")
    assert policy.defined == ("FIRST", "SECOND")
    assert answer(policy, client_address="192.0.2.1", sender="a@b.example") is not None
    assert asked.calls == [(("FIRST", "192.0.2.1"), ("SECOND", "b.example"))]


def test_what_is_not_known_at_a_stage_is_not_asked_with_there() -> None:
    asked, checks = scored(ZONES)
    made = rule("r", Stage.CONNECT, "450 4.7.1 x", "score() >= 1")
    policy, complaints = build((made,), surroundings(ALL_POLICY, checks))
    assert policy is not None, complaints
    assert policy.dependencies == ("dnsbl first",)
    answer(policy, Stage.CONNECT, client_address="192.0.2.1")
    assert asked.calls == [(("FIRST", "192.0.2.1"),)]


@pytest.mark.parametrize(
    ("zones", "what"),
    [
        ({}, "score() has nothing to ask"),
        ({"third": ZONES["third"]}, "score() has nothing to ask here: not here"),
        ({"second": ZONES["second"]}, "sender_domain is not known at connect"),
    ],
)
def test_a_call_that_has_nothing_to_ask_is_an_error(
    zones: Mapping[str, Definition], what: str
) -> None:
    _, checks = scored(zones)
    made = rule("r", Stage.CONNECT, "450 4.7.1 x", "score() >= 1")
    policy, complaints = build((made,), surroundings(ALL_POLICY, checks))
    assert policy is None
    assert any(what in complaint.what for complaint in complaints)


def test_what_calls_joined_by_or_rely_on_is_told_of_all() -> None:
    async def truth(_attributes: Attributes, *_arguments: tuple[object, ...]) -> Answer:
        return Answer(False, "false")

    check = Check("on", truth, remote=True, definitions=ZONES, dependency="dns")
    made = rule("r", RCPT, "450 4.7.1 x", "on('first') or on('second')")
    policy, complaints = build((made,), surroundings(ALL_POLICY, {"on": check}))
    assert policy is not None, complaints
    assert policy.dependencies == ("dns", "dnsbl first", "dnsbl second")

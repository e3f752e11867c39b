"""The one door: what is answered, counted and logged, and what becomes of faults."""

import asyncio
from collections.abc import Coroutine, Mapping
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from policyd.checks.interface import Answer as CheckAnswer
from policyd.checks.interface import Check, CheckFailedError
from policyd.facts.table import Attributes, FactType
from policyd.observe.log import Level
from policyd.observe.series import map_row
from policyd.protocol.delegation import Asked, Request
from policyd.protocol.postfix import LINE_LIMIT, prefix, usual_list
from policyd.rules.policy import Policy
from policyd.service import Answer, Ids, Service, Settings, count_series, series_of
from policyd.smtp.decision import Decision, Source, Verdict
from policyd.smtp.stage import FrontEnd, Stage
from tests.observe.counted import Counted
from tests.rules.world import ALL_MILTER, CHECKS, compiled, rule, shadow

RCPT = Stage.RCPT


class Journal:
    """Keeps what is logged."""

    def __init__(self) -> None:
        self.decisions: list[Decision] = []
        self.events: list[tuple[str, dict[str, object]]] = []

    def decision(
        self, decision: Decision, attributes: Attributes, front_end: FrontEnd, seconds: float
    ) -> None:
        del attributes, front_end
        assert seconds >= 0
        self.decisions.append(decision)

    def event(self, level: Level, event: str, /, **fields: object) -> None:
        self.events.append((event, {"level": level, **fields}))


class World:
    """A service over real metrics and a journal that keeps."""

    def __init__(
        self,
        policy: Policy,
        settings: Settings | None = None,
        checks: Mapping[str, Check] = CHECKS,
    ) -> None:
        self.metrics = Counted(series_of(policy, checks))
        self.log = Journal()
        self.service = Service(policy, self.metrics, self.log, Ids(lambda _bits: 7), settings)
        self.memory = self.service.memory()

    def ask(
        self,
        stage: Stage = RCPT,
        *,
        alone: bool = False,
        state: Stage | None = None,
        **attributes: str,
    ) -> Answer:
        request = Request(attributes=dict(attributes), stage=state or stage, state="RCPT")
        asked = Asked(stage, alone, usual_list(stage))
        answer = self.service.answer_policy(request, asked, self.memory)
        if isinstance(answer, Coroutine):
            answer = asyncio.run(_waited(answer))
        self.service.written(answer)
        return answer

    def count(self, name: str, **labels: str) -> float:
        return sum(
            sample.value
            for family in self.metrics.registry.collect()
            for sample in family.samples
            if sample.name == name and labels.items() <= sample.labels.items()
        )


async def _waited(coroutine: Coroutine[Any, Any, Answer]) -> Answer:
    return await coroutine


def test_a_refusal_is_written_counted_and_logged_once() -> None:
    world = World(compiled(rule("no-such", RCPT, "550 5.1.1 No mailbox {recipient}")))
    answer = world.ask(recipient="x@y")
    assert answer.wire == b"action=550 5.1.1 No mailbox x@y\n\n"
    assert world.count("policyd_replies_total") == 1
    labels = {"stage": "rcpt", "verdict": "reject", "code": "550", "enhanced": "5.1.1"}
    assert world.count("policyd_replies_total", frontend="policy", source="rule", **labels) == 1
    assert world.count("policyd_rule_replies_total", rule="no-such", mode="enforce", **labels) == 1
    assert [d.id for d in world.log.decisions] == [answer.decision.id]
    assert world.count("policyd_dropped_total") == 0


def test_no_rule_means_no_objection_under_the_last_stage() -> None:
    world = World(compiled(rule("r", RCPT, "550 5.1.1 x", "no()")))
    answer = world.ask()
    assert answer.wire == b"action=DUNNO\n\n"
    assert world.count("policyd_replies_total", source="default", stage="rcpt", code="") == 1


def test_a_shadow_rule_is_counted_and_not_sent() -> None:
    world = World(compiled(shadow("s", RCPT, "450 4.7.1 later"), rule("p", RCPT, "pass", "yes()")))
    assert world.ask().wire == b"action=DUNNO\n\n"
    assert world.count("policyd_rule_replies_total", rule="s", mode="shadow", code="450") == 1
    assert world.count("policyd_rule_replies_total", rule="p", mode="enforce") == 1
    assert [hit.rule for hit in world.log.decisions[0].also] == ["s"]


def test_score_rules_are_counted_as_hits_and_never_as_replies() -> None:
    world = World(compiled(rule("s", RCPT, "score 2")))
    world.ask()
    assert world.count("policyd_rule_replies_total", rule="s", verdict="score") == 1
    assert world.count("policyd_replies_total") == 1
    assert not [
        sample
        for family in world.metrics.registry.collect()
        for sample in family.samples
        if sample.name == "policyd_replies_total" and sample.labels["verdict"] == "score"
    ]
    assert world.count("policyd_dropped_total") == 0


def test_a_fault_of_ours_is_a_451_under_source_error() -> None:
    def breaks(_: Attributes) -> CheckAnswer:
        raise ZeroDivisionError("secret")

    policy = compiled(rule("r", RCPT, "550 5.7.1 r", "yes()"))
    world = World(policy)
    object.__setattr__(policy.delegation[RCPT], "ask", lambda _a, _c: breaks({}))
    object.__setattr__(policy, "at_rcpt", policy.delegation[RCPT])
    answer = world.ask()
    assert answer.wire.startswith(b"action=451 4.3.0 ")
    assert b"secret" not in answer.wire
    assert answer.decision.source is Source.ERROR
    assert world.count("policyd_replies_total", source="error", code="451", enhanced="4.3.0") == 1
    assert world.log.events[0][0] == "decision.failed"
    assert world.count("policyd_dropped_total") == 0
    assert world.ask(recipient="postmaster").wire == b"action=DUNNO\n\n", "postmaster passes"
    assert world.count("policyd_dropped_total") == 0


def test_a_fault_of_ours_lets_a_local_submission_go_on() -> None:
    policy = compiled(rule("l", Stage.MAIL, "550 5.7.1 l", "local_submission"), owners=ALL_MILTER)
    world = World(policy)

    def breaks(_a: Attributes, _c: object) -> None:
        raise RuntimeError

    object.__setattr__(policy.local[Stage.MAIL], "ask", breaks)
    answer = world.service.decide_milter(Stage.MAIL, {"local_submission": True}, policy)
    assert answer.decision.verdict is Verdict.PASS
    assert answer.decision.source is Source.ERROR
    world.service.written(answer)
    assert world.count("policyd_dropped_total") == 0


class TestRemoteChecks:
    @staticmethod
    def world(ask: Any, decision_timeout: float = 8.0) -> World:
        checks = {"slow": Check("slow", ask, remote=True, values={"why": "why"})}
        slow = rule("slow", RCPT, "450 4.7.1 Because {why}", "slow()")
        return World(
            compiled(slow, checks=checks), Settings(decision_timeout=decision_timeout), checks
        )

    def test_a_remote_check_is_awaited_and_its_values_are_shown(self) -> None:
        async def slow(_: Attributes) -> CheckAnswer:
            await asyncio.sleep(0)
            return CheckAnswer(True, "true", {"why": "of the weather"})

        world = self.world(slow)
        assert world.ask().wire == b"action=450 4.7.1 Because of the weather\n\n"
        assert world.count("policyd_checks_total", check="slow", result="true") == 1

    def test_it_is_left_behind_when_the_decision_s_time_is_over(self) -> None:
        async def never(_: Attributes) -> CheckAnswer:
            await asyncio.sleep(60)
            raise AssertionError

        world = self.world(never, decision_timeout=0.01)
        assert world.ask().wire == b"action=DUNNO\n\n"
        assert world.count("policyd_checks_total", check="slow", result="failed") == 1
        assert "longer than" in world.log.decisions[0].reason

    def test_its_failure_is_on_error_s(self) -> None:
        async def fails(_: Attributes) -> CheckAnswer:
            raise CheckFailedError("SERVFAIL")

        world = self.world(fails)
        assert world.ask().wire == b"action=DUNNO\n\n"
        assert world.log.decisions[0].reason == "slow: SERVFAIL"

    def test_what_it_raises_else_is_a_fault(self) -> None:
        async def breaks(_: Attributes) -> CheckAnswer:
            raise KeyError("x")

        assert self.world(breaks).ask().wire.startswith(b"action=451 4.3.0 ")

    @staticmethod
    def asked_by_two(ask: Any, **more: Any) -> World:
        checks = {
            "slow": Check("slow", ask, (FactType.MAIL,), remote=True, values={"why": "why"}, **more)
        }
        first = rule("first", RCPT, "450 4.7.1 No", "slow(sender) and recipient == 'x@y'")
        other = rule("other", RCPT, "450 4.7.1 Nor here", "slow(recipient) and recipient == 'x@y'")
        again = rule("again", RCPT, "450 4.7.1 Because {why}", "slow(sender)")
        return World(compiled(first, other, again, checks=checks), checks=checks)

    def test_the_same_question_of_several_rules_is_asked_once_in_a_request(self) -> None:
        asked = []

        async def slow(_: Attributes, address: str) -> CheckAnswer:
            asked.append(address)
            return CheckAnswer(True, "true", {"why": f"of {address}"})

        world = self.asked_by_two(slow)
        answer = world.ask(sender="a@b", recipient="c@d")
        assert answer.wire == b"action=450 4.7.1 Because of a@b\n\n"
        assert asked == ["a@b", "c@d"]
        assert world.count("policyd_checks_total", check="slow") == 2
        world.ask(sender="a@b", recipient="c@d")
        assert len(asked) == 4

    def test_one_that_failed_is_not_made_again_in_a_request(self) -> None:
        asked = []

        async def fails(_: Attributes, address: str) -> CheckAnswer:
            asked.append(address)
            raise CheckFailedError("SERVFAIL", "dns")

        world = self.asked_by_two(fails, dependency="dns")
        assert world.ask(sender="a@b", recipient="c@d").wire == b"action=DUNNO\n\n"
        assert asked == ["a@b", "c@d"]
        assert world.log.decisions[0].reason == "; ".join(
            f"{name}: SERVFAIL" for name in ("first", "other", "again")
        )
        assert world.count("policyd_dependency_fallbacks_total", dependency="dns") == 3

    def test_one_that_counts_is_asked_each_time(self) -> None:
        asked = []

        async def counts(_: Attributes, address: str) -> CheckAnswer:
            asked.append(address)
            return CheckAnswer(False, "false")

        self.asked_by_two(counts, asks_once=True).ask(sender="a@b", recipient="c@d")
        assert asked == ["a@b", "c@d", "a@b"]

    def test_what_did_not_answer_and_was_not_needed_is_counted(self) -> None:
        async def partly(_: Attributes) -> CheckAnswer:
            return CheckAnswer(True, "true", without=(CheckFailedError("silent", "other"),))

        checks = {"slow": Check("slow", partly, remote=True, dependency="other")}
        slow = rule("slow", RCPT, "450 4.7.1 Listed", "slow()")
        world = World(compiled(slow, checks=checks), checks=checks)
        assert world.ask().wire == b"action=450 4.7.1 Listed\n\n"
        assert world.count("policyd_dependency_fallbacks_total", dependency="other") == 1
        assert world.count("policyd_checks_total", check="slow", result="true") == 1


def test_prepend_is_answered_once_a_message() -> None:
    world = World(compiled(rule("p", RCPT, "prepend X-Seen: {recipient}")))
    first, second, other = "1.1", "1.1", "1.2"
    assert world.ask(instance=first, recipient="a@b").wire == b"action=PREPEND X-Seen: a@b\n\n"
    assert world.ask(instance=second, recipient="c@d").wire == b"action=DUNNO\n\n"
    assert world.ask(instance=other, recipient="c@d").wire == b"action=PREPEND X-Seen: c@d\n\n"
    assert world.count("policyd_replies_total", verdict="prepend") == 2
    assert world.count("policyd_replies_total") == 3
    assert world.count("policyd_dropped_total") == 0


@pytest.mark.parametrize("then", ["hold h", "discard", "redirect a@b", "filter smtp:[::1]:25"])
def test_what_postfix_would_ignore_at_connect_is_not_claimed(then: str) -> None:
    world = World(compiled(rule("c", Stage.CONNECT, then)))
    assert world.ask(Stage.CONNECT).wire == b"action=DUNNO\n\n"
    assert "would ignore" in world.log.decisions[0].reason
    assert world.ask(Stage.CONNECT, alone=True, state=RCPT).wire != b"action=DUNNO\n\n"
    assert world.count("policyd_dropped_total") == 0


def test_the_id_stands_at_the_end_of_the_text_if_wished() -> None:
    policy = compiled(rule("r", RCPT, "550 5.7.1 " + "very long " * 100))
    world = World(policy, Settings(show_id=True))
    answer = world.ask(recipient="r@example.org")
    assert answer.decision.reply is not None
    assert answer.decision.reply.text.endswith(f" [{answer.decision.id}]")


HOSTILE = st.text(
    st.one_of(
        st.characters(),
        st.sampled_from("\r\n\0\t%{}\udcff\u202e é"),
        st.characters(max_codepoint=31),
    ),
    max_size=600,
)


@given(HOSTILE, st.sampled_from(["recipient", "sender", "helo_name", "client_name"]), st.booleans())
def test_no_value_a_sender_gives_can_leave_its_line_or_be_too_long(
    value: str, name: str, utf8: bool
) -> None:
    policy = compiled(rule("r", RCPT, f"550 5.7.1 {{{name}}}", "sender != 'x@y'"))
    world = World(policy, Settings(utf8=utf8))
    attributes = {name: value}
    answer = world.ask(**attributes)  # type: ignore[arg-type] # names of attributes
    assert answer.wire.count(b"\n") == 2
    assert answer.wire.endswith(b"\n\n")
    assert b"\r" not in answer.wire
    assert b"\0" not in answer.wire
    if answer.wire == b"action=DUNNO\n\n":
        assert value.lower() in ("postmaster", "x@y")
        return
    assert answer.wire.startswith(b"action=550 5.7.1 ")
    text = answer.wire[len(b"action=550 5.7.1 ") : -2]
    assert text.strip()
    text.decode("utf-8" if utf8 else "ascii")
    before = len(prefix(usual_list(RCPT), attributes).encode("utf-8", "replace"))
    assert len(text) <= max(LINE_LIMIT - len("550 5.7.1 ") - before, 4)


def test_another_policy_is_taken_from_the_next_question_on_and_counted() -> None:
    old, new = (
        compiled(rule(name, RCPT, f"550 5.7.1 {name}"), owners=ALL_MILTER)
        for name in ("old", "new")
    )
    world = World(old)
    begun = world.service.decide_milter(RCPT, {}, old)
    layout = world.metrics.board.lay_out(series_of(new, CHECKS))
    row = map_row(world.metrics.board.descriptor(0), layout)
    world.service.take(new, Settings(show_id=True, decision_timeout=2.0), layout, row)
    assert world.service.policy is new
    assert world.service.decision_timeout == 2.0
    shown = world.service.decide_milter(RCPT, {}, new)
    assert shown.decision.reply is not None
    assert shown.decision.reply.text == f"new [{shown.decision.id}]"
    # a session that negotiated with the old one goes on with it
    for answer in (begun, shown, world.service.decide_milter(RCPT, {}, old)):
        world.service.written(answer)
    assert world.count("policyd_rule_replies_total", rule="old") == 2
    assert world.count("policyd_rule_replies_total", rule="new") == 1
    assert world.count("policyd_replies_total") == 3
    assert world.count("policyd_dropped_total") == 0


def test_of_connections_whoever_wants_to_know_is_told() -> None:
    told: list[tuple[FrontEnd, int]] = []
    policy = compiled(rule("r", RCPT, "pass"))
    metrics = Counted(series_of(policy, CHECKS))
    service = Service(
        policy, metrics, Journal(), Ids(lambda _: 7), connections=lambda *each: told.append(each)
    )
    service.connected(FrontEnd.POLICY, 1)
    service.connected(FrontEnd.MILTER, -1)
    assert told == [(FrontEnd.POLICY, 1), (FrontEnd.MILTER, -1)]


def test_what_the_log_drops_is_counted() -> None:
    world = World(compiled(rule("r", RCPT, "pass")))
    world.service.dropped("log", 3)
    assert world.count("policyd_dropped_total", what="log") == 3


def test_the_series_that_check_tells_of_are_those_of_a_scrape() -> None:
    policy = compiled(shadow("s", RCPT, "450 4.7.1 later", "yes()"), rule("r", RCPT, "550 5.1.1 x"))
    world = World(policy)
    found = world.metrics.registry.collect()
    scraped = sum(len(f.samples) for f in found if f.name.startswith("policyd_"))
    connections, of_each_worker = 2, 3 + 2  # of both front ends; its state, connections of both
    assert count_series(policy, CHECKS, 3) == scraped + connections + 3 * of_each_worker


def test_warnings_and_faults_are_logged_even_where_decisions_are_not() -> None:
    policy = compiled(
        rule("w", Stage.MAIL, "warn odd", "sender == 'odd@x'"), rule("p", Stage.MAIL, "pass")
    )
    world = World(policy, Settings(log_decisions=False))
    world.ask(Stage.MAIL, sender="jo@x")
    assert world.log.decisions == []
    world.ask(Stage.MAIL, sender="odd@x")
    assert [decision.rule for decision in world.log.decisions] == ["w"]


def test_ids_rise_strictly_even_when_the_clock_does_not() -> None:
    ids = Ids(lambda _bits: 0)
    made = [ids.next(1_800_000_000.0 - i) for i in range(5)]
    assert made == sorted(made)
    assert len(set(made)) == 5
    assert all(len(one) == 14 and not set(one) & set("ILOU") for one in made)


def test_ids_of_several_threads_are_all_different() -> None:
    ids = Ids(lambda _bits: 0)
    with ThreadPoolExecutor(8) as pool:
        made = list(pool.map(lambda i: ids.next(1_800_000_000.0 + i / 3000), range(20_000)))
    assert len(set(made)) == 20_000

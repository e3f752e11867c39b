"""What checks took is given back with a refusal, and settled where a message ends."""

import asyncio
import threading
from collections.abc import Mapping

import pytest

from policyd.checks.interface import Answer as CheckAnswer
from policyd.checks.interface import Check, CheckFailedError, Counting
from policyd.checks.settling import Ends
from policyd.facts.table import Attributes
from policyd.rules.policy import Policy
from policyd.service.throttle import Throttle
from policyd.smtp.stage import FrontEnd, Stage
from policyd.store.model import StoreError
from tests.rules.world import ALL_POLICY, PLAIN_OWNERS, compiled, rule, shadow
from tests.service.test_service import World

RCPT, END = Stage.RCPT, Stage.END_OF_DATA
TAKEN = Counting("policyd_test_taken_total", "Charges taken.", ("what",), (("one",),))


class Till:
    """Takes and gives back, and remembers how messages ended."""

    def __init__(self) -> None:
        self.takes = 0
        self.gave_back = 0
        self.ended: list[tuple[str, Ends, bool | str]] = []
        self.fails = False

    async def take(self, _attributes: Attributes, *_: object) -> CheckAnswer:
        self.takes += 1
        return CheckAnswer(
            False, "false", counts=((TAKEN, ("one",), 1.0),), give_back=self._give_back
        )

    async def _give_back(self) -> None:
        self.gave_back += 1

    async def fail(self, _attributes: Attributes, *_: object) -> CheckAnswer:
        raise CheckFailedError("the store does not answer", "store")

    async def settle(self, attributes: Attributes, ends: Ends, *, accepted: bool) -> None:
        if self.fails:
            raise StoreError("gone")
        self.ended.append((str(attributes.get("instance", "")), ends, accepted))

    async def abandon(self, attributes: Attributes, ends: Ends, at: float) -> None:
        assert at > 0
        self.ended.append((str(attributes.get("instance", "")), ends, "abandoned"))

    def checks(self) -> Mapping[str, Check]:
        made = (
            Check("take", self.take, remote=True, sited=True, countings=(TAKEN,)),
            Check("fail", self.fail, remote=True, dependency="store"),
            Check("no", lambda _: CheckAnswer(False, "false")),
        )
        return {check.name: check for check in made}


def world(till: Till, policy: Policy) -> World:
    made = World(policy, checks=till.checks())
    made.service.settling.settles = till
    return made


@pytest.mark.parametrize(
    ("after", "gave_back"),
    [
        (rule("later", RCPT, "550 5.1.1 no"), 1),
        (rule("later", RCPT, "greylisted"), 1),
        (rule("later", RCPT, "pass", "fail()", on_error="450 4.3.0 later"), 1),
        (rule("later", RCPT, "pass"), 0),
        (rule("later", RCPT, "discard", whole_message=True), 0),
        (shadow("later", RCPT, "550 5.1.1 no"), 0),
        (rule("later", RCPT, "550 5.1.1 no", "no()"), 0),
    ],
)
def test_what_a_check_took_is_given_back_with_a_refusal_alone(
    after: object, gave_back: int
) -> None:
    till = Till()
    rules = (rule("limit", RCPT, "450 4.7.1 x", "take()"), after)
    policy = compiled(*rules, checks=till.checks())  # type: ignore[arg-type] # drawn above
    asked = world(till, policy)
    asked.ask(instance="i")
    assert (till.takes, till.gave_back) == (1, gave_back)
    assert asked.count("policyd_test_taken_total", what="one") == 1
    assert asked.count("policyd_dropped_total") == 0


def test_the_end_of_a_message_is_settled_by_its_instance() -> None:
    till = Till()
    rules = (
        rule("limit", RCPT, "450 4.7.1 x", "take()"),
        rule("big", END, "552 5.3.4 Too big", "size > 10"),
    )
    asked = world(till, compiled(*rules, checks=till.checks(), owners=ALL_POLICY))
    asked.ask(END, instance="a", size="5")
    asked.ask(END, instance="b", size="50")
    by_instance = Ends(by_instance=True, by_connection=False)
    assert till.ended == [("a", by_instance, True), ("b", by_instance, False)]


def test_a_message_that_is_refused_at_data_ends_there() -> None:
    till = Till()
    rules = (
        rule("limit", RCPT, "450 4.7.1 x", "take()"),
        rule("many", Stage.DATA, "550 5.5.3 Too many", "recipient_count > 10"),
    )
    asked = world(till, compiled(*rules, checks=till.checks(), owners=ALL_POLICY))
    asked.ask(Stage.DATA, instance="a", recipient_count="5")
    assert till.ended == []
    asked.ask(Stage.DATA, instance="b", recipient_count="50")
    assert till.ended == [("b", Ends(by_instance=True, by_connection=False), False)]


def test_a_policy_request_that_the_milter_decides_is_settled_for_the_accounting() -> None:
    till = Till()
    policy = compiled(rule("limit", RCPT, "450 4.7.1 x", "take()"), checks=till.checks())
    asked = world(till, policy)
    answer = asked.ask(END, instance="a")
    assert answer.wire == b"action=DUNNO\n\n"
    assert [ended[2] for ended in till.ended] == [True]
    assert asked.count("policyd_replies_total", source="default", stage="end-of-data") == 1


@pytest.mark.parametrize("stage", [RCPT, Stage.DATA, Stage.MAIL])
def test_nothing_is_settled_before_the_end(stage: Stage) -> None:
    till = Till()
    policy = compiled(rule("limit", RCPT, "450 4.7.1 x", "take()"), checks=till.checks())
    world(till, policy).ask(stage, instance="a")
    assert till.ended == []


def test_nothing_is_settled_by_a_policy_that_reserves_nothing() -> None:
    till = Till()
    policy = compiled(rule("no", END, "550 5.7.1 x", "size > 10"), owners=ALL_POLICY)
    world(till, policy).ask(END, instance="a", size="50")
    assert till.ended == []


def test_a_store_that_is_gone_takes_no_answer_with_it() -> None:
    till = Till()
    till.fails = True
    policy = compiled(rule("limit", RCPT, "450 4.7.1 x", "take()"), checks=till.checks())
    asked = world(till, policy)
    for _ in range(3):
        assert asked.ask(END, instance="a").wire == b"action=DUNNO\n\n"
    events = [(event, fields["failure"]) for event, fields in asked.log.events]
    assert events == [("settle.failed", "gone")]


def test_a_fallback_is_counted_each_time_and_logged_once_a_minute() -> None:
    till = Till()
    rules = (rule("asks", RCPT, "450 4.7.1 x", "fail()"), rule("more", RCPT, "pass", "fail()"))
    asked = world(till, compiled(*rules, checks=till.checks()))
    for _ in range(5):
        assert asked.ask().wire == b"action=DUNNO\n\n"
    assert asked.count("policyd_dependency_fallbacks_total", dependency="store") == 10
    assert [fields["rule"] for _, fields in asked.log.events] == ["asks", "more"]


def test_the_milter_settles_by_what_it_knows() -> None:
    till = Till()
    rules = (
        rule("limit", RCPT, "450 4.7.1 x", "take()"),
        rule("at-end", END, "450 4.7.1 x", "take()"),
    )
    policy = compiled(*rules, checks=till.checks(), owners=PLAIN_OWNERS)
    assert policy.reserving == {FrontEnd.POLICY, FrontEnd.MILTER}
    asked = world(till, policy)

    async def serve() -> None:
        asked.service.loop = asyncio.get_running_loop()
        await asyncio.to_thread(session)

    def session() -> None:
        assert threading.current_thread() is not threading.main_thread()
        asked.service.decide_milter(END, {"instance": "a"}, policy)
        asked.service.settle_milter({"instance": "b"}, policy)
        leaving = asked.service.abandon_milter({"instance": "c"}, policy)
        assert leaving is not None
        leaving.result(2)

    asyncio.run(serve())
    both = Ends(by_instance=True, by_connection=True)
    assert till.ended == [("a", both, True), ("b", both, True), ("c", both, "abandoned")]


def test_what_is_left_out_is_said_with_the_next() -> None:
    throttle = Throttle(60.0)
    told = [throttle.left_out("x", now) for now in (0.0, 1.0, 59.9, 60.0, 61.0, 120.0)]
    assert told == [0, None, None, 2, None, 1]
    assert throttle.left_out("y", 61.0) == 0

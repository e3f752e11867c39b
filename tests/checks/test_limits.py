"""exceeds(): what a request is charged, on which account, and what it is told."""

import asyncio
import pickle
from collections.abc import Awaitable, Callable
from typing import Any, cast

import pytest
from hypothesis import given
from hypothesis import strategies as st

from policyd.checks.interface import Answer, CheckFailedError, Counting, Site
from policyd.checks.limits import (
    Limit,
    Override,
    definitions,
    exceeds,
    key_of,
    objection,
    unsettled,
)
from policyd.checks.rate import Unit
from policyd.smtp.stage import Stage
from policyd.store.memory import MemoryStore
from policyd.store.model import Message, StoreError, account_name

HOUR = 3_600_000
CONNECTION = {
    "server_address": "192.0.2.25",
    "client_address": "198.51.100.7",
    "client_port": "40000",
}
RCPT = Site(Stage.RCPT, settles=True)
END = Site(Stage.END_OF_DATA, settles=True)


class World:
    """A store, a clock that stands, and the check on both."""

    def __init__(self) -> None:
        self.store = MemoryStore()
        self.now = 1_000_000.0
        self.check = exceeds(self.store, lambda: self.now)

    def ask(
        self, instance: str, *named: tuple[object, ...], site: Site = RCPT, **facts: object
    ) -> Answer:
        attributes = {**CONNECTION, "instance": instance, "recipient": "bob@example.org", **facts}
        ask = cast("Callable[..., Awaitable[Answer]]", self.check.ask)

        async def asked() -> Answer:
            return await ask(attributes, site, *named)

        return asyncio.run(asked())

    def used(self, limit: Limit, key: str, *, shadow: bool = False) -> int:
        name = account_name(limit.name, key, shadow=shadow)
        account = asyncio.run(self.store.account(name, round(self.now * 1000)))
        return 0 if account is None else sum(account.parts.values())


def limit(most: int = 2, unit: Unit = Unit.MESSAGES, name: str = "hourly", **fields: Any) -> Limit:
    return Limit(name, unit, most, HOUR, **fields)


def test_what_is_more_than_the_limit_is_told_how_long_to_wait() -> None:
    world, hourly = World(), limit(2)
    answers = [world.ask(f"i{n}", (hourly, "alice")) for n in range(3)]
    assert [each.value for each in answers] == [False, False, True]
    assert [each.result for each in answers] == ["false", "false", "true"]
    assert answers[2].values == {
        "retry_after": "1h1m",
        "limit": "2 messages per 1h",
        "used": "2",
    }
    assert answers[2].give_back is None
    assert world.used(hourly, "alice") == 2


def test_a_message_once_admitted_stays_so_for_its_later_recipients() -> None:
    world, hourly = World(), limit(1)
    first = world.ask("one", (hourly, "alice"), recipient="bob@example.org")
    later = world.ask("one", (hourly, "alice"), recipient="carol@example.org")
    assert (first.value, later.value) == (False, False)
    assert world.used(hourly, "alice") == 1
    assert later.give_back is None


def test_recipients_are_charged_once_each_whatever_their_case() -> None:
    world, hourly = World(), limit(10, Unit.RECIPIENTS)
    for recipient in ("bob@example.org", "Bob@Example.ORG", "carol@example.org"):
        world.ask("one", (hourly, "alice"), recipient=recipient)
    assert world.used(hourly, "alice") == 2


@pytest.mark.parametrize("stage", [Stage.DATA, Stage.END_OF_DATA])
def test_after_rcpt_all_recipients_are_charged_at_once(stage: Stage) -> None:
    world, hourly = World(), limit(10, Unit.RECIPIENTS)
    site = Site(stage)
    assert not world.ask("one", (hourly, "alice"), site=site, recipient_count="7").value
    assert world.used(hourly, "alice") == 7
    answer = world.ask("two", (hourly, "alice"), site=site, recipient_count="7")
    assert (answer.value, answer.values["used"]) == (True, "7")
    assert not world.ask("three", (hourly, "alice"), site=site).value
    assert world.used(hourly, "alice") == 8


def test_bytes_are_those_of_the_message() -> None:
    world, daily = World(), limit(10 << 20, Unit.BYTES)
    assert not world.ask("one", (daily, "alice"), site=END, size=str(9 << 20)).value
    answer = world.ask("two", (daily, "alice"), site=END, size=str(2 << 20))
    assert answer.values == {"retry_after": "1h1m", "limit": "10 MiB per 1h", "used": "9.0 MiB"}
    never = world.ask("three", (daily, "alice"), site=END, size=str(11 << 20))
    assert never.values["retry_after"] == "never"


def test_several_limits_are_charged_together_or_not_at_all() -> None:
    world = World()
    hourly, daily = limit(1), Limit("daily", Unit.MESSAGES, 5, 24 * HOUR)
    assert not world.ask("one", (hourly, "alice"), (daily, "alice")).value
    answer = world.ask("two", (hourly, "alice"), (daily, "alice"))
    assert (answer.value, answer.values["limit"]) == (True, "1 message per 1h")
    assert (world.used(hourly, "alice"), world.used(daily, "alice")) == (1, 1)


def test_of_several_exceeded_limits_the_one_that_waits_longest_is_shown() -> None:
    world = World()
    hourly, daily = limit(1), Limit("daily", Unit.MESSAGES, 1, 24 * HOUR)
    world.ask("one", (hourly, "alice"), (daily, "alice"))
    answer = world.ask("two", (daily, "alice"), (hourly, "alice"))
    assert answer.values["limit"] == "1 message per 1d"
    never = limit(1, Unit.RECIPIENTS, "small")
    site = Site(Stage.DATA)
    answer = world.ask(
        "two", (daily, "alice"), (never, "alice"), (hourly, "alice"), site=site, recipient_count="3"
    )
    assert (answer.values["limit"], answer.values["retry_after"]) == (
        "1 recipient per 1h",
        "never",
    )


def test_of_limits_that_admit_it_the_fullest_is_shown() -> None:
    world = World()
    hourly, daily = limit(2), Limit("daily", Unit.MESSAGES, 100, 24 * HOUR)
    world.ask("one", (hourly, "alice"), (daily, "alice"))
    answer = world.ask("two", (daily, "alice"), (hourly, "alice"))
    assert answer.values == {"retry_after": "0s", "limit": "2 messages per 1h", "used": "1"}


def test_the_same_limit_twice_is_charged_once() -> None:
    world, hourly = World(), limit(1)
    assert not world.ask("one", (hourly, "alice"), (hourly, "ALICE")).value
    assert world.used(hourly, "alice") == 1


def test_what_a_refused_request_took_is_given_back_and_nothing_else() -> None:
    world, hourly = World(), limit(5)
    world.ask("one", (hourly, "alice"))
    again = world.ask("one", (hourly, "alice"))
    assert again.give_back is None
    second = world.ask("two", (hourly, "alice"))
    assert second.give_back is not None
    give_back = second.give_back

    async def given() -> None:
        await give_back()

    world.now += 600
    asyncio.run(given())
    assert world.used(hourly, "alice") == 1


def test_without_an_instance_what_was_taken_goes_back_to_where_it_was() -> None:
    world, hourly = World(), limit(5)
    answer = world.ask("", (hourly, "alice"))
    give_back = answer.give_back
    assert give_back is not None

    async def given() -> None:
        await give_back()

    world.now += 600
    world.ask("", (hourly, "alice"))
    asyncio.run(given())
    assert world.used(hourly, "alice") == 1


def test_a_shadow_rule_counts_in_a_space_of_its_own() -> None:
    world, hourly = World(), limit(1)
    assert not world.ask("one", (hourly, "alice")).value
    shadow = Site(Stage.RCPT, shadow=True)
    assert not world.ask("two", (hourly, "alice"), site=shadow).value
    assert (world.used(hourly, "alice"), world.used(hourly, "alice", shadow=True)) == (1, 1)


@pytest.mark.parametrize(("settles", "counted"), [(True, {"hourly": 1}), (False, {})])
def test_only_what_was_to_be_settled_can_be_missing_that(
    settles: bool, counted: dict[str, int]
) -> None:
    world, hourly = World(), limit(5)
    world.ask("one", (hourly, "alice"), site=Site(Stage.RCPT, settles=settles))
    expired = asyncio.run(world.store.expire(round(world.now * 1000) + HOUR, 10))
    assert dict(expired.unsettled) == counted


def test_abandoned_messages_cost_nothing() -> None:
    world, hourly = World(), limit(1)
    world.ask("one", (hourly, "alice"))
    asyncio.run(world.store.abandon(Message("one"), round(world.now * 1000)))
    assert not world.ask("two", (hourly, "alice")).value


@pytest.mark.parametrize(
    ("parts", "asked"),
    [
        (("",), False),
        (("", ""), False),
        (("", "example.org"), True),
        (("alice", ""), True),
        ((0,), True),
        (("all",), True),
    ],
)
def test_a_key_of_nothing_but_empty_parts_is_not_asked(
    parts: tuple[object, ...], asked: bool
) -> None:
    world, hourly = World(), limit(1)
    answer = world.ask("one", (hourly, *parts))
    assert (answer.value, answer.result) == (False, "false" if asked else "exempt")
    assert set(answer.values) == set(world.check.values)
    assert world.used(hourly, key_of(parts)) == asked


def test_a_key_that_says_nothing_leaves_the_other_limits_asked() -> None:
    world = World()
    login, client = limit(1, name="login"), limit(1, name="client")
    assert world.ask("one", (login, ""), (client, "192.0.2.1")).result == "false"
    assert world.ask("two", (login, ""), (client, "192.0.2.1")).result == "true"


def test_an_override_is_of_one_key() -> None:
    world = World()
    overrides = {"alice": Override(2), "bob": Override(), "carol␟x": Override(9)}
    hourly = limit(1, overrides={key.replace("␟", "\x1f"): o for key, o in overrides.items()})

    def admitted(*key: object) -> int:
        asked = (world.ask(f"{key}{n}", (hourly, *key)).value for n in range(12))
        return sum(not value for value in asked)

    assert admitted("ALICE") == 2
    assert admitted("bob") == 12
    assert admitted("dave") == 1
    assert admitted("carol", "x") == 9
    assert world.ask("x", (hourly, "alice")).values["limit"] == "2 messages per 1h"
    assert world.ask("x", (hourly, "bob")).result == "exempt"


def test_an_override_has_the_limits_burst_unless_it_says_another() -> None:
    world = World()
    hourly = limit(60, burst=1, overrides={"alice": Override(60), "bob": Override(60, 2)})
    for key, burst in (("alice", 1), ("bob", 2), ("carol", 1)):
        asked = [world.ask(f"{key}{n}", (hourly, key)).value for n in range(4)]
        assert asked.count(False) == burst
    assert world.ask("x", (hourly, "carol")).values["retry_after"] == "1m"


class Broken(MemoryStore):
    """A store that is down."""

    async def reserve(self, *_: object) -> Any:
        raise StoreError("connection refused")


def test_a_store_that_is_down_is_a_check_that_failed() -> None:
    world = World()
    world.check = exceeds(Broken(), lambda: world.now)
    with pytest.raises(CheckFailedError, match="connection refused") as raised:
        world.ask("one", (limit(), "alice"))
    assert raised.value.dependency == "store"
    assert world.ask("one", (limit(), "")).result == "exempt"


def test_for_loading_there_is_no_store() -> None:
    world = World()
    world.check = exceeds(None, None)
    with pytest.raises(CheckFailedError, match="only loaded"):
        world.ask("one", (limit(), "alice"))


@given(st.lists(st.text(max_size=20), min_size=2, max_size=3))
def test_no_part_of_a_key_can_hold_another(parts: list[str]) -> None:
    assert key_of(parts).count("\x1f") == len(parts) - 1
    key_of(parts).encode()


def test_keys_are_without_case_and_of_bounded_length() -> None:
    assert key_of(["Alice@Example.ORG", 25]) == "alice@example.org\x1f25"
    assert len(key_of(["x" * 100_000])) < 1000


MAY_ASK = {
    Unit.MESSAGES: {Stage.MAIL, Stage.RCPT, Stage.DATA, Stage.END_OF_DATA},
    Unit.RECIPIENTS: {Stage.RCPT, Stage.DATA, Stage.END_OF_DATA},
    Unit.BYTES: {Stage.END_OF_DATA},
}


@pytest.mark.parametrize("unit", Unit)
def test_a_limit_is_asked_only_where_its_unit_can_be_counted(unit: Unit) -> None:
    asked = {stage for stage in Stage if objection(limit(unit=unit), stage) is None}
    assert asked == MAY_ASK[unit]


def test_an_objection_tells_where_to_ask_instead() -> None:
    assert objection(limit(unit=Unit.BYTES), Stage.RCPT) == (
        "the limit 'hourly' counts bytes, which are not known at rcpt",
        "ask it at end-of-data",
    )


def test_a_limit_is_defined_with_its_key_and_can_be_pickled() -> None:
    hourly = limit(
        overrides={"alice": Override(5, 2)}, key=("sasl_username",), place="policyd.toml:3"
    )
    definition = definitions({"hourly": hourly})["hourly"]
    assert (definition.key, definition.place) == (("sasl_username",), "policyd.toml:3")
    assert pickle.loads(pickle.dumps(definition.value)) == hourly
    assert definition.objection(Stage.CONNECT) == objection(hourly, Stage.CONNECT)


def test_what_was_never_settled_has_a_series_for_each_limit() -> None:
    counting: Counting = unsettled(["hourly", "daily"])
    assert counting.name == "policyd_limit_unsettled_total"
    assert (counting.labels, counting.series) == (("limit",), (("hourly",), ("daily",)))


def test_the_check_says_what_it_may_answer() -> None:
    defined = definitions({"hourly": limit()})
    check = exceeds(None, None, defined)
    assert check.definitions is defined
    assert (check.name, check.remote, check.asks_once, check.sited) == ("exceeds", True, True, True)
    assert (check.on_error, check.dependency) == ("skip", "store")
    assert check.results == ("true", "false", "exempt")

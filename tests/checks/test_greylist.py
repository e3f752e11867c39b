"""greylisted(): who is asked about, under which keys, and what it is told."""

import asyncio
import pickle
from collections.abc import Awaitable, Callable, Iterable
from typing import Any, cast

import msgspec
import pytest

from policyd.checks.greylist import (
    DELAY,
    OUTCOMES,
    GreylistSettings,
    greylisted,
    recipient_key,
)
from policyd.checks.interface import Answer, CheckFailedError, Site
from policyd.smtp.stage import Stage
from policyd.store.memory import MemoryStore
from policyd.store.model import (
    Client,
    Entry,
    GreylistAsk,
    GreylistFound,
    Message,
    StoreError,
    Terms,
    Triplet,
)

RCPT = Site(Stage.RCPT, settles=True)
AT_ONCE = Site(Stage.RCPT)
DATA = Site(Stage.DATA, settles=True)
SHADOW = Site(Stage.RCPT, shadow=True, settles=True)
MINUTE, HOUR, DAY = 60, 3_600, 86_400

GMAIL = {"client_address": "209.85.208.41", "client_name": "mail-ed1-f41.google.com"}
GMAIL_IPV6 = {"client_address": "2a00:1450:4864:20::52f", "client_name": "mail-ed1-x52f.google.com"}
NAMELESS = {"client_address": "198.51.100.7", "client_name": "unknown"}
CONNECTION = {"server_address": "192.0.2.25", "client_port": "40000"}
MAIL = {"sender": "jo@example.net", "recipient": "al@example.org", "sasl_username": ""}


class World:
    """A store, a clock that stands still, and the check on both."""

    def __init__(self, settings: GreylistSettings | None = None) -> None:
        self.store = MemoryStore()
        self.now = 1_700_000_000.0
        self.settings = GreylistSettings() if settings is None else settings
        self.check = greylisted(self.store, lambda: self.now)
        self.messages = 0

    def ask(self, *of: dict[str, str], site: Site = RCPT, **facts: object) -> Answer:
        """Ask for a message of its own, unless `instance` says otherwise."""
        return asyncio.run(self.asked(*of, site=site, **facts))

    async def asked(self, *of: dict[str, str], site: Site = RCPT, **facts: object) -> Answer:
        self.messages += 1
        attributes: dict[str, object] = {"instance": f"m{self.messages}", **CONNECTION, **MAIL}
        for each in of or (NAMELESS,):
            attributes |= each
        ask = cast("Callable[..., Awaitable[Answer]]", self.check.ask)
        return await ask(attributes | facts, site, self.settings)

    def put(self, *entries: Entry) -> None:
        asyncio.run(self.store.put(entries, self.ms))

    def settle(self, instance: str, *, accepted: bool = True) -> None:
        asyncio.run(self.store.settle(Message(instance), self.ms, accepted=accepted))

    @property
    def ms(self) -> int:
        return round(self.now * 1000)

    def entries(self) -> list[Entry]:
        async def read() -> list[Entry]:
            return [entry async for entry in self.store.entries(self.ms)]

        return asyncio.run(read())

    def triplets(self) -> set[tuple[str, str, str]]:
        return {(e.client, e.sender, e.recipient) for e in self.entries() if isinstance(e, Triplet)}

    def triplet(self, client: str, **also: object) -> Triplet:
        kept: dict[str, object] = {
            "sender": MAIL["sender"],
            "recipient": MAIL["recipient"],
            "first": self.ms - DAY * 1000,
            "last": self.ms - HOUR * 1000,
            "passed": True,
            "expires": self.ms + DAY * 1000,
        }
        return msgspec.convert({"type": "triplet", "client": client} | kept | also, Triplet)

    def client(self, client: str, *, allowed: bool) -> Client:
        return Client(client, 5, allowed=allowed, last=self.ms, expires=self.ms + DAY * 1000)


def outcomes(answer: Answer) -> list[str]:
    return [labels[0] for counting, labels, _ in answer.counts if counting is OUTCOMES]


def delays(answer: Answer) -> list[float]:
    return [amount for counting, _, amount in answer.counts if counting is DELAY]


def told(answer: Answer) -> tuple[object, str, str, list[str]]:
    return answer.value, answer.result, answer.values["retry_after"], outcomes(answer)


# what is asked, and what becomes of it


def test_a_first_attempt_waits_an_early_retry_for_the_rest_and_a_later_one_passes() -> None:
    world = World()
    assert told(world.ask()) == (True, "true", "5m", ["first"])
    world.now += 2
    assert told(world.ask()) == (True, "true", "4m58s", ["early"])
    world.now += 5 * MINUTE
    passed = world.ask()
    assert told(passed) == (False, "false", "0s", ["passed"])
    assert delays(passed) == [302.0]
    again = world.ask()
    assert told(again) == (False, "false", "0s", ["passed"])
    assert delays(again) == []


def test_a_message_that_asks_again_is_told_the_same_and_counted_once() -> None:
    world = World()
    assert told(world.ask(instance="one")) == (True, "true", "5m", ["first"])
    assert told(world.ask(instance="one")) == (True, "true", "5m", [])


def test_a_retry_after_the_window_begins_anew() -> None:
    world = World()
    world.ask()
    world.now += 2 * DAY
    assert told(world.ask()) == (True, "true", "5m", ["expired"])


def test_the_terms_are_those_of_the_configuration_asked_with() -> None:
    world = World(GreylistSettings(Terms(delay=60_000), ipv4=16))
    assert told(world.ask()) == (True, "true", "1m", ["first"])
    world.now += MINUTE
    assert not world.ask(client_address="198.51.7.7").value
    assert world.triplets() == {("198.51.0.0/16", "jo@example.net", "al@example.org")}


@pytest.mark.parametrize(
    "facts",
    [
        {"sasl_username": "jo"},
        {"client_address": "127.0.0.1"},
        {"client_address": "::1"},
        {"client_address": "::ffff:127.0.0.1"},
        {"client_address": ""},
        {"client_address": "unknown"},
        {"client_address": "127.0.0.1", "client_port": "0", "local_submission": True},
        {"client_address": "192.0.2.1", "local_submission": True},
        {"sender": ""},
    ],
    ids=str,
)
def test_who_is_exempt_is_not_greylisted_and_leaves_no_trace(facts: dict[str, Any]) -> None:
    world = World()
    answer = world.ask(**facts)
    assert told(answer) == (False, "exempt", "0s", [])
    assert answer.counts == ()
    assert world.entries() == []


def test_a_client_whose_port_a_proxy_does_not_tell_is_no_local_one() -> None:
    assert World().ask(client_port="0").value


# keys


def test_hosts_of_one_provider_meet_over_both_families() -> None:
    world = World()
    world.ask(GMAIL)
    world.now += 6 * MINUTE
    assert not world.ask(GMAIL_IPV6).value
    assert world.triplets() == {("google.com", "jo@example.net", "al@example.org")}


def test_senders_meet_as_folded_and_recipients_without_case() -> None:
    world = World()
    world.ask(sender="prvs=0123abcdef=Jo+x@example.net", recipient="Al@Example.ORG")
    world.now += 6 * MINUTE
    assert not world.ask(sender="prvs=9999abcdef=jo@example.net").value


def test_an_extension_of_a_recipient_is_another_recipient() -> None:
    world = World()
    world.ask(recipient="al+one@example.org")
    world.now += 6 * MINUTE
    assert world.ask(recipient="al+two@example.org").value
    assert world.ask(recipient="al@example.org").value


def test_what_a_client_chose_cannot_be_another_key() -> None:
    world = World()
    world.ask(sender="a\x1fb@example.net", recipient="c\x1fd\udce9@example.org")
    assert world.triplets() == {("198.51.100.0/24", "a?b@example.net", "c?d?@example.org")}
    assert recipient_key("É\n@Example.org") == "é?@example.org"


# the null sender


def test_the_null_sender_is_asked_about_at_data_and_others_are_not() -> None:
    world = World()
    assert world.ask(site=DATA).result == "exempt"
    assert told(world.ask(site=DATA, sender="")) == (True, "true", "5m", ["first"])
    assert world.triplets() == {("198.51.100.0/24", "", "al@example.org")}
    world.now += 6 * MINUTE
    assert not world.ask(site=DATA, sender="").value


def test_at_data_the_milter_knows_all_recipients_in_any_order() -> None:
    world = World()
    world.ask(site=DATA, sender="", recipients=("b@example.org", "A@example.org"))
    world.now += 6 * MINUTE
    again = ("a@example.org", "b@example.org", "b@example.org")
    assert not world.ask(site=DATA, sender="", recipients=again).value
    assert world.triplets() == {("198.51.100.0/24", "", "a@example.org,b@example.org")}


def test_both_front_ends_ask_about_the_one_recipient_of_a_bounce() -> None:
    world = World()
    world.ask(site=DATA, sender="", recipient="al@example.org")
    world.now += 6 * MINUTE
    facts = {"recipient": "", "recipients": ("al@example.org",)}
    assert not world.ask(site=DATA, sender="", **facts).value


def test_recipients_that_postfix_does_not_name_are_several() -> None:
    world = World()
    world.ask(site=DATA, sender="", recipient="", recipient_count="2")
    assert world.triplets() == {("198.51.100.0/24", "", "*")}


# successes


def test_a_client_is_allowed_after_enough_messages_that_were_accepted() -> None:
    world = World()
    for number in range(5):
        world.ask(recipient=f"r{number}@example.org")
    world.now += 6 * MINUTE
    for number in range(5):
        answer = world.ask(recipient=f"r{number}@example.org", instance=f"second{number}")
        assert outcomes(answer) == ["passed"]
        assert outcomes(world.ask(recipient=f"new{number}@example.org")) == ["first"]
        world.settle(f"second{number}")
    assert told(world.ask(recipient="other@example.org")) == (
        False,
        "false",
        "0s",
        ["auto_allowed"],
    )


def test_a_message_that_is_refused_in_the_same_answer_is_no_success() -> None:
    world = World(GreylistSettings(Terms(auto_allow_after=1)))
    world.ask()
    world.now += 6 * MINUTE
    answer = world.ask(instance="refused")
    assert answer.give_back is not None

    async def give_back(taken: Callable[[], Awaitable[None]]) -> None:
        await taken()

    asyncio.run(give_back(answer.give_back))
    world.settle("refused")
    assert outcomes(world.ask(recipient="other@example.org")) == ["first"]


def test_where_nothing_settles_a_success_counts_at_once() -> None:
    world = World(GreylistSettings(Terms(auto_allow_after=1)))
    world.ask(site=AT_ONCE)
    world.now += 6 * MINUTE
    assert world.ask(site=AT_ONCE).give_back is None
    assert outcomes(world.ask(recipient="other@example.org")) == ["auto_allowed"]


# what is known of the client by its network


def test_a_triplet_that_passed_under_the_network_has_passed_for_the_provider() -> None:
    world = World()
    world.put(world.triplet("209.85.208.0/24"))
    passed = world.ask(GMAIL)
    assert told(passed) == (False, "false", "0s", ["passed"])
    assert delays(passed) == []
    assert told(world.ask(GMAIL_IPV6)) == (False, "false", "0s", ["passed"])


def test_a_client_whose_name_was_not_found_at_first_does_not_wait_anew() -> None:
    world = World()
    world.ask(GMAIL, client_name="unknown")
    world.now += MINUTE
    assert told(world.ask(GMAIL)) == (True, "true", "5m", ["first"])
    world.now += 4 * MINUTE
    passed = world.ask(GMAIL)
    assert outcomes(passed) == ["passed"]
    assert delays(passed) == [300.0]


def test_a_network_that_is_allowed_is_so_for_its_hosts_with_a_name_and_not_their_provider() -> None:
    world = World()
    world.put(world.client("209.85.208.0/24", allowed=True))
    assert told(world.ask(GMAIL)) == (False, "false", "0s", ["auto_allowed"])
    assert outcomes(world.ask(GMAIL_IPV6, recipient="other@example.org")) == ["first"]


def test_a_network_that_is_known_but_not_allowed_says_nothing() -> None:
    world = World()
    world.put(world.client("209.85.208.0/24", allowed=False))
    world.put(world.triplet("209.85.208.0/24", recipient="other@example.org"))
    world.put(world.triplet("209.85.208.0/24", first=world.ms - 1000, passed=False))
    assert told(world.ask(GMAIL)) == (True, "true", "5m", ["first"])


def test_workers_that_find_the_network_at_once_agree() -> None:
    world = World()
    world.put(world.triplet("209.85.208.0/24"))

    async def at_once() -> Iterable[Answer]:
        return await asyncio.gather(*(world.asked(GMAIL) for _ in range(20)))

    assert {answer.value for answer in asyncio.run(at_once())} == {False}
    put = [e for e in world.entries() if isinstance(e, Triplet) and e.client == "google.com"]
    assert [(e.passed, e.expires - world.ms) for e in put] == [(True, 35 * DAY * 1000)]


def test_a_network_that_expired_says_nothing() -> None:
    world = World()
    world.put(world.triplet("209.85.208.0/24", expires=world.ms + 1))
    world.now += 1
    assert world.ask(GMAIL).value


# rules in shadow


def test_a_rule_in_shadow_changes_nothing_of_what_is_enforced() -> None:
    world = World()
    assert told(world.ask(site=SHADOW)) == (True, "true", "5m", ["first"])
    world.now += 6 * MINUTE
    shown = world.ask(site=SHADOW)
    assert (outcomes(shown), delays(shown)) == (["passed"], [])
    assert told(world.ask()) == (True, "true", "5m", ["first"])


def test_a_rule_in_shadow_knows_what_is_enforced() -> None:
    world = World()
    world.ask()
    world.now += 6 * MINUTE
    world.ask()
    assert outcomes(world.ask(site=SHADOW)) == ["passed"]
    world.put(world.client("198.51.100.0/24", allowed=True))
    other = world.ask(site=SHADOW, recipient="other@example.org")
    assert outcomes(other) == ["auto_allowed"]
    assert world.triplets() == {
        ("198.51.100.0/24", "jo@example.net", "al@example.org"),
        ("shadow\x1f198.51.100.0/24", "jo@example.net", "al@example.org"),
        ("shadow\x1f198.51.100.0/24", "jo@example.net", "other@example.org"),
    }


# loading, and failing


class Broken(MemoryStore):
    """A store that goes down after the first question."""

    asked = False

    async def greylist(self, ask: GreylistAsk, now: int) -> GreylistFound:
        if self.asked:
            raise StoreError("connection refused")
        self.asked = True
        return await super().greylist(ask, now)

    async def triplet(self, *_: object) -> Triplet | None:
        raise StoreError("connection lost")


def test_a_store_that_is_down_is_a_check_that_failed() -> None:
    world = World()
    world.check = greylisted(Broken(), lambda: world.now)
    with pytest.raises(CheckFailedError, match="connection lost") as lost:
        world.ask(GMAIL)
    with pytest.raises(CheckFailedError, match="connection refused") as refused:
        world.ask(GMAIL)
    assert lost.value.dependency == refused.value.dependency == "store"
    assert world.ask(GMAIL, sasl_username="jo").result == "exempt"


def test_what_is_only_loaded_cannot_look_anybody_up_but_knows_who_is_exempt() -> None:
    ask = cast("Callable[..., Awaitable[Answer]]", greylisted(None, lambda: 0.0).ask)
    attributes = CONNECTION | MAIL | NAMELESS

    async def asked(**facts: str) -> Answer:
        return await ask(attributes | facts, RCPT, GreylistSettings())

    assert asyncio.run(asked(sasl_username="jo")).result == "exempt"
    with pytest.raises(CheckFailedError):
        asyncio.run(asked())


def test_its_settings_and_metrics_are_what_the_policy_takes_along() -> None:
    settings = GreylistSettings(Terms(delay=1), ipv4=32, ipv6=128)
    check = greylisted(None, lambda: 0.0, settings)
    assert pickle.loads(pickle.dumps(check.configured)) == settings
    assert greylisted(None, lambda: 0.0).configured == GreylistSettings()
    outcome, delay = check.countings
    assert [label for (label,) in outcome.series] == [
        *("first", "early", "passed", "auto_allowed", "expired"),
    ]
    assert delay.bounds[0] == MINUTE
    assert delay.bounds[-1] == 2 * DAY

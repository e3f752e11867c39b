"""Greylisting on every store: what an attempt comes to, and what it leaves behind."""

import msgspec

from policyd.store.greylist import COARSE
from policyd.store.model import Client, Message, Outcome, Terms, Triplet
from tests.store.asking import DAY, MINUTE, TERMS, T, about, contract, message, pass_by
from tests.store.stores import Fresh

SETTLING = about("pass", settles=True)


@contract
async def test_a_first_attempt_waits_for_the_whole_delay(fresh: Fresh) -> None:
    store = fresh()
    found = await store.greylist(about(1), T)
    assert found.outcome is Outcome.FIRST
    assert (found.waits, found.late, found.credited) == (TERMS.delay, -1, False)
    assert found.greylisted
    assert await store.triplet("example.net", "jo@example.net", "al@example.org", T) == Triplet(
        "example.net",
        "jo@example.net",
        "al@example.org",
        first=T,
        last=T,
        passed=False,
        expires=T + TERMS.retry_window,
        instance="instance.1",
    )
    assert await store.client("example.net", T) is None


@contract
async def test_a_retry_that_comes_too_early_does_not_restart_the_clock(fresh: Fresh) -> None:
    store = fresh()
    await store.greylist(about(1), T)
    for number in range(2, 6):
        early = await store.greylist(about(number), T + number * MINUTE - MINUTE)
        assert early.outcome is Outcome.EARLY
        assert early.waits == TERMS.delay - (number - 1) * MINUTE
    last = await store.greylist(about(), T + TERMS.delay - 1)
    assert (last.outcome, last.waits) == (Outcome.EARLY, 1)
    passed = await store.greylist(about(7), T + TERMS.delay)
    assert (passed.outcome, passed.waits, passed.late) == (Outcome.PASSED, 0, TERMS.delay)


@contract
async def test_a_repeat_within_one_message_is_neither_early_nor_a_success(fresh: Fresh) -> None:
    store = fresh()
    await store.greylist(about(1), T)
    again = await store.greylist(about(1), T + MINUTE)
    assert (again.outcome, again.waits) == (Outcome.REPEATED, TERMS.delay - MINUTE)
    late = await store.greylist(about(1), T + TERMS.delay + MINUTE)
    assert late.outcome is Outcome.REPEATED
    assert late.waits > 0
    now = T + TERMS.delay + 2 * MINUTE
    assert (await store.greylist(about(2), now)).outcome is Outcome.PASSED
    again = await store.greylist(about(2), now)
    assert (again.outcome, again.waits, again.late) == (Outcome.REPEATED, 0, -1)
    client = await store.client("example.net", now)
    assert client is not None
    assert client.successes == 1


@contract
async def test_an_early_attempt_of_another_message_is_repeated_as_its_own(fresh: Fresh) -> None:
    store = fresh()
    await store.greylist(about(1), T)
    assert (await store.greylist(about(2), T + 1)).outcome is Outcome.EARLY
    assert (await store.greylist(about(2), T + 2)).outcome is Outcome.REPEATED


@contract
async def test_attempts_without_an_instance_are_never_one_message(fresh: Fresh) -> None:
    store = fresh()
    await store.greylist(about(), T)
    assert (await store.greylist(about(), T)).outcome is Outcome.EARLY
    assert (await store.greylist(about(), T + TERMS.delay)).outcome is Outcome.PASSED
    assert (await store.greylist(about(), T + TERMS.delay)).outcome is Outcome.PASSED
    client = await store.client("example.net", T + TERMS.delay)
    assert client is not None
    assert client.successes == 2


@contract
async def test_only_the_first_accepted_retry_is_late(fresh: Fresh) -> None:
    store = fresh()
    found = await pass_by(store, about(1), T + DAY)
    assert found.late == TERMS.delay
    assert (await store.greylist(about(2), T + 2 * DAY)).late == -1


@contract
async def test_a_retry_after_its_window_begins_anew(fresh: Fresh) -> None:
    store = fresh()
    await store.greylist(about(1), T)
    in_time = T + TERMS.retry_window - 1
    assert await store.triplet("example.net", "jo@example.net", "al@example.org", in_time)
    late = T + TERMS.retry_window
    assert not await store.triplet("example.net", "jo@example.net", "al@example.org", late)
    found = await store.greylist(about(2), late)
    assert (found.outcome, found.waits) == (Outcome.EXPIRED, TERMS.delay)
    assert (await store.greylist(about(3), late + MINUTE)).outcome is Outcome.EARLY
    assert (await store.greylist(about(4), late + TERMS.delay)).outcome is Outcome.PASSED


@contract
async def test_a_triplet_that_is_not_seen_for_its_lifetime_begins_anew(fresh: Fresh) -> None:
    store = fresh()
    await pass_by(store, about(1), T)
    assert (await store.greylist(about(2), T + TERMS.lifetime - 1)).outcome is Outcome.PASSED
    last = T + 2 * TERMS.lifetime - 1
    assert (await store.greylist(about(3), last - 1)).outcome is Outcome.PASSED
    assert (await store.greylist(about(4), last + TERMS.lifetime)).outcome is Outcome.EXPIRED


@contract
async def test_a_known_triplet_is_written_again_only_when_its_age_class_changes(
    fresh: Fresh,
) -> None:
    store = fresh()
    await pass_by(store, about(1), T)
    step = TERMS.lifetime // COARSE
    key = ("example.net", "jo@example.net", "al@example.org")
    await store.greylist(about(2), T + step - 1)
    before = await store.triplet(*key, T + step)
    assert before is not None
    assert (before.last, before.instance) == (T, "instance.1")
    await store.greylist(about(3), T + step)
    after = await store.triplet(*key, T + step)
    assert after is not None
    assert (after.last, after.expires) == (T + step, T + step + TERMS.lifetime)


@contract
async def test_a_client_is_allowed_after_so_many_successes(fresh: Fresh) -> None:
    store = fresh()
    for number in range(TERMS.auto_allow_after):
        assert await store.client("example.net", T) == (
            Client(
                "example.net",
                number,
                allowed=False,
                last=T,
                expires=T + TERMS.lifetime,
                instance=f"instance.{number - 1}",
            )
            if number
            else None
        )
        await pass_by(store, about(number, sender=f"{number}@example.net"), T)
    client = await store.client("example.net", T)
    assert client is not None
    assert (client.allowed, client.by_hand) == (True, False)
    found = await store.greylist(about(9, sender="new@example.net"), T)
    assert (found.outcome, found.waits) == (Outcome.AUTO_ALLOWED, 0)
    assert await store.triplet("example.net", "new@example.net", "al@example.org", T) is None
    other = await store.greylist(about(9, client="example.com"), T)
    assert other.outcome is Outcome.FIRST


@contract
async def test_a_message_with_many_recipients_is_one_success(fresh: Fresh) -> None:
    store = fresh()
    for number in range(8):
        await pass_by(store, about("one", recipient=f"{number}@example.org"), T)
    client = await store.client("example.net", T)
    assert client is not None
    assert (client.successes, client.allowed) == (1, False)


@contract
async def test_an_allowed_client_that_is_not_seen_for_the_lifetime_is_forgotten(
    fresh: Fresh,
) -> None:
    store = fresh()
    for number in range(TERMS.auto_allow_after):
        await pass_by(store, about(number, sender=f"{number}@example.net"), T)
    seen = T + TERMS.lifetime - 1
    assert (await store.greylist(about("a"), seen)).outcome is Outcome.AUTO_ALLOWED
    gone = seen + TERMS.lifetime
    assert await store.client("example.net", gone - 1) is not None
    assert await store.client("example.net", gone) is None
    found = await store.greylist(about("b", sender="x@example.net"), gone)
    assert found.outcome is Outcome.FIRST


@contract
async def test_no_client_is_allowed_where_none_is_to_be(fresh: Fresh) -> None:
    store = fresh()
    terms = Terms(auto_allow_after=0)
    for number in range(8):
        sender = f"{number}@example.net"
        await pass_by(store, about(number, sender=sender, terms=terms), T)
        ask = about(f"s{number}", sender=sender, terms=terms, settles=True)
        found = await store.greylist(ask, T)
        assert not found.credited
    assert await store.client("example.net", T) is None


@contract
async def test_a_client_allowed_by_hand_stays_so(fresh: Fresh) -> None:
    store = fresh()
    by_hand = Client("example.net", 0, allowed=True, last=T, expires=T, by_hand=True)
    await store.put([by_hand], T)
    for later in (T, T + TERMS.lifetime, T + 5 * TERMS.lifetime):
        assert (await store.greylist(about(1), later)).outcome is Outcome.AUTO_ALLOWED
        while (await store.expire(later, 100)).more:
            pass
        assert await store.client("example.net", later) == by_hand


@contract
async def test_a_success_that_settles_counts_when_the_message_is_accepted(fresh: Fresh) -> None:
    store = fresh()
    found = await pass_by(store, SETTLING, T)
    assert found.credited
    assert await store.client("example.net", T) is None
    await store.settle(message("pass"), T, accepted=True)
    client = await store.client("example.net", T)
    assert client is not None
    assert (client.successes, client.last) == (1, T)
    await store.settle(message("pass"), T, accepted=True)
    assert await store.client("example.net", T) == client


@contract
async def test_a_success_is_reserved_once_a_message_and_client(fresh: Fresh) -> None:
    store = fresh()
    ask = about("pass", recipient="other@example.org", settles=True)
    assert (await pass_by(store, SETTLING, T)).credited
    assert not (await pass_by(store, ask, T)).credited
    other = msgspec.structs.replace(ask, client="example.com")
    assert (await pass_by(store, other, T)).credited
    await store.settle(message("pass"), T, accepted=True)
    for name in ("example.net", "example.com"):
        client = await store.client(name, T)
        assert client is not None
        assert client.successes == 1


@contract
async def test_a_message_that_was_accepted_gets_no_second_success(fresh: Fresh) -> None:
    store = fresh()
    await pass_by(store, SETTLING, T)
    await store.settle(message("pass"), T, accepted=True)
    assert not (await store.greylist(about("pass", settles=True), T)).credited
    await store.settle(message("pass"), T, accepted=True)
    client = await store.client("example.net", T)
    assert client is not None
    assert client.successes == 1


@contract
async def test_a_success_that_is_given_back_is_dropped(fresh: Fresh) -> None:
    store = fresh()
    await pass_by(store, SETTLING, T)
    await store.give_back([], message("pass"), T, credit="example.net")
    await store.settle(message("pass"), T, accepted=True)
    assert await store.client("example.net", T) is None


@contract
async def test_a_success_of_a_message_that_is_refused_is_dropped(fresh: Fresh) -> None:
    store = fresh()
    await pass_by(store, SETTLING, T)
    await store.settle(message("pass"), T, accepted=False)
    await store.settle(message("pass"), T, accepted=True)
    assert await store.client("example.net", T) is None


@contract
async def test_a_success_of_a_message_that_is_abandoned_is_dropped(fresh: Fresh) -> None:
    store = fresh()
    await pass_by(store, SETTLING, T)
    await store.abandon(message("pass"), T)
    await store.settle(message("pass"), T, accepted=True)
    assert await store.client("example.net", T) is None


@contract
async def test_a_message_refused_after_it_was_accepted_takes_its_success_back(
    fresh: Fresh,
) -> None:
    store = fresh()
    for number in range(TERMS.auto_allow_after):
        await pass_by(store, about(number, sender=f"{number}@example.net", settles=True), T)
        await store.settle(message(number), T, accepted=True)
    client = await store.client("example.net", T)
    assert client is not None
    assert client.allowed
    await store.settle(message(2), T, accepted=False)
    await store.settle(message(2), T, accepted=False)
    client = await store.client("example.net", T)
    assert client is not None
    assert (client.successes, client.allowed) == (TERMS.auto_allow_after - 1, False)


@contract
async def test_without_an_instance_a_success_counts_at_once(fresh: Fresh) -> None:
    store = fresh()
    found = await pass_by(store, msgspec.structs.replace(SETTLING, message=Message()), T)
    assert not found.credited
    client = await store.client("example.net", T)
    assert client is not None
    assert client.successes == 1


@contract
async def test_a_null_sender_and_empty_texts_are_keys_like_others(fresh: Fresh) -> None:
    store = fresh()
    await store.greylist(about(1, sender=""), T)
    assert (await store.greylist(about(2), T)).outcome is Outcome.FIRST
    assert (await store.greylist(about(3, sender=""), T)).outcome is Outcome.EARLY


@contract
async def test_triplets_differ_by_each_of_their_parts(fresh: Fresh) -> None:
    store = fresh()
    keys = [("a", "b", "c"), ("ab", "", "c"), ("", "ab", "c"), ("a", "", "bc"), ("a", "bc", "")]
    for client, sender, recipient in keys:
        ask = about(1, client=client, sender=sender, recipient=recipient)
        assert (await store.greylist(ask, T)).outcome is Outcome.FIRST

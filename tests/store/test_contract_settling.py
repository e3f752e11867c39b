"""The two phases on every store: what a message reserved is spent, given back or forgotten."""

from policyd.store.model import SETTLED_WITHIN, Message
from tests.store.asking import (
    CONNECTION,
    DAY,
    HOUR,
    SECOND,
    T,
    admitted,
    charge,
    contract,
    message,
    pass_by,
    used,
)
from tests.store.asking import about as asked
from tests.store.stores import Fresh

RECIPIENTS = [charge(mark=f"{name}@example.org") for name in "abcd"]
ON_CONNECTION = Message(connection=CONNECTION)


@contract
async def test_what_is_accepted_is_spent(fresh: Fresh) -> None:
    store = fresh()
    await store.reserve([charge(4)], message(1), T)
    await store.settle(message(1), T, accepted=True)
    await store.settle(message(1), T, accepted=True)
    await store.abandon(message(1), T)
    assert await used(store, T) == 4


@contract
async def test_what_is_refused_is_given_back_once(fresh: Fresh) -> None:
    store = fresh()
    await store.reserve([charge(4), charge(4, limit="site")], message(1), T)
    await store.reserve([charge(3)], message(2), T)
    for _ in range(2):
        await store.settle(message(1), T + SECOND, accepted=False)
        assert await used(store, T) == 3
        assert await used(store, T, charge(limit="site")) == 0
    await store.settle(message(1), T, accepted=True)
    assert await used(store, T) == 3


@contract
async def test_what_is_abandoned_is_given_back_once(fresh: Fresh) -> None:
    store = fresh()
    await store.reserve([charge(4)], message(1), T)
    await store.reserve([charge(3)], message(2), T)
    for _ in range(2):
        await store.abandon(message(1), T)
        assert await used(store, T) == 3


@contract
async def test_what_is_accepted_can_be_refused_afterwards(fresh: Fresh) -> None:
    store = fresh()
    await store.reserve([charge(4)], message(1, CONNECTION), T)
    await store.settle(message(1), T, accepted=True)
    await store.settle(ON_CONNECTION, T, accepted=False)
    assert await used(store, T) == 0


@contract
async def test_a_refused_message_pays_anew_when_it_is_asked_again(fresh: Fresh) -> None:
    store = fresh()
    await store.reserve([charge(4)], message(1), T)
    await store.settle(message(1), T, accepted=False)
    assert await admitted(store, charge(4), message(1), T)
    assert await used(store, T) == 4


@contract
async def test_a_message_stays_admitted_after_it_was_accepted(fresh: Fresh) -> None:
    store = fresh()
    await store.reserve([charge(10)], message(1), T)
    await store.settle(message(1), T, accepted=True)
    (again,) = await store.reserve([charge(10)], message(1), T)
    assert (again.exceeded, again.taken) == (False, False)


@contract
async def test_recipients_that_the_message_did_not_get_are_given_back(fresh: Fresh) -> None:
    store = fresh()
    await store.reserve(RECIPIENTS, message(1), T)
    await store.reserve([charge(2, limit="messages")], message(1), T)
    for _ in range(2):
        await store.settle(message(1), T, accepted=True, recipients=3)
        assert await used(store, T) == 3
    assert await used(store, T, charge(limit="messages")) == 2
    await store.settle(message(1), T, accepted=False)
    assert await used(store, T) == 0


@contract
async def test_more_recipients_than_were_reserved_cost_nothing_more(fresh: Fresh) -> None:
    store = fresh()
    await store.reserve(RECIPIENTS[:2], message(1), T)
    await store.settle(message(1), T, accepted=True, recipients=5)
    assert await used(store, T) == 2


@contract
async def test_of_several_accounts_in_recipients_nobody_knows_whose_they_were(
    fresh: Fresh,
) -> None:
    store = fresh()
    others = [charge(key="al", mark=f"{name}@example.org") for name in "efg"]
    await store.reserve([*RECIPIENTS, *others], message(1), T)
    await store.settle(message(1), T, accepted=True, recipients=2)
    assert [await used(store, T, each) for each in (RECIPIENTS[0], others[0])] == [4, 3]


@contract
async def test_an_account_in_shadow_is_of_the_same_recipients(fresh: Fresh) -> None:
    store = fresh()
    shadows = [charge(mark=f"{name}@example.org", shadow=True) for name in "abc"]
    await store.reserve([*RECIPIENTS, *shadows], message(1), T)
    await store.settle(message(1), T, accepted=True, recipients=2)
    assert [await used(store, T, each) for each in (RECIPIENTS[0], shadows[0])] == [2, 2]


@contract
async def test_a_connection_settles_its_newest_message(fresh: Fresh) -> None:
    store = fresh()
    await store.reserve([charge(1)], message(1, CONNECTION), T)
    await store.reserve([charge(2)], message(2, CONNECTION), T)
    await store.reserve([charge(4)], message(3, CONNECTION.replace("7", "8")), T)
    await store.settle(ON_CONNECTION, T, accepted=False)
    assert await used(store, T) == 5
    await store.settle(ON_CONNECTION, T, accepted=False)
    assert await used(store, T) == 5
    await store.abandon(Message(connection=CONNECTION.replace("7", "8")), T)
    assert await used(store, T) == 1


@contract
async def test_a_connection_settles_what_greylisting_reserved(fresh: Fresh) -> None:
    store = fresh()
    await pass_by(store, asked(1, settles=True, connection=CONNECTION), T)
    await store.settle(ON_CONNECTION, T, accepted=True)
    client = await store.client("example.net", T)
    assert client is not None
    assert client.successes == 1


@contract
async def test_closing_after_a_message_was_accepted_gives_nothing_back(fresh: Fresh) -> None:
    store = fresh()
    await store.reserve([charge(4)], message(1, CONNECTION), T)
    await store.settle(ON_CONNECTION, T, accepted=True)
    await store.abandon(ON_CONNECTION, T)
    await store.abandon(message(1), T)
    assert await used(store, T) == 4


@contract
async def test_settling_what_is_not_there_does_nothing(fresh: Fresh) -> None:
    store = fresh()
    await store.reserve([charge(4)], Message(), T)
    for nobody in (message(1), ON_CONNECTION, Message()):
        await store.settle(nobody, T, accepted=False)
        await store.settle(nobody, T, accepted=True, recipients=0)
        await store.abandon(nobody, T)
        await store.give_back([charge(4)], message(1), T, credit="example.net")
    assert await used(store, T) == 4


@contract
async def test_what_has_left_the_window_is_given_back_without_effect(fresh: Fresh) -> None:
    store = fresh()
    await store.reserve([charge(10, window=60 * SECOND)], message(1), T)
    later = T + 61 * SECOND
    assert await admitted(store, charge(10, window=60 * SECOND), message(2), later)
    await store.settle(message(1), later, accepted=False)
    assert await used(store, later) == 10


@contract
async def test_what_is_not_settled_within_an_hour_is_spent(fresh: Fresh) -> None:
    store = fresh()
    one = charge(4, window=DAY)
    await store.reserve([one], message(1, CONNECTION), T)
    late = T + SETTLED_WITHIN
    await store.settle(message(1), late, accepted=False)
    await store.settle(ON_CONNECTION, late, accepted=False)
    await store.abandon(message(1), late)
    assert await used(store, late, one) == 4


@contract
async def test_a_message_is_settled_until_its_hour_is_over(fresh: Fresh) -> None:
    store = fresh()
    await store.reserve([charge(4)], message(1), T)
    await store.reserve([charge(4, limit="site")], message(1), T + HOUR // 2)
    await store.settle(message(1), T + SETTLED_WITHIN - 1, accepted=False)
    assert await used(store, T + SETTLED_WITHIN - 1) == 0
    assert await used(store, T + SETTLED_WITHIN - 1, charge(limit="site")) == 0


@contract
async def test_charges_that_do_not_settle_can_be_given_back_and_are_charged_once(
    fresh: Fresh,
) -> None:
    store = fresh()
    one = charge(3, settles=False)
    await store.reserve([one], message(1), T)
    await store.reserve([one], message(1), T)
    assert await used(store, T) == 3
    await store.give_back([one], message(1), T)
    assert await used(store, T) == 0

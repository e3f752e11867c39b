"""Limits on every store: what is admitted, what it costs, and when more fits."""

import asyncio
from pathlib import Path
from typing import Final

import hypothesis.strategies as st
import pytest
from hypothesis import given, settings

from policyd.store.interface import Store
from policyd.store.model import SETTLED_WITHIN, STEPS, Charge, Message, Standing
from tests.store.asking import (
    DAY,
    HOUR,
    MINUTE,
    SECOND,
    T,
    admitted,
    charge,
    contract,
    message,
    on,
    used,
)
from tests.store.stores import STORES, Fresh

ADMITTED: Final = Standing(exceeded=False, taken=True, used=0, waits=0)


@contract
async def test_a_limit_admits_its_amount_and_no_more(fresh: Fresh) -> None:
    store = fresh()
    for number in range(10):
        assert await store.reserve([charge()], message(number), T) == (
            Standing(exceeded=False, taken=True, used=number, waits=0),
        )
    (standing,) = await store.reserve([charge()], message(10), T)
    assert standing == Standing(exceeded=True, taken=False, used=10, waits=61 * MINUTE)
    assert await used(store, T) == 10


@contract
async def test_what_waits_says_is_exact(fresh: Fresh) -> None:
    store = fresh()
    for number in range(10):
        assert await admitted(store, charge(), message(number), T + number * MINUTE)
    later = T + 10 * MINUTE + 1
    (standing,) = await store.reserve([charge(3)], message("a"), later)
    assert standing.waits == T + 63 * MINUTE - later
    assert not await admitted(store, charge(3), message("b"), later + standing.waits - 1)
    assert await admitted(store, charge(3), message("c"), later + standing.waits)
    assert not await admitted(store, charge(1), message("d"), later + standing.waits)


@contract
async def test_what_can_never_fit_says_so(fresh: Fresh) -> None:
    store = fresh()
    (standing,) = await store.reserve([charge(11)], message(1), T)
    assert standing == Standing(exceeded=True, taken=False, used=0, waits=-1)
    (standing,) = await store.reserve([charge(4, burst=3)], message(1), T)
    assert standing == Standing(exceeded=True, taken=False, used=0, waits=-1)
    assert await used(store, T) == 0


@contract
async def test_a_burst_is_what_fits_at_once(fresh: Fresh) -> None:
    store = fresh()
    one = charge(most=60, burst=3)
    for number in range(3):
        assert await admitted(store, one, message(number), T)
    (standing,) = await store.reserve([one], message(3), T)
    assert standing == Standing(exceeded=True, taken=False, used=3, waits=MINUTE)
    assert not await admitted(store, one, message(4), T + MINUTE - 1)
    assert await admitted(store, one, message(5), T + MINUTE)
    assert not await admitted(store, one, message(6), T + MINUTE)
    assert await admitted(store, charge(3, most=60, burst=3), message(7), T + 4 * MINUTE)


@contract
async def test_several_limits_are_charged_together_or_not_at_all(fresh: Fresh) -> None:
    store = fresh()
    login, client, site = (
        charge(most=most, limit=name, key=name)
        for name, most in (("login", 9), ("client", 2), ("site", 5))
    )
    for number in range(2):
        assert await store.reserve([login, client, site], message(number), T) == tuple(
            Standing(exceeded=False, taken=True, used=number, waits=0) for _ in range(3)
        )
    standings = await store.reserve([login, client, site], message(2), T)
    assert [each.exceeded for each in standings] == [False, True, False]
    assert not any(each.taken for each in standings)
    assert [await used(store, T, each) for each in (login, client, site)] == [2, 2, 2]
    assert await admitted(store, login, message(2), T)


@contract
async def test_two_charges_of_one_account_add_up_in_one_request(fresh: Fresh) -> None:
    store = fresh()
    marks = [charge(4, mark=mark) for mark in ("a", "b", "c")]
    standings = await store.reserve(marks, message(1), T)
    assert [each.exceeded for each in standings] == [False, False, True]
    assert await used(store, T) == 0
    standings = await store.reserve(marks[:2], message(1), T)
    assert [each.used for each in standings] == [0, 4]
    assert await used(store, T) == 8


@contract
async def test_the_same_charge_twice_in_one_request_is_one(fresh: Fresh) -> None:
    store = fresh()
    standings = await store.reserve([charge(6), charge(6)], message(1), T)
    assert [each.taken for each in standings] == [True, False]
    assert await used(store, T) == 6


@contract
async def test_a_message_is_charged_once_and_answered_each_time(fresh: Fresh) -> None:
    store = fresh()
    assert await admitted(store, charge(), message(1), T)
    (again,) = await store.reserve([charge()], message(1), T + SECOND)
    assert (again.exceeded, again.taken, again.waits) == (False, False, 0)
    assert await used(store, T + SECOND) == 1


@contract
async def test_a_message_once_admitted_stays_admitted(fresh: Fresh) -> None:
    store = fresh()
    assert await admitted(store, charge(10), message(1), T)
    assert not await admitted(store, charge(), message(2), T)
    (again,) = await store.reserve([charge(10)], message(1), T)
    assert (again.exceeded, again.taken) == (False, False)
    (lower,) = await store.reserve([charge(10, most=5)], message(1), T)
    assert not lower.exceeded


@contract
async def test_a_message_that_was_refused_is_not_admitted_later(fresh: Fresh) -> None:
    store = fresh()
    await store.reserve([charge(10)], message(1), T)
    assert not await admitted(store, charge(), message(2), T)
    assert not await admitted(store, charge(), message(2), T)


@contract
async def test_each_recipient_of_a_message_is_charged_once(fresh: Fresh) -> None:
    store = fresh()
    for mark in ("a@example.org", "b@example.org", "a@example.org", ""):
        await store.reserve([charge(mark=mark)], message(1), T)
    assert await used(store, T) == 3


@contract
async def test_a_paid_charge_beside_one_that_is_exceeded_stays_paid(fresh: Fresh) -> None:
    store = fresh()
    other = charge(limit="site", key="", most=1)
    await store.reserve([charge()], message(1), T)
    await store.reserve([other], message(2), T)
    standings = await store.reserve([charge(), other], message(1), T)
    assert [(each.exceeded, each.taken) for each in standings] == [(False, False), (True, False)]
    assert await used(store, T) == 1


@contract
async def test_with_an_empty_instance_each_request_pays(fresh: Fresh) -> None:
    store = fresh()
    for number in range(10):
        assert await admitted(store, charge(), Message(), T), number
    assert not await admitted(store, charge(), Message(), T)


@contract
async def test_accounts_of_other_keys_limits_and_of_shadow_rules_are_their_own(
    fresh: Fresh,
) -> None:
    store = fresh()
    await store.reserve([charge(10)], message(1), T)
    others = [charge(10, shadow=True), charge(10, key="al"), charge(10, limit="client")]
    assert await store.reserve(others, message(1), T) == (ADMITTED,) * 3
    assert await used(store, T, others[0]) == 10


@contract
async def test_what_is_given_back_can_be_taken_again(fresh: Fresh) -> None:
    store = fresh()
    one, other = charge(10), charge(10, limit="client")
    await store.reserve([one, other], message(1), T)
    await store.give_back([one], message(1), T)
    assert [await used(store, T, each) for each in (one, other)] == [0, 10]
    await store.give_back([one], message(1), T)
    assert await used(store, T) == 0
    assert await admitted(store, charge(10), message(1), T)
    await store.give_back([other], message(2), T)
    assert await used(store, T, other) == 10


@contract
async def test_of_recipients_only_the_given_one_comes_back(fresh: Fresh) -> None:
    store = fresh()
    await store.reserve([charge(mark=mark) for mark in "abc"], message(1), T)
    await store.give_back([charge(mark="b")], message(1), T)
    assert await used(store, T) == 2
    standings = await store.reserve([charge(mark=mark) for mark in "abc"], message(1), T)
    assert [each.taken for each in standings] == [False, True, False]


@contract
async def test_with_an_empty_instance_what_is_given_back_comes_of_now(fresh: Fresh) -> None:
    store = fresh()
    await store.reserve([charge(4)], Message(), T)
    await store.reserve([charge(4)], Message(), T + 5 * MINUTE)
    await store.give_back([charge(4)], Message(), T + 5 * MINUTE)
    assert await used(store, T + 5 * MINUTE) == 4
    await store.give_back([charge(4)], Message(), T + 7 * MINUTE)
    assert await used(store, T + 7 * MINUTE) == 4


@contract
async def test_a_burst_that_is_given_back_can_be_taken_again(fresh: Fresh) -> None:
    store = fresh()
    one = charge(3, most=60, burst=3)
    await store.reserve([one], message(1), T)
    await store.give_back([one], message(1), T)
    assert await admitted(store, one, message(2), T)
    assert not await admitted(store, one, message(3), T)


@contract
async def test_what_has_leaked_of_a_burst_does_not_come_back(fresh: Fresh) -> None:
    store = fresh()
    one = charge(3, most=60, burst=3)
    await store.reserve([one], message(1), T)
    later = T + 3 * MINUTE
    assert await admitted(store, one, message(2), later)
    await store.settle(message(1), later, accepted=False)
    assert await used(store, later) == 3
    assert not await admitted(store, charge(most=60, burst=3), message(3), later)
    assert await admitted(store, one, message(3), later + 3 * MINUTE)


@contract
async def test_another_window_begins_an_empty_account(fresh: Fresh) -> None:
    store = fresh()
    await store.reserve([charge(10)], message(1), T)
    assert await admitted(store, charge(10, window=DAY), message(2), T)
    await store.give_back([charge(10)], message(1), T)
    assert await used(store, T) == 10


@contract
async def test_an_account_is_shown_while_it_holds_something(fresh: Fresh) -> None:
    store = fresh()
    assert await store.account(charge().account, T) is None
    await store.reserve([charge(2)], message(1), T)
    await store.reserve([charge(3)], message(2), T + MINUTE)
    part = T * STEPS // HOUR
    account = await store.account(charge().account, T + MINUTE)
    assert account is not None
    assert (account.name, account.window) == ("login\x1fjo", HOUR)
    assert dict(account.parts) == {part: 2, part + 1: 3}
    account = await store.account(charge().account, T + 61 * MINUTE)
    assert account is not None
    assert dict(account.parts) == {part + 1: 3}
    assert await store.account(charge().account, T + 62 * MINUTE) is None


@contract
async def test_a_message_pays_anew_when_it_has_been_forgotten(fresh: Fresh) -> None:
    store = fresh()
    for later in (T, T + HOUR - 1):
        await store.reserve([charge(window=DAY)], message(1), later)
    assert await used(store, T + HOUR, charge(window=DAY)) == 1
    await store.reserve([charge(window=DAY)], message(1), T + HOUR)
    assert await used(store, T + HOUR, charge(window=DAY)) == 2


# against a model of what was admitted

WINDOWS = st.sampled_from([60, 600, 7_001, MINUTE, HOUR, DAY])
STEP = st.tuples(
    st.floats(0, 0.6),  # of the window, that goes by before
    st.integers(1, 6),  # the amount
    st.sampled_from(["ask", "ask", "ask", "wait", "refuse"]),
)


class Model:
    """What was admitted and not refused, moment by moment; it asks the store and holds it to it."""

    def __init__(self, store: Store, most: int, window: int, burst: int) -> None:
        self.store, self.most, self.window, self.burst = store, most, window, burst
        self.held: list[tuple[int, int, Message]] = []
        self.refused = False
        self.number = 0

    def charge(self, amount: int) -> Charge:
        return charge(amount, self.most, self.window, burst=self.burst)

    def within(self, begin: int, end: int) -> int:
        return sum(amount for at, amount, _ in self.held if begin < at <= end)

    async def ask(self, amount: int, now: int) -> Standing:
        self.number += 1
        (standing,) = await self.store.reserve([self.charge(amount)], message(self.number), now)
        if standing.taken:
            self.held.append((now, amount, message(self.number)))
        self.hold(now)
        if standing.exceeded and not self.burst:
            # capacity comes back in steps of up to a sixtieth of the window
            step = -(-self.window // STEPS)
            assert self.within(now - self.window - step, now) + amount > self.most
        return standing

    def hold(self, now: int) -> None:
        assert self.within(now - self.window, now) <= self.most
        for begin, _, _ in self.held if self.burst else ():
            at_once = self.within(begin - 1, now)
            assert at_once <= self.burst + (now - begin) * self.most / self.window + 1e-3

    async def wait(self, amount: int, now: int) -> int:
        """Ask, and if it is exceeded again when it says, and a moment before."""
        standing = await self.ask(amount, now)
        if standing.waits <= 0:
            assert (standing.waits == -1) == (amount > min(self.most, self.burst or self.most))
            return now
        now += standing.waits
        assert (await self.ask(amount, now - 1)).exceeded
        assert not (await self.ask(amount, now)).exceeded
        return now

    async def refuse(self, now: int) -> None:
        """Refuse a message that was admitted; what was not settled in time stays spent."""
        if self.held:
            at, _, refused = one = self.held[self.number % len(self.held)]
            await self.store.settle(refused, now, accepted=False)
            if now < at + SETTLED_WITHIN:
                self.held.remove(one)


@pytest.mark.parametrize("kind", STORES)
@given(
    rate=st.tuples(st.integers(1, 12), WINDOWS, st.integers(0, 5)),
    steps=st.lists(STEP, min_size=1, max_size=25),
)
@settings(max_examples=40)
def test_no_window_has_more_than_the_rate_and_no_moment_more_than_the_burst(
    kind: str,
    tmp_path_factory: pytest.TempPathFactory,
    rate: tuple[int, int, int],
    steps: list[tuple[float, int, str]],
) -> None:
    most, window, burst = rate

    async def test(fresh: Fresh) -> None:
        model = Model(fresh(), most, window, min(burst, most))
        now = T
        for gap, amount, how in steps:
            now += int(gap * window)
            match how:
                case "ask":
                    await model.ask(amount, now)
                case "wait":
                    now = await model.wait(amount, now)
                case _:
                    await model.refuse(now)

    directory: Path = tmp_path_factory.mktemp("model")
    asyncio.run(on(kind, directory, test))

"""
What every store does: several at once, upkeep, and texts that nobody expected.

Greylisting, limits and settling have suites of their own beside this one.
"""

import asyncio
from collections import Counter

import msgspec

from policyd.store.interface import Store
from policyd.store.model import (
    SETTLED_WITHIN,
    STEPS,
    Account,
    Client,
    Entry,
    Message,
    Outcome,
    Stats,
    Terms,
    Triplet,
    account_name,
)
from tests.store.asking import (
    CONNECTION,
    DAY,
    HOUR,
    MINUTE,
    TERMS,
    T,
    about,
    admitted,
    all_entries,
    charge,
    contract,
    message,
    pass_by,
    used,
)
from tests.store.stores import DROPPING, Fresh

WORKERS = 3
TASKS = 40

TRIPLET = Triplet("c", "s", "r", T, T + MINUTE, passed=False, expires=T + DAY, instance="i")
CLIENT = Client("c", 2, allowed=False, last=T, expires=T + DAY, instance="i")
ACCOUNT = Account("l\x1fk", HOUR, {T * STEPS // HOUR: 3}, level=1.5, at=T, expires=T + HOUR)

HOSTILE = (
    "nul\x00here",
    "line\nfeed\r\ttab",
    "surrogate\udcff\ud800",
    "\U0001f4ea\u00fc\u4e2d",
    "x" * 320,
    "'; DROP TABLE triplet; --",
    "{a}:*?[b]\\",
    " ",
)


# several stores on one state


@contract
async def test_what_one_writes_the_other_sees_at_once(fresh: Fresh) -> None:
    one, other = fresh(), fresh()
    for number in range(5):
        assert await admitted(one, charge(), message(number), T)
        assert await used(other, T) == 2 * number + 1
        assert await admitted(other, charge(), message(f"o{number}"), T)
        assert await used(one, T) == 2 * number + 2
    assert not await admitted(one, charge(), message("last"), T)
    await one.greylist(about(1), T)
    assert (await other.greylist(about(2), T)).outcome is Outcome.EARLY
    assert (await one.greylist(about(3), T + TERMS.delay)).outcome is Outcome.PASSED
    assert await other.client("example.net", T) == await one.client("example.net", T)
    await other.settle(message("o0"), T, accepted=False)
    assert await used(one, T) == 9


@contract
async def test_many_at_once_are_admitted_exactly_to_the_limit(fresh: Fresh) -> None:
    stores = [fresh() for _ in range(WORKERS)]

    async def hammer(store: Store, name: str) -> int:
        taken = 0
        for number in range(4):
            both = [charge(most=100), charge(2, limit="site", most=1000)]
            standings = await store.reserve(both, message(f"{name}.{number}"), T)
            taken += standings[0].taken
        return taken

    names = [(stores[n % WORKERS], f"{n}") for n in range(TASKS)]
    taken = await asyncio.gather(*(hammer(store, name) for store, name in names))
    assert sum(taken) == 100
    assert await used(stores[0], T) == 100
    assert await used(stores[1], T, charge(limit="site")) == 200


@contract
async def test_one_message_seen_by_many_at_once_is_charged_once(fresh: Fresh) -> None:
    stores = [fresh() for _ in range(WORKERS)]
    asked = [stores[n % WORKERS].reserve([charge()], message(1), T) for n in range(TASKS)]
    standings = await asyncio.gather(*asked)
    assert sum(each.taken for (each,) in standings) == 1
    assert not any(each.exceeded for (each,) in standings)
    assert await used(stores[0], T) == 1


@contract
async def test_of_many_first_attempts_at_once_one_is_the_first(fresh: Fresh) -> None:
    stores = [fresh() for _ in range(WORKERS)]
    asked = [stores[n % WORKERS].greylist(about(n), T) for n in range(TASKS)]
    outcomes = Counter(found.outcome for found in await asyncio.gather(*asked))
    assert outcomes == {Outcome.FIRST: 1, Outcome.EARLY: TASKS - 1}


@contract
async def test_successes_of_many_at_once_are_all_counted(fresh: Fresh) -> None:
    stores = [fresh() for _ in range(WORKERS)]
    terms = Terms(auto_allow_after=1000)
    await pass_by(stores[0], about("known", terms=terms), T)
    asked = [stores[n % WORKERS].greylist(about(n, terms=terms), T) for n in range(TASKS)]
    await asyncio.gather(*asked)
    client = await stores[1].client("example.net", T)
    assert client is not None
    assert client.successes == TASKS + 1


# upkeep


async def filled(store: Store) -> None:
    """One of each kind by asking, one unsettled message of two limits, one that was settled."""
    await pass_by(store, about(1), T)
    await store.reserve([charge(2), charge(limit="site")], message(2, CONNECTION), T)
    await store.reserve([charge(3)], message(3), T)
    await store.settle(message(3), T, accepted=True)
    await store.reserve([charge(1, settles=False)], message(4), T)


async def expired(store: Store, now: int) -> Counter[str]:
    """Expire until there is no more; what was never settled."""
    unsettled: Counter[str] = Counter()
    while True:
        step = await store.expire(now, 100)
        unsettled.update(step.unsettled)
        if not step.more:
            return unsettled


@contract
async def test_what_is_there_can_be_listed(fresh: Fresh) -> None:
    store = fresh()
    assert await all_entries(store, T) == []
    await filled(store)
    entries = await all_entries(store, T)
    kinds = Counter(type(entry) for entry in entries)
    assert kinds == {Triplet: 1, Client: 1, Account: 2}
    triplet = next(entry for entry in entries if isinstance(entry, Triplet))
    assert triplet == await store.triplet("example.net", "jo@example.net", "al@example.org", T)
    assert await store.client("example.net", T) in entries
    for name in ("login\x1fjo", "site\x1fjo"):
        assert await store.account(name, T) in entries


@contract
async def test_what_has_expired_is_not_listed(fresh: Fresh) -> None:
    store = fresh()
    await filled(store)
    assert await all_entries(store, T + TERMS.lifetime) == []
    kinds = {type(entry) for entry in await all_entries(store, T + TERMS.lifetime - 1)}
    assert kinds == {Triplet, Client}


@contract
async def test_many_entries_are_listed_once_each_while_others_write(fresh: Fresh) -> None:
    one, other = fresh(), fresh()
    many = [msgspec.structs.replace(TRIPLET, sender=f"{n}") for n in range(1200)]
    await one.put(many, T)
    seen: Counter[str] = Counter()
    async for entry in one.entries(T):
        seen[repr(entry)] += 1
        if len(seen) % 400 == 0:
            await other.reserve([charge()], message(len(seen)), T)
    assert [seen[repr(entry)] for entry in many] == [1] * len(many)


@contract
async def test_the_sizes_of_a_store_are_counted(fresh: Fresh) -> None:
    store = fresh()
    await filled(store)
    stats = await store.stats(T)
    assert msgspec.structs.replace(stats, octets=0) == Stats(1, 1, 2, 3, 0)
    assert stats.octets == -1 or stats.octets > 0


@contract
async def test_expiry_counts_what_was_never_settled_once(fresh: Fresh) -> None:
    one, other = fresh(), fresh()
    await filled(one)
    assert await expired(one, T + SETTLED_WITHIN - 1) == {}
    both = await asyncio.gather(
        expired(one, T + SETTLED_WITHIN), expired(other, T + SETTLED_WITHIN)
    )
    assert both[0] + both[1] == {"login": 1, "site": 1}
    assert await used(one, T + SETTLED_WITHIN) == 6
    assert await expired(other, T + DAY) == {}


@contract
async def test_expiry_takes_only_what_has_expired(fresh: Fresh) -> None:
    store = fresh()
    await filled(store)
    by_hand = Client("by.hand", 0, allowed=True, last=T, expires=T, by_hand=True)
    await store.put([by_hand], T)
    await expired(store, T + TERMS.lifetime - 1)
    kinds = {type(entry) for entry in await all_entries(store, T)}
    assert {Triplet, Client} <= kinds
    await expired(store, T + TERMS.lifetime)
    assert await all_entries(store, T + TERMS.lifetime) == [by_hand]


async def _drop_by_steps(fresh: Fresh) -> None:
    store = fresh()
    kept = [msgspec.structs.replace(TRIPLET, sender=f"k{n}") for n in range(50)]
    gone = [msgspec.structs.replace(TRIPLET, sender=f"{n}", expires=T + 1) for n in range(200)]
    await store.put([*kept, *gone, CLIENT, ACCOUNT], T)
    await filled(store)
    dropped = []
    while (step := await store.expire(T + 1, 30)).more:
        dropped.append(step.entries)
    dropped.append(step.entries)
    assert sum(dropped) == len(gone)
    assert max(dropped) <= 30
    stats = await store.stats(T + 1)
    assert (stats.triplets, stats.clients, stats.accounts) == (len(kept) + 1, 2, 3)
    await expired(store, T + TERMS.lifetime)
    stats = await store.stats(T)
    assert msgspec.structs.replace(stats, octets=0) == Stats(0, 0, 0, 0, 0)


test_expiry_goes_by_small_steps_and_leaves_nothing = contract(_drop_by_steps, DROPPING)


@contract
async def test_entries_that_were_put_in_are_found(fresh: Fresh) -> None:
    store = fresh()
    await store.put([TRIPLET, CLIENT, ACCOUNT], T)
    assert await store.triplet("c", "s", "r", T) == TRIPLET
    assert await store.client("c", T) == CLIENT
    assert await store.account(ACCOUNT.name, T) == ACCOUNT
    await store.put([TRIPLET, CLIENT, ACCOUNT], T)
    joined = msgspec.structs.replace(CLIENT, instance="")
    assert await all_entries(store, T) == [ACCOUNT, joined, TRIPLET]


@contract
async def test_entries_that_have_expired_are_not_taken_in(fresh: Fresh) -> None:
    store = fresh()
    await store.put([TRIPLET, CLIENT, ACCOUNT], T + DAY)
    assert await all_entries(store, T) == []
    await store.put([msgspec.structs.replace(TRIPLET, passed=True)], T)
    await store.put([msgspec.structs.replace(TRIPLET, expires=T + 3 * DAY)], T + 2 * DAY)
    triplet = await store.triplet("c", "s", "r", T + 2 * DAY)
    assert triplet is not None
    assert not triplet.passed


@contract
async def test_a_triplet_put_in_is_joined_with_the_one_that_is_there(fresh: Fresh) -> None:
    store = fresh()
    await store.put([TRIPLET], T)
    older = Triplet("c", "s", "r", T - DAY, T, passed=True, expires=T + 2 * DAY, instance="j")
    await store.put([older], T)
    joined = msgspec.structs.replace(TRIPLET, first=T - DAY, passed=True, expires=T + 2 * DAY)
    assert await store.triplet("c", "s", "r", T) == joined


@contract
async def test_a_client_put_in_is_joined_with_the_one_that_is_there(fresh: Fresh) -> None:
    store = fresh()
    await store.put([CLIENT], T)
    await store.put([Client("c", 1, allowed=True, last=T + 1, expires=T + 2, by_hand=True)], T)
    joined = Client("c", 2, allowed=True, last=T + 1, expires=T + DAY, by_hand=True)
    assert await store.client("c", T) == joined


@contract
async def test_an_account_put_in_is_joined_with_the_one_that_is_there(fresh: Fresh) -> None:
    store = fresh()
    await store.put([ACCOUNT], T)
    part = T * STEPS // HOUR
    other = Account(ACCOUNT.name, HOUR, {part - 1: 5, part: 2}, 2.5, T + 1, T + HOUR - 1)
    await store.put([other], T)
    joined = Account(ACCOUNT.name, HOUR, {part - 1: 5, part: 3}, 2.5, T + 1, T + HOUR)
    assert await store.account(ACCOUNT.name, T) == joined
    await store.put([msgspec.structs.replace(ACCOUNT, window=DAY)], T)
    account = await store.account(ACCOUNT.name, T)
    assert account is not None
    assert account.window == DAY


@contract
async def test_an_account_put_in_counts(fresh: Fresh) -> None:
    store = fresh()
    name = account_name("login", "jo", shadow=False)
    await store.put([msgspec.structs.replace(ACCOUNT, name=name)], T)
    assert not await admitted(store, charge(8), message(1), T)
    assert await admitted(store, charge(7), message(1), T)


@contract
async def test_what_one_store_lists_another_takes_in(fresh: Fresh) -> None:
    store = fresh()
    await filled(store)
    entries = await all_entries(store, T)
    await store.remove(entries)
    assert await all_entries(store, T) == []
    await store.put(entries, T)
    assert await all_entries(store, T) == entries


@contract
async def test_what_is_removed_is_gone(fresh: Fresh) -> None:
    store = fresh()
    others: list[Entry] = [
        msgspec.structs.replace(ACCOUNT, name="l\x1fm"),
        msgspec.structs.replace(CLIENT, client="d"),
        msgspec.structs.replace(TRIPLET, sender="t"),
    ]
    await store.put([TRIPLET, CLIENT, ACCOUNT, *others], T)
    await store.remove([TRIPLET, CLIENT, ACCOUNT])
    await store.remove([TRIPLET, CLIENT, ACCOUNT])
    assert await all_entries(store, T) == others


@contract
async def test_what_was_reserved_of_an_account_that_is_removed_is_gone_with_it(
    fresh: Fresh,
) -> None:
    store = fresh()
    await store.reserve([charge(5)], message(1), T)
    await store.remove(await all_entries(store, T))
    await store.settle(message(1), T, accepted=False)
    assert await used(store, T) == 0
    assert await admitted(store, charge(10), message(2), T)


@contract
async def test_a_store_that_is_up_answers(fresh: Fresh) -> None:
    await fresh().ping()


@contract
async def test_a_store_is_closed_twice_without_harm(fresh: Fresh) -> None:
    store = fresh()
    await store.ping()
    await store.close()
    await store.close()


# texts


@contract
async def test_any_text_is_a_key(fresh: Fresh) -> None:
    store = fresh()
    for text in HOSTILE:
        ask = about(client=text, sender=text, recipient=text)
        ask = msgspec.structs.replace(ask, message=Message(text, text))
        assert (await store.greylist(ask, T)).outcome is Outcome.FIRST
        again = msgspec.structs.replace(ask, message=Message(f"{text}."))
        passed = await store.greylist(again, T + TERMS.delay)
        assert passed.outcome is Outcome.PASSED
        client = await store.client(text, T)
        assert client is not None
        assert (client.client, client.instance) == (text, f"{text}.")
        one = charge(3, limit=text, key=text, mark=text)
        assert await admitted(store, one, Message(text, text), T)
        (again_,) = await store.reserve([one], Message(text, text), T)
        assert not again_.taken
        await store.settle(Message(connection=text), T, accepted=False)
        assert await used(store, T, one) == 0
        assert await admitted(store, one, Message(text), T)
    entries = await all_entries(store, T)
    triplets = {entry.sender for entry in entries if isinstance(entry, Triplet)}
    assert triplets == set(HOSTILE)
    accounts = {entry.name for entry in entries if isinstance(entry, Account)}
    assert accounts == {account_name(text, text, shadow=False) for text in HOSTILE}
    await store.remove(entries)
    await store.put(entries, T)
    assert await all_entries(store, T) == entries
    assert await expired(store, T + DAY) == Counter(HOSTILE)

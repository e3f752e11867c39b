"""The scripts in Redis answer what the rules in Python answer, whatever is asked in which order."""

import asyncio
import itertools
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import msgspec
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from policyd.store.interface import Store
from policyd.store.memory import MemoryStore
from policyd.store.model import (
    SHADOW,
    STEPS,
    Account,
    Charge,
    Client,
    Entry,
    GreylistAsk,
    Message,
    Outcome,
    Terms,
    Triplet,
    account_name,
)
from policyd.store.place import read_place
from policyd.store.redis_client import client_of
from policyd.store.redis_cluster import ClusterStore
from policyd.store.redis_server import RedisStore
from tests.store.asking import DAY, HOUR, MINUTE, T, all_entries
from tests.store.redis_running import running

TERMS = (Terms(MINUTE, HOUR, DAY, 2), Terms(MINUTE, HOUR, DAY, 0), Terms(0, HOUR, 33 * DAY, 1))
WINDOWS = (MINUTE, HOUR, 61_007)
CLIENTS = ("c", "d")

# instances, connections and accounts are few, so that operations meet
messages = st.builds(Message, st.sampled_from(["", "i", "j", "k"]), st.sampled_from(["", "x", "y"]))
asks = st.builds(
    GreylistAsk,
    st.sampled_from(CLIENTS),
    st.sampled_from(["s", "t"]),
    st.sampled_from(["r", "q"]),
    messages,
    st.sampled_from(TERMS),
    st.booleans(),
)


@st.composite
def charges(draw: st.DrawFn) -> Charge:
    limit = draw(st.sampled_from(["l", "m", "n"]))
    key = draw(st.sampled_from(["a", "b"]))
    most = draw(st.integers(1, 7))
    return Charge(
        limit,
        account_name(limit, key, shadow=draw(st.booleans())),
        draw(st.integers(0, 4)),
        most,
        draw(st.sampled_from(WINDOWS)) if limit == "n" else WINDOWS["lm".index(limit)],
        draw(st.sampled_from([0, 0, 1, 3, 5])),
        draw(st.sampled_from(["", "r", "q"])),
        draw(st.booleans()),
    )


@st.composite
def entries(draw: st.DrawFn) -> Entry:
    first, last = T + draw(st.integers(-DAY, DAY)), T + draw(st.integers(-DAY, DAY))
    # later than all that is asked, or long over: a server drops what expires by its own clock
    expires = draw(st.sampled_from([T + 365 * DAY, T + 400 * DAY, T - 300 * DAY]))
    client = draw(st.sampled_from(CLIENTS))
    instance = draw(st.sampled_from(["", "i", "j"]))
    truth = draw(st.booleans())
    match draw(st.integers(0, 2)):
        case 0:
            return Triplet(client, "s", "r", first, last, truth, expires, instance)
        case 1:
            number, by_hand = draw(st.integers(0, 3)), draw(st.booleans())
            return Client(client, number, truth, last, expires, by_hand, instance)
    window = draw(st.sampled_from(WINDOWS))
    spread = st.integers(part_at(T - window, window), part_at(T, window))
    parts = draw(st.dictionaries(spread, st.integers(1, 3), max_size=4))
    level = draw(st.sampled_from([0.0, 0.25, 1.5, 3.0]))
    name = account_name("n", "a", shadow=truth)
    return Account(name, window, dict(sorted(parts.items())), level, T, T + 365 * DAY)


def part_at(now: int, window: int) -> int:
    return now * STEPS // window


charged = st.lists(charges(), min_size=1, max_size=4)
recipients = st.sampled_from([-1, -1, 0, 1, 2])
steps = st.one_of(
    st.tuples(st.just("greylist"), asks),
    st.tuples(st.just("reserve"), charged, messages),
    st.tuples(st.just("reserve"), charged, messages),
    st.tuples(st.just("give_back"), charged, messages, st.sampled_from(["", *CLIENTS])),
    st.tuples(st.just("settle"), messages, st.booleans(), recipients),
    st.tuples(st.just("abandon"), messages),
    st.tuples(st.just("put"), st.lists(entries(), max_size=3)),
)
# by moments, by parts, and by times after which much has expired
forward = st.one_of(
    st.integers(0, 3000),
    st.integers(0, 3 * MINUTE),
    st.sampled_from([MINUTE, HOUR, HOUR - 1, 40 * DAY]),
)
# altogether less than an hour, and not always forward: hosts' clocks differ
to_and_fro = st.one_of(st.integers(-3000, 3000), st.integers(-3000, 2 * MINUTE))
courses = st.one_of(
    st.lists(st.tuples(forward, st.just(True), steps), min_size=1, max_size=25),
    st.lists(st.tuples(to_and_fro, st.just(False), steps), min_size=1, max_size=25),
)
Course = list[tuple[int, bool, tuple[Any, ...]]]
"""How long to wait, whether to drop then what has expired, and what to do."""


async def done(store: Store, step: tuple[Any, ...], now: int) -> object:
    """Do a step, and give its answer."""
    answer: object = None
    match step:
        case "greylist", ask:
            found = await store.greylist(ask, now)
            # what has expired may be gone already
            expired = found.outcome is Outcome.EXPIRED
            answer = msgspec.structs.replace(found, outcome=Outcome.FIRST) if expired else found
        case "reserve", wanted, message:
            answer = await store.reserve(wanted, message, now)
        case "give_back", wanted, message, credit:
            await store.give_back(wanted, message, now, credit=credit)
        case "settle", message, accepted, really:
            await store.settle(message, now, accepted=accepted, recipients=really)
        case "abandon", message:
            await store.abandon(message, now)
        case "put", wanted:
            await store.put(wanted, now)
    return answer


async def unsettled(store: Store, now: int) -> Mapping[str, int]:
    return (await store.expire(now, 1000)).unsettled


async def same(course: Course, real: Store) -> None:
    pure = MemoryStore()
    now = T
    for wait, drop, step in course:
        now += wait
        if drop:  # else a message that comes again after its hour takes the place of what it was
            assert await unsettled(real, now) == await unsettled(pure, now), (step, now - T)
        assert await done(real, step, now) == await done(pure, step, now), (step, now - T)
    assert await all_entries(real, now) == await all_entries(pure, now)
    assert await unsettled(real, now + DAY) == await unsettled(pure, now + DAY)


@pytest.mark.parametrize(("kind", "store"), [("redis", RedisStore), ("cluster", ClusterStore)])
def test_redis_does_what_memory_does(kind: str, store: type[RedisStore]) -> None:
    options = {"timeout": 10.0, "username": "", "password": "", "ca_file": ""}
    servers = client_of(read_place(running(kind)), **options)
    prefixes = (f"alike{number}:" for number in itertools.count())
    with asyncio.Runner() as runner:

        @settings(max_examples=400 if kind == "redis" else 80)
        @given(courses)
        def play(course: Course) -> None:
            runner.run(same(course, store(servers, next(prefixes))))

        try:
            play()
        finally:
            runner.run(servers.close())


def test_the_scripts_know_shadow_by_the_same_ending() -> None:
    settle = Path("policyd/store/scripts/settle.lua").read_text("utf-8")
    assert f"'\\31{SHADOW[1:]}}}'" in settle

"""Redis as a place for state: connections that are lost, keys that expire, servers that fail."""

import asyncio
import itertools
import time
from collections.abc import Awaitable, Callable, Iterator
from contextlib import AbstractContextManager
from pathlib import Path

import msgspec
import pytest
from redis.exceptions import RedisError

from policyd.store.interface import Store
from policyd.store.model import (
    SETTLED_WITHIN,
    Client,
    Message,
    Outcome,
    StoreError,
    Terms,
)
from policyd.store.redis import redis_store
from policyd.store.redis_keys import Keys, plain, quoted
from tests.store.asking import CONNECTION, DAY, HOUR, T, about, admitted, charge, message, used
from tools.redis_servers import (
    Certificates,
    RedisCluster,
    RedisSentinel,
    RedisServer,
    frozen,
    until,
)

PREFIX = "mail:"
RETURNS = 5.0
"""Seconds within which a store is to work again when its servers do."""

pytestmark = pytest.mark.integration


@pytest.fixture(scope="module")
def running_server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[RedisServer]:
    with RedisServer(tmp_path_factory.mktemp("server")) as running:
        yield running


@pytest.fixture
def server(running_server: RedisServer) -> RedisServer:
    running_server.ask("FLUSHALL")
    return running_server


@pytest.fixture(scope="module")
def cluster(tmp_path_factory: pytest.TempPathFactory) -> Iterator[RedisCluster]:
    with RedisCluster(tmp_path_factory.mktemp("cluster"), replicas=1) as running:
        yield running


@pytest.fixture(scope="module")
def certificates(tmp_path_factory: pytest.TempPathFactory) -> Certificates:
    return Certificates(tmp_path_factory.mktemp("certificates"))


def play(url: str, course: Callable[[Store], Awaitable[None]], timeout: float = 1.0) -> None:
    """Do something with a store."""

    async def whole() -> None:
        store = redis_store(url, timeout=timeout, prefix=PREFIX)
        try:
            await course(store)
        finally:
            await store.close()

    asyncio.run(whole())


async def works_again(store: Store) -> float:
    """Wait until the store can be written to, as its guard does; how many seconds it took."""
    begun = time.monotonic()
    while time.monotonic() < begun + 20:
        try:
            async with asyncio.timeout(0.5):
                await store.ping()
        except (StoreError, TimeoutError):
            await asyncio.sleep(0.05)
        else:
            return time.monotonic() - begun
    raise TimeoutError


async def fails(operation: Awaitable[object], within: float = 1.2) -> str:
    """Take a StoreError that comes in time, and give its words."""
    begun = time.monotonic()
    with pytest.raises(StoreError) as caught:
        await operation
    assert time.monotonic() - begun < within
    return str(caught.value)


# reaching a server

Make = Callable[
    [Path, str, Certificates], AbstractContextManager["RedisServer | RedisSentinel | RedisCluster"]
]


@pytest.mark.parametrize(
    "make",
    [
        lambda path, word, own: RedisServer(path, password=word, certificates=own),
        lambda path, word, own: RedisSentinel(path, password=word, certificates=own),
        lambda path, word, own: RedisCluster(path, password=word, certificates=own),
    ],
    ids=["redis", "sentinel", "cluster"],
)
def test_a_store_is_reached_with_tls_and_a_password(
    make: Make, tmp_path: Path, certificates: Certificates
) -> None:
    with make(tmp_path, "hunter2", certificates) as running:
        url = running.url

        async def course() -> None:
            right = {"timeout": 2.0, "prefix": PREFIX, "ca_file": f"{certificates.authority}"}
            store = redis_store(url, password="hunter2", **right)  # type: ignore[arg-type]  # mixed
            await store.ping()
            assert await admitted(store, charge(), message(1), T)
            await store.close()
            store = redis_store(url, password="wrong", **right)  # type: ignore[arg-type]  # mixed
            why = await fails(store.ping(), 3.0)
            assert "wrong" not in why
            assert url.partition("//")[2].split(",")[0] in why
            await store.close()
            store = redis_store(url, password="hunter2", timeout=2.0, prefix=PREFIX)
            await fails(store.ping(), 3.0)  # whom it does not know
            await store.close()

        asyncio.run(course())


def test_a_user_is_told_apart_from_others(server: RedisServer) -> None:
    server.ask("ACL", "SETUSER", "policyd", "on", ">hunter2", f"~{PREFIX}*", "+@all", "-@admin")

    async def course() -> None:
        for prefix in (PREFIX, "other:"):
            store = redis_store(
                server.url, timeout=1.0, prefix=prefix, username="policyd", password="hunter2"
            )
            if prefix == PREFIX:
                await store.ping()
                await store.greylist(about(1, connection=CONNECTION, settles=True), T)
                await store.reserve([charge()], message(1, CONNECTION), T)
                await store.settle(Message(connection=CONNECTION), T, accepted=True)
                assert await used(store, T) == 1
            else:
                assert "permissions" in await fails(store.ping())
            await store.close()

    asyncio.run(course())


def test_what_is_no_place_in_redis_is_refused(tmp_path: Path) -> None:
    for url in ("memory:", "sqlite:/a", "redis://", "http://localhost"):
        with pytest.raises(ValueError, match=":"):
            redis_store(url, timeout=1, prefix=PREFIX)
    with pytest.raises(ValueError, match="braces"):
        redis_store("redis://localhost", timeout=1, prefix="{a}")
    with pytest.raises(OSError, match="none"):
        redis_store("rediss://localhost", timeout=1, prefix="", ca_file=f"{tmp_path}/none")


# losing it


def test_a_lost_connection_costs_no_request(server: RedisServer) -> None:
    async def course(store: Store) -> None:
        await asyncio.gather(*(store.ping() for _ in range(8)))
        server.restart()  # and its scripts are gone with it
        assert await admitted(store, charge(), message(1), T)
        asked = [store.reserve([charge(most=100)], message(n), T) for n in range(2, 30)]
        await asyncio.gather(*asked)
        assert await used(store, T) == 29
        server.ask("CLIENT", "KILL", "TYPE", "normal")
        await asyncio.gather(*(store.ping() for _ in range(8)))

    play(server.url, course)


def test_a_server_that_forgot_the_scripts_is_told_them_again(server: RedisServer) -> None:
    async def course(store: Store) -> None:
        for number in range(3):
            server.ask("SCRIPT", "FLUSH")
            assert await admitted(store, charge(), message(number), T)
        assert await used(store, T) == 3

    play(server.url, course)


def test_a_server_that_is_frozen_is_waited_for_no_longer_than_told(server: RedisServer) -> None:
    async def course(store: Store) -> None:
        await store.ping()
        with frozen(server):
            for _ in range(2):
                asked = [fails(store.greylist(about(n), T), 0.6) for n in range(40)]
                assert all("no answer within 0.3 s" in why for why in await asyncio.gather(*asked))
        assert await works_again(store) < 1
        for number in range(50):  # no answer is taken for that of another question
            one = charge(number, most=99, key=f"{number}")
            assert await admitted(store, one, Message(), T)
            assert await used(store, T, one) == number

    play(server.url, course, timeout=0.3)


def test_a_server_that_cannot_be_written_to_does_not_answer(server: RedisServer) -> None:
    async def course(store: Store) -> None:
        for command in (("CONFIG", "SET", "maxmemory", "1"), ("REPLICAOF", "127.0.0.1", "1")):
            server.ask(*command)
            await fails(store.ping())
            await fails(store.greylist(about(1), T))
            await fails(store.reserve([charge()], message(1), T))
            server.ask("CONFIG", "SET", "maxmemory", "0")
            server.ask("REPLICAOF", "NO", "ONE")
            await store.ping()

    play(server.url, course)


# keys


async def filled(store: Store, now: int, terms: Terms, window: int) -> None:
    """Have one key at least of every kind."""
    for number in range(3):
        ask = about(number, terms=terms, connection=CONNECTION, settles=bool(number % 2))
        await store.greylist(ask, now)
    both = [charge(window=window), charge(window=window, limit="site", burst=3, mark="r")]
    await store.reserve(both, message("m", CONNECTION), now)
    await store.reserve(both, Message(), now)
    await store.settle(message(1), now, accepted=True)
    await store.ping()


@pytest.mark.parametrize("kind", ["server", "cluster"])
def test_all_keys_have_the_prefix_and_an_expiry(kind: str, request: pytest.FixtureRequest) -> None:
    running: RedisServer | RedisCluster = request.getfixturevalue(kind)
    nodes = [running] if isinstance(running, RedisServer) else running.nodes
    servers = [node for node in nodes if _is_master(node)]
    for each in servers:
        each.ask("FLUSHALL")

    async def course(store: Store) -> None:
        await filled(store, T, Terms(delay=0), HOUR)
        kept = [(key, each.ask("PTTL", key)) for each in servers for key in each.ask("KEYS", "*")]
        kinds = "tcamunp" if kind == "server" else "tcamunph"
        assert {key.removeprefix(PREFIX)[0] for key, _ in kept} == set(kinds)
        assert all(key.startswith(f"{PREFIX}{key[len(PREFIX)]}:{{") for key, _ in kept)
        assert all(0 < lasts <= Terms().lifetime for _, lasts in kept)
        lasting = {key for key, lasts in kept if lasts > DAY}
        assert {key.removeprefix(PREFIX)[0] for key in lasting} <= set("tcu")
        by_hand = Client("by.hand", 0, allowed=True, last=T, expires=T, by_hand=True)
        await store.put([by_hand], T)
        for each in servers:
            for key in each.ask("KEYS", "*by.hand*"):
                assert each.ask("PTTL", key) == -1

    play(running.url, course)


def test_what_has_expired_is_gone_from_the_server(server: RedisServer) -> None:
    terms = Terms(delay=0, retry_window=100, lifetime=100)

    async def course(store: Store) -> None:
        await filled(store, T, terms, 60)
        await store.settle(message("m"), T, accepted=False)
        await asyncio.sleep(0.3)
        stats = await store.stats(T)
        assert (stats.triplets, stats.clients, stats.accounts) == (0, 0, 0)
        assert (await store.greylist(about(9), T)).outcome is Outcome.FIRST

    play(server.url, course)
    for key in server.ask("KEYS", "*"):
        assert key.removeprefix(PREFIX)[0] in "mun" or server.ask("PTTL", key) > 0


def test_what_is_never_settled_leaves_no_trace_when_it_was_counted(server: RedisServer) -> None:
    async def course(store: Store) -> None:
        for number in range(2500):
            one = charge(0, limit=f"l{number % 2}")
            assert await admitted(store, one, message(number), T)
        unsettled = dict.fromkeys(("l0", "l1"), 0)
        more = True
        while more:
            step = await store.expire(T + SETTLED_WITHIN, 10_000)
            more = step.more
            for limit, number in step.unsettled.items():
                unsettled[limit] += number
        assert unsettled == {"l0": 1250, "l1": 1250}

    play(server.url, course)
    assert not server.ask("KEYS", f"{PREFIX}u*")


def test_texts_are_quoted_so_that_no_sender_chooses_the_slot() -> None:
    keys = Keys(PREFIX, 1)
    for text in ("", "%", "a}b", "{", "%007b", "\ud800\udcff", "a\x1fb", "}{%"):
        assert plain(quoted(text)) == text
        tags = {
            key.partition("{")[2].partition("}")[0]
            for key in (keys.client(text), keys.triplet(text, "}", "{"))
        }
        (tag,) = tags
        assert tag
        assert "{" not in tag


# failing over


@pytest.mark.slow
def test_sentinel_tells_of_the_new_master(tmp_path: Path) -> None:
    with RedisSentinel(tmp_path) as running:

        async def course(store: Store) -> None:
            old, new = running.servers
            await asyncio.gather(*(store.ping() for _ in range(8)))
            assert await admitted(store, charge(), message(1), T)
            until(lambda: bool(new.ask("DBSIZE")))
            with frozen(old):
                await asyncio.gather(*(fails(store.ping()) for _ in range(4)))
                await asyncio.to_thread(until, lambda: running.master is new)
                assert await works_again(store) < RETURNS
                (again,) = await store.reserve([charge()], message(1), T)
                assert not again.taken  # the replica has it all
            await asyncio.gather(*(store.ping() for _ in range(8)))
            assert await admitted(store, charge(), message(2), T)
            assert await used(store, T) == 2

        play(running.url, course)


@pytest.mark.slow
def test_an_order_to_fail_over_is_followed(tmp_path: Path) -> None:
    with RedisSentinel(tmp_path) as running:

        async def course(store: Store) -> None:
            await asyncio.gather(*(store.ping() for _ in range(8)))
            await asyncio.to_thread(running.failover)
            name = Keys(PREFIX, 1).account(charge().account)
            begun = time.monotonic()
            for number in itertools.count():
                await store.ping()  # as its guard does every few seconds
                await store.reserve([charge(most=1000)], message(number), T)
                if running.master.ask("EXISTS", name):
                    break
            assert time.monotonic() - begun < RETURNS

        play(running.url, course)


@pytest.mark.slow
def test_a_cluster_is_followed_when_slots_move_and_nodes_are_lost(cluster: RedisCluster) -> None:
    def slot_of(name: str) -> int:
        return int(cluster.nodes[1].ask("CLUSTER", "KEYSLOT", Keys(PREFIX, 1).account(name)))

    async def all_admitted(store: Store, first: str) -> None:
        # enough keys for every node to have some
        asked = [
            store.reserve([charge(key=f"{first}{n}"), charge(key=f"{first}.{n}")], message(n), T)
            for n in range(30)
        ]
        for both in await asyncio.gather(*asked):
            assert all(each.taken for each in both)

    async def course(store: Store) -> None:
        await all_admitted(store, "a")
        for number in range(12):
            one = charge(key=f"moved{number}")
            cluster.move_slot(slot_of(one.account))
            assert await admitted(store, one, message(number), T)
        lost = cluster.masters[0]
        lost.kill()
        until(lambda: any(_is_master(node) for node in cluster.nodes[3:]))
        assert await works_again(store) < RETURNS
        await all_admitted(store, "b")
        lost.start()
        until(cluster.complete)
        await all_admitted(store, "c")
        assert await works_again(store) < RETURNS
        with frozen(cluster.masters[1]):
            await fails(store.ping())
            until(lambda: sum(_is_master(node) for node in cluster.nodes[3:]) == 2)
            assert await works_again(store) < RETURNS
            await all_admitted(store, "d")

    play(cluster.url, course)


def _is_master(node: RedisServer) -> bool:
    try:
        return bool(node.ask("ROLE")[0] == "master")
    except RedisError:
        return False


# many at once


def test_a_limit_is_exact_over_many_connections_of_many_stores(server: RedisServer) -> None:
    async def hammer(store: Store, name: int) -> int:
        taken = 0
        for number in range(25):
            one = charge(most=1000, window=DAY)
            (standing,) = await store.reserve([one], message(f"{name}.{number}"), T)
            taken += standing.taken
        return taken

    async def course() -> None:
        stores = [redis_store(server.url, timeout=10, prefix=PREFIX) for _ in range(4)]
        taken = await asyncio.gather(*(hammer(stores[n % 4], n) for n in range(60)))
        assert sum(taken) == 1000
        account = await stores[0].account(charge().account, T)
        assert account is not None
        assert msgspec.structs.asdict(account)["parts"] == {T * 60 // DAY: 1000}
        for store in stores:
            await store.close()

    asyncio.run(course())

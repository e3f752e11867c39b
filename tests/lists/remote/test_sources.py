"""Lists in a real PostgreSQL, Redis and slapd: found or not, down and back, cached meanwhile."""

import asyncio
import time
from collections.abc import Coroutine, Iterator
from typing import Any, TypeVar
from unicodedata import normalize

import pytest
from msgspec import structs

from policyd.lists.remote.lookups import Lookups
from policyd.lists.remote.settings import LdapPlace, RemoteList
from policyd.lists.remote.source import SourceError
from tests.lists.remote.places import ENTRIES, SERVERS, TIMEOUT, There
from tools.list_servers import RedisServer

pytestmark = pytest.mark.integration

AT_ONCE = 0.25
SOON = 0.8
"""Seconds for what is to take none, and how much later than its time limit something may be."""
Result = TypeVar("Result")


class Clock:
    """Real time, and what is added to it."""

    def __init__(self) -> None:
        self.added = 0.0

    def __call__(self) -> float:
        return time.monotonic() + self.added


@pytest.fixture(scope="module", params=SERVERS)
def there(request: pytest.FixtureRequest) -> Iterator[There]:
    with SERVERS[request.param]() as found:
        yield found


def run(work: Coroutine[Any, Any, Result]) -> Result:
    return asyncio.run(work)


async def failure(lookups: Lookups, wanted: RemoteList, *keys: str) -> tuple[str, float]:
    """Give why a look-up fails, and after how many seconds."""
    started = time.monotonic()
    with pytest.raises(SourceError) as raised:
        await lookups.holds(wanted, keys)
    return str(raised.value), time.monotonic() - started


async def found_again(lookups: Lookups, wanted: RemoteList, key: str) -> float:
    """Wait until a look-up succeeds; after how many seconds."""
    started = time.monotonic()
    while True:
        try:
            assert await lookups.holds(wanted, (key,))
        except SourceError:
            assert time.monotonic() - started < 10
            await asyncio.sleep(0.02)
        else:
            return time.monotonic() - started


def test_what_is_in_the_list_is_found_and_nothing_else(there: There) -> None:
    async def ask() -> None:
        lookups = Lookups(time.monotonic)
        for entry in ENTRIES:
            assert await lookups.holds(there.wanted, (entry,)), entry
        assert await lookups.holds(there.wanted, ("bob@example.com", "@example.com"))
        assert not await lookups.holds(there.wanted, ("bob@example.org", "@example.org"))
        assert not await lookups.holds(there.wanted, ())
        await lookups.close()

    run(ask())


@pytest.mark.parametrize(
    "key",
    ["*", "a*@example.org", "alice@example.org)(mail=*", "' OR '1'='1", "%", "_lice@example.org",
     "\\2a", ":keys", "{key}", " alice@example.org", "zoe\N{COMBINING DIAERESIS}@example.org",
     "🙂@example.org", "x" * 1000, "\r\nSISMEMBER boxes x", "\x01\x7f"],
)  # fmt: skip
def test_a_key_means_nothing_but_itself(there: There, key: str) -> None:
    if isinstance(there.wanted.place, LdapPlace) and normalize("NFC", key.strip()) in ENTRIES:
        pytest.skip("the same to a directory (RFC 4518 section 2)")

    async def ask() -> None:
        lookups = Lookups(time.monotonic)
        assert not await lookups.holds(there.wanted, (key,))
        assert await lookups.holds(there.wanted, (key, ENTRIES[0]))
        await lookups.close()

    run(ask())


def test_with_tls_the_certificate_is_verified(there: There) -> None:
    place = there.wanted.place
    if isinstance(there.server, RedisServer):
        place = structs.replace(place, url=f"redis://127.0.0.1:{there.server.tls_port}")
    trusting = structs.replace(place, tls=True, ca_file=str(there.server.certificate))
    doubting = structs.replace(place, tls=True)

    async def ask() -> None:
        lookups = Lookups(time.monotonic)
        assert await lookups.holds(structs.replace(there.wanted, place=trusting), (ENTRIES[0],))
        wanted = structs.replace(there.wanted, place=doubting)
        why, _ = await failure(lookups, wanted, ENTRIES[0])
        assert "certificate" in why.lower()
        await lookups.close()

    run(ask())


def test_a_server_that_is_gone_is_noticed_within_the_timeout_and_again_when_it_is_back(
    there: There,
) -> None:
    async def ask() -> None:
        clock, states = Clock(), []
        lookups = Lookups(clock, lambda name, up, why: states.append((name, up, bool(why))))
        wanted = there.wanted
        assert await lookups.holds(wanted, (ENTRIES[0],))
        assert not await lookups.holds(wanted, ("bob@example.org",))
        there.server.kill()

        why, took = await failure(lookups, wanted, ENTRIES[1])
        assert why
        assert took < TIMEOUT + SOON
        _, took = await failure(lookups, wanted, ENTRIES[2])
        assert took < AT_ONCE
        assert await lookups.holds(wanted, (ENTRIES[0],))  # fresh
        clock.added = wanted.cache + 1
        assert await lookups.holds(wanted, (ENTRIES[0],))  # stale
        assert not await lookups.holds(wanted, ("bob@example.org",))
        clock.added = wanted.cache + wanted.stale + 5
        await failure(lookups, wanted, ENTRIES[0])

        there.server.start()
        assert await found_again(lookups, wanted, ENTRIES[0]) < 3
        assert states == [
            ("list boxes", True, False),
            ("list boxes", False, True),
            ("list boxes", True, False),
        ]
        await lookups.close()

    run(ask())


def test_a_server_that_is_frozen_is_waited_for_as_long_as_the_timeout_and_no_longer(
    there: There,
) -> None:
    async def ask() -> None:
        lookups = Lookups(time.monotonic)
        assert await lookups.holds(there.wanted, (ENTRIES[0],))
        there.server.freeze()
        try:
            together = (failure(lookups, there.wanted, f"{n}@example.org") for n in range(20))
            for why, took in await asyncio.gather(*together):
                assert "no answer" in why or "time" in why.lower() or "refuse" in why, why
                assert took < TIMEOUT + SOON
            _, took = await failure(lookups, there.wanted, "again@example.org")
            assert took < AT_ONCE
            assert await lookups.holds(there.wanted, (ENTRIES[0],))
        finally:
            there.server.thaw()
        assert await found_again(lookups, there.wanted, ENTRIES[1]) < 4
        await lookups.close()

    run(ask())


def test_a_connection_that_ended_with_a_restart_is_not_noticed(there: There) -> None:
    async def ask() -> None:
        lookups = Lookups(time.monotonic)
        await asyncio.gather(*(lookups.holds(there.wanted, (f"{n}",)) for n in range(5)))
        there.server.kill()
        there.server.start()
        assert await lookups.holds(there.wanted, (ENTRIES[0],))
        await lookups.close()

    run(ask())


def test_a_frozen_server_does_not_hold_up_the_end(there: There) -> None:
    async def ask() -> None:
        lookups = Lookups(time.monotonic)
        assert await lookups.holds(there.wanted, (ENTRIES[0],))
        there.server.freeze()
        try:
            waiting = asyncio.ensure_future(failure(lookups, there.wanted, "x"))
            await asyncio.sleep(0.05)
            started = time.monotonic()
            await lookups.close()
            assert time.monotonic() - started < 1.5
            why, _ = await waiting
            assert why
        finally:
            there.server.thaw()

    run(ask())

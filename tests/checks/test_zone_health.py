"""Zones are tested by RFC 5782 before they are asked, suspended when they fail, and come back."""

import asyncio
import time
from collections.abc import Awaitable, Callable, Iterator
from pathlib import Path

import dns.message
import dns.rcode
import pytest

from policyd.checks.zone import Zone, ZoneKind, question
from policyd.checks.zone_answer import Listing, ZoneError
from policyd.checks.zone_health import SOONER, Zones
from policyd.dns.resolver import CaresResolver
from policyd.dns.settings import DnsSettings
from tests.checks.dns_lists import SHORT_LIVED, of_addresses, of_names
from tools.dns_servers import Act, NameServer, Unruly

SOUND, BAD = "192.0.2.1", "192.0.2.2"
ERRORS = ("127.255.255.252", "127.255.255.254", "127.255.255.255", "127.0.0.1", "192.0.2.80")
SERVED = {
    "sound.test": of_addresses({BAD: "127.0.0.4"}, "Listed, see https://sound.test/?a=192.0.2.2"),
    "names.test": of_names({"bad.example": "127.0.1.5"}),
    "six.test": of_addresses({}) + "\n*.8.b.d.0.1.0.0.2 A 127.0.0.2",
    "world.test": SHORT_LIVED + "* A 127.0.0.2",
    "nobody.test": of_addresses({}, tested=""),
    "parked.test": SHORT_LIVED + "* A 192.0.2.80",
    **{f"error{number}.test": of_addresses({BAD: answer}) for number, answer in enumerate(ERRORS)},
    "refusing.test": SHORT_LIVED + "* A 127.255.255.254",
}
INTERVAL = 30.0
"""Seconds; a suspended zone is tested after half of one."""


class World:
    """Zones on a real resolver, and what they told."""

    def __init__(self, address: str) -> None:
        self.resolver = CaresResolver(DnsSettings(servers=(address,), timeout=0.5))
        self.told: list[tuple[str, bool, str]] = []
        self.zones = Zones(self.resolver, self._changed, lambda: 0.5)

    def _changed(self, *told: object) -> None:
        self.told.append(told)  # type: ignore[arg-type]  # as Zones declares it

    @property
    def ups(self) -> list[tuple[str, bool]]:
        return [told[:2] for told in self.told]

    async def ask(self, zone: Zone, value: str) -> Listing | None:
        return await self.zones.ask(zone, question(zone, value))

    async def fails(self, zone: Zone, value: str = SOUND) -> ZoneError:
        with pytest.raises(ZoneError) as caught:
            await self.ask(zone, value)
        return caught.value

    async def until(self, true: Callable[[], bool]) -> None:
        deadline = time.monotonic() + 10
        while not true():
            assert time.monotonic() < deadline, self.told
            await asyncio.sleep(0.02)


def run(address: str, work: Callable[[World], Awaitable[None]]) -> None:
    async def whole() -> None:
        world = World(address)
        try:
            await work(world)
        finally:
            await world.zones.close()
            await world.resolver.close()

    asyncio.run(whole())


@pytest.fixture(scope="module")
def served(tmp_path_factory: pytest.TempPathFactory) -> Iterator[NameServer]:
    with NameServer(tmp_path_factory.mktemp("nsd"), SERVED) as server:
        yield server


def zone(name: str, kind: ZoneKind = ZoneKind.CLIENT_ADDRESS, interval: float = INTERVAL) -> Zone:
    return Zone(name, f"{name}.test", kind, interval=interval)


def test_a_sound_zone_answers_with_its_text(served: NameServer) -> None:
    async def work(world: World) -> None:
        sound = zone("sound")
        world.zones.watch([sound])
        assert await world.ask(sound, SOUND) is None
        found = await world.ask(sound, BAD)
        assert found == Listing(
            sound, 1.0, "127.0.0.4", "Listed, see https://sound.test/?a=192.0.2.2"
        )
        assert world.told == [("dnsbl sound", True, "")]

    run(served.address, work)


def test_without_text_none_is_fetched(served: NameServer) -> None:
    async def work(world: World) -> None:
        silent = Zone("sound", "sound.test", text=False)
        assert await world.ask(silent, BAD) == Listing(silent, 1.0, "127.0.0.4")

    run(served.address, work)


@pytest.mark.parametrize(
    ("asked", "value", "listed"),
    [
        (zone("names", ZoneKind.SENDER_DOMAIN), "bad.example", "127.0.1.5"),
        (zone("names", ZoneKind.HELO_NAME), "good.example", ""),
        (zone("six"), "2001:db8::1", "127.0.0.2"),
        (zone("six"), "2001:db9::1", ""),
    ],
)
def test_zones_of_names_and_of_ipv6(
    served: NameServer, asked: Zone, value: str, listed: str
) -> None:
    async def work(world: World) -> None:
        found = await world.ask(asked, value)
        assert (found.code if found else "") == listed

    run(served.address, work)


@pytest.mark.parametrize("number", range(len(ERRORS)))
def test_an_error_code_is_a_failure_and_suspends_nothing_by_itself(
    served: NameServer, number: int
) -> None:
    async def work(world: World) -> None:
        asked = zone(f"error{number}")
        world.zones.watch([asked])
        assert await world.ask(asked, SOUND) is None
        failure = await world.fails(asked, BAD)
        assert ERRORS[number] in str(failure)
        assert not failure.suspended
        assert await world.ask(asked, SOUND) is None

    run(served.address, work)


@pytest.mark.parametrize(
    ("name", "why"),
    [
        ("world", "suspended: it lists 1.0.0.127.world.test, as if it listed everything"),
        ("nobody", "suspended: it does not list 2.0.0.127.nobody.test, as if it listed nothing"),
        ("parked", "suspended: 2.0.0.127.parked.test: it answers 192.0.2.80, which is not in"),
        ("refusing", "suspended: 2.0.0.127.refusing.test: it answers 127.255.255.254: the quest"),
        ("elsewhere", "suspended: 2.0.0.127.elsewhere.test A: "),  # nsd refuses to answer
    ],
)
def test_a_zone_that_fails_its_test_is_suspended(served: NameServer, name: str, why: str) -> None:
    async def work(world: World) -> None:
        asked = zone(name)
        world.zones.watch([asked])
        for value in (BAD, SOUND):
            failure = await world.fails(asked, value)
            assert failure.suspended
            assert str(failure).startswith(why)
        assert world.ups == [(f"dnsbl {name}", False)]
        assert f"suspended: {world.told[0][2]}" == str(failure)

    run(served.address, work)


def test_a_zone_is_told_once_and_comes_back_when_it_is_mended(tmp_path: Path) -> None:
    broken = {"list.test": SERVED["world.test"]}
    with NameServer(tmp_path, broken) as server:

        async def work(world: World) -> None:
            asked = zone("list")
            world.zones.watch([asked])
            assert (await world.fails(asked)).suspended
            await asyncio.sleep(2.5 * INTERVAL / SOONER)
            assert world.ups == [("dnsbl list", False)]
            await asyncio.to_thread(server.change, {"list.test": SERVED["sound.test"]})
            await world.until(lambda: len(world.told) > 1)
            assert world.ups == [("dnsbl list", False), ("dnsbl list", True)]
            assert await world.ask(asked, BAD) is not None

        run(server.address, work)


def test_a_zone_that_breaks_is_found_out_on_its_interval(tmp_path: Path) -> None:
    with NameServer(tmp_path, {"list.test": SERVED["sound.test"]}) as server:

        async def work(world: World) -> None:
            asked = zone("list", interval=0.3)
            world.zones.watch([asked])
            assert await world.ask(asked, SOUND) is None
            await asyncio.to_thread(server.change, {"list.test": SERVED["world.test"]})
            await world.until(lambda: not world.told[-1][1])
            assert (await world.fails(asked)).suspended

        run(server.address, work)


def test_a_question_that_fails_has_its_zone_tested_at_once(tmp_path: Path) -> None:
    with NameServer(tmp_path, {"list.test": SERVED["sound.test"]}) as server:

        async def work(world: World) -> None:
            asked = zone("list", interval=3.0)
            world.zones.watch([asked])
            assert await world.ask(asked, SOUND) is None
            await asyncio.to_thread(server.change, {"list.test": SERVED["refusing.test"]})
            await asyncio.sleep(3.0 / SOONER)
            assert not (await world.fails(asked)).suspended
            await world.until(lambda: len(world.told) > 1)
            assert (await world.fails(asked)).suspended

        run(server.address, work)


def test_questions_wait_for_the_first_test_and_for_no_later_one() -> None:
    def decide(asked: dns.message.Message) -> Act:
        name = asked.question[0].name.to_text().lower()
        if name.startswith("2.0.0.127"):
            return Act((f"{name} 0 IN A 127.0.0.2",), delay=0.2)
        return Act(rcode=dns.rcode.NXDOMAIN)

    async def work(world: World) -> None:
        asked = zone("late")
        world.zones.watch([asked])
        started = time.monotonic()
        assert await asyncio.gather(*(world.ask(asked, SOUND) for _ in range(5))) == [None] * 5
        assert time.monotonic() - started >= 0.2
        started = time.monotonic()
        assert await world.ask(asked, SOUND) is None
        assert time.monotonic() - started < 0.1

    with Unruly(decide) as server:
        run(server.address, work)
        assert server.asked["2.0.0.127.late.test", "A"] == 1


@pytest.mark.parametrize(
    ("act", "first"), [(Act(rcode=dns.rcode.SERVFAIL), 1), (Act(silent=True), 2)]
)
def test_a_zone_that_does_not_answer_is_waited_for_once(act: Act, first: float) -> None:
    async def work(world: World) -> None:
        asked = zone("dead", interval=3600)
        world.zones.watch([asked])
        started = time.monotonic()
        await world.fails(asked)
        assert time.monotonic() - started < first
        started = time.monotonic()
        for _ in range(20):
            assert (await world.fails(asked)).suspended
        assert time.monotonic() - started < 0.1
        assert world.ups == [("dnsbl dead", False)]

    with Unruly(lambda _: act) as server:
        run(server.address, work)


def test_a_text_that_does_not_come_does_no_harm() -> None:
    def decide(asked: dns.message.Message) -> Act:
        first = asked.question[0]
        name = first.name.to_text().lower()
        if dns.rdatatype.to_text(first.rdtype) == "TXT":
            return Act(silent=True)
        if name.startswith("1.0.0.127"):
            return Act(rcode=dns.rcode.NXDOMAIN)
        return Act((f"{name} 0 IN A 127.0.0.2",))

    async def work(world: World) -> None:
        asked = zone("mute")
        assert await world.ask(asked, BAD) == Listing(asked, 1.0, "127.0.0.2")

    with Unruly(decide) as server:
        run(server.address, work)


def test_what_a_policy_no_longer_asks_is_not_tested_any_more() -> None:
    async def work(world: World) -> None:
        before, after = zone("before", interval=3), zone("after", interval=3)
        world.zones.watch([before])
        await world.until(lambda: server.asked["2.0.0.127.before.test", "A"] > 2)
        world.zones.watch([after])
        await world.until(lambda: server.asked["2.0.0.127.after.test", "A"] > 2)
        count = server.asked["2.0.0.127.before.test", "A"]
        await asyncio.sleep(0.3)
        assert server.asked["2.0.0.127.before.test", "A"] == count
        # a milter session goes on with the policy that it began with
        told = len([name for name, _ in world.ups if name == "dnsbl before"])
        assert (await world.fails(before)).suspended
        assert server.asked["2.0.0.127.before.test", "A"] == count + 1
        assert len([name for name, _ in world.ups if name == "dnsbl before"]) == told
        await asyncio.sleep(0.3)
        assert server.asked["2.0.0.127.before.test", "A"] == count + 1

    with Unruly(lambda _: Act(rcode=dns.rcode.NXDOMAIN)) as server:
        run(server.address, work)


def test_tests_of_many_zones_do_not_stay_in_step() -> None:
    """Intervals are drawn from a tenth less to a tenth more."""

    async def work(world: World) -> None:
        drawn = iter((0.0, 1.0))
        zones = Zones(world.resolver, lambda *_: None, lambda: next(drawn))
        first, second = zone("first", interval=100), zone("second", interval=100)
        zones.watch([first])
        with pytest.raises(ZoneError):
            await zones.ask(first, "x.first.test")
        zones.watch([first, second])
        with pytest.raises(ZoneError):
            await zones.ask(second, "x.second.test")
        now = asyncio.get_running_loop().time()
        due = [watched.timer.when() - now for watched in zones._watched.values() if watched.timer]
        await zones.close()
        assert due == [
            pytest.approx(0.9 * 100 / SOONER, abs=0.2),
            pytest.approx(1.1 * 100 / SOONER, abs=0.2),
        ]

    with Unruly(lambda _: Act(rcode=dns.rcode.NXDOMAIN)) as server:
        run(server.address, work)

"""What the resolver makes of the answers of real name servers, and of those that misbehave."""

import asyncio
import threading
import time
from pathlib import Path

import dns.message
import dns.rcode
import pytest
import uvloop

from policyd.dns.answer import DnsError, Found, Kind, Record
from policyd.dns.channel import MOST_ANSWERS
from policyd.dns.resolver import CaresResolver
from policyd.dns.settings import DnsSettings
from tests.dns.asking import Loop, ask, outcome, resident, run, until
from tools.dns_servers import Act, NameServer, Recursive, Unruly, free_port

pytestmark = pytest.mark.integration

WWW = (
    Record("www.example.test", Kind.A, "192.0.2.1"),
    Record("www.example.test", Kind.A, "192.0.2.2"),
)
ALIAS = Record("alias.example.test", Kind.CNAME, "www.example.test")


@pytest.mark.parametrize(
    ("name", "kind", "records", "ttl"),
    [
        ("www.example.test", Kind.A, WWW, 300),
        (
            "www.example.test",
            Kind.AAAA,
            (Record("www.example.test", Kind.AAAA, "2001:db8::1"),),
            300,
        ),
        (
            "example.test",
            Kind.MX,
            (
                Record("example.test", Kind.MX, "mx1.example.test", 10),
                Record("example.test", Kind.MX, "mx2.example.test", 20),
            ),
            300,
        ),
        (
            "example.test",
            Kind.TXT,
            (
                Record("example.test", Kind.TXT, "v=spf1 -all"),
                Record("example.test", Kind.TXT, "caf\udce9"),
            ),
            300,
        ),
        (
            "1.2.0.192.in-addr.arpa",
            Kind.PTR,
            (Record("1.2.0.192.in-addr.arpa", Kind.PTR, "www.example.test"),),
            300,
        ),
        ("alias.example.test", Kind.CNAME, (ALIAS,), 300),
        ("alias.example.test", Kind.A, (ALIAS, *WWW), 300),
        (
            "chain.example.test",
            Kind.A,
            (Record("chain.example.test", Kind.CNAME, "alias.example.test"), ALIAS, *WWW),
            60,
        ),
        ("null.example.test", Kind.MX, (Record("null.example.test", Kind.MX, "", 0),), 300),
        ("WWW.Example.Test", Kind.A, WWW, 300),
        ("x.w.example.test", Kind.A, (Record("x.w.example.test", Kind.A, "192.0.2.9"),), 300),
    ],
)
def test_records_are_as_the_zone_has_them(
    nsd: NameServer, name: str, kind: Kind, records: tuple[Record, ...], ttl: int
) -> None:
    found = ask(nsd.address, name, kind)
    assert (set(found.records), found.exists, found.ttl) == (set(records), True, ttl)


@pytest.mark.parametrize(
    ("name", "kind", "found"),
    [
        ("gone.example.test", Kind.A, Found((), exists=False)),
        ("www.example.test", Kind.MX, Found(())),
        ("w.example.test", Kind.A, Found(())),  # an empty non-terminal (RFC 8020)
        ("alias.example.test", Kind.MX, Found((ALIAS,))),
        ("nowhere.example.test", Kind.A, Found((), exists=False)),
    ],
)
def test_a_name_without_such_records_and_a_name_that_does_not_exist_are_answers(
    nsd: NameServer, name: str, kind: Kind, found: Found
) -> None:
    assert ask(nsd.address, name, kind) == found


@pytest.mark.parametrize(
    "name",
    [
        f"{'a' * 64}.example.test",
        ".".join(["a" * 50] * 6),
        "a..example.test",
        ".example.test",
    ],
)
def test_a_name_that_cannot_be_in_the_dns_does_not_exist(unruly: Unruly, name: str) -> None:
    assert not ask(unruly.address, name, Kind.A).exists
    assert not unruly.asked


@pytest.mark.parametrize(
    ("name", "kind", "found"),
    [
        ("bounce+1=a.example.test", Kind.A, ("192.0.2.7",)),
        ("a b.example.test", Kind.A, ("192.0.2.8",)),
        ("caf\xe9.example.test", Kind.TXT, ("coffee",)),
        ("a\0.example.test", Kind.MX, ("mx1.example.test",)),
        ("to+www.example.test", Kind.CNAME, ("www.example.test",)),
        ("to+www.example.test", Kind.A, ("192.0.2.1", "192.0.2.2")),
        ("to+www.example.test", Kind.AAAA, ("2001:db8::1",)),
        ("user+tag.example.test", Kind.PTR, ("www.example.test",)),
        ("user+tag.example.test", Kind.A, ()),
    ],
)
def test_a_name_that_no_host_has_is_asked_for_too(
    nsd: NameServer, name: str, kind: Kind, found: tuple[str, ...]
) -> None:
    answer = ask(nsd.address, name, kind)
    assert answer.exists
    assert tuple(sorted(answer.values(kind))) == found
    assert answer.ttl == (300 if found else 0)


def test_and_may_not_exist(nsd: NameServer) -> None:
    assert ask(nsd.address, "no+body.example.test", Kind.A) == Found((), exists=False)


@pytest.mark.parametrize(
    ("label", "why"),
    [
        ("servfail", "SERVFAIL"),
        ("refused", "REFUSED"),
        ("never", "no answer within 0.5 s"),
        ("after-9000", "no answer within 0.5 s"),
    ],
)
def test_and_may_have_no_answer(unruly: Unruly, label: str, why: str) -> None:
    with pytest.raises(DnsError, match=why):
        ask(unruly.address, f"{label}.no+body.test", Kind.A, timeout=0.5)


def test_who_asks_for_one_while_the_resolver_is_closed_is_told(unruly: Unruly) -> None:
    async def closed(resolver: CaresResolver) -> Found | DnsError:
        asked = asyncio.ensure_future(outcome(resolver.ask("never.a+b.test", Kind.A)))
        await until(lambda: bool(unruly.asked))
        await resolver.close()
        return await asked

    found = run(closed, unruly.address, timeout=9)
    assert isinstance(found, DnsError)
    assert "given up" in str(found)


def test_the_longest_name_there_can_be_is_asked_for(unruly: Unruly) -> None:
    name = ".".join(["a" * 63, "b" * 63, "c" * 63, "d" * 61])
    assert ask(unruly.address, name, Kind.A).exists


def test_the_root_is_a_name(unruly: Unruly) -> None:
    unruly.decide = lambda _: Act(records=(". 9 IN TXT root",))
    assert ask(unruly.address, "", Kind.TXT) == Found((Record("", Kind.TXT, "root"),), ttl=9)


@pytest.mark.parametrize(
    ("label", "why"),
    [
        ("servfail", "servfail.test A: SERVFAIL"),
        ("refused", "refused.test A: REFUSED"),
        ("garbage", "garbage.test A: an answer that cannot be read"),
    ],
)
def test_a_refusal_is_no_answer(unruly: Unruly, label: str, why: str) -> None:
    with pytest.raises(DnsError) as raised:
        ask(unruly.address, f"{label}.test", Kind.A)
    assert (str(raised.value), raised.value.late) == (why, False)


def test_what_nsd_does_not_serve_is_no_answer(nsd: NameServer) -> None:
    with pytest.raises(DnsError, match="REFUSED"):
        ask(nsd.address, "www.example.org", Kind.A)
    with pytest.raises(DnsError, match="SERVFAIL"):
        ask(nsd.address, "a.broken.test", Kind.A)


@pytest.mark.parametrize("label", ["never", "after-10000", "wrong-id"])
def test_no_answer_in_time_is_none(unruly: Unruly, label: str) -> None:
    began = time.monotonic()
    with pytest.raises(DnsError, match=r"no answer within 0\.4 s") as raised:
        ask(unruly.address, f"{label}.test", Kind.A, timeout=0.4)
    assert raised.value.late
    assert 0.39 <= time.monotonic() - began < 2


@pytest.mark.parametrize("known", [0, 5])
def test_a_server_may_take_nearly_all_of_the_time(known: int) -> None:
    """As a recursive one does, which answers each attempt when it knows; fast before, or not."""
    began: list[float] = []

    def at_last(question: dns.message.Message) -> Act:
        name = question.question[0].name.to_text().lower()
        if name != "slow.test.":
            return Act()
        began.append(time.monotonic())
        left = began[0] + 1.3 - time.monotonic()
        return Act(records=("slow.test. 9 IN A 192.0.2.1",), delay=max(0.0, left))

    async def test(resolver: CaresResolver) -> Found:
        for number in range(known):
            await resolver.ask(f"{number}.test", Kind.A)
        return await resolver.ask("slow.test", Kind.A)

    with Unruly(at_last) as server:
        assert list(run(test, server.address, timeout=1.5).values(Kind.A)) == ["192.0.2.1"]
    assert len(began) > 1


def test_an_answer_that_was_cut_is_asked_for_again_over_tcp(
    nsd: NameServer, unruly: Unruly
) -> None:
    assert ask(unruly.address, "truncated.test", Kind.TXT).records
    assert unruly.by_tcp == 1
    assert len(ask(nsd.address, "long.example.test", Kind.TXT).records) == 60


def test_a_recursive_server_is_asked_alike(unbound: Recursive) -> None:
    assert set(ask(unbound.address, "www.example.test", Kind.A).records) == set(WWW)
    assert not ask(unbound.address, "gone.example.test", Kind.A).exists


@pytest.mark.parametrize("name", ["x.lame.example.test", "x.elsewhere.test"])
def test_a_lame_delegation_is_no_answer(unbound: Recursive, name: str) -> None:
    with pytest.raises(DnsError):  # to a server that is not there, and to one that does not serve
        ask(unbound.address, name, Kind.A, timeout=0.5)


def test_the_second_server_is_asked_when_the_first_is_dead(nsd: NameServer) -> None:
    async def both(resolver: CaresResolver) -> Found:
        return await resolver.ask("www.example.test", Kind.A)

    assert run(both, f"127.0.0.1:{free_port()}", nsd.address).records  # nothing listens
    with Unruly(lambda _: Act(silent=True)) as silent:
        assert run(both, silent.address, nsd.address).records
        assert silent.asked


def test_the_letters_of_a_question_are_in_random_case() -> None:
    asked = []

    def noted(question: dns.message.Message) -> Act:
        asked.append(question.question[0].name.to_text())
        return Act(records=(f"{asked[-1]} 9 IN A 192.0.2.1",))

    name = "a-name-with-letters-enough.test"
    with Unruly(noted) as server:
        (record,) = ask(server.address, name, Kind.A).records
    assert record.name == name
    assert asked[0] != f"{name}." == asked[0].lower()


def test_nobody_who_listens_is_no_answer() -> None:
    with pytest.raises(DnsError, match="no name server could be reached"):
        ask(f"127.0.0.1:{free_port()}", "www.example.test", Kind.A)


class TestAnswersAreKept:
    def test_for_their_ttl(self) -> None:
        async def later(resolver: CaresResolver) -> list[Found]:
            for _ in range(2):
                found = [await resolver.ask(name, Kind.A) for name in ("brief.test", "long.test")]
            assert (server.asked["brief.test", "A"], server.asked["long.test", "A"]) == (1, 1)
            await asyncio.sleep(1.1)
            found += [await resolver.ask(name, Kind.A) for name in ("brief.test", "long.test")]
            assert (server.asked["brief.test", "A"], server.asked["long.test", "A"]) == (2, 1)
            return found

        def kept(question: dns.message.Message) -> Act:
            name = question.question[0].name.to_text().lower()
            return Act(records=(f"{name} {1 if name == 'brief.test.' else 99} IN A 192.0.2.1",))

        with Unruly(kept) as server:
            ttls = [found.ttl for found in run(later, server.address)]
        assert ttls[:3] == [1, 99, 1]
        assert ttls[3] in {97, 98}  # whole seconds

    def test_not_at_all_with_a_ttl_of_0(self) -> None:
        async def twice(resolver: CaresResolver) -> None:
            for _ in range(2):
                assert (await resolver.ask("a.test", Kind.A)).ttl == 0

        with Unruly(lambda _: Act(records=("a.test. 0 IN A 192.0.2.1",))) as server:
            run(twice, server.address)
            assert server.asked["a.test", "A"] == 2

    def test_when_they_say_that_there_is_nothing(self) -> None:
        soa = "test. 9 IN SOA ns.test. hostmaster.test. 1 1 1 1 1"

        async def later(resolver: CaresResolver) -> None:
            for _ in range(2):
                assert not (await resolver.ask("no.test", Kind.A)).exists
                assert (await resolver.ask("empty.test", Kind.A)).exists
            assert (server.asked["no.test", "A"], server.asked["empty.test", "A"]) == (1, 1)
            await asyncio.sleep(1.1)
            await resolver.ask("no.test", Kind.A)
            assert server.asked["no.test", "A"] == 2

        def nothing(question: dns.message.Message) -> Act:
            there = question.question[0].name.to_text().lower().startswith("empty")
            rcode = dns.rcode.NOERROR if there else dns.rcode.NXDOMAIN
            return Act(rcode=rcode, authority=(soa,))

        with Unruly(nothing) as server:
            run(later, server.address)

    def test_never_for_longer_than_a_channel_lives(
        self, unruly: Unruly, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setattr("policyd.dns.channel.LIFE", 0.2)

        async def later(resolver: CaresResolver) -> None:
            for _ in range(2):
                await resolver.ask("a.test", Kind.A)
            await asyncio.sleep(0.3)
            await resolver.ask("a.test", Kind.A)

        run(later, unruly.address)
        assert unruly.asked["a.test", "A"] == 2

    def test_but_never_that_there_was_no_answer(self, unruly: Unruly) -> None:
        async def twice(resolver: CaresResolver) -> int:
            await outcome(resolver.ask("servfail.test", Kind.A))
            before = unruly.asked["servfail.test", "A"]
            await outcome(resolver.ask("servfail.test", Kind.A))
            return before

        before = run(twice, unruly.address)
        assert unruly.asked["servfail.test", "A"] == 2 * before


def test_one_question_of_many_goes_out_once(unruly: Unruly) -> None:
    async def together(resolver: CaresResolver) -> list[Found]:
        asked = [resolver.ask("after-50.test", Kind.A) for _ in range(200)]
        return await asyncio.gather(*asked)

    assert len(set(run(together, unruly.address))) == 1
    assert unruly.asked["after-50.test", "A"] == 1


def test_who_waits_can_be_cancelled_without_the_others(unruly: Unruly) -> None:
    async def test(resolver: CaresResolver) -> Found:
        first = asyncio.create_task(resolver.ask("after-100.test", Kind.A))
        second = asyncio.create_task(resolver.ask("after-100.test", Kind.A))
        await asyncio.sleep(0.02)
        first.cancel()
        return await second

    assert run(test, unruly.address).exists


class TestSoManyAtOnce:
    def test_the_others_wait_for_their_turn(self, unruly: Unruly) -> None:
        unruly.decide = lambda _: Act(delay=0.05)

        async def many(resolver: CaresResolver) -> list[Found]:
            return await asyncio.gather(
                *(resolver.ask(f"{number}.test", Kind.A) for number in range(20))
            )

        assert len(run(many, unruly.address, most_at_once=4)) == 20
        assert unruly.most_at_once == 4

    def test_within_their_time(self, unruly: Unruly) -> None:
        async def many(resolver: CaresResolver) -> None:
            first = asyncio.create_task(outcome(resolver.ask("never.test", Kind.A)))
            await asyncio.sleep(0)
            began = time.monotonic()
            with pytest.raises(DnsError, match="no answer within"):
                await resolver.ask("www.test", Kind.A)
            assert 0.29 <= time.monotonic() - began < 2
            assert isinstance(await first, DnsError)

        run(many, unruly.address, timeout=0.3, most_at_once=1)
        assert not unruly.asked["www.test", "A"]


def test_other_settings_are_asked_by_and_nothing_under_way_is_lost(unruly: Unruly) -> None:
    def elsewhere(_question: dns.message.Message) -> Act:
        return Act(records=("a.test. 300 IN A 192.0.2.99",))

    async def changed(resolver: CaresResolver) -> None:
        slow = asyncio.create_task(resolver.ask("after-300.test", Kind.A))
        assert list((await resolver.ask("a.test", Kind.A)).values(Kind.A)) == ["192.0.2.1"]
        resolver.configure(DnsSettings((other.address,), 0.2))
        assert list((await resolver.ask("a.test", Kind.A)).values(Kind.A)) == ["192.0.2.99"]
        resolver.configure(DnsSettings((other.address,), 0.2))  # which changes nothing
        await resolver.ask("a.test", Kind.A)
        assert other.asked["a.test", "A"] == 1
        assert list((await slow).values(Kind.A)) == ["192.0.2.1"]

    with Unruly(elsewhere) as other:
        run(changed, unruly.address)


def test_without_servers_those_of_resolv_conf_are_asked() -> None:
    async def none(resolver: CaresResolver) -> list[str]:
        await outcome(resolver.ask("localhost.test", Kind.A))
        assert resolver._channel is not None
        return resolver._channel._cares.servers

    lines = Path("/etc/resolv.conf").read_text("utf-8").splitlines()
    named = [line.split()[1] for line in lines if line.startswith("nameserver")]
    servers = run(none, timeout=0.1)
    assert [server.rpartition(":")[0].strip("[]") for server in servers] == (named or ["127.0.0.1"])


@pytest.mark.parametrize("loop", [uvloop.new_event_loop, asyncio.new_event_loop])
def test_nothing_is_left_behind(unruly: Unruly, loop: Loop) -> None:
    def left() -> tuple[int, int]:
        return len(list(Path("/proc/self/fd").iterdir())), threading.active_count()

    async def test(resolver: CaresResolver) -> None:
        asked = [resolver.ask(name, Kind.A) for name in ("a.test", "truncated.test", "never.test")]
        tasks = [asyncio.create_task(outcome(each)) for each in asked]
        await asyncio.wait(tasks[:2])
        resolver.configure(DnsSettings((unruly.address,), 5.0))
        tasks.append(asyncio.create_task(outcome(resolver.ask("never.test", Kind.MX))))
        await asyncio.sleep(0.05)
        await resolver.close()
        assert "it was given up" in str(await tasks[2])
        assert "it was given up" in str(await tasks[3])
        with pytest.raises(DnsError, match="nobody is asked any more"):
            await resolver.ask("a.test", Kind.A)

    run(test, unruly.address, loop=loop)  # pycares then has its one thread, which closes channels
    before = left()
    for _ in range(5):
        run(test, unruly.address, timeout=5.0, loop=loop)
    ends = time.monotonic() + 5
    while left() != before and time.monotonic() < ends:
        time.sleep(0.01)
    assert left() == before


def test_memory_is_bounded_whatever_names_are_asked(nsd: NameServer) -> None:
    async def names(resolver: CaresResolver, first: int, count: int) -> None:
        for number in range(first, first + count, 200):
            await asyncio.gather(
                *(
                    resolver.ask(f"{each}.w.example.test", Kind.A)
                    for each in range(number, number + 200)
                )
            )

    async def many(resolver: CaresResolver) -> int:
        await names(resolver, 0, 2 * MOST_ANSWERS)
        before = resident()
        await names(resolver, 2 * MOST_ANSWERS, 4 * MOST_ANSWERS)
        return resident() - before

    assert run(many, nsd.address, timeout=5.0) < 8 << 20


def test_memory_is_bounded_however_long_answers_are(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("policyd.dns.channel.MOST_OCTETS", 50_000)
    strings = " ".join([f'"{"x" * 255}"'] * 40)

    def large(question: dns.message.Message) -> Act:
        return Act(records=(f"{question.question[0].name} 300 IN TXT {strings}",))

    async def many(resolver: CaresResolver) -> None:
        for number in (0, 1, 2, 3, 0, 4, 0):  # of 10 kB each
            await resolver.ask(f"{number}.test", Kind.TXT)

    with Unruly(large) as server:
        run(many, server.address)
        assert server.by_tcp == 6


class TestWhetherServersAnswer:
    def test_is_told_with_the_first_answer_whatever_it_says(self, unruly: Unruly) -> None:
        told: list[tuple[str, bool, str]] = []

        async def test(resolver: CaresResolver) -> None:
            for _ in range(5):
                await outcome(resolver.ask("servfail.test", Kind.A))

        run(test, unruly.address, changed=lambda *what: told.append(what))
        assert told == [("dns", True, "")]

    def test_is_not_told_of_zones_that_are_silent(self, unruly: Unruly) -> None:
        told: list[tuple[str, bool, str]] = []

        async def test(resolver: CaresResolver) -> None:
            await resolver.ask("a.test", Kind.A)
            for kind in Kind:
                await outcome(resolver.ask("never.test", kind))
            await until(lambda: bool(unruly.asked["1.0.0.127.in-addr.arpa", "PTR"]))

        run(test, unruly.address, timeout=0.1, changed=lambda *what: told.append(what))
        assert told == [("dns", True, "")]

    def test_is_told_when_they_are_gone_and_when_they_are_back(
        self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setattr("policyd.dns.health.AGAIN", 0.1)
        told: list[tuple[str, bool, str]] = []

        async def test(resolver: CaresResolver) -> None:
            await resolver.ask("a.example.test", Kind.A)
            server.freeze()
            for number in range(3):
                await outcome(resolver.ask(f"{number}.example.test", Kind.A))
            await until(lambda: len(told) == 2)
            server.thaw()
            await until(lambda: len(told) == 3)  # without anybody's asking
            server.kill()
            for number in range(3, 6):
                await outcome(resolver.ask(f"{number}.example.test", Kind.A))
            await until(lambda: len(told) == 4)
            server.start()
            await resolver.ask("b.example.test", Kind.A)
            await until(lambda: len(told) == 5)

        with NameServer(tmp_path, {"example.test": ""}) as server:
            run(test, server.address, timeout=0.2, changed=lambda *what: told.append(what))
        assert told == [
            ("dns", True, ""),
            ("dns", False, "no name server answered in time"),
            ("dns", True, ""),
            ("dns", False, "no name server could be reached"),
            ("dns", True, ""),
        ]

"""listed() and dnsbl_score(), from the configuration to the answer, on a real name server."""

import asyncio
import time
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import cast

import dns.message
import dns.rcode
import pytest

from policyd.checks import dnsbl
from policyd.checks.interface import Answer, CheckFailedError
from policyd.checks.zone import Zone
from policyd.checks.zone_health import Zones
from policyd.config.policy import Loaded, load_policy
from policyd.dns.resolver import CaresResolver
from policyd.dns.settings import DnsSettings
from policyd.rules import nodes
from policyd.rules.parcel import pack, unpack
from policyd.rules.policy import AskRemote
from policyd.smtp.stage import Stage
from tests.checks.dns_lists import of_addresses, of_names
from tests.rules.world import Recorder
from tools.dns_servers import Act, NameServer, Unruly

HEAD = """\
[policy_service]
listen = ["inet:127.0.0.1:10040"]
stages = ["connect", "helo", "mail", "rcpt", "data"]
"""
TABLES = """\
[dnsbl.zen]
zone = "zen.test"
codes = { "127.0.0.2" = 3, "127.0.0.10-127.0.0.11" = 0.1 }
[dnsbl.other]
zone = "other.test"
weight = 0.2
[dnsbl.white]
zone = "white.test"
weight = -5
[dnsbl.names]
zone = "names.test"
kind = "sender_domain"
masks = { 2 = 1, 8 = 4 }
[dnsbl.helo]
zone = "names.test"
kind = "helo_name"
[dnsbl.broken]
zone = "broken.test"
[dnsbl.refusing]
zone = "refusing.test"
"""
CLEAN, SPAM, DIAL, FRIEND = "192.0.2.1", "192.0.2.2", "192.0.2.10", "192.0.2.20"
SERVED = {
    "zen.test": of_addresses({SPAM: "127.0.0.2 127.0.0.10", DIAL: "127.0.0.11"}, "See zen"),
    "other.test": of_addresses({SPAM: "127.0.0.9", DIAL: "127.0.0.9"}, "See other"),
    "white.test": of_addresses({FRIEND: "127.0.0.3"}),
    "names.test": of_names({"bad.example": "127.0.0.10", "xn--bcher-kva.example": "127.0.0.2"}),
    "broken.test": of_addresses({SPAM: "127.0.0.2"}, tested=""),
    "refusing.test": of_addresses({SPAM: "127.0.0.2 127.255.255.254"}),
    "zen.example.test": of_addresses({SPAM: "127.0.0.4"}),
}


@pytest.fixture(scope="module")
def served(tmp_path_factory: pytest.TempPathFactory) -> Iterator[NameServer]:
    with NameServer(tmp_path_factory.mktemp("nsd"), SERVED) as server:
        yield server


def load(folder: Path, when: str, stage: str = "rcpt", tables: str = TABLES) -> Loaded:
    rule = f"[[rule]]\nname = 'r'\nstage = '{stage}'\nwhen = \"{when}\"\nthen = 'dnsbl-listed'\n"
    path = folder / "policyd.toml"
    path.write_text(HEAD + tables + rule)
    loaded = load_policy(path, checks={})
    assert loaded.policy is not None, loaded.problems
    return loaded


def matches(
    address: str, folder: Path, when: str, attributes: Mapping[str, object], stage: str = "rcpt"
) -> tuple[bool, list[str]]:
    """Compile, send to another process and decide there, as a worker does."""

    async def ask() -> tuple[bool, list[str]]:
        resolver = CaresResolver(DnsSettings(servers=(address,), timeout=2))
        zones = Zones(resolver, lambda *_: None, lambda: 0.5)
        loaded = load(folder, when, stage)
        checks = {check.name: check for check in dnsbl.checks(zones, {})}
        policy = unpack(pack(loaded.policy_in_force), loaded.lists, checks)
        zones.watch(each for each in policy.defined if isinstance(each, Zone))
        context = Recorder()
        question = policy.delegation[Stage(stage)]
        found = await cast("AskRemote", question.ask)(attributes, context)
        await zones.close()
        await resolver.close()
        return found is not None, context.failures

    return asyncio.run(ask())


@pytest.mark.parametrize(
    ("when", "attributes", "expected"),
    [
        ("listed('zen')", {"client_address": SPAM}, True),
        ("listed('zen')", {"client_address": CLEAN}, False),
        ("listed('zen')", {"client_address": "127.0.0.1"}, False),
        ("listed('zen')", {"client_address": ""}, False),
        ("listed('zen')", {}, False),
        ("not listed('zen')", {"client_address": CLEAN}, True),
        ("listed('white', 'zen')", {"client_address": FRIEND}, True),
        ("listed('white') or listed('zen')", {"client_address": SPAM}, True),
        ("listed('zen.example.test')", {"client_address": SPAM}, True),
        ("listed('ZEN.example.test.')", {"client_address": CLEAN}, False),
        ("listed('names')", {"sender": "x@Bad.Example"}, True),
        ("listed('names')", {"sender": "x@a.bad.example"}, False),  # the domain as it is
        ("listed('names')", {"sender": "x@bücher.example"}, True),
        ("listed('names')", {"sender": ""}, False),
        ("listed('names')", {"sender": "x@[192.0.2.2]"}, False),
        ("listed('helo')", {"helo_name": "bad.example"}, True),
        ("listed('helo')", {"helo_name": "[192.0.2.2]"}, False),
        ("listed('helo')", {"helo_name": "localhost"}, False),
        ("dnsbl_score('zen', 'other') == 3.3", {"client_address": SPAM}, True),
        ("dnsbl_score('zen', 'other') == 0.3", {"client_address": DIAL}, True),
        ("dnsbl_score('zen', 'white') == -5", {"client_address": FRIEND}, True),
        ("dnsbl_score('zen', 'white') == 0", {"client_address": CLEAN}, True),
        ("dnsbl_score('zen', 'zen.example.test') == 4.1", {"client_address": SPAM}, True),
        ("dnsbl_score('names') == 5", {"sender": "x@bad.example"}, True),
        ("dnsbl_score('names') == 0", {"client_address": SPAM}, True),
        # the zones that fail are left out
        ("dnsbl_score() == 3.3", {"client_address": SPAM}, True),
        (
            "dnsbl_score() == 9.3",
            {"client_address": SPAM, "sender": "x@bad.example", "helo_name": "bad.example"},
            True,
        ),
        ("listed('broken', 'zen')", {"client_address": SPAM}, True),
    ],
)
def test_what_lists_say(
    served: NameServer, tmp_path: Path, when: str, attributes: dict[str, object], expected: bool
) -> None:
    assert matches(served.address, tmp_path, when, attributes) == (expected, [])


@pytest.mark.parametrize(
    ("when", "failures"),
    [
        ("listed('broken')", 1),
        ("not listed('broken')", 1),
        ("listed('refusing')", 1),
        ("listed('refusing', 'white')", 1),  # not listed there, which is no answer for the other
        ("dnsbl_score('refusing') > 0", 1),
        ("dnsbl_score('refusing', 'broken') < 1", 1),
        ("dnsbl_score('refusing', 'white') == 0", 0),
        ("dnsbl_score('refusing', 'names') == 0", 0),
        ("listed('no.such.zone.test')", 1),
    ],
)
def test_what_is_a_failure_of_the_whole_call(
    served: NameServer, tmp_path: Path, when: str, failures: int
) -> None:
    found, failed = matches(served.address, tmp_path, when, {"client_address": SPAM})
    assert len(failed) == failures, failed
    assert found is not bool(failures)


def test_at_a_stage_dnsbl_score_asks_what_is_known_there(tmp_path: Path) -> None:
    for stage, count in (("connect", 5), ("helo", 6), ("mail", 7)):
        policy = load(tmp_path, "dnsbl_score() > 0", stage).policy_in_force
        (call,) = nodes.calls_of(cast("nodes.Node", policy.rules[0].condition))
        assert len(call.arguments) == len(policy.defined) == count
        assert policy.dependencies == tuple(
            f"dnsbl {each.name}" for each in policy.defined if isinstance(each, Zone)
        )


def test_a_zone_without_a_table_is_one_of_addresses_with_its_name_as_given(tmp_path: Path) -> None:
    policy = load(tmp_path, "listed('Zen.Example.ORG')", tables="").policy_in_force
    assert policy.defined == (Zone("zen.example.org", "zen.example.org", in_table=False),)
    assert policy.dependencies == ("dnsbl zen.example.org",)


def answer(address: str, check: str, *asked: tuple[Zone, str]) -> Answer:
    """Ask a check itself."""

    async def ask() -> Answer:
        resolver = CaresResolver(DnsSettings(servers=(address,), timeout=2))
        zones = Zones(resolver, lambda *_: None, lambda: 0.5)
        checks = {check.name: check for check in dnsbl.checks(zones, {})}
        try:
            found = checks[check].ask({}, *asked)
            assert not isinstance(found, Answer)
            return await found
        finally:
            await zones.close()
            await resolver.close()

    return asyncio.run(ask())


ZEN = Zone("zen", "zen.test", weight=3)
OTHER = Zone("other", "other.test")
BROKEN = Zone("broken", "broken.test")
REFUSING = Zone("refusing", "refusing.test")
UNTABLED = Zone("zen.test", "zen.test", in_table=False)


@pytest.mark.parametrize("check", ["listed", "dnsbl_score"])
def test_texts_show_the_zone_whose_listing_weighs_most(served: NameServer, check: str) -> None:
    for asked in ((OTHER, ZEN), (ZEN, OTHER)):
        found = answer(served.address, check, *((zone, SPAM) for zone in asked))
        assert found.values == {
            "dnsbl_zone": "zen.test",
            "dnsbl_code": "127.0.0.2",
            "dnsbl_text": "See zen",
        }
    assert answer(served.address, check, (ZEN, CLEAN)).values == {}


@pytest.mark.parametrize("check", ["listed", "dnsbl_score"])
def test_what_each_zone_says_is_counted_and_what_fails_is_told(
    served: NameServer, check: str
) -> None:
    asked = [(zone, SPAM) for zone in (ZEN, BROKEN, REFUSING, UNTABLED)]
    found = answer(served.address, check, *asked, (OTHER, CLEAN), (Zone("p", "p.test"), "10.0.0.1"))
    assert [(labels, amount) for _, labels, amount in found.counts] == [
        (("zen", "listed"), 1),
        (("broken", "suspended"), 1),
        (("refusing", "failed"), 1),
        (("other", "unlisted"), 1),
    ]
    assert [failure.dependency for failure in found.without] == ["dnsbl broken", "dnsbl refusing"]
    assert found.result == ("true" if check == "listed" else "listed")


@pytest.mark.parametrize("check", ["listed", "dnsbl_score"])
def test_a_call_that_fails_says_why_and_counts(served: NameServer, check: str) -> None:
    with pytest.raises(CheckFailedError) as caught:
        answer(served.address, check, (REFUSING, SPAM), (BROKEN, SPAM))
    assert caught.value.dependency == "dnsbl refusing"
    assert "dnsbl refusing: it answers 127.255.255.254" in str(caught.value)
    assert "dnsbl broken: suspended: " in str(caught.value)
    labels = [labels for _, labels, _ in caught.value.counts]
    assert labels == [("refusing", "failed"), ("broken", "suspended")]


def test_all_zones_are_asked_at_once() -> None:
    def decide(asked: dns.message.Message) -> Act:
        name = asked.question[0].name.to_text().lower()
        if name.startswith("2.0.0.127"):
            return Act((f"{name} 0 IN A 127.0.0.2",))
        return Act(rcode=dns.rcode.NXDOMAIN, delay=0.2)

    with Unruly(decide) as server:
        started = time.monotonic()
        zones = [Zone(f"z{number}", f"z{number}.test") for number in range(20)]
        found = answer(server.address, "dnsbl_score", *((zone, SPAM) for zone in zones))
        assert time.monotonic() - started < 1  # their tests, and then the questions
        assert (found.value, found.result) == (0, "unlisted")


@pytest.mark.parametrize("number", [0, 1])
def test_where_a_configuration_is_only_loaded_asking_fails(number: int) -> None:
    async def ask() -> None:
        found = dnsbl.checks(None, {"zen": ZEN})[number].ask({}, (ZEN, SPAM))
        assert not isinstance(found, Answer)
        with pytest.raises(CheckFailedError):
            await found

    asyncio.run(ask())


def test_every_series_is_known_from_the_tables() -> None:
    counting = dnsbl.checks(None, {"zen": ZEN, "other": OTHER})[0].countings[0]
    assert set(counting.series) == {
        (zone, result)
        for zone in ("zen", "other")
        for result in ("listed", "unlisted", "failed", "suspended")
    }

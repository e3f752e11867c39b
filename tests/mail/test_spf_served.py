"""SPF through the whole chain: nsd, the worker's resolver, a helper process and pyspf in it."""

import asyncio
import re
import time
from collections.abc import Iterable, Iterator, Mapping
from typing import Any, Final

import pytest

from policyd.checks.spf import SenderPolicy
from policyd.dns.questions import answering
from policyd.dns.resolver import CaresResolver
from policyd.dns.settings import DnsSettings
from policyd.mail.spf import Identity, SpfAnswer
from policyd.processes.pool import Pool
from tests.mail.spf_running import mail_from
from tests.mail.spf_zones import TIMEOUT, scenarios
from tools.dns_servers import Act, NameServer, Unruly

SERVED: Final = [each for each in scenarios() if TIMEOUT not in str(each["zonedata"])]
"""A name server answers always."""
FACTS: Final = {"host": "client_address", "helo": "helo_name", "mailfrom": "sender"}


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[NameServer]:
    with NameServer(tmp_path_factory.mktemp("dns"), {".": ""}) as running:
        yield running


def zone(data: Mapping[str, Iterable[Any]]) -> str:
    """Write the suite's `zonedata` as a zone file of the root."""
    lines = ["@ 300 IN SOA ns.invalid. hostmaster.invalid. 1 3600 900 604800 60"]
    for name, records in data.items():
        has_txt = any("TXT" in record for record in records)
        for word, value in (next(iter(record.items())) for record in records):
            kind = "TXT" if word == "SPF" else word
            if value != "NONE" and (word != "SPF" or not has_txt):
                lines.append(f"{_name(name)} 300 IN {kind} {_value(kind, value)}")
    return "\n".join(dict.fromkeys(lines)) + "\n"


def _value(kind: str, value: Any) -> str:
    match kind:
        case "MX":
            preference, server = value
            return f"{preference} {_name(server)}"
        case "TXT":
            strings = [value] if isinstance(value, str) else value
            pieces = [each[at : at + 200] for each in strings for at in range(0, len(each), 200)]
            return " ".join(f'"{_escaped(piece)}"' for piece in pieces) or '""'
        case "CNAME" | "PTR":
            return _name(value)
    return str(value)


def _name(name: str) -> str:
    return ".".join(map(_escaped, name.rstrip(".").split("."))) + "."


def _escaped(text: str) -> str:
    """Write octets that mean something in a zone file as their numbers (RFC 1035 section 5.1)."""
    return "".join(
        chr(octet) if re.match(rb"[\w-]", bytes([octet])) else f"\\{octet:03}"
        for octet in text.encode()
    )


class Chain:
    """A worker's resolver and its helper processes, for as long as a test asks."""

    def __init__(self, address: str, **settings: Any) -> None:
        self.resolver = CaresResolver(DnsSettings(servers=(address,), **settings))
        self.pool = Pool(processes=1, at_once=64, answer=answering(self.resolver))
        self.policy = SenderPolicy(self.pool)

    async def __aenter__(self) -> SenderPolicy:
        return self.policy

    async def __aexit__(self, *_: object) -> None:
        await self.resolver.close()
        await self.pool.close()


@pytest.mark.parametrize(
    "scenario", [pytest.param(each, id=each["description"]) for each in SERVED]
)
def test_a_scenario_of_the_suite_from_a_name_server(
    scenario: Mapping[str, Any], server: NameServer
) -> None:
    server.change({".": zone(scenario["zonedata"])})
    cases = scenario["tests"]

    async def every() -> dict[str, SpfAnswer]:
        async with Chain(server.address) as policy:
            asked = (
                policy.evaluate(
                    {fact: case[key] or "" for key, fact in FACTS.items()}, Identity.MAIL_FROM
                )
                for case in cases.values()
            )
            return dict(zip(cases, await asyncio.gather(*asked), strict=True))

    for name, found in asyncio.run(every()).items():
        assert found.result in cases[name]["result"], (name, found)


def test_most_of_the_suite_is_served() -> None:
    assert sum(len(scenario["tests"]) for scenario in SERVED) == 140


def test_servers_that_each_answer_slowly_are_given_up_in_time() -> None:
    def slowly(question: Any) -> Act:
        name = question.question[0].name.to_text().lower()
        record = f'{name} 60 IN TXT "v=spf1 include:x.{name} -all"'
        return Act(records=(record,), delay=0.3)

    async def once(address: str) -> SpfAnswer:
        async with Chain(address) as policy:
            policy._limit = 1.0
            return await mail_from(policy, "jo@a.test")

    with Unruly(slowly) as dns:
        started = time.monotonic()
        found = asyncio.run(once(dns.address))
        took = time.monotonic() - started
    assert found.result == "temperror"
    assert took < 3
    assert dns.asked.total() <= 5


def test_a_server_that_never_answers_is_temperror() -> None:
    async def once(address: str) -> SpfAnswer:
        async with Chain(address, timeout=0.3) as policy:
            return await mail_from(policy, "jo@a.test")

    with Unruly(lambda _: Act(silent=True)) as dns:
        found = asyncio.run(once(dns.address))
    assert found.result == "temperror"
    assert "a.test TXT" in found.reason


def test_a_record_that_comes_by_tcp_alone_is_read() -> None:
    record = "v=spf1 " + "ip4:192.0.2.7 " * 200 + "-all"
    strings = " ".join(f'"{record[at : at + 200]}"' for at in range(0, len(record), 200))

    async def once(address: str) -> SpfAnswer:
        async with Chain(address) as policy:
            return await mail_from(policy, "jo@a.test")

    with Unruly(lambda _: Act(records=(f"a.test. 60 IN TXT {strings}",), truncated=True)) as dns:
        found = asyncio.run(once(dns.address))
        assert dns.by_tcp == 1
    assert (found.result, found.reason) == ("fail", "-all")

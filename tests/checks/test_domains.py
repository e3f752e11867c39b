"""Domains and clients' names, asked of a real name server; and of one that fails for some types."""

import asyncio
import time
from collections.abc import Awaitable, Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, cast

import dns.message
import dns.rdatatype
import pytest
from dns.rcode import NXDOMAIN, SERVFAIL

from policyd.checks.domains import checks
from policyd.checks.interface import Answer, Check, CheckFailedError
from policyd.config.policy import load_policy
from policyd.dns.resolver import CaresResolver
from policyd.dns.settings import DnsSettings
from tools.dns_servers import Act, NameServer, Unruly

ZONES = {
    "test": """\
mx        MX 10 mail.mx
mail.mx   A 192.0.2.1
address   A 192.0.2.2
address6  AAAA 2001:db8::2
text      TXT "neither MX nor address"
null      MX 0 .
null      A 192.0.2.3
both      MX 0 .
both      MX 10 mail.mx
nothing   MX 10 not-there
alias     CNAME mx
two-names A 192.0.2.12
wrong     A 192.0.2.99
six       AAAA 2001:db8::6
""",
    "2.0.192.in-addr.arpa": """\
2   PTR address.test.
12  PTR wrong.test.
12  PTR two-names.test.
13  PTR wrong.test.
14  PTR not-there.test.
""",
    "8.b.d.0.1.0.0.2.ip6.arpa": "6.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0 PTR six.test.\n",
}


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    with NameServer(tmp_path_factory.mktemp("dns"), ZONES) as running:
        yield running.address


def named(name: str, resolver: Any = None) -> Check:
    return next(check for check in checks(resolver) if check.name == name)


async def ask(check: Check, attributes: Mapping[str, object], *arguments: str) -> Answer:
    remote = cast("Callable[..., Awaitable[Answer]]", check.ask)
    return await remote(attributes, *arguments)


def asked(server: str, name: str, *arguments: str, **attributes: str) -> bool:
    """Ask a server."""

    async def once() -> Answer:
        resolver = CaresResolver(DnsSettings(servers=(server,), timeout=2))
        try:
            return await ask(named(name, resolver), attributes, *arguments)
        finally:
            await resolver.close()

    answer = asyncio.run(once())
    assert answer.result == ("true" if answer.value else "false")
    assert isinstance(answer.value, bool)
    return answer.value


class TestDomains:
    @pytest.mark.parametrize(
        ("domain", "resolves", "has_mx", "null_mx"),
        [
            ("mx.test", True, True, False),
            ("address.test", True, False, False),
            ("address6.test", True, False, False),
            ("text.test", False, False, False),
            ("null.test", False, False, True),
            ("both.test", True, True, False),
            ("nothing.test", True, True, False),
            ("alias.test", True, True, False),
            ("not-there.test", False, False, False),
            ("a.b.not-there.test", False, False, False),
            ("x" * 64 + ".test", False, False, False),
            ("a..test", False, False, False),
            ("[192.0.2.1]", True, False, False),
            ("[ipv6:2001:db8::1]", True, False, False),
            ("[192.0.2]", False, False, False),
            ("[192.0.2.1", False, False, False),
            ("[[192.0.2.1]]", False, False, False),
            ("", True, False, False),
        ],
    )
    def test_mail_goes_to_mx_or_else_to_an_address(
        self, server: str, domain: str, resolves: bool, has_mx: bool, null_mx: bool
    ) -> None:
        if not domain.startswith("["):
            assert asked(server, "has_mx", domain) is has_mx
            assert asked(server, "null_mx", domain) is null_mx
        assert asked(server, "resolves", domain) is resolves

    @pytest.mark.parametrize(
        ("name", "resolves"),
        [
            ("mail.mx.test", True),
            ("address6.test", True),
            ("MX.test.", True),
            ("null.test", True),
            ("text.test", False),
            ("not-there.test", False),
            ("localhost", None),
            ("192.0.2.1", False),
            ("[192.0.2.1]", True),
            ("[IPv6:2001:db8::1]", True),
            ("[2001:db8::1]", False),
            ("[x]", False),
            ("", True),
        ],
    )
    def test_helo_names_a_host(self, server: str, name: str, resolves: bool | None) -> None:
        if resolves is None:  # the server refuses what is not in its zones
            with pytest.raises(CheckFailedError):
                asked(server, "helo_resolves", helo_name=name)
        else:
            assert asked(server, "helo_resolves", helo_name=name) is resolves


class TestClients:
    @pytest.mark.parametrize(
        ("address", "reverse", "confirmed"),
        [
            ("192.0.2.2", True, True),
            ("192.0.2.12", True, True),
            ("192.0.2.13", True, False),
            ("192.0.2.14", True, False),
            ("192.0.2.15", False, False),
            ("2001:db8::6", True, True),
            ("2001:db8::7", False, False),
            ("::ffff:192.0.2.2", True, True),
        ],
    )
    @pytest.mark.parametrize("unknown", ["unknown", ""])
    def test_the_dns_is_asked_for_what_postfix_does_not_know(
        self, server: str, address: str, reverse: bool, confirmed: bool, unknown: str
    ) -> None:
        facts = {
            "client_address": address,
            "client_name": unknown,
            "reverse_client_name": unknown,
        }
        assert asked(server, "reverse_resolves", **facts) is reverse
        assert asked(server, "fcrdns", **facts) is confirmed

    def test_what_postfix_knows_is_not_asked(self) -> None:
        facts = {"client_address": "192.0.2.13", "reverse_client_name": "a.test"}
        assert asyncio.run(ask(named("reverse_resolves"), facts)).value is True
        facts = {"client_address": "192.0.2.13", "client_name": "a.test"}
        assert asyncio.run(ask(named("fcrdns"), facts)).value is True

    @pytest.mark.parametrize("name", ["reverse_resolves", "fcrdns"])
    def test_a_client_without_an_address_is_no_answer(self, name: str) -> None:
        with pytest.raises(CheckFailedError, match="address is not known"):
            asyncio.run(ask(named(name), {"client_address": "unknown"}))

    def test_ten_names_are_looked_up(self) -> None:
        with serving({"PTR": [f"h{n}.test" for n in range(50)], "A": ["192.0.2.9"]}) as dns:
            assert asked(dns.address, "fcrdns", client_address="192.0.2.1") is False
            assert dns.asked.total() == 11


NO = Act(rcode=SERVFAIL)
"""No answer."""
Answers = Mapping[str, Sequence[str] | Act]


def serving(answers: Answers) -> Unruly:
    """Answer every name by the type alone: so many values, nothing of a type that is not there."""

    def decide(question: dns.message.Message) -> Act:
        (asked,) = question.question
        kind = dns.rdatatype.to_text(asked.rdtype)
        answer = answers.get(kind, ())
        if isinstance(answer, Act):
            return answer
        before = "0 " if kind == "MX" else ""
        after = "." if kind in {"MX", "PTR"} else ""
        return Act(tuple(f"{asked.name} 300 IN {kind} {before}{each}{after}" for each in answer))

    return Unruly(decide)


def outcome(answers: Answers, name: str, *arguments: str, **facts: str) -> bool | str:
    """Ask such a server; what fails the check, or the answer."""
    with serving(answers) as dns:
        try:
            return asked(dns.address, name, *arguments, **facts)
        except CheckFailedError as error:
            return error.dependency


class TestFailures:
    @pytest.mark.parametrize(
        ("answers", "expected"),
        [
            ({"MX": NO, "A": ["192.0.2.1"]}, True),
            ({"MX": NO, "AAAA": ["2001:db8::1"]}, True),
            ({"MX": NO}, "dns"),
            ({"A": NO}, "dns"),
            ({"A": NO, "AAAA": ["2001:db8::1"]}, True),
            ({"A": ["192.0.2.1"], "AAAA": NO}, True),
            ({"MX": ["mx.test"], "A": NO, "AAAA": NO}, True),
            ({"MX": [""], "A": NO, "AAAA": NO}, False),
            ({"MX": NO, "A": NO, "AAAA": NO}, "dns"),
            ({"MX": NO, "A": Act(rcode=NXDOMAIN)}, False),
        ],
    )
    def test_resolves_fails_only_when_the_answer_is_open(
        self, answers: Answers, expected: bool | str
    ) -> None:
        assert outcome(answers, "resolves", "a.test") == expected

    @pytest.mark.parametrize(
        ("answers", "expected"),
        [
            ({"A": NO, "AAAA": ["2001:db8::1"], "MX": NO}, True),
            ({"A": NO, "MX": ["mx.test"]}, True),
            ({"A": NO}, "dns"),
            ({"MX": NO}, "dns"),
            ({}, False),
        ],
    )
    def test_helo_resolves_likewise(self, answers: Answers, expected: bool | str) -> None:
        assert outcome(answers, "helo_resolves", helo_name="a.test") == expected

    @pytest.mark.parametrize("name", ["has_mx", "null_mx"])
    def test_mx_that_is_not_answered_is_a_failure_of_the_dns(self, name: str) -> None:
        assert outcome({"MX": NO}, name, "a.test") == "dns"

    @pytest.mark.parametrize(
        ("answers", "reverse", "confirmed"),
        [
            ({"PTR": NO}, "dns", "dns"),
            ({"PTR": ["a.test"], "A": NO}, True, "dns"),
            ({"PTR": ["a.test"], "A": ["192.0.2.1"]}, True, True),
            ({"PTR": [""]}, False, False),
        ],
    )
    def test_names_of_clients_likewise(
        self, answers: Answers, reverse: bool | str, confirmed: bool | str
    ) -> None:
        facts = {"client_address": "192.0.2.1"}
        assert outcome(answers, "reverse_resolves", **facts) == reverse
        assert outcome(answers, "fcrdns", **facts) == confirmed

    def test_one_name_that_leads_back_is_enough(self) -> None:
        def decide(question: dns.message.Message) -> Act:
            (asked,) = question.question
            if asked.rdtype == dns.rdatatype.PTR:
                names = ("late.test.", "a.test.")
                return Act(tuple(f"{asked.name} 300 IN PTR {name}" for name in names))
            if asked.name.to_text().lower() == "late.test.":
                return NO
            return Act((f"{asked.name} 300 IN A 192.0.2.1",))

        with Unruly(decide) as server:
            assert asked(server.address, "fcrdns", client_address="192.0.2.1") is True

    def test_nothing_is_asked_where_a_configuration_is_only_loaded(self) -> None:
        for check in checks(None):
            if check.remote:
                arguments = ("a.test",) * len(check.parameters)
                facts = {"client_address": "192.0.2.1", "helo_name": "a.test"}
                with pytest.raises(CheckFailedError, match="not looked up"):
                    asyncio.run(ask(check, facts, *arguments))

    def test_what_never_answers_is_not_waited_for_when_something_else_decides(self) -> None:
        started = time.monotonic()
        answers: Answers = {"A": Act(silent=True), "AAAA": ["2001:db8::1"]}
        assert outcome(answers, "resolves", "a.test") is True
        assert time.monotonic() - started < 1


@pytest.mark.parametrize(
    ("domain", "registered"),
    [
        ("mail.example.co.uk", "example.co.uk"),
        ("example.com", "example.com"),
        ("com", ""),
        ("", ""),
        ("[192.0.2.1]", ""),
    ],
)
def test_the_registered_domain_is_known_without_the_dns(domain: str, registered: str) -> None:
    check = named("registered_domain")
    found = cast("Callable[..., Answer]", check.ask)({}, domain)
    assert (found.value, found.result) == (registered, "true" if registered else "false")
    assert not check.remote


HEAD = """\
[policy_service]
listen = ["inet:127.0.0.1:10040"]
"""


@pytest.mark.parametrize(
    ("stage", "when", "then"),
    [
        ("rcpt", "not fcrdns()", "no-reverse-dns"),
        ("rcpt", "not reverse_resolves()", "no-reverse-dns"),
        ("connect", "not reverse_resolves()", "450 4.7.25 No name"),
        ("rcpt", "not helo_resolves()", "helo-unknown"),
        ("rcpt", "not resolves(sender_domain)", "sender-domain-unknown"),
        ("rcpt", "null_mx(sender_domain)", "sender-null-mx"),
        ("rcpt", "null_mx(recipient_domain)", "recipient-null-mx"),
        ("rcpt", "not has_mx(sender_domain)", "450 4.1.8 No mail server"),
        ("rcpt", "registered_domain(helo_name) == registered_domain(client_name)", "pass"),
        ("rcpt", "registered_domain(sender_domain) in ['example.com']", "pass"),
    ],
)
def test_conditions_and_the_replies_that_go_with_them(
    stage: str, when: str, then: str, tmp_path: Path
) -> None:
    path = tmp_path / "policyd.toml"
    path.write_text(
        f'{HEAD}[[rule]]\nname = "r"\nstage = "{stage}"\nwhen = "{when}"\nthen = "{then}"\n'
    )
    problems = load_policy(path).problems
    assert [str(each) for each in problems if each.severity == "error"] == []

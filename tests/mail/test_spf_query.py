"""SPF: what pyspf makes of records, with what is mended; hostile records end soon and small."""

import time
import tracemalloc
from collections.abc import Callable, Iterator
from itertools import count
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from policyd.dns.answer import DnsError, Found, Kind, Record
from policyd.mail.spf import LONGEST_TEXT, RESULTS, may_have_policy
from policyd.mail.spf_query import LONGEST_RECORD, LONGEST_TERM, evaluate
from tests.mail.spf_zones import TIMEOUT, ZoneData, answer, evaluated, question, spf

IPV6 = "2001:db8::1"


class TestResults:
    @pytest.mark.parametrize(
        ("record", "result", "reason"),
        [
            ("v=spf1 ip4:192.0.2.0/24 -all", "pass", "ip4:192.0.2.0/24"),
            ("v=spf1 -all", "fail", "-all"),
            ("v=spf1 ~all", "softfail", "~all"),
            ("v=spf1 ?all", "neutral", "?all"),
            ("v=spf1", "neutral", "no mechanism matches"),
            ("v=spf1 moo -all", "permerror", "Unknown mechanism found: moo"),
            ("v=spf1 a -all", "fail", "-all"),
            ("v=spf10 -all", "none", "example.test has no SPF record"),
        ],
    )
    def test_a_result_has_its_reason(self, record: str, result: str, reason: str) -> None:
        found = answer(spf(record))
        assert (found.result, found.reason) == (result, reason)
        assert found.domain == "example.test"

    def test_no_answer_of_the_dns_is_temperror_and_says_to_what(self) -> None:
        found = answer(spf("v=spf1 include:late.example.test -all", late=[TIMEOUT]))
        assert found.result == "temperror"
        assert found.reason == "late.example.test TXT: no answer in time"

    def test_it_is_kept_as_long_as_the_record_that_ends_first(self) -> None:
        class Shorter(ZoneData):
            def ask(self, name: str, kind: Kind) -> Found:
                found = super().ask(name, kind)
                return Found(found.records, found.exists, 20.0 if kind is Kind.A else 300.0)

        zones = Shorter(spf("v=spf1 a:mx.example.test -all", mx=[{"A": "192.0.2.1"}]))
        assert evaluate(question(), zones, time.monotonic).answer.ttl == 20

    def test_a_quoted_local_part_may_have_an_at_sign(self) -> None:
        asked = question(local='"jo@other.test"')
        assert answer(spf("v=spf1 ip4:192.0.2.1 -all"), asked).result == "pass"


class TestSenders:
    """An answer that a policy gives to each sender is not given to another."""

    @pytest.mark.parametrize(
        ("record", "personal"),
        [
            ("v=spf1 -all", False),
            ("v=spf1 exists:%{ir}.%{v}.%{d}.example.test -all", False),
            ("v=spf1 exists:%{l}.users.example.test -all", True),
            ("v=spf1 exists:%{S}.users.example.test -all", True),
            ("v=spf1 exists:%{h}.hosts.example.test -all", True),
            ("v=spf1 include:%{l1r-}.example.test -all", True),
        ],
    )
    def test_macros_of_the_sender_and_helo_alone_make_it_personal(
        self, record: str, personal: bool
    ) -> None:
        assert evaluated(spf(record)).personal is personal

    def test_an_explanation_may_be_what_is_personal(self) -> None:
        found = evaluated(spf("v=spf1 -all exp=why.example.test", why=[{"TXT": "Not %{s}"}]))
        assert found.personal
        assert found.answer.explanation == "Not jo@example.test"

    def test_one_that_is_not_given_is_not(self) -> None:
        data = spf("v=spf1 +all exp=why.example.test", why=[{"TXT": "Not %{s}"}])
        assert not evaluated(data).personal


class TestExplanations:
    def test_the_dns_is_asked_for_it_after_a_fail_alone(self) -> None:
        for record, questions in (("-all", 2), ("~all", 1), ("?all", 1), ("+all", 1)):
            zones = ZoneData(spf(f"v=spf1 {record} exp=why.example.test", why=[{"TXT": "No"}]))
            found = evaluate(question(), zones, time.monotonic).answer
            assert len(zones.asked) == questions
            assert found.explanation == ("No" if record == "-all" else "")

    def test_one_that_cannot_be_had_changes_nothing(self) -> None:
        record = "v=spf1 -all exp=why.example.test"
        for why in ([TIMEOUT], [{"TXT": "%{x}"}], [{"TXT": "é"}], [{"TXT": "a"}, {"TXT": "b"}]):
            found = answer(spf(record, why=why))
            assert (found.result, found.explanation) == ("fail", "")

    def test_a_long_one_keeps_its_beginning(self) -> None:
        why = "Mail of %{d} comes from elsewhere. " * 30
        found = answer(spf("v=spf1 -all exp=why.example.test", why=[{"TXT": why}]))
        assert found.explanation.startswith("Mail of example.test comes from elsewhere. Mail")
        assert len(found.explanation) == LONGEST_TEXT

    def test_the_domain_that_is_redirected_to_explains(self) -> None:
        data = spf(
            "v=spf1 redirect=other.example.test exp=why.example.test",
            other=[{"SPF": "v=spf1 -all exp=its.example.test"}],
            why=[{"TXT": "not this"}],
            its=[{"TXT": "%{d} says no"}],
        )
        assert answer(data).explanation == "other.example.test says no"

    def test_one_that_is_included_does_not(self) -> None:
        data = spf(
            "v=spf1 include:other.example.test -all",
            other=[{"SPF": "v=spf1 -all exp=its.example.test"}],
            its=[{"TXT": "not this"}],
        )
        assert answer(data).explanation == ""


class TestVoidLookups:
    def test_servers_without_ipv6_are_one_however_many(self) -> None:
        servers = {f"mx{n}": [{"A": f"192.0.2.{n}"}] for n in range(2, 7)}
        record = "v=spf1 mx ip6:2001:db8::/32 -all"
        data = spf(record, **servers)
        data["example.test"] = [
            *data["example.test"],
            *({"MX": (n, f"mx{n}.example.test")} for n in range(2, 7)),
        ]
        assert answer(data, question(address=IPV6)).result == "pass"

    def test_names_of_the_client_that_lead_nowhere_are_one_however_many(self) -> None:
        data = {
            "example.test": [{"SPF": "v=spf1 ptr -all"}],
            "1.2.0.192.in-addr.arpa": [{"PTR": f"{n}.nowhere.test"} for n in range(9)],
        }
        assert answer(data).result == "fail"

    def test_more_than_two_terms_are_an_error(self) -> None:
        terms = " ".join(f"a:{n}.nowhere.test" for n in range(3))
        found = answer(spf(f"v=spf1 {terms} -all"))
        assert (found.result, found.reason) == ("permerror", "Void lookup limit of 2 exceeded")


class TestPtr:
    def test_a_name_whose_addresses_cannot_be_had_is_passed_over(self) -> None:
        data = {
            "example.test": [{"SPF": "v=spf1 ptr -all"}],
            "1.2.0.192.in-addr.arpa": [{"PTR": "late.test"}, {"PTR": "mx.example.test"}],
            "late.test": [TIMEOUT],
            "mx.example.test": [{"A": "192.0.2.1"}],
        }
        assert answer(data).result == "pass"

    def test_without_an_answer_for_the_address_it_does_not_match(self) -> None:
        data = spf("v=spf1 ptr -all") | {"1.2.0.192.in-addr.arpa": [TIMEOUT]}
        assert answer(data).result == "fail"

    def test_ten_names_are_looked_up(self) -> None:
        zones = ZoneData(
            spf("v=spf1 ptr -all")
            | {"1.2.0.192.in-addr.arpa": [{"PTR": f"{n}.nowhere.test"} for n in range(50)]}
        )
        evaluate(question(), zones, time.monotonic)
        assert len(zones.asked) == 12


class TestMacros:
    @pytest.mark.parametrize(
        "macro", ["%{d0}", "%{d00r}", "%{x}", "%{d!}", "%{d", "%x", "%", "%{}", "%{dr1}"]
    )
    def test_what_the_grammar_does_not_have_is_an_error(self, macro: str) -> None:
        assert answer(spf(f"v=spf1 exists:{macro}.example.test -all")).result == "permerror"

    @pytest.mark.parametrize(
        ("macro", "name"),
        [
            ("%{dR}", "test.example"),
            ("%{D1}", "test"),
            ("%{d128r}", "test.example"),
            ("%{d001}", "test"),
            ("%{l1r-}", "jo"),
        ],
    )
    def test_case_and_zeros_in_front_do_not_matter(self, macro: str, name: str) -> None:
        zones = ZoneData(spf(f"v=spf1 exists:{macro}.x.test -all"))
        evaluate(question(local="jo-list"), zones, time.monotonic)
        assert zones.asked[1] == (f"{name}.x.test", Kind.A)

    def test_names_that_are_too_long_lose_labels_in_front(self) -> None:
        zones = ZoneData(spf(f"v=spf1 exists:{'%{l}.' * 30}x.test -all"))
        evaluate(question(local="a" * 60), zones, time.monotonic)
        name, _ = zones.asked[1]
        assert name == "a" * 60 + (".%s" % ("a" * 60)) * 3 + ".x.test"
        assert len(name) <= 253


class Endless:
    """A DNS in which everything leads on to something else; it takes its time on a clock."""

    def __init__(self, record: Callable[[int], str], takes: float = 0.0) -> None:
        self.now = 0.0
        self.asked = 0
        self._record = record
        self._takes = takes

    def ask(self, name: str, kind: Kind) -> Found:
        self.asked += 1
        self.now += self._takes
        values = [self._record(self.asked)] if kind is Kind.TXT else []
        return Found(tuple(Record(name, kind, value) for value in values), ttl=60)


class TestHostileRecords:
    @pytest.mark.parametrize(
        ("record", "most"),
        [
            (lambda n: f"v=spf1 include:{n}.test -all", 11),
            (lambda _: "v=spf1 include:loop.test -all", 2),
            (lambda n: f"v=spf1 redirect={n}.test", 11),
            (lambda _: "v=spf1 redirect=loop.test", 2),
            (lambda n: f"v=spf1 include:{n}a.test include:{n}b.test redirect={n}c.test", 11),
            (lambda n: "v=spf1 " + " ".join(f"a:{n}-{i}.test" for i in range(100)), 4),
            (lambda n: "v=spf1 " + " ".join(f"exists:{n}-{i}.test" for i in range(300)), 4),
            (lambda _: "v=spf1 " + "ptr " * 1000, 4),
        ],
        ids=[
            "includes",
            "include-loop",
            "redirects",
            "redirect-loop",
            "tree",
            "a",
            "exists",
            "ptr",
        ],
    )
    def test_look_ups_end_at_their_limit(self, record: Callable[[int], str], most: int) -> None:
        dns = Endless(record)
        found = evaluate(question(), dns, lambda: dns.now).answer
        assert found.result == "permerror"
        assert dns.asked <= most

    def test_eleven_are_too_many_and_ten_are_not(self) -> None:
        for terms, result in ((10, "fail"), (11, "permerror")):
            hosts = {f"h{n}": [{"A": "198.51.100.1"}] for n in range(terms)}
            record = " ".join(f"a:h{n}.example.test" for n in range(terms))
            assert answer(spf(f"v=spf1 {record} -all", **hosts)).result == result

    def test_servers_that_each_answer_slowly_take_no_more_than_the_time(self) -> None:
        dns = Endless(lambda n: f"v=spf1 include:{n}.test -all", takes=1.5)
        found = evaluate(question(seconds=5.0), dns, lambda: dns.now).answer
        assert (found.result, found.reason) == ("temperror", "More than 5 s")
        assert dns.asked == 4

    def test_eleven_mail_servers_are_too_many(self) -> None:
        records: list[Any] = [{"SPF": "v=spf1 mx -all"}]
        records += [{"MX": (n, f"{n}.test")} for n in range(11)]
        found = answer({"example.test": records})
        assert found.reason == "More than 10 MX records returned"

    @pytest.mark.parametrize(
        "record",
        [
            "v=spf1 " + "ip4:192.0.2.7 " * 5000,
            "v=spf1 " + "".join(f"m{n}=x " for n in range(8000)),
            "v=spf1 exists:" + "%{d}." * 13000 + "x",
            "v=spf1 exists:%{d}" + "." * 65000,
            "v=spf1 a:." + "a" * 65000 + "!",
            "v=spf1 a:" + ".a-" * 21000 + "!",
            "v=spf1 " + "/1" * 32000,
            "v=spf1 " + "%" * 65000,
            "v=spf1 ip6:" + "1:" * 32000,
            "v=spf1 -all exp=" + "%{s}" * 16000,
        ],
        ids=lambda record: record[7:17],
    )
    def test_records_of_64_kib_are_an_error_at_once(self, record: str) -> None:
        self._ends_soon(record, {"permerror"})

    @pytest.mark.parametrize("piece", [".a", "a", ".", "%{d}", "-a", "/1", "a1.", "1", "=", "_"])
    @pytest.mark.parametrize("last", ["", "!", ".", "%", "-"])
    def test_terms_of_any_length_that_is_allowed_take_little_time(
        self, piece: str, last: str
    ) -> None:
        for before in ("a:x.", "exists:x.", "m=", "ip6:", "ptr:", "include:"):
            term = (before + piece * LONGEST_TERM)[: LONGEST_TERM - 2] + last
            terms = " ".join([term] * (LONGEST_RECORD // LONGEST_TERM - 1))
            self._ends_soon(f"v=spf1 {terms}", set(RESULTS))

    def _ends_soon(self, record: str, results: set[str]) -> None:
        zones = ZoneData(spf(record))
        tracemalloc.start()
        started = time.process_time()
        found = evaluate(question(local="l" * 64), zones, time.monotonic).answer
        took = time.process_time() - started
        _, peak = tracemalloc.get_traced_memory()
        tracemalloc.stop()
        assert found.result in results
        assert took < 0.5
        assert peak < 2**22

    @given(
        record=st.lists(
            st.sampled_from([*'abc019:/.-%{}=~?+*! \t\x00é\\"', "a:", "ip4:", "%{d", "exp="]),
            max_size=60,
        ).map("".join),
        ipv6=st.booleans(),
    )
    def test_whatever_a_record_says_there_is_a_result(self, record: str, ipv6: bool) -> None:
        zones = ZoneData(spf(f"v=spf1 {record}"))
        asked = question(address=IPV6 if ipv6 else "192.0.2.1")
        found = evaluate(asked, zones, time.monotonic).answer
        assert found.result in RESULTS
        assert len(found.reason) <= LONGEST_TEXT

    @given(local=st.text(max_size=80), helo=st.text(max_size=80))
    def test_whatever_a_sender_is_called_there_is_a_result(self, local: str, helo: str) -> None:
        data = spf("v=spf1 exists:%{l}.x.test exists:%{S}.%{h2r-+}.x.test -all exp=%{l}.x.test")
        assert answer(data, question(local=local, helo=helo)).result in {"fail", "permerror"}


@pytest.mark.parametrize(
    ("domain", "may"),
    [
        ("example.org", True),
        ("a-b_c.example", True),
        ("org", False),
        ("", False),
        ("a..example", False),
        (".example.org", False),
        ("192.0.2.1", False),
        ("[192.0.2.1]", False),
        ("[ipv6:2001:db8::1]", False),
        ("x" * 64 + ".example", False),
        (".".join(["x" * 60] * 5), False),
        ("bücher.example", False),
    ],
)
def test_domains_of_several_labels_may_have_a_policy(domain: str, may: bool) -> None:
    assert may_have_policy(domain) is may


def test_a_clock_that_has_run_out_asks_nothing() -> None:
    ticks: Iterator[float] = map(float, count(step=10))
    zones = ZoneData(spf("v=spf1 +all"))
    assert evaluate(question(), zones, lambda: next(ticks)).answer.result == "temperror"
    assert zones.asked == []


def test_an_error_of_the_dns_is_never_raised() -> None:
    class Refusing:
        def ask(self, name: str, kind: Kind) -> Found:
            raise DnsError(f"{name} {kind} is refused")

    assert evaluate(question(), Refusing(), time.monotonic).answer.result == "temperror"

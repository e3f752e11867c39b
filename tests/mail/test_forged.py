"""Results that only pretend to be ours are found, however they are written, and no others."""

import re
import time

import pytest
from hypothesis import given
from hypothesis import strategies as st

from policyd.mail.forged import forged
from policyd.mail.results import Envelope, Results, authentication_results, received_spf
from policyd.mail.stamping import Method

ID = "mx.example.org"
NAME = "Authentication-Results"

OURS = [
    "mx.example.org; dmarc=pass header.from=bank.example",
    "MX.Example.ORG; dmarc=pass",
    "mx.example.org;",
    "mx.example.org",
    "mx.example.org 1; spf=pass",
    "mx.example.org/1; spf=pass",
    "mx.example.org.; spf=pass",
    '"mx.example.org"; spf=pass',
    r'"mx\.example.org"; spf=pass',
    "(a comment) mx.example.org; spf=pass",
    r"(a (nested \) one;) ; here)mx.example.org(and behind); spf=pass",
    "\n mx.example.org\n ; spf=pass",
    "\r\n\tmx.example.org;\r\n\tspf=pass",
    "mx.example.org spf=pass",
    "mx.example.org; spf",
    "mx.example.org; ((((",
    '"mx.example.org; spf=pass',
    "(mx.example.org; spf=pass",
    "; mx.example.org; spf=pass",
    "mx . example . org; spf=pass",
    "other.example mx.example.org; spf=pass",
    "mx.ex\n ample.org; spf=pass",
]
OTHERS = [
    "mx.example.net; dmarc=pass header.from=mx.example.org",
    "example.org; spf=pass",
    "a.mx.example.org; spf=pass",
    "mx.example.org.evil.example; spf=pass",
    "mx.example.orgs; spf=pass",
    'other.example; dkim=pass reason="mx.example.org; spf=pass"',
    "other.example (mx.example.org); spf=pass",
    "spf=pass (sender IP is 192.0.2.1) smtp.mailfrom=example.net; dkim=none",
    "other.example; unparseable mx.example.org",
    "",
    ";",
]


class TestOwn:
    @pytest.mark.parametrize("value", OURS)
    def test_a_field_that_bears_our_name_goes(self, value: str) -> None:
        assert forged([(NAME, value)], ID) == [(NAME, 1)]

    @pytest.mark.parametrize("value", OTHERS)
    def test_the_results_of_others_stay(self, value: str) -> None:
        assert forged([(NAME, value)], ID) == []

    def test_our_name_is_compared_as_a_domain(self) -> None:
        assert forged([(NAME, "bücher.example; spf=pass")], "xn--bcher-kva.example")

    @given(st.text(max_size=30), st.sets(st.sampled_from(Method)))
    def test_what_we_write_ourselves_is_ours(self, sender: str, methods: set[Method]) -> None:
        envelope = Envelope("192.0.2.1", sender, sender, sender, "OK")
        value = authentication_results(ID, methods, envelope, Results())
        assert forged([(NAME, value)], ID) == [(NAME, 1)]
        assert forged([(NAME, value)], "other.example") == []
        made = received_spf(ID, envelope, None)
        assert forged([("Received-SPF", made)], ID) == [("Received-SPF", 1)]


class TestPlaces:
    def test_fields_are_counted_among_those_of_their_name_and_the_last_is_first(self) -> None:
        headers = [
            ("Received", "from mx.example.org"),
            ("authentication-results", "other.example; none"),
            ("AUTHENTICATION-RESULTS", "mx.example.org; none"),
            ("Received-SPF", "pass receiver=other.example"),
            ("Received-SPF", 'pass (x) client-ip=192.0.2.1; receiver="MX.example.org"'),
            ("X-Authentication-Results", "mx.example.org; none"),
            ("ARC-Authentication-Results", "i=1; mx.example.org; none"),
            ("Authentication-Results", "mx.example.org; none"),
            ("Subject", "mx.example.org; none"),
        ]
        assert forged(headers, ID) == [
            ("Authentication-Results", 3),
            ("Received-SPF", 2),
            ("AUTHENTICATION-RESULTS", 2),
        ]


class TestHostileFields:
    @given(st.text(alphabet=st.sampled_from('mx.example.org;()"\\ =\n1/é'), max_size=200))
    def test_any_text_is_judged(self, value: str) -> None:
        found = forged([(NAME, value)], ID)
        first = re.match(r"\s*([^\s;()\"\\/]+)", value)
        if first is not None and first[1].lower() == ID:
            assert found

    @pytest.mark.parametrize(
        "value",
        ["(" * 100_000, "(a" * 2_000, '"' + "\\" * 100_000, "a " * 50_000, "a=b;" * 1_000,
         "receiver=" * 10_000, "a; b=c " + "(x)" * 1_300, " " * 100_000, "()" * 50_000],
        ids=lambda value: value[:9],
    )  # fmt: skip
    def test_it_takes_little_time(self, value: str) -> None:
        started = time.perf_counter()
        forged([(NAME, value), ("Received-SPF", value)], ID)
        assert time.perf_counter() - started < 0.5

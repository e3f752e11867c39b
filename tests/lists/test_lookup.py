"""What a list holds: each kind of entry, asked in each way."""

import ipaddress
from collections.abc import Callable

import pytest
from hypothesis import given
from hypothesis import strategies as st

from policyd.facts import read
from policyd.lists.entries import EntryError, parse_network
from policyd.lists.load import load_list
from policyd.lists.named import NamedList, without_extension
from policyd.lists.networks import Networks
from policyd.lists.patterns import Patterns, TooManyError, check_pattern
from policyd.lists.source import InlineEntry, Kind, ListSource

Make = Callable[..., NamedList]


def make(delimiter: str = "+", **entries: list[str]) -> NamedList:
    inline = tuple(
        InlineEntry(Kind(kind), text, "policyd.toml", 1)
        for kind, texts in entries.items()
        for text in texts
    )
    kinds = frozenset(map(Kind, entries))
    source = ListSource("some", kinds, "policyd.toml", 1, inline, (), delimiter)
    reading = load_list(source)
    assert reading.faults == ()
    return NamedList(source, reading)


MAIL = make(addresses=["Alice@example.org", "@partner.example", "bob+ok@example.org", "<>"])


@pytest.mark.parametrize(
    ("address", "held"),
    [
        ("alice@example.org", True),
        ("alice+tag@example.org", True),
        ("alice+a+b@example.org", True),
        ("alice@other.example", False),
        ("anyone@partner.example", True),
        ("anyone+tag@partner.example", True),
        ("anyone@sub.partner.example", False),
        ("bob+ok@example.org", True),
        ("bob+other@example.org", False),
        ("bob@example.org", False),
        ("+alice@example.org", False),
        ("partner.example", False),
        ("", True),
        ("@", False),
        ("a@b@partner.example", True),
        ("\udc80@partner.example", True),
    ],
)
def test_a_mail_address_is_found_with_and_without_its_extension_and_by_its_domain(
    address: str, held: bool
) -> None:
    assert MAIL.holds_mail(address) is held


def test_the_null_sender_is_in_a_list_only_if_it_stands_there() -> None:
    assert not make(addresses=["alice@example.org", "@example.org"]).holds_mail("")


def test_without_a_delimiter_an_extension_is_part_of_the_name() -> None:
    assert not make("", addresses=["alice@example.org"]).holds_mail("alice+tag@example.org")


@pytest.mark.parametrize(
    ("local", "delimiters", "plain"),
    [
        ("alice+tag", "+", "alice"),
        ("alice-tag+more", "+-", "alice"),
        ("alice+tag-more", "-+", "alice"),
        ("alice", "+", "alice"),
        ("+tag", "+", "+tag"),
        ("mailer-daemon", "-", "mailer-daemon"),
        ("double-bounce", "-", "double-bounce"),
        ("owner-list", "-", "owner-list"),
        ("list-request", "-", "list-request"),
        ("owner-list", "+", "owner-list"),
        ("list-x", "-", "list"),
    ],
)
def test_an_extension_is_cut_off_as_postfix_does(local: str, delimiters: str, plain: str) -> None:
    assert without_extension(local, delimiters) == plain


DOMAINS = make(domains=["example.org", ".example.net", "bücher.example", "a_b.example"])


@pytest.mark.parametrize(
    ("name", "held"),
    [
        ("example.org", True),
        ("www.example.org", False),
        ("notexample.org", False),
        ("example.net", False),
        ("www.example.net", True),
        ("a.b.c.example.net", True),
        (".example.net", False),
        ("notexample.net", False),
        ("xn--bcher-kva.example", True),
        ("a_b.example", True),
        ("", False),
        (".", False),
        ("..example.net", True),
        ("a." * 40_000 + "example.net", False),
    ],
)
def test_a_domain_is_found_itself_or_by_one_above_it_with_a_leading_dot(
    name: str, held: bool
) -> None:
    assert DOMAINS.holds_domain(name) is held


NETWORKS = make(
    networks=["192.0.2.0/24", "198.51.100.7", "2001:db8::/32", "::ffff:203.0.113.0/120"]
)


@pytest.mark.parametrize(
    ("address", "held"),
    [
        ("192.0.2.0", True),
        ("192.0.2.255", True),
        ("192.0.3.0", False),
        ("198.51.100.7", True),
        ("198.51.100.8", False),
        ("2001:db8:1::1", True),
        ("2001:db9::1", False),
        ("203.0.113.9", True),
        ("", False),
        ("unknown", False),
        ("192.0.2", False),
        ("\udc80", False),
        ("192.0.2.1\0", False),
    ],
)
def test_an_ip_address_is_found_by_a_network(address: str, held: bool) -> None:
    assert NETWORKS.holds_address(address) is held


_V4 = st.tuples(st.integers(0, 32), st.ip_addresses(v=4))
_V6 = st.tuples(st.integers(0, 128), st.ip_addresses(v=6))


@given(st.lists(_V4 | _V6, max_size=40), st.ip_addresses())
def test_membership_agrees_with_the_standard_library(
    prefixes: list[tuple[int, ipaddress.IPv4Address | ipaddress.IPv6Address]],
    address: ipaddress.IPv4Address | ipaddress.IPv6Address,
) -> None:
    networks = [ipaddress.ip_network((at, bits), strict=False) for bits, at in prefixes]
    networks = [
        network
        for network in networks
        if not isinstance(network, ipaddress.IPv6Network)
        or network.network_address.ipv4_mapped is None
    ]
    held = Networks([parse_network(str(network)) for network in networks])
    for asked in (address, *(network.broadcast_address for network in networks)):
        text = read.ip(str(asked))
        canonical = ipaddress.ip_address(text)
        assert held.holds(text) is any(canonical in network for network in networks)


LOGINS = make(addresses=["alice", "Bob@example.org", "<>"], patterns=["^svc-"])


@pytest.mark.parametrize(
    ("text", "held"),
    [
        ("alice", True),
        ("ALICE", True),
        ("bob@EXAMPLE.org", True),
        ("alice@example.org", False),
        ("svc-backup", True),
        ("xsvc-backup", False),
        ("", False),
    ],
)
def test_a_text_is_found_without_case_among_addresses_and_by_pattern(text: str, held: bool) -> None:
    assert LOGINS.holds_text(text) is held


PATTERNS = make(patterns=["^localhost$", r"^\[?127\.", "dyn.*pool", "ü", "a.b"])


@pytest.mark.parametrize(
    ("text", "held"),
    [
        ("localhost", True),
        ("LocalHost", True),
        ("localhost.", False),
        ("[127.0.0.1]", True),
        ("127.0.0.1", True),
        ("x-dyn-1-pool.example", True),
        ("Ü", True),
        ("a\nb", True),
        ("a\udc80b", True),
        ("\udc80", False),
        ("", False),
        ("x" * 65536, False),
    ],
)
def test_patterns_match_anywhere_without_case_whatever_the_text(text: str, held: bool) -> None:
    assert PATTERNS.holds_text(text) is held
    assert PATTERNS.holds_domain(text) is held
    assert PATTERNS.holds_mail(text) is held


def test_a_question_is_answered_by_entries_of_its_own_kind_only() -> None:
    mixed = make(addresses=["x@a.example"], domains=["b.example"], networks=["192.0.2.1"])
    assert mixed.holds_mail("x@a.example")
    assert not mixed.holds_mail("x@b.example")
    assert mixed.holds_domain("b.example")
    assert not mixed.holds_domain("192.0.2.1")
    assert mixed.holds_address("192.0.2.1")
    assert not mixed.holds_text("b.example")
    assert len(mixed) == 3


@given(st.text())
def test_no_text_makes_a_lookup_fail(text: str) -> None:
    mixed = make(addresses=["x@a.example"], domains=[".b.example"], patterns=["^q{9}$"])
    hostile = text + "\udc80"
    assert not mixed.holds_mail(hostile)
    assert not mixed.holds_domain(hostile)
    assert not mixed.holds_address(hostile)
    assert not mixed.holds_text(hostile)


@pytest.mark.parametrize(
    ("pattern", "said", "mend"),
    [
        ("(?=a)b", "invalid perl operator: (?=", "no lookahead or lookbehind"),
        ("(?<!a)b", "invalid perl operator: (?<!", "no lookahead or lookbehind"),
        (r"(a)\1", r"invalid escape sequence: \1", "no backreferences"),
        ("(?P<n>a)(?P=n)", "invalid perl operator: (?P", "no backreferences"),
        ("(?>a)", "invalid perl operator: (?>", "no possessive or atomic"),
        ("a++", "bad repetition operator: ++", "no possessive or atomic"),
        ("(?x) a", "invalid perl operator: (?x", "knows the flags"),
        (r"a\Z", r"invalid escape sequence: \Z", "write `$`"),
        ("a{2000}", "invalid repetition size", "1000 at most"),
        ("(", "missing ): (", "correct it"),
        ("[", "missing ]: [", "correct it"),
        ("", "matches everything", "what it has to match"),
        ("\udc80", "no Unicode", "lone surrogates"),
    ],
)
def test_what_re2_cannot_do_is_refused_by_name(pattern: str, said: str, mend: str) -> None:
    with pytest.raises(EntryError) as caught:
        check_pattern(pattern)
    assert said in caught.value.what
    assert mend in caught.value.mend


def test_patterns_that_one_automaton_cannot_hold_are_refused_together() -> None:
    with pytest.raises(TooManyError):
        Patterns([f"{number}.{{1000}}" for number in range(1000)])

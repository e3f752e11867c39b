"""How attributes are read as facts."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from policyd.facts import read

ANYTHING = st.one_of(
    st.text(st.characters(max_codepoint=0x10FFFF, exclude_categories=())),
    st.none(),
    st.integers(),
    st.tuples(st.text(), st.text()),
)


@pytest.mark.parametrize(
    ("value", "expected"),
    [
        ("Example.ORG", "example.org"),
        ("example.org.", "example.org"),
        ("bücher.example", "xn--bcher-kva.example"),
        ("BÜCHER.example", "xn--bcher-kva.example"),
        ("xn--bcher-kva.example", "xn--bcher-kva.example"),
        ("[127.0.0.1]", "[127.0.0.1]"),
        ("under_score.example", "under_score.example"),
        ("", ""),
        (None, ""),
    ],
)
def test_domains_are_compared_as_a_labels_without_case(value: object, expected: str) -> None:
    assert read.domain(value) == expected


@pytest.mark.parametrize(
    ("value", "expected", "local", "domain"),
    [
        ("Jo+x@Example.ORG", "jo+x@example.org", "jo+x", "example.org"),
        ("jo@bücher.example", "jo@xn--bcher-kva.example", "jo", "xn--bcher-kva.example"),
        ('a b=c"d@a.example', 'a b=c"d@a.example', 'a b=c"d', "a.example"),
        ("a@b@c", "a@b@c", "a@b", "c"),
        ("jo@example.org.", "jo@example.org", "jo", "example.org"),
        ("postmaster", "postmaster", "postmaster", ""),
        ("", "", "", ""),
    ],
)
def test_mail_addresses_are_compared_without_case(
    value: str, expected: str, local: str, domain: str
) -> None:
    address = read.mail(value)
    assert (address, read.local_part(address), read.domain_part(address)) == (
        expected,
        local,
        domain,
    )


@pytest.mark.parametrize(
    ("value", "expected"),
    [
        ("192.0.2.1", "192.0.2.1"),
        ("2001:DB8::0:1", "2001:db8::1"),
        ("::ffff:192.0.2.1", "192.0.2.1"),
        ("unknown", ""),
        ("", ""),
        ("192.0.2.1/32", ""),
        (None, ""),
    ],
)
def test_addresses_have_one_form_and_what_is_none_is_absent(value: object, expected: str) -> None:
    assert read.ip(value) == expected


@pytest.mark.parametrize(
    ("value", "expected"),
    [("25", 25), ("0", 0), ("", 0), ("-1", 0), ("1e9", 0), ("٣", 0), ("9" * 5000, 0), (7, 7)],
)
def test_what_is_no_number_is_zero(value: object, expected: int) -> None:
    assert read.number(value) == expected


@pytest.mark.parametrize(
    ("name", "expected"),
    [
        ("[127.0.0.1]", True),
        ("127.0.0.1", True),
        ("[IPv6:2001:db8::1]", True),
        ("2001:db8::1", True),
        ("?127.0.0.1", False),
        ("localhost", False),
        ("mx1.example.org", False),
        ("cafe", False),
        ("", False),
    ],
)
def test_address_literals_of_helo(name: str, expected: bool) -> None:
    assert read.is_address_literal(name) is expected


@given(ANYTHING)
def test_no_reader_raises_and_each_is_idempotent(value: object) -> None:
    for reader in (read.text, read.domain, read.mail, read.ip):
        once = reader(value)
        assert reader(once) == once
    read.number(value)
    read.mails(value)
    read.is_address_literal(read.text(value))


@given(st.lists(st.tuples(st.sampled_from(["A", "a", "B"]), st.text(max_size=5))))
def test_header_joins_the_values_of_one_name_in_order(headers: list[tuple[str, str]]) -> None:
    wanted = [value for name, value in headers if name.lower() == "a"]
    assert read.header(tuple(headers), "A") == "\n".join(wanted)
    assert read.header_count(tuple(headers), "A") == len(wanted)
    assert read.texts(tuple(headers)) == tuple(f"{name}: {value}" for name, value in headers)

"""A value is looked up remotely under the spellings that a list in a file is searched for."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from policyd.facts import read
from policyd.lists.remote.keys import Asked, keys_of
from policyd.lists.source import Kind
from policyd.lists.written import written_out


@pytest.mark.parametrize(
    ("value", "asked", "keys"),
    [
        (
            "user+tag@example.org",
            Asked.MAIL,
            ("user+tag@example.org", "user@example.org", "@example.org"),
        ),
        ("user@example.org", Asked.MAIL, ("user@example.org", "@example.org")),
        ("", Asked.MAIL, ("<>",)),
        ("root", Asked.MAIL, ("root",)),
        ("a.b.example", Asked.DOMAIN, ("a.b.example", ".b.example", ".example")),
        ("", Asked.DOMAIN, ()),
        ("Alice@Example.org", Asked.TEXT, ("alice@example.org",)),
        ("", Asked.TEXT, ()),
    ],
)
def test_spellings(value: str, asked: Asked, keys: tuple[str, ...]) -> None:
    assert keys_of(value, asked, "+") == keys


@pytest.mark.parametrize(
    "value", ["a\0b@example.org", "a\ud800@example.org", "x" * 2000 + "@example.org"]
)
def test_what_a_server_would_refuse_is_looked_up_without_it(value: str) -> None:
    assert keys_of(value, Asked.MAIL, "+") == ("@example.org",)


@given(st.text(max_size=40), st.sampled_from(Asked), st.sampled_from(["", "+", "+-"]))
def test_every_key_can_be_sent_and_stands_once(value: str, asked: Asked, delimiter: str) -> None:
    keys = keys_of(value, asked, delimiter)
    assert len(set(keys)) == len(keys)
    for key in keys:
        assert key
        assert "\0" not in key.encode().decode()


_LABELS = st.lists(st.sampled_from(["a", "b", "mail", "org"]), min_size=1, max_size=4)
_DOMAINS = _LABELS.map(".".join)
_MAILS = st.builds("{}@{}".format, st.sampled_from(["u", "u+t", "v-w", "u+"]), _DOMAINS)


@given(_MAILS, st.lists(_MAILS | _DOMAINS.map("@{}".format), min_size=1, max_size=4))
def test_an_address_is_found_where_a_list_in_place_has_it(value: str, entries: list[str]) -> None:
    keys = keys_of(read.mail(value), Asked.MAIL, "+")
    here = written_out(Kind.ADDRESSES, entries, "+")
    assert (not set(entries).isdisjoint(keys)) is here.holds_mail(read.mail(value))


@given(_DOMAINS, st.lists(_DOMAINS | _DOMAINS.map(".{}".format), min_size=1, max_size=4))
def test_a_domain_is_found_where_a_list_in_place_has_it(value: str, entries: list[str]) -> None:
    keys = keys_of(value, Asked.DOMAIN, "")
    assert (not set(entries).isdisjoint(keys)) is written_out(
        Kind.DOMAINS, entries, ""
    ).holds_domain(value)

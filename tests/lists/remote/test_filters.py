"""A key in an LDAP filter is a value and nothing else (RFC 4515)."""

import re

import pytest
from hypothesis import given
from hypothesis import strategies as st

from policyd.lists.remote.ldap import escaped, filter_of


@pytest.mark.parametrize(
    ("key", "written"),
    [
        ("user@example.org", "user@example.org"),
        ("*", r"\2a"),
        ("a)(b", r"a\29\28b"),
        ("\\", r"\5c"),
        ("ü", r"\c3\bc"),
        (" a", r"\20a"),
        ("user+tag", r"user\2btag"),
    ],
)
def test_octets_that_mean_something_are_escaped(key: str, written: str) -> None:
    assert escaped(key) == written


@given(st.text(st.characters(exclude_categories=["Cs"])))
def test_an_escaped_key_has_no_sign_of_the_filter_language_and_reads_back(key: str) -> None:
    written = escaped(key)
    assert re.fullmatch(r"(?:[a-zA-Z0-9@._-]|\\[0-9a-f]{2})*", written)
    octets = re.sub(rb"\\([0-9a-f]{2})", lambda m: bytes.fromhex(m[1].decode()), written.encode())
    assert octets.decode() == key


def test_several_keys_are_alternatives() -> None:
    assert filter_of("(mail={key})", ["a"]) == "(mail=a)"
    assert filter_of("(|(mail={key})(cn={key}))", ["a", "*"]) == (
        r"(|(|(mail=a)(cn=a))(|(mail=\2a)(cn=\2a)))"
    )

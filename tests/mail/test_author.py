"""Whose a message says it is: what looks like two authors to some reader is not taken for one."""

import time

import pytest
from hypothesis import given
from hypothesis import strategies as st

from policyd.mail.author import Author, author_of


@pytest.mark.parametrize(
    ("value", "domain"),
    [
        (b" alice@example.org\r\n", "example.org"),
        (b"alice@Example.ORG", "example.org"),
        (b"Alice <alice@example.org>", "example.org"),
        (b"Alice\r\n\t<alice@example.org>\r\n", "example.org"),
        (b'"bob@example.com" <alice@example.org>', "example.org"),
        (b"=?utf-8?q?bob=40example=2Ecom?= <alice@example.org>", "example.org"),
        (b"(bob@example.com) alice@example.org (bob@example.com)", "example.org"),
        (b'"bob@example.com"@example.org', "example.org"),
        (b"<@relay.example.com:alice@example.org>", "example.org"),
        (b"alice@example.org, carol@example.org", "example.org"),
        (b"Team: alice@example.org, carol@example.org;", "example.org"),
        (b"Ltd, Alice <alice@example.org>", "example.org"),
        ("Jörg <jörg@bücher.example>".encode(), "xn--bcher-kva.example"),
        (b"J\xf6rg <alice@example.org>", "example.org"),
        (b"alice@example.org.", "example.org"),
        (b"alice @ example . org", "example.org"),
    ],
)
def test_the_domain_of_the_one_author(value: bytes, domain: str) -> None:
    assert author_of([value]) == Author(domain, "", (domain,))


@pytest.mark.parametrize(
    ("values", "problem"),
    [
        ([], "no From field"),
        ([b""], "no address in From"),
        ([b" \r\n"], "no address in From"),
        ([b"Alice"], "no address in From"),
        ([b"undisclosed:;"], "no address in From"),
        ([b"=?utf-8?q?alice=40example=2Eorg?="], "no address in From"),
        ([b"alice@[192.0.2.1]"], "an address without a domain in From"),
        ([b"alice@"], "no address in From"),
        ([b"<alice@exa\0mple.org>"], "an address without a domain in From"),
        ([b"a@example.org", b"a@example.org"], "2 From fields"),
        ([b"a@example.org, b@example.com"], "From has addresses of 2 domains"),
        ([b"b@example.com <a@example.org>"], "From has addresses of 2 domains"),
        ([b"<b@example.com> a@example.org"], "From has addresses of 2 domains"),
        ([b"a@example.org;b@example.com"], "From has addresses of 2 domains"),
        ([b"Some: a@example.org; b@example.com"], "From has addresses of 2 domains"),
        ([b"(" * 5000 + b"a@example.org"], "a From field that cannot be read"),
        ([b"a@example.org, " * 2000], "a From field of more than 16 KiB"),
    ],
)
def test_without_one_domain_there_is_no_author(values: list[bytes], problem: str) -> None:
    author = author_of(values)
    assert (author.domain, author.problem) == ("", problem)


def test_all_domains_are_told() -> None:
    assert author_of([b"a@one.example, b@two.example", b"c@three.example"]).domains == (
        "one.example",
        "two.example",
        "three.example",
    )


@given(st.lists(st.binary() | st.text('<>@,;:"\\() a.').map(str.encode), max_size=2))
def test_any_field_is_read(values: list[bytes]) -> None:
    author = author_of(values)
    assert bool(author.domain) is not bool(author.problem)
    assert not author.domain or author.domains == (author.domain,)


@pytest.mark.parametrize("unit", [b"(", b'"', b"<", b"a,", b":", b"a@", b"a:;", b"\\", b"[", b" "])
def test_a_long_field_takes_no_time(unit: bytes) -> None:
    started = time.process_time()
    author_of([(unit * 16_384)[:16_384]])
    assert time.process_time() - started < 1.0

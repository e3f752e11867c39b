"""What callbacks say, in the forms of Postfix's attributes."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from policyd.protocol.milter.envelope import (
    client,
    declared_size,
    decoded,
    external_address,
    header_size,
    helo_name,
    internal_address,
    unfolded,
)


@pytest.mark.parametrize(
    ("path", "address"),
    [
        ("<a@example.org>", "a@example.org"),
        ("<>", ""),
        ("", ""),
        ("<postmaster>", "postmaster"),
        ("local@a.example", "local@a.example"),  # cleanup(8) writes no <>
        ('<"q q"@d.example>', "q q@d.example"),
        (r'<"a b=c\"d"@a.example>', 'a b=c"d@a.example'),
        ("<@rel.x:u@d.example>", "u@d.example"),
        ("<@a,@b:u@d.example>", "u@d.example"),
        (r"<a\@b@d.example>", "a@b@d.example"),
        ("<(comment)u@d.example>", "u@d.example"),
        ("< (comment) u@d.example >", "u@d.example"),
        ('<" "@d.example>', " @d.example"),
        ("<u(a (nested) one)@d.example>", "u@d.example"),
        ('<"(no comment)"@d.example>', "(no comment)@d.example"),
        ("<User+Tag@Example.ORG>", "User+Tag@Example.ORG"),
        ("<ü@exämple.org>", "ü@exämple.org"),
        ("<u@[192.0.2.1]>", "u@[192.0.2.1]"),
        ('<"unclosed@d.example>', "unclosed@d.example"),
        ("<trailing\\>", "trailing"),
    ],
)
def test_an_address_takes_postfixs_internal_form(path: str, address: str) -> None:
    assert internal_address(path) == address


@given(st.text(st.characters(exclude_categories=["Cs", "Cc"]), min_size=1))
def test_an_address_comes_back_from_its_external_form(local: str) -> None:
    address = f"{local}@example.org"
    assert internal_address(external_address(address)) == address


@pytest.mark.parametrize(
    ("address", "path"),
    [
        ("a.b@example.org", "<a.b@example.org>"),
        ("q q@example.org", '<"q q"@example.org>'),
        ('a"b\\c@example.org', r'<"a\"b\\c"@example.org>'),
        (".dot@example.org", '<".dot"@example.org>'),
        ("a@b@example.org", '<"a@b"@example.org>'),
        ("postmaster", "<postmaster>"),
    ],
)
def test_an_address_is_quoted_where_a_command_needs_it(address: str, path: str) -> None:
    assert external_address(address) == path


@given(st.binary())
def test_no_bytes_are_beyond_reading(raw: bytes) -> None:
    assert decoded(raw).encode("utf-8", "surrogateescape") == raw
    internal_address(decoded(raw))
    assert helo_name(decoded(raw)).isprintable() or not decoded(raw).isascii()


@pytest.mark.parametrize(
    ("argument", "name"),
    [
        ("mx.example.org", "mx.example.org"),
        ("[192.0.2.1]", "[192.0.2.1]"),
        ('a <b>(c)\\d";e@f', "a??b??c??d??e?f"),
        ("tab\tnul\x00del\x7f", "tab?nul?del?"),
        ("exämple.org", "exämple.org"),
        (b"caf\xe9".decode("utf-8", "surrogateescape"), "caf?"),
        (b"caf\xc3\xa9".decode("ascii", "replace"), "caf??"),
    ],
)
def test_a_helo_name_is_neutered_as_postfix_does(argument: str, name: str) -> None:
    assert helo_name(argument) == name


@pytest.mark.parametrize(
    ("parameters", "size"),
    [
        ([], "0"),
        (["BODY=8BITMIME", "SIZE=1234"], "1234"),
        (["size=7"], "7"),
        (["SIZE=-1"], "0"),
        (["SIZE="], "0"),
        (["SIZE"], "0"),
        (["SIZE=²"], "0"),
    ],
)
def test_the_declared_size_is_mails_parameter(parameters: list[str], size: str) -> None:
    assert declared_size(parameters) == size


def test_a_client_is_told_by_its_name_address_and_port() -> None:
    assert client("mx.example.net", "192.0.2.1", 4711) == {
        "client_name": "mx.example.net",
        "client_address": "192.0.2.1",
        "client_port": "4711",
        "local_submission": False,
    }


@pytest.mark.parametrize("name", ["[192.0.2.1]", "[2001:db8::1]"])
def test_a_client_without_a_name_is_unknown_as_in_a_policy_request(name: str) -> None:
    assert client(name, name[1:-1], 4711)["client_name"] == "unknown"


@pytest.mark.parametrize(
    ("address", "port", "local"),
    [
        ("127.0.0.1", 0, True),
        ("::1", 0, True),
        ("127.0.0.1", 4711, False),
        ("192.0.2.1", 0, False),  # XCLIENT without a port
        ("", 0, False),
    ],
)
def test_a_local_submission_has_a_loopback_address_and_no_port(
    address: str, port: int, *, local: bool
) -> None:
    assert client("localhost", address, port)["local_submission"] is local


def test_an_unknown_address_is_absent() -> None:
    assert "client_address" not in client("unknown", "", 0)


def test_a_folded_header_is_one_line_and_has_its_size_on_the_wire() -> None:
    assert unfolded("a\n\tb\r\n c") == "a\tb c"
    assert header_size("Subject", b"a\n b\xff") == len(b"Subject: a\r\n b\xff\r\n")

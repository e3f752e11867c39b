"""How entries of lists are written, and the form in which they are kept."""

import ipaddress
from collections.abc import Callable
from contextlib import suppress

import pytest
from hypothesis import given
from hypothesis import strategies as st

from policyd.facts import read
from policyd.lists.entries import (
    EntryError,
    looks_like_postfix_line,
    parse_address,
    parse_domain,
    parse_network,
    strip_comment,
)
from policyd.lists.source import Kind


@pytest.mark.parametrize(
    ("written", "kept"),
    [
        ("alice@example.org", "alice@example.org"),
        ("Alice@EXAMPLE.org", "alice@example.org"),
        ("alice@example.org.", "alice@example.org"),
        ("@Example.org", "@example.org"),
        ("alice@bücher.example", "alice@xn--bcher-kva.example"),
        ("@BÜCHER.example", "@xn--bcher-kva.example"),
        ("Müller@example.org", "müller@example.org"),
        ("alice", "alice"),
        ("<>", ""),
        ('"John Doe"@example.org', "john doe@example.org"),
        (r'"a\"b@c"@example.org', 'a"b@c@example.org'),
        ('"alone"', "alone"),
        ("alice@[192.0.2.1]", "alice@[192.0.2.1]"),
        ("bounce+x=y#z@example.org", "bounce+x=y#z@example.org"),
        ("alice@_dmarc.example.org", "alice@_dmarc.example.org"),
        ("alice@localhost", "alice@localhost"),
    ],
)
def test_an_address_is_kept_in_the_form_of_the_facts(written: str, kept: str) -> None:
    assert parse_address(written) == kept


@pytest.mark.parametrize(
    ("written", "what", "mend"),
    [
        ("alice@example.org OK", "has a blank", "one entry a line, without a value"),
        ("alice@example.org\tOK", "has a blank", "one entry a line"),
        ("al\0ice@example.org", "has a blank", "one entry a line"),
        ("<alice@example.org>", "has angle brackets", "without them"),
        ("@.example.org", "means subdomains", "into `domains`"),
        ("alice@exa_mple..org", "is no domain", "labels of letters"),
        ("alice@-example.org", "is no domain", "labels of letters"),
        ("alice@", "is no domain", "labels of letters"),
        ("", "is empty", "leave it out"),
        ("a" * 1001, "is 1001 characters long", "one entry a line"),
        ("alice@" + "a." * 130 + "org", "too long for a domain", "253 octets"),
    ],
)
def test_a_wrong_address_is_refused_with_the_mend(written: str, what: str, mend: str) -> None:
    with pytest.raises(EntryError) as caught:
        parse_address(written)
    assert what in caught.value.what
    assert mend in caught.value.mend


@pytest.mark.parametrize(
    ("written", "kept"),
    [
        ("example.org", "example.org"),
        ("Example.ORG.", "example.org"),
        (".Example.org", ".example.org"),
        ("bücher.example", "xn--bcher-kva.example"),
        (".bücher.example", ".xn--bcher-kva.example"),
        ("_spf.example.org", "_spf.example.org"),
        ("localhost", "localhost"),
        ("192.0.2.1", "192.0.2.1"),
        ("bü_cher.example", "bü_cher.example"),
    ],
)
def test_a_domain_is_kept_in_the_form_of_the_facts(written: str, kept: str) -> None:
    assert parse_domain(written) == kept


@pytest.mark.parametrize(
    ("written", "what", "mend"),
    [
        ("*.example.org", "has a star", "write '.example.org' for the subdomains"),
        ("alice@example.org", "is no domain", "into `addresses`"),
        ("example.org REJECT", "has a blank", "without a value"),
        ("exa$mple.org", "is no domain", "labels of letters"),
        ("https://example.org", "is no domain", "labels of letters"),
        ("example..org", "is no domain", "labels of letters"),
        ("bücher..example", "is no domain", "labels of letters"),
        (".", "is no domain", "labels of letters"),
        ("..example.org", "is no domain", "labels of letters"),
        ("a" * 64 + ".example", "is no domain", "labels of letters"),
    ],
)
def test_a_wrong_domain_is_refused_with_the_mend(written: str, what: str, mend: str) -> None:
    with pytest.raises(EntryError) as caught:
        parse_domain(written)
    assert what in caught.value.what
    assert mend in caught.value.mend


@pytest.mark.parametrize(
    ("written", "network"),
    [
        ("192.0.2.7", "192.0.2.7/32"),
        ("192.0.2.0/24", "192.0.2.0/24"),
        ("0.0.0.0/0", "0.0.0.0/0"),
        ("2001:db8::/32", "2001:db8::/32"),
        ("2001:DB8::1", "2001:db8::1/128"),
        ("[2001:db8::]/32", "2001:db8::/32"),
        ("::1", "::1/128"),
        ("::/0", "::/0"),
        ("::ffff:192.0.2.0/120", "192.0.2.0/24"),
        ("::ffff:192.0.2.7", "192.0.2.7/32"),
        ("::ffff:0:0/96", "0.0.0.0/0"),
        ("::ffff:0:0/95", None),
    ],
)
def test_a_network_is_kept_as_its_prefix(written: str, network: str | None) -> None:
    if network is None:
        with pytest.raises(EntryError, match="bits set beyond"):
            parse_network(written)
        return
    expected = ipaddress.ip_network(network)
    bits = expected.prefixlen
    prefix = int(expected.network_address) >> (expected.max_prefixlen - bits)
    assert parse_network(written) == (expected.version, bits, prefix)


@pytest.mark.parametrize(
    ("written", "what", "mend"),
    [
        (
            "192.0.2.1/24",
            "has bits set beyond its prefix length",
            "write 192.0.2.0/24 for the network or 192.0.2.1 for the one address",
        ),
        ("2001:db8::1/32", "has bits set", "write 2001:db8::/32 for the network"),
        ("::1/64", "has bits set", "write ::/64 for the network or ::1 for the one"),
        ("192.0.2.0/33", "no right prefix length", "a number from 0 to 32"),
        ("2001:db8::/129", "no right prefix length", "a number from 0 to 128"),
        ("192.0.2.0/255.255.255.0", "no right prefix length", "from 0 to 32"),
        ("192.0.2.0/", "no right prefix length", "from 0 to 32"),
        ("192.0.2.0/٢٤", "no right prefix length", "from 0 to 32"),
        ("192.0.2", "is no IP address", "192.0.2.0/24 or 2001:db8::/32"),
        ("192.0.2.010", "is no IP address", "192.0.2.0/24"),
        ("192.0.2.1-192.0.2.9", "is no IP address", "192.0.2.0/24"),
        ("fe80::1%eth0", "is no IP address", "2001:db8::/32"),
        ("example.org", "is no IP address", "192.0.2.0/24"),
        ("192.0.2.1\0", "is no IP address", "192.0.2.0/24"),
        ("\udc80", "is no IP address", "192.0.2.0/24"),
    ],
)
def test_a_wrong_network_is_refused_with_the_mend(written: str, what: str, mend: str) -> None:
    with pytest.raises(EntryError) as caught:
        parse_network(written)
    assert what in caught.value.what
    assert mend in caught.value.mend


@pytest.mark.parametrize(
    ("line", "kind", "entry"),
    [
        ("  a@b.example  \r\n", Kind.ADDRESSES, "a@b.example"),
        ("# all of them", Kind.ADDRESSES, ""),
        ("   # all of them", Kind.DOMAINS, ""),
        ("", Kind.NETWORKS, ""),
        ("192.0.2.0/24 # the office", Kind.NETWORKS, "192.0.2.0/24"),
        ("a#b@c.example\t#his", Kind.ADDRESSES, "a#b@c.example"),
        ("a #b", Kind.PATTERNS, "a #b"),
        ("#b", Kind.PATTERNS, ""),
        ("[#]b", Kind.PATTERNS, "[#]b"),
    ],
)
def test_comments_and_blanks_are_left_out(line: str, kind: Kind, entry: str) -> None:
    assert strip_comment(line, kind) == entry


@pytest.mark.parametrize(
    ("pattern", "is_postfix"),
    [("/^x/", True), ("/^x/i REJECT no", True), ("^/x/", False), ("/x", False), ("//", False)],
)
def test_a_line_of_a_regexp_table_is_known(pattern: str, is_postfix: bool) -> None:
    assert looks_like_postfix_line(pattern) is is_postfix


@given(st.text(), st.sampled_from([parse_address, parse_domain, parse_network]))
def test_any_text_is_read_or_refused_with_an_entry_error(
    text: str, parse: Callable[[str], object]
) -> None:
    with suppress(EntryError):
        assert parse(text) is not None


@given(st.emails())
def test_an_address_is_found_under_the_form_that_facts_give_it(address: str) -> None:
    try:
        kept = parse_address(address)
    except EntryError:
        return  # hypothesis makes domains that no host has
    assert kept == read.mail(address)


@given(st.ip_addresses())
def test_every_ip_address_is_a_network_of_one(address: ipaddress.IPv4Address) -> None:
    version, bits, prefix = parse_network(str(address))
    canonical = ipaddress.ip_address(read.ip(str(address)))
    assert (version, bits, prefix) == (
        canonical.version,
        canonical.max_prefixlen,
        int(canonical),
    )

"""What a DNS list is asked: names of RFC 5782, and nothing where nothing can be listed."""

import pickle

import pytest
from hypothesis import given
from hypothesis import strategies as st

from policyd.checks.zone import LONGEST_ZONE, Zone, ZoneKind, is_domain, points, question
from policyd.facts import read

ADDRESSES = Zone("a", "bl.example.org")
NAMES = Zone("n", "dbl.example.org", ZoneKind.SENDER_DOMAIN)
NIBBLES = "1.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.8.b.d.0.1.0.0.2"
MAPPED = "2.0.0.0.0.0.f.7.f.f.f.f" + ".0" * 20


@pytest.mark.parametrize(
    ("zone", "value", "asked"),
    [
        (ADDRESSES, "192.0.2.99", "99.2.0.192.bl.example.org"),  # RFC 5782 section 2.1
        (ADDRESSES, "2001:db8::1", f"{NIBBLES}.bl.example.org"),  # section 2.4
        (ADDRESSES, "172.32.0.1", "1.0.32.172.bl.example.org"),
        (NAMES, "example.net", "example.net.dbl.example.org"),  # section 3
        (NAMES, "a.b_c.xn--bcher-kva.example", "a.b_c.xn--bcher-kva.example.dbl.example.org"),
    ],
)
def test_the_name_that_a_zone_is_asked_for(zone: Zone, value: str, asked: str) -> None:
    assert question(zone, value) == asked


@pytest.mark.parametrize(
    "address",
    [
        "",
        "0.0.0.0",
        "10.1.2.3",
        "100.64.0.1",
        "127.0.0.1",
        "127.0.0.2",
        "169.254.1.1",
        "172.16.0.1",
        "172.31.255.255",
        "192.168.1.1",
        "224.0.0.1",
        "255.255.255.255",
        "::",
        "::1",
        "fc00::1",
        "fdff::1",
        "fe80::1",
        "ff02::1",
    ],
)
def test_of_an_address_that_nobody_has_on_the_internet_nothing_is_asked(address: str) -> None:
    assert question(ADDRESSES, address) == ""


@pytest.mark.parametrize(
    "name",
    [
        "",
        "unknown",
        "localhost",
        "[192.0.2.1]",
        "[ipv6:2001:db8::1]",
        "192.0.2.1",
        "a b.example",
        "a..example",
        ".example.org",
        "bücher.example",
        "x" * 64 + ".example",
        "x." * 125 + "example",
        "a/b.example",
        "*.example",
    ],
)
def test_of_what_is_no_domain_nothing_is_asked(name: str) -> None:
    assert question(NAMES, name) == ""


@given(st.text(), st.sampled_from(ZoneKind))
def test_whatever_a_sender_says_is_asked_as_a_name_of_the_dns_or_not_at_all(
    text: str, kind: ZoneKind
) -> None:
    value = read.ip(text) if kind is ZoneKind.CLIENT_ADDRESS else read.domain(text)
    asked = question(Zone("z", "bl.example.org", kind), value)
    assert asked == "" or (is_domain(asked) and asked.endswith(".bl.example.org"))


@given(st.ip_addresses())
def test_every_address_fits_before_the_longest_zone(address: object) -> None:
    zone = Zone("z", ".".join(["a" * 62, "b" * 62, "c" * 63]))
    assert len(zone.zone) == LONGEST_ZONE
    asked = question(zone, read.ip(str(address)))
    assert asked == "" or is_domain(asked)


@pytest.mark.parametrize(
    ("zone", "listed", "unlisted"),
    [
        (ADDRESSES, "2.0.0.127.bl.example.org", "1.0.0.127.bl.example.org"),
        (NAMES, "test.dbl.example.org", "invalid.dbl.example.org"),
        (
            Zone("six", "bl.example.org", listed="::ffff:7f00:2"),  # RFC 5782 section 5
            f"{MAPPED}.bl.example.org",
            "1.0.0.127.bl.example.org",
        ),
        (
            Zone("own", "dbl.example.org", ZoneKind.HELO_NAME, listed="dbltest.com", unlisted="x"),
            "dbltest.com.dbl.example.org",
            "x.dbl.example.org",
        ),
    ],
)
def test_what_a_zone_is_tested_with(zone: Zone, listed: str, unlisted: str) -> None:
    assert points(zone) == (listed, unlisted)


def test_a_zone_goes_to_another_process_and_is_the_same_there() -> None:
    assert pickle.loads(pickle.dumps(NAMES)) == NAMES
    assert hash(pickle.loads(pickle.dumps(NAMES))) == hash(NAMES)

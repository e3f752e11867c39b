"""What a zone's answer means: what it weighs, and which answers are failures and never listings."""

from ipaddress import IPv4Address, IPv4Network
from random import Random

import pytest
from hypothesis import given
from hypothesis import strategies as st

from policyd.checks.zone import Answers, Code, Zone
from policyd.checks.zone_answer import ZoneError, network, read_answer

PLAIN = Zone("plain", "bl.example.org")
ZEN = Zone(
    "zen",
    "zen.example.org",
    weight=None,
    codes=(
        Code(network("127.0.0.3"), 5.0),
        Code(network("127.0.0.9"), 0.0),
        Code(Answers(int(IPv4Address("127.0.0.10")), int(IPv4Address("127.0.0.11"))), 0.5),
        Code(network("127.0.0.0", 28), 3.0),
    ),
)
BITS = Zone("bits", "multi.example.org", weight=None, masks=((2, 1.0), (4, 2.5), (8, 0.0)))
BOTH = Zone("both", "b.example.org", weight=0.25, codes=ZEN.codes, masks=((64, 7.0),))
WHITE = Zone("white", "wl.example.org", weight=-2.0, codes=(Code(network("127.0.10.3"), -10.0),))


@pytest.mark.parametrize(
    ("zone", "answer", "weight", "code"),
    [
        (PLAIN, "127.0.0.2", 1, "127.0.0.2"),
        (PLAIN, "127.0.0.2 127.0.0.4 127.9.9.9", 1, "127.0.0.2"),
        (ZEN, "127.0.0.2", 3, "127.0.0.2"),
        (ZEN, "127.0.0.3", 5, "127.0.0.3"),  # the narrowest of several codes
        (ZEN, "127.0.0.2 127.0.0.3 127.0.0.4", 8, "127.0.0.3"),  # each code once
        (ZEN, "127.0.0.10 127.0.0.11", 0.5, "127.0.0.10"),
        (ZEN, "127.0.0.9 127.0.0.11", 0.5, "127.0.0.11"),
        (ZEN, "127.0.0.16 127.0.0.2", 3, "127.0.0.2"),
        (BITS, "127.0.0.2", 1, "127.0.0.2"),
        (BITS, "127.0.0.6", 3.5, "127.0.0.6"),
        (BITS, "127.0.0.14", 3.5, "127.0.0.14"),
        (BITS, "127.0.0.2 127.0.0.6", 3.5, "127.0.0.6"),  # each bit once
        (BITS, "127.0.0.130", 1, "127.0.0.130"),
        (BOTH, "127.0.0.3 127.0.0.64 127.0.0.128", 12.25, "127.0.0.64"),
        (BOTH, "127.0.1.3", 0.25, "127.0.1.3"),
        (WHITE, "127.0.10.3", -10, "127.0.10.3"),
        (WHITE, "127.0.10.2", -2, "127.0.10.2"),
    ],
)
def test_what_a_listing_weighs(zone: Zone, answer: str, weight: float, code: str) -> None:
    listing = read_answer(zone, answer.split())
    assert listing is not None
    assert (listing.weight, listing.code) == (weight, code)


@pytest.mark.parametrize(
    ("zone", "answer"),
    [
        (PLAIN, ""),
        (ZEN, "127.0.0.16"),  # codes, and it is none of them
        (ZEN, "127.0.0.9"),  # weighs nothing
        (BITS, "127.0.0.8"),
        (BITS, "127.0.0.32"),
        (Zone("none", "bl.example.org", weight=0.0), "127.0.0.2"),
    ],
)
def test_what_is_no_listing(zone: Zone, answer: str) -> None:
    assert read_answer(zone, answer.split()) is None


ERRORS = [
    (PLAIN, "127.255.255.252"),
    (PLAIN, "127.255.255.254"),
    (PLAIN, "127.255.255.255"),
    (PLAIN, "127.255.255.0"),
    (PLAIN, "127.0.0.1"),
    (PLAIN, "0.0.0.0"),
    (PLAIN, "128.0.0.1"),
    (PLAIN, "126.255.255.255"),
    (PLAIN, "192.0.2.1"),
    (PLAIN, "255.255.255.255"),
    (BITS, "127.0.0.1"),
    (BITS, "127.255.255.2"),
    (Zone("dnswl", "list.dnswl.org"), "127.0.0.255"),
    (Zone("dbl", "dbl.spamhaus.org"), "127.0.1.255"),
    (Zone("dqs", "some-key.dbl.dq.spamhaus.net"), "127.0.1.255"),
    (Zone("own", "bl.example.org", errors=(network("127.0.0.64", 30),)), "127.0.0.66"),
]


@pytest.mark.parametrize(("zone", "answer"), ERRORS)
def test_a_failure_is_no_listing(zone: Zone, answer: str) -> None:
    with pytest.raises(ZoneError, match=answer):
        read_answer(zone, [answer])


@pytest.mark.parametrize(("zone", "answer"), ERRORS)
def test_a_failure_among_listings_is_one(zone: Zone, answer: str) -> None:
    for order in ([answer, "127.0.0.2"], ["127.0.0.2", answer]):
        with pytest.raises(ZoneError):
            read_answer(zone, order)


def test_errors_of_one_zone_are_no_errors_of_another() -> None:
    for answer in ("127.0.0.255", "127.0.1.255", "127.0.0.66"):
        assert read_answer(PLAIN, [answer]) is not None
    assert read_answer(Zone("not", "notlist.dnswl.org"), ["127.0.0.255"]) is not None


ZONES = (PLAIN, ZEN, BITS, BOTH, WHITE)
LOOPBACK = IPv4Network("127.0.0.0/8")
REFUSALS = IPv4Network("127.255.255.0/24")


@given(st.sampled_from(ZONES), st.lists(st.ip_addresses(v=4), max_size=5))
def test_no_address_outside_127_8_ever_lists(zone: Zone, addresses: list[IPv4Address]) -> None:
    try:
        listing = read_answer(zone, map(str, addresses))
    except ZoneError:
        assert any(a not in LOOPBACK or a in REFUSALS or a.packed[3] == 1 for a in addresses)
    else:
        assert all(a in LOOPBACK and a not in REFUSALS for a in addresses)
        assert listing is None or IPv4Address(listing.code) in addresses


@given(
    st.sampled_from(ZONES),
    st.lists(st.ip_addresses(network=LOOPBACK), max_size=6),
    st.randoms(use_true_random=False),
)
def test_order_and_repetition_of_addresses_say_nothing(
    zone: Zone, addresses: list[IPv4Address], random: Random
) -> None:
    def read(some: list[IPv4Address]) -> object:
        try:
            return read_answer(zone, map(str, some))
        except ZoneError:
            return "failure"

    shuffled = addresses * 2
    random.shuffle(shuffled)
    assert read(shuffled) == read(addresses)

"""Texts of a certain form in the configuration: endpoints, modes, durations, URLs."""

from collections.abc import Callable
from functools import partial
from ipaddress import IPv4Address, IPv6Address, IPv6Network, ip_network

import pytest
from hypothesis import given
from hypothesis import strategies as st

from policyd.config import units
from policyd.config.units import WrongValueError


@pytest.mark.parametrize(
    "endpoint",
    [
        "inet:127.0.0.1:10040",
        "inet:[::1]:10040",
        "inet:localhost:1",
        "inet:policyd.example.org:65535",
        "unix:/var/spool/postfix/policyd/milter.sock",
        "unix:/" + "x" * 106,
    ],
)
def test_an_endpoint_in_postfix_notation_is_taken_as_it_stands(endpoint: str) -> None:
    assert units.read_endpoint(endpoint) == endpoint


@pytest.mark.parametrize(
    ("endpoint", "what", "mend"),
    [
        ("127.0.0.1:10040", "is no endpoint", "inet:127.0.0.1:10040"),
        ("inet:10040", "is no host and port", "inet:127.0.0.1:10040"),
        ("inet:::1:10040", "is no host and port", "an IPv6 address in brackets"),
        ("inet:localhost:0", "0 is no port", "from 1 to 65535"),
        ("inet:localhost:65536", "65536 is no port", "from 1 to 65535"),
        ("inet:localhost:smtp", "is no host and port", "inet:127.0.0.1:10040"),
        ("inet:*:10040", "star for a host", '"0.0.0.0:10040"'),
        ("inet:10041@127.0.0.1", "as for a milter", '"inet:127.0.0.1:10041"'),
        ("unix:policyd.sock", "no absolute path", "unix:/path"),
        ("unix:/", "no absolute path", "unix:/path"),
        ("unix:/run/", "no absolute path", "unix:/path"),
        ("unix:/a\0b", "no absolute path", "unix:/path"),
        ("unix:/" + "x" * 107, "has 108 octets", "at most 107"),
        ("local:/run/x", "is no endpoint", "unix:/path"),
        ("", "is empty", "inet:127.0.0.1:10040"),
        (10040, "the number 10040 is no string", "inet:127.0.0.1:10040"),
        (None, "is no string", "unix:/path"),
    ],
)
def test_a_wrong_endpoint_is_refused_with_the_mend(endpoint: object, what: str, mend: str) -> None:
    told = refusal(units.read_endpoint, endpoint)
    assert what in told["what"]
    assert mend in told["mend"]


@pytest.mark.parametrize(
    ("written", "mode"), [("0660", 0o660), ("660", 0o660), ("0600", 0o600), (0o660, 0o660)]
)
def test_a_socket_mode_is_read_as_chmod_reads_it(written: object, mode: int) -> None:
    assert units.read_mode(written) == mode


@pytest.mark.parametrize(
    "written", [660, 666, 777, 0o1777, -1, "0o660", "0680", "rw-rw----", "66", "01660", True]
)
def test_a_mode_that_is_no_octal_text_is_refused(written: object) -> None:
    assert '"0660"' in refusal(units.read_mode, written)["mend"]


@pytest.mark.parametrize(("written", "seconds"), [("8s", 8.0), ("1m30s", 90.0)])
def test_a_duration_is_read_in_seconds(written: str, seconds: float) -> None:
    assert units.read_duration(written) == seconds


@pytest.mark.parametrize(
    ("written", "what"),
    [("0s", "no time at all"), ("8", "is no duration"), (8, "the number 8"), ("1s1m", "large")],
)
def test_a_wrong_duration_is_refused(written: object, what: str) -> None:
    told = refusal(units.read_duration, written)
    assert what in told["what"]
    assert "8s" in told["mend"]


@pytest.mark.parametrize(
    "url",
    [
        "sqlite:/var/lib/policyd/state.sqlite",
        "redis://localhost:6379/0",
        "rediss://:secret@redis.example.org/1",
        "redis+sentinel://10.0.0.1,10.0.0.2/mail",
        "redis+cluster://10.0.0.1:7000,10.0.0.2:7000",
        "memory:",
    ],
)
def test_a_state_url_is_taken_as_it_stands(url: str) -> None:
    assert units.read_state_url(url) == url


@pytest.mark.parametrize(
    "url",
    [
        "sqlite:state.sqlite",
        "sqlite://host/state.sqlite",
        "sqlite:/var/lib/",
        "redis:",
        "redis://",
        "redis://host:port",
        "redis://host:99999",
        "redis://host:0",
        "redis://[::1",
        "memory:x",
        "memory",
        "mysql://localhost/state",
        "",
    ],
)
def test_a_wrong_state_url_is_refused(url: str) -> None:
    assert refusal(units.read_state_url, url)["mend"]


def test_a_password_in_a_wrong_state_url_is_not_shown() -> None:
    assert "secret" not in str(refusal(units.read_state_url, "redis://:secret@"))
    assert "secret" not in str(refusal(units.read_state_url, "redsi://:secret@host"))


@pytest.mark.parametrize(
    ("text", "seconds"), [("0.1s", 0.1), ("0.125s", 0.125), ("1s", 1), ("1.50s", 1.5), ("5s", 5)]
)
def test_a_short_time_may_have_a_fraction(text: str, seconds: float) -> None:
    assert units.read_split_seconds(text, least=0.1, most=5) == seconds


@pytest.mark.parametrize(
    ("text", "what"),
    [
        ("0.09s", '"0.09s" is too short'),
        ("5.1s", '"5.1s" is too long'),
        ("999999999s", "is too long"),
        ("1m", "no time in seconds"),
        ("1.s", "no time in seconds"),
        (".5s", "no time in seconds"),
        ("500ms", "no time in seconds"),
        ("1", "no time in seconds"),
        (1, "the number 1 is no string"),
    ],
)
def test_a_time_out_of_bounds_or_not_in_seconds_is_refused(text: object, what: str) -> None:
    told = refusal(partial(units.read_split_seconds, least=0.1, most=5), text)
    assert what in told["what"]
    assert '"0.5s"' in told["mend"]


@pytest.mark.parametrize(
    ("text", "server"),
    [
        ("192.0.2.53", "192.0.2.53:53"),
        ("192.0.2.53:5353", "192.0.2.53:5353"),
        ("2001:DB8:0::53", "[2001:db8::53]:53"),
        ("[2001:db8::53]", "[2001:db8::53]:53"),
        ("[2001:db8::53]:5353", "[2001:db8::53]:5353"),
    ],
)
def test_a_name_server_is_an_address_with_or_without_a_port(text: str, server: str) -> None:
    assert units.read_name_server(text) == server


@pytest.mark.parametrize(
    "value",
    [53, "", "localhost", "localhost:53", "192.0.2.53:0", "192.0.2.53:65536", "192.0.2.53:",
     "192.0.2", "192.0.2.0/24", "[2001:db8::53", "2001:db8::53]:53", "udp:192.0.2.53", "*:53"],
)  # fmt: skip
def test_what_is_no_address_of_a_name_server_is_refused(value: object) -> None:
    assert refusal(units.read_name_server, value)["mend"]


@pytest.mark.parametrize("prefix", ["policyd:", "p", "mx1/policyd|", "~" * 64])
def test_a_prefix_of_keys_is_taken_as_it_stands(prefix: str) -> None:
    assert units.read_key_prefix(prefix) == prefix


@pytest.mark.parametrize("prefix", ["", " ", "a b", "{a}", "a{", "a}", "é", "a\n", "~" * 65, 1])
def test_a_prefix_that_redis_could_take_for_something_else_is_refused(prefix: object) -> None:
    assert refusal(units.read_key_prefix, prefix)["mend"]


@pytest.mark.parametrize(("text", "seconds"), [("0s", 0), ("30s", 30), ("10m", 600)])
def test_a_bounded_duration_is_read_from_none_to_its_longest(text: str, seconds: float) -> None:
    assert units.read_bounded_duration(text, longest="10m") == seconds


def test_a_duration_beyond_its_longest_is_refused() -> None:
    told = refusal(partial(units.read_bounded_duration, longest="10m"), "10m1s")
    assert (told["what"], told["mend"]) == ('"10m1s" is too long', 'write at most "10m"')


@pytest.mark.parametrize(
    ("text", "network"),
    [
        ("192.0.2.7", "192.0.2.7/32"),
        ("192.0.2.0/24", "192.0.2.0/24"),
        ("0.0.0.0/0", "0.0.0.0/0"),
        ("2001:db8::/32", "2001:db8::/32"),
        ("[2001:db8::]/32", "2001:db8::/32"),
        ("::ffff:192.0.2.0/120", "192.0.2.0/24"),
        ("::ffff:0:0/95", None),
        ("::fffe:0:0/95", "::fffe:0:0/95"),
        ("192.0.2.1/24", None),
        ("192.0.2.0/255.255.255.0", None),
        ("192.0.2", None),
        ("mail.example.org", None),
    ],
)
def test_a_network_is_read_as_in_a_list(text: str, network: str | None) -> None:
    if network is None:
        assert refusal(units.read_network, text)["mend"]
    else:
        assert units.read_network(text) == ip_network(network)


@given(st.ip_addresses(), st.integers(0, 128), st.booleans())
def test_every_network_that_the_library_writes_is_read(
    address: IPv4Address | IPv6Address, bits: int, brackets: bool
) -> None:
    network = ip_network((address, min(bits, address.max_prefixlen)), strict=False)
    host = f"[{network.network_address}]" if brackets else str(network.network_address)
    read = units.read_network(f"{host}/{network.prefixlen}")
    mapped = network.network_address if isinstance(network, IPv6Network) else None
    if mapped is None or mapped.ipv4_mapped is None or network.prefixlen < 96:
        assert read == network


_READERS = [
    units.read_network,
    partial(units.read_bounded_duration, longest="10m"),
    units.read_endpoint,
    units.read_address,
    units.read_name_server,
    units.read_mode,
    units.read_group,
    units.read_duration,
    units.read_state_url,
    units.read_key_prefix,
    partial(units.read_split_seconds, least=0.1, most=5),
]


@given(st.sampled_from(_READERS), st.text() | st.integers() | st.booleans() | st.none())
def test_any_value_is_read_or_refused_as_a_wrong_value(
    read: Callable[[object], object], value: object
) -> None:
    try:
        read(value)
    except WrongValueError as error:
        told = error.context
    else:
        return
    assert told is not None
    assert told["what"]
    assert told["mend"]


def refusal(read: Callable[[object], object], value: object) -> dict[str, str]:
    with pytest.raises(WrongValueError) as caught:
        read(value)
    assert caught.value.context is not None
    return caught.value.context

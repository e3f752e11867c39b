"""Hosts of one provider meet under its domain; hosts named after their addresses do not."""

from collections.abc import Callable
from ipaddress import IPv4Address, IPv6Address, ip_address, ip_network

import pytest
from hypothesis import given
from hypothesis import strategies as st

from policyd.checks.provider import client_key, network_key
from policyd.dns.suffix import registered_domain

PROVIDERS = [
    ("mail-ed1-f41.google.com", "209.85.208.41", "google.com"),
    ("mail-lf1-f54.google.com", "209.85.167.54", "google.com"),
    ("mail-ed1-x52f.google.com", "2a00:1450:4864:20::52f", "google.com"),
    ("mail-lj1-x22d.google.com", "2a00:1450:4864:20::22d", "google.com"),
    ("mail-db8eur05on2088.outbound.protection.outlook.com", "40.107.20.88", "outlook.com"),
    ("mail-am6eur05on2041.outbound.protection.outlook.com", "40.107.22.41", "outlook.com"),
    (
        "mail-db3eur04on0721.outbound.protection.outlook.com",
        "2a01:111:f400:fe0c::721",
        "outlook.com",
    ),
    (
        "mail-westeuropeazon11012062.outbound.protection.outlook.com",
        "52.101.66.62",
        "outlook.com",
    ),
    ("a8-29.smtp-out.amazonses.com", "54.240.8.29", "amazonses.com"),
    ("a7-17.smtp-out.eu-west-1.amazonses.com", "54.240.7.17", "amazonses.com"),
    ("e234-5.smtp-out.eu-central-1.amazonses.com", "23.251.234.5", "amazonses.com"),
    ("o16789117x44.outbound-mail.sendgrid.net", "167.89.117.44", "sendgrid.net"),
    ("wrqvtzvw.outbound-mail.sendgrid.net", "149.72.126.143", "sendgrid.net"),
    ("mail123.atl11.rsgsv.net", "205.201.133.123", "rsgsv.net"),
    ("mail3.sea51.mcsv.net", "148.105.8.3", "mcsv.net"),
    ("mail180-14.suw31.mandrillapp.com", "198.2.180.14", "mandrillapp.com"),
    ("m69-169.mailgun.net", "166.78.69.169", "mailgun.net"),
    ("sonic301-21.consmr.mail.ir2.yahoo.com", "77.238.176.98", "yahoo.com"),
    ("mout.gmx.net", "212.227.17.20", "gmx.net"),
    ("mout.gmx.net", "2001:8d8:5ff::17:20", "gmx.net"),
    ("mout.kundenserver.de", "212.227.126.133", "kundenserver.de"),
    ("mo4-p00-ob.smtp.rzone.de", "85.215.255.20", "rzone.de"),
    ("mo4-p00-ob.smtp.rzone.de", "2a01:238:400:200::1", "rzone.de"),
    ("mail-40133.protonmail.ch", "185.70.40.133", "protonmail.ch"),
    ("st43p00im-ztdg10071801.me.com", "17.58.63.168", "me.com"),
    ("eu-smtp-delivery-151.mimecast.com", "185.58.86.151", "mimecast.com"),
    ("outbound-ip23a.ess.barracuda.com", "209.222.82.205", "barracuda.com"),
    ("mx0a-00123401.pphosted.com", "148.163.147.1", "pphosted.com"),
    ("mail1.bemta25.messagelabs.com", "195.245.230.1", "messagelabs.com"),
    ("smtp.example.co.uk", "192.0.2.1", "example.co.uk"),
    ("mx.customer.github.io", "192.0.2.1", "customer.github.io"),
    ("MX1.Example.ORG", "192.0.2.1", "example.org"),
    ("mx1.example.org.", "192.0.2.1", "example.org"),
    ("mx1.bücher.example", "192.0.2.1", "xn--bcher-kva.example"),
    ("mail.corp.lan", "10.1.2.3", "corp.lan"),
    ("mx126.163.com", "220.181.15.126", "163.com"),
]

NAMED_AFTER_THEIR_ADDRESSES = [
    ("4-3-2-1.dyn.isp.example", "1.2.3.4"),
    ("host-001002003004.isp.example", "1.2.3.4"),
    ("host-4003002001.isp.example", "1.2.3.4"),
    ("p5B0A1B2C.dip0.t-ipconnect.de", "91.10.27.44"),
    ("ip5f5a1b2c.dynamic.kabel-deutschland.de", "95.90.27.44"),
    ("x2c1b0a5b.dyn.isp.example", "91.10.27.44"),
    ("ip-10-1-2-3.eu-west-1.compute.internal.example", "10.1.2.3"),
    ("ec2-203-0-113-7.compute-1.amazonaws.com", "203.0.113.7"),
    ("ns3012345.ip-51-75-1.eu", "51.75.1.23"),
    ("7.ip-51-75-1.eu", "51.75.1.7"),
    ("static.4.3.2.198.clients.your-server.de", "198.2.3.4"),
    ("dslb-188-096-001-002.188.096.pools.vodafone-ip.de", "188.96.1.2"),
    ("host81-2-3-4.range81-2.btcentralplus.com", "81.2.3.4"),
    ("c-73-12-34-56.hsd1.ca.comcast.net", "73.12.34.56"),
    ("82-64-12-34.subs.proxad.net", "82.64.12.34"),
    ("customer_198_51_100_9.isp.example", "198.51.100.9"),
    ("198x51x100x9.static.isp.example", "198.51.100.9"),
    ("h3325256713.isp.example", "198.51.100.9"),
    ("2001-db8-1-2--9.static.isp.example", "2001:db8:1:2::9"),
    ("2001-db8--9.static.isp.example", "2001:db8::9"),
    (
        "p200300C1F71234009D0A1B2C3D4E5F60.dip0.t-ipconnect.de",
        "2003:c1:f712:3400:9d0a:1b2c:3d4e:5f60",
    ),
    ("dynamic-9d0a-1b2c-3d4e-5f60.isp.example", "2001:db8::9d0a:1b2c:3d4e:5f60"),
    ("host-9d0a1b2c3d4e5f60.isp.example", "2001:db8::9d0a:1b2c:3d4e:5f60"),
    ("0.6.f.5.e.4.d.3.c.2.b.1.a.0.d.9.ip6.isp.example", "2001:db8::9d0a:1b2c:3d4e:5f60"),
    ("2a02-8388-e000-1200.cable.isp.example", "2a02:8388:e000:1200::1"),
]

NO_NAME = [
    *("unknown", "", ".", "..", "localhost", "com", "co.uk", "github.io"),
    *("a..b", "mx.example\x1f.org", "mx\n.example.org", "mx .example.org", "*.example.org"),
    *("[192.0.2.1]", "x." * 200 + "org", "9" * 9_000 + ".example.org"),
]


def key(address: str, name: str) -> str:
    return client_key(address, name, ipv4=24, ipv6=64)


@pytest.mark.parametrize(("name", "address", "domain"), PROVIDERS)
def test_a_host_with_a_name_of_its_own_is_known_by_the_registered_domain(
    name: str, address: str, domain: str
) -> None:
    assert key(address, name) == domain


@pytest.mark.parametrize(("name", "address"), NAMED_AFTER_THEIR_ADDRESSES)
def test_a_host_named_after_its_address_is_known_by_its_network(name: str, address: str) -> None:
    assert key(address, name) == network_key(address, 24, 64)


@pytest.mark.parametrize(("name", "address"), NAMED_AFTER_THEIR_ADDRESSES)
def test_the_same_name_at_another_address_is_its_owners(name: str, address: str) -> None:
    other = "2001:db8:77::77" if ":" in address else "192.0.2.77"
    domain = registered_domain(name.lower())
    assert key(other, name) == (domain or network_key(other, 24, 64))


@pytest.mark.parametrize("name", NO_NAME)
def test_a_host_without_a_name_that_somebody_registered_is_known_by_its_network(name: str) -> None:
    assert key("192.0.2.77", name) == "192.0.2.0/24"
    assert key("2001:db8::77", name) == "2001:db8::/64"


def test_ipv4_and_ipv6_of_one_provider_meet() -> None:
    assert key("212.227.17.20", "mout.gmx.net") == key("2001:8d8:5ff::17:20", "mout.gmx.net")


@pytest.mark.parametrize(
    ("address", "network"),
    [
        ("192.0.2.77", "192.0.2.0/24"),
        ("::ffff:192.0.2.77", "192.0.2.0/24"),
        ("2001:DB8:0:0:1::77", "2001:db8::/64"),
        ("fe80::1%eth0", "fe80::/64"),
        ("", ""),
        ("unknown", ""),
        ("192.0.2", ""),
    ],
)
def test_a_network_is_written_in_its_shortest_form(address: str, network: str) -> None:
    assert network_key(address, 24, 64) == network
    assert key(address, "unknown") == network


def test_prefixes_are_as_long_as_asked_for() -> None:
    assert network_key("192.0.2.77", 32, 64) == "192.0.2.77/32"
    assert network_key("192.0.2.77", 8, 64) == "192.0.0.0/8"
    assert network_key("2001:db8:1:2::77", 24, 48) == "2001:db8:1::/48"
    assert client_key("192.0.2.77", "", ipv4=16, ipv6=64) == "192.0.0.0/16"


def test_an_address_that_is_none_has_no_key_even_with_a_name() -> None:
    assert key("", "mx.example.org") == ""


def octets(address: IPv4Address) -> list[str]:
    return [str(octet) for octet in address.packed]


def nibbles(address: IPv6Address) -> str:
    return address.exploded.replace(":", "")


WAYS_IPV4: list[Callable[[IPv4Address], str]] = [
    lambda a: "-".join(octets(a)),
    lambda a: ".".join(octets(a)),
    lambda a: "ip" + "x".join(octets(a)),
    lambda a: "host-" + "_".join(octets(a)),
    lambda a: "-".join(reversed(octets(a))) + ".dyn",
    lambda a: "-".join(octets(a)[:3]),
    lambda a: "-".join(octets(a)[1:]),
    lambda a: ".".join(reversed(octets(a)[:3])),
    lambda a: "h" + "".join(f"{octet:03}" for octet in a.packed),
    lambda a: "h" + "".join(f"{octet:03}" for octet in reversed(a.packed)),
    lambda a: "h" + "".join(octets(a)),
    lambda a: "h" + "".join(reversed(octets(a))),
    lambda a: "p" + a.packed.hex(),
    lambda a: "p" + a.packed[::-1].hex(),
    lambda a: "-".join(f"{octet:03}" for octet in a.packed),
    lambda a: f"v{int(a)}",
]
WAYS_IPV6: list[Callable[[IPv6Address], str]] = [
    lambda a: a.exploded.replace(":", "-"),
    lambda a: str(a).replace(":", "-").strip("-") if "::" not in str(a) else nibbles(a),
    lambda a: "p" + nibbles(a),
    lambda a: "h" + nibbles(a)[16:],
    lambda a: "h" + nibbles(a)[:16],
    lambda a: ".".join(reversed(nibbles(a))),
    lambda a: ".".join(reversed(nibbles(a)[16:])),
    lambda a: "-".join(f"{int(nibbles(a)[at : at + 4], 16):x}" for at in range(16, 32, 4)),
    lambda a: ".".join(reversed(a.exploded.split(":"))),
]
GLOBAL_IPV4 = st.ip_addresses(v=4).filter(lambda a: int(a) >= 1 << 24)


@given(GLOBAL_IPV4, st.sampled_from(WAYS_IPV4))
def test_no_ipv4_host_named_after_its_address_is_a_provider(
    address: IPv4Address, way: Callable[[IPv4Address], str]
) -> None:
    assert key(str(address), f"{way(address)}.isp.example") == network_key(str(address), 24, 64)


@given(st.ip_addresses(network="2000::/3"), st.sampled_from(WAYS_IPV6))
def test_no_ipv6_host_named_after_its_address_is_a_provider(
    address: IPv6Address, way: Callable[[IPv6Address], str]
) -> None:
    assert key(str(address), f"{way(address)}.isp.example") == network_key(str(address), 24, 64)


@given(st.binary(min_size=4, max_size=4), st.integers(0, 2))
def test_two_octets_in_a_name_are_a_number_of_the_host(packed: bytes, at: int) -> None:
    address = IPv4Address(bytes(octet | 128 for octet in packed))
    two = octets(address)[at : at + 2]
    for shown in ("-".join(two), "".join(two)):
        assert key(str(address), f"mail{shown}.esp.example") == "esp.example"


@given(st.one_of(st.ip_addresses().map(str), st.text()), st.text())
def test_a_key_is_a_network_of_the_client_or_a_domain_of_its_name(address: str, name: str) -> None:
    found = key(address, name)
    assert found.isascii()
    assert found.isprintable()
    assert found == found.lower()
    if "/" in found:
        assert ip_address(address.partition("%")[0]) in ip_network(found) or "::ffff:" in address
    elif found:
        assert f".{registered_domain(found)}".endswith(f".{found}")

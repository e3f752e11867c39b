"""The name servers of tests: what they serve, how they misbehave, that nothing of them is left."""

import time
from pathlib import Path

import dns.exception
import dns.flags
import dns.message
import dns.query
import dns.rcode
import pytest

from tools.dns_servers import Act, DnsServerError, NameServer, Recursive, Unruly

pytestmark = pytest.mark.integration

ZONE = """
www IN A 192.0.2.1
short 1 IN TXT "one"
"""


def ask(
    address: str, name: str, kind: str = "A", *, tcp: bool = False, timeout: float = 2.0
) -> dns.message.Message:
    """Ask a server."""
    host, _, port = address.rpartition(":")
    question = dns.message.make_query(name, kind)
    how = dns.query.tcp if tcp else dns.query.udp
    return how(question, host, timeout=timeout, port=int(port))


def texts(answer: dns.message.Message) -> list[str]:
    """Give the values of an answer."""
    return [str(record) for each in answer.answer for record in each]


def test_a_name_server_serves_its_zones_and_others_after_a_change(tmp_path: Path) -> None:
    """Names outside its zones are refused; a name of its own that is not there does not exist."""
    with NameServer(tmp_path, {"example.test": ZONE}) as server:
        assert texts(ask(server.address, "www.example.test")) == ["192.0.2.1"]
        assert ask(server.address, "no.example.test").rcode() == dns.rcode.NXDOMAIN
        assert ask(server.address, "www.example.org").rcode() == dns.rcode.REFUSED
        server.change({"example.org": "www IN A 192.0.2.2", ".": ""})
        assert texts(ask(server.address, "www.example.org", tcp=True)) == ["192.0.2.2"]
        assert ask(server.address, "other.test").rcode() == dns.rcode.NXDOMAIN
        address = server.address
    with pytest.raises((OSError, dns.exception.Timeout)):
        ask(address, "www.example.org", timeout=0.3)


def test_a_zone_that_cannot_be_read_is_served_by_nobody(tmp_path: Path) -> None:
    """Its zone answers SERVFAIL, which is what nsd does with a zone that it could not read."""
    with NameServer(tmp_path, {"example.test": "www IN A nonsense"}) as server:
        assert ask(server.address, "www.example.test").rcode() == dns.rcode.SERVFAIL


def test_a_server_that_does_not_start_says_why(tmp_path: Path) -> None:
    """Its own words are in the error."""
    with pytest.raises(DnsServerError, match="nonsense"):
        NameServer(tmp_path, {}, {"nonsense": "yes"}).start()


def test_unbound_asks_the_name_servers_and_no_others(tmp_path: Path) -> None:
    """A name under .test and a reverse zone, which unbound otherwise answers by itself."""
    zones = {"example.test": ZONE, "2.0.192.in-addr.arpa": "1 IN PTR www.example.test."}
    with NameServer(tmp_path / "nsd", zones) as server:
        stubs = dict.fromkeys(zones, server.address)
        with Recursive(tmp_path / "unbound", stubs) as recursive:
            assert texts(ask(recursive.address, "www.example.test")) == ["192.0.2.1"]
            name = "1.2.0.192.in-addr.arpa"
            assert texts(ask(recursive.address, name, "PTR")) == ["www.example.test."]
            assert ask(recursive.address, "example.org").rcode() == dns.rcode.REFUSED


def test_the_unruly_server_does_what_the_first_label_says() -> None:
    """Refusals, delays, silence, truncation, garbage, wrong ids."""
    with Unruly() as server:
        assert texts(ask(server.address, "www.test")) == ["192.0.2.1"]
        assert ask(server.address, "servfail.test").rcode() == dns.rcode.SERVFAIL
        assert ask(server.address, "refused.test").rcode() == dns.rcode.REFUSED
        began = time.monotonic()
        assert texts(ask(server.address, "after-300.test")) == ["192.0.2.1"]
        assert 0.3 <= time.monotonic() - began < 2
        with pytest.raises(dns.exception.Timeout):
            ask(server.address, "never.test", timeout=0.3)
        assert ask(server.address, "truncated.test").flags & dns.flags.TC
        assert texts(ask(server.address, "truncated.test", tcp=True)) == ["192.0.2.1"]
        for label in ("garbage", "wrong-id"):
            with pytest.raises(dns.exception.DNSException):
                ask(server.address, f"{label}.test", timeout=0.3)
        assert server.asked["www.test", "A"] == 1
        assert server.by_tcp == 1


def test_the_unruly_server_does_what_a_function_says() -> None:
    """Records are given as in a zone file."""
    with Unruly(lambda _: Act(records=("a.test. 5 IN MX 10 b.test.",))) as server:
        assert texts(ask(server.address, "a.test", "MX")) == ["10 b.test."]


def test_a_proxy_delays_what_a_real_server_answers(tmp_path: Path) -> None:
    """By UDP and by TCP."""
    with (
        NameServer(tmp_path, {"example.test": ZONE}) as server,
        Unruly.before(server.address, delay=0.2) as proxy,
    ):
        for tcp in (False, True):
            began = time.monotonic()
            assert texts(ask(proxy.address, "www.example.test", tcp=tcp)) == ["192.0.2.1"]
            assert 0.2 <= time.monotonic() - began < 2

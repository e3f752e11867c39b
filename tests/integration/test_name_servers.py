"""A served policy that asks the DNS: whom, after a reload whom, and what is told when nobody is."""

from collections.abc import Iterator
from pathlib import Path

import pytest
from click.testing import CliRunner

from policyd.cli.explain import explain
from tests.integration.changing import Asking, Changing, rule, until
from tools.dns_servers import NameServer

pytestmark = pytest.mark.integration

ZONE = "@ IN MX 10 mx.{zone}.\n"
RULES = rule("unknown", "450 4.1.8 No such domain", "not resolves(sender_domain)") + (
    'on_error = "451 4.4.3 The DNS does not answer"\n'
)
KNOWN, UNKNOWN, LATER = "DUNNO", "450 4.1.8 No such domain", "451 4.4.3 The DNS does not answer"
UP = {"dependency": "dns"}


def asking(server: NameServer, timeout: str = "1s") -> str:
    """Write a configuration that asks a server."""
    return f'[dns]\nservers = ["{server.address}"]\ntimeout = "{timeout}"\n{RULES}'


@pytest.fixture
def servers(tmp_path: Path) -> Iterator[tuple[NameServer, NameServer]]:
    first = NameServer(tmp_path / "first", {"first.test": ZONE.format(zone="first.test"), ".": ""})
    second = NameServer(
        tmp_path / "second", {"second.test": ZONE.format(zone="second.test"), ".": ""}
    )
    with first, second:
        yield first, second


class Sending(Asking):
    """Asks about senders."""

    def sender(self, domain: str) -> str:
        """Ask about one at a domain."""
        request = "request=smtpd_access_policy\nprotocol_state=RCPT\nclient_address=192.0.2.1\n"
        self.socket.sendall(f"{request}sender=a@{domain}\nrecipient=b@c.test\n\n".encode())
        return self.receive()


def test_the_servers_that_a_reload_names_are_asked_from_then_on(
    servers: tuple[NameServer, NameServer], tmp_path: Path
) -> None:
    first, second = servers
    with Changing(tmp_path, asking(first), workers=1) as policyd, Sending(policyd.port) as client:
        assert client.sender("first.test") == KNOWN
        assert client.sender("second.test") == UNKNOWN
        outcome = policyd.become(asking(second))
        assert outcome.changes == ("[dns] servers changed",)
        assert client.sender("first.test") == UNKNOWN
        assert client.sender("second.test") == KNOWN
        for domain, matches in (("first.test", "matches"), ("second.test", "does not match")):
            words = ["-c", f"{policyd.configuration}", "stage=rcpt", f"sender=a@{domain}"]
            said = CliRunner().invoke(explain, words).stdout
            assert f": {matches} -> {UNKNOWN}" in said


def test_that_nobody_answers_is_shown_and_told_once(
    servers: tuple[NameServer, NameServer], tmp_path: Path
) -> None:
    server, _ = servers
    with (
        Changing(tmp_path, asking(server, "0.2s"), workers=1) as policyd,
        Sending(policyd.port) as client,
    ):
        assert client.sender("first.test") == KNOWN
        assert policyd.value("policyd_dependency_up", **UP) == 1
        server.freeze()
        for number in range(3):
            assert client.sender(f"{number}.test") == LATER
        until(lambda: policyd.value("policyd_dependency_up", **UP) == 0)
        assert client.sender("first.test") == KNOWN  # which is kept
        server.thaw()
        until(lambda: policyd.value("policyd_dependency_up", **UP) == 1)
        assert client.sender("4.test") == UNKNOWN
        assert policyd.value("policyd_dependency_fallbacks_total", **UP) == 3
        told = [
            (line["event"], line["dependency"])
            for line in policyd.events("dependency.down", "dependency.up")
        ]
        assert told == [("dependency.down", "dns"), ("dependency.up", "dns")]

"""DNS lists and a real Postfix: who is refused, how, and that a broken list refuses nobody."""

import shutil
import time
from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path
from typing import Final

import dns.rcode
import pytest
from click.testing import CliRunner

from policyd.cli.explain import explain
from tests.checks.dns_lists import SHORT_LIVED, of_addresses, of_names
from tests.integration.changing import Asking, rule, until
from tests.integration.conftest import short_directory
from tests.integration.remembering import XCLIENT, Remembering, arriving, said, send
from tools.dns_servers import Act, NameServer, Recursive, Unruly
from tools.postfix_instance import PostfixInstance

pytestmark = pytest.mark.integration

CLEAN, SPAM, DIAL, FRIEND = "192.0.2.1", "192.0.2.2", "192.0.2.10", "192.0.2.20"
V6_SPAM, V6_CLEAN = "2001:db8::25", "2001:db9::25"
TEXT: Final = "Listed, see https://zen.test/query"
ERRORS: Final = ("127.255.255.252", "127.255.255.254", "127.255.255.255", "127.0.0.1", "192.0.2.80")
SERVED: Final = {
    "zen.test": of_addresses({SPAM: "127.0.0.2", DIAL: "127.0.0.10", FRIEND: "127.0.0.2"}, TEXT)
    + "\n*.8.b.d.0.1.0.0.2 A 127.0.0.2",
    "other.test": of_addresses({SPAM: "127.0.0.9", DIAL: "127.0.0.9"}),
    "white.test": of_addresses({FRIEND: "127.0.0.3"}),
    "names.test": of_names({"bad.example": "127.0.0.10", "xn--bcher-kva.example": "127.0.0.2"}),
    "world.test": SHORT_LIVED + "* A 127.0.0.2",
    "broken.test": SHORT_LIVED + "* A 127.0.0.2",
    **{
        f"error{number}.test": of_addresses({SPAM: answer}, "This is no listing")
        for number, answer in enumerate(ERRORS)
    },
}
MISBEHAVING: Final = ("servfail.test", "silent.test")
TIMEOUT: Final = 1.0
"""Seconds, of one question."""
SEVERAL_TESTS: Final = 2.5
"""Seconds in which a suspended list is tested twice, with an interval of a minute."""
TABLES: Final = """\
[dns]
servers = ["{resolver}"]
timeout = "1s"
[dnsbl.zen]
zone = "zen.test"
codes = {{ "127.0.0.2" = 3, "127.0.0.10-127.0.0.11" = 1.5 }}
[dnsbl.other]
zone = "other.test"
weight = 2
[dnsbl.white]
zone = "white.test"
weight = -5
[dnsbl.names]
zone = "names.test"
kind = "sender_domain"
masks = {{ 2 = 1, 8 = 4 }}
[dnsbl.world]
zone = "world.test"
interval = "1m"
[dnsbl.broken]
zone = "broken.test"
interval = "1m"
[dnsbl.servfail]
zone = "servfail.test"
[dnsbl.silent]
zone = "silent.test"
""" + "".join(f'[dnsbl.error{n}]\nzone = "error{n}.test"\n' for n in range(len(ERRORS)))
SAYS: Final = "554 5.7.1 {dnsbl_zone} says {dnsbl_code}: {dnsbl_text}"
LATER: Final = "451 4.7.1 A list does not answer"
ANY_ERROR: Final = " or ".join(f"listed('error{number}')" for number in range(len(ERRORS)))


def asking(service: str, condition: str, then: str = SAYS, on_error: str = "skip") -> str:
    when = f"service == '{service}' and ({condition})"
    return rule(service, then, when) + f'on_error = "{on_error}"\n'


RULES: Final = (
    asking("zen", "listed('zen')")
    + asking("untabled", "listed('zen.test')")
    + asking("named", "listed('names')", "dnsbl-listed")
    + asking(
        "score",
        "dnsbl_score('zen', 'other', 'white', 'names') >= 3.5",
        "550 5.7.1 Listed by several, {dnsbl_zone} among them",
    )
    + asking("errors", ANY_ERROR)
    + asking("errors-later", ANY_ERROR, on_error=LATER)
    + asking("world", "listed('world')")
    + asking("world-later", "listed('world')", on_error=LATER)
    + asking("mended", "listed('broken')", on_error=LATER)
    + asking("some", "listed('world', 'error1', 'servfail', 'zen')", on_error=LATER)
    + asking("servfail", "listed('servfail')", on_error=LATER)
    + asking("silent", "dnsbl_score('silent') > 0", on_error=LATER)
    + rule("late", SAYS, "service == 'mx.policyd.test' and listed('zen')", stage="end-of-data")
)
SERVICES: Final = (
    *("zen", "untabled", "named", "score", "errors", "errors-later"),
    *("world", "world-later", "mended", "some", "servfail", "silent"),
)


@pytest.fixture(scope="module")
def folder() -> Iterator[Path]:
    directory = short_directory()
    yield directory
    shutil.rmtree(directory)


@pytest.fixture(scope="module")
def name_server(folder: Path) -> Iterator[NameServer]:
    with NameServer(folder / "nsd", SERVED) as server:
        yield server


@pytest.fixture(scope="module")
def resolver(folder: Path, name_server: NameServer) -> Iterator[Recursive]:
    with (
        Unruly(lambda _: Act(rcode=dns.rcode.SERVFAIL)) as failing,
        Unruly(lambda _: Act(silent=True)) as silent,
    ):
        stubs = dict.fromkeys(SERVED, name_server.address)
        stubs |= {"servfail.test": failing.address, "silent.test": silent.address}
        with Recursive(folder / "unbound", stubs, {"harden-below-nxdomain": "no"}) as server:
            yield server


@pytest.fixture(scope="module")
def policyd(folder: Path, resolver: Recursive) -> Iterator[Remembering]:
    body = TABLES.format(resolver=resolver.address) + RULES
    with Remembering(folder, body, milter=("end-of-data",), workers=1) as process:
        yield process


@pytest.fixture(scope="module")
def postfix(
    policyd: Remembering, postfix_factory: Callable[..., PostfixInstance]
) -> PostfixInstance:
    services = {
        service: {"smtpd_recipient_restrictions": policyd.asked(service)} for service in SERVICES
    }
    services["milter"] = {"smtpd_milters": policyd.filters}
    return postfix_factory(services=services, main=XCLIENT)


def reply(postfix: PostfixInstance, service: str, address: str, sender: str = "a@x.test") -> str:
    """Send a message as that client and sender; what it ends with, on one line."""
    with arriving(postfix, service, address) as client:
        found = send(client, sender, "b@policyd.test")
    return said(found) if found.code != 250 else "taken"


def refusal(code: str, text: str) -> str:
    return f"{code} <b@policyd.test>: Recipient address rejected: {text}"


def test_a_listed_client_is_refused_with_the_text_of_the_list(postfix: PostfixInstance) -> None:
    says = refusal("554 5.7.1", f"zen.test says 127.0.0.2: {TEXT}")
    assert reply(postfix, "zen", SPAM) == says
    assert reply(postfix, "untabled", SPAM) == says
    assert reply(postfix, "zen", CLEAN) == "taken"
    assert reply(postfix, "untabled", CLEAN) == "taken"


def test_clients_that_come_by_ipv6_are_looked_up_by_nibbles(postfix: PostfixInstance) -> None:
    # the zone's wildcard has no text
    assert reply(postfix, "zen", V6_SPAM) == refusal("554 5.7.1", "zen.test says 127.0.0.2:")
    assert reply(postfix, "zen", V6_CLEAN) == "taken"


def test_clients_of_the_own_network_are_not_looked_up(
    postfix: PostfixInstance, policyd: Remembering
) -> None:
    before = answers(policyd, "zen")
    for address in ("127.0.0.2", "10.1.2.3", "192.168.1.1", "::1", "fd00::1"):
        assert reply(postfix, "zen", address) == "taken"
    assert answers(policyd, "zen") == before


def test_a_listed_sender_is_refused_by_the_domain(postfix: PostfixInstance) -> None:
    listed = refusal(
        "554 5.7.1", "Your address is on a DNS block list; please ask to be taken off it"
    )
    assert reply(postfix, "named", CLEAN, "a@BAD.example") == listed
    assert reply(postfix, "named", CLEAN, "a@xn--bcher-kva.example") == listed
    assert reply(postfix, "named", CLEAN, "a@good.example") == "taken"
    assert reply(postfix, "named", CLEAN, "") == "taken"


@pytest.mark.parametrize(
    ("address", "sender", "refused_by"),
    [
        (SPAM, "a@x.test", "zen.test"),  # 3 + 2
        (DIAL, "a@x.test", "other.test"),  # 1.5 + 2
        (CLEAN, "a@bad.example", "names.test"),  # 1 + 4
        (CLEAN, "a@xn--bcher-kva.example", ""),  # 1
        (FRIEND, "a@bad.example", ""),  # 3 - 5 + 5
        (CLEAN, "a@x.test", ""),
    ],
)
def test_weights_of_lists_add_up(
    postfix: PostfixInstance, address: str, sender: str, refused_by: str
) -> None:
    found = reply(postfix, "score", address, sender)
    if refused_by:
        assert found == refusal("550 5.7.1", f"Listed by several, {refused_by} among them")
    else:
        assert found == "taken"


def test_error_codes_never_refuse(postfix: PostfixInstance, policyd: Remembering) -> None:
    before = [answers(policyd, f"error{number}") for number in range(len(ERRORS))]
    assert reply(postfix, "errors", SPAM) == "taken"
    assert reply(postfix, "errors-later", SPAM) == refusal("451 4.7.1", "A list does not answer")
    for number, counts in enumerate(before):
        zone = f"error{number}"
        assert answers(policyd, zone) == counts | {"failed": counts["failed"] + 2}
        assert policyd.value("policyd_dependency_up", dependency=f"dnsbl {zone}") == 1
    assert reply(postfix, "errors-later", CLEAN) == "taken"


def test_a_list_that_fails_its_test_refuses_nobody_and_says_so_once(
    postfix: PostfixInstance, policyd: Remembering
) -> None:
    for dependency in ("dnsbl world", "dnsbl servfail", "dnsbl silent"):
        until(partial(is_told, policyd, dependency))
        assert len(downs(policyd, dependency)) == 1
        assert policyd.value("policyd_dependency_up", dependency=dependency) == 0
    assert downs(policyd, "dnsbl world") == [
        "it lists 1.0.0.127.world.test, as if it listed everything"
    ]
    assert reply(postfix, "world", SPAM) == "taken"
    later = refusal("451 4.7.1", "A list does not answer")
    for service in ("world-later", "servfail", "silent"):
        started = time.monotonic()
        assert reply(postfix, service, SPAM) == later
        assert time.monotonic() - started < TIMEOUT  # nobody waits for what is known to be down
    assert answers(policyd, "silent")["suspended"] == 1
    fallbacks = policyd.value("policyd_dependency_fallbacks_total", dependency="dnsbl silent")
    assert fallbacks == 1


def test_what_some_lists_do_not_answer_the_others_do(
    postfix: PostfixInstance, policyd: Remembering
) -> None:
    fallbacks = "policyd_dependency_fallbacks_total"
    before = policyd.value(fallbacks, dependency="dnsbl servfail")
    says = refusal("554 5.7.1", f"zen.test says 127.0.0.2: {TEXT}")
    assert reply(postfix, "some", SPAM) == says
    assert before is not None
    assert policyd.value(fallbacks, dependency="dnsbl servfail") == before + 1
    # without them nobody knows
    later = refusal("451 4.7.1", "A list does not answer")
    assert reply(postfix, "some", CLEAN) == later


def test_the_milter_asks_too(postfix: PostfixInstance) -> None:
    assert reply(postfix, "milter", SPAM) == f"554 5.7.1 zen.test says 127.0.0.2: {TEXT}"
    assert reply(postfix, "milter", CLEAN) == "taken"


def test_a_list_that_is_mended_comes_back(
    postfix: PostfixInstance, policyd: Remembering, name_server: NameServer
) -> None:
    later = refusal("451 4.7.1", "A list does not answer")
    assert reply(postfix, "mended", SPAM) == later
    time.sleep(SEVERAL_TESTS)
    assert len(downs(policyd, "dnsbl broken")) == 1
    mended = of_addresses({SPAM: "127.0.0.2"}, "Mended")
    name_server.change({**SERVED, "broken.test": mended})
    until(lambda: policyd.value("policyd_dependency_up", dependency="dnsbl broken") == 1)
    says = refusal("554 5.7.1", "broken.test says 127.0.0.2: Mended")
    assert reply(postfix, "mended", SPAM) == says
    assert reply(postfix, "mended", CLEAN) == "taken"
    ups = [event["dependency"] for event in policyd.events("dependency.up")]
    assert ups == ["dnsbl broken"]


def test_a_reload_forgets_lists_that_it_drops_and_tests_those_that_it_adds(
    tmp_path: Path, resolver: Recursive
) -> None:
    tables = TABLES.format(resolver=resolver.address)
    zen = tables + rule("zen", SAYS, "listed('zen')")
    says = f"554 5.7.1 zen.test says 127.0.0.2: {TEXT}"
    with Remembering(tmp_path, zen, workers=1) as policyd, Asking(policyd.port) as client:
        assert client.ask(client=SPAM) == says
        up = "policyd_dependency_up"
        assert policyd.value(up, dependency="dnsbl zen") == 1
        policyd.become(tables + rule("both", SAYS, "dnsbl_score('other', 'nobody.test') > 1"))
        assert client.ask(client=SPAM) == "554 5.7.1 other.test says 127.0.0.9:"
        assert policyd.value(up, dependency="dnsbl zen") is None
        assert policyd.value(up, dependency="dnsbl other") == 1
        assert policyd.value(up, dependency="dnsbl nobody.test") == 0
        assert downs(policyd, "dnsbl nobody.test")
        policyd.become(zen)
        assert client.ask(client=SPAM) == says
        assert policyd.value(up, dependency="dnsbl zen") == 1


def test_explain_tests_a_list_before_it_asks(tmp_path: Path, resolver: Recursive) -> None:
    tables = TABLES.format(resolver=resolver.address)
    head = '[policy_service]\nlisten = ["inet:127.0.0.1:10040"]\n'
    configuration = tmp_path / "policyd.toml"
    configuration.write_text(
        head
        + tables
        + rule("world", SAYS, "listed('world')")
        + f'on_error = "{LATER}"\n'
        + rule("zen", SAYS, "listed('zen')")
    )
    shown = CliRunner().invoke(explain, ["-c", str(configuration), f"client_address={SPAM}"])
    assert shown.exit_code == 0, shown.output
    assert LATER in shown.output
    assert "dnsbl world: suspended: it lists 1.0.0.127.world.test" in shown.output


def answers(policyd: Remembering, zone: str) -> dict[str, float]:
    """Give what was counted of a zone."""
    return {
        dict(labels)["result"]: value
        for labels, value in policyd.samples("policyd_dnsbl_answers_total").items()
        if dict(labels)["zone"] == zone
    }


def downs(policyd: Remembering, dependency: str) -> list[str]:
    """Give the reasons for which something was logged to be down."""
    events = policyd.events("dependency.down")
    return [event["reason"] for event in events if event["dependency"] == dependency]


def is_told(policyd: Remembering, dependency: str) -> bool:
    """Tell whether it was logged that something is down."""
    return bool(downs(policyd, dependency))

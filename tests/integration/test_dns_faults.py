"""A DNS that is broken, on the wire: a real Postfix asks, a real resolver asks broken servers."""

import shutil
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Final

import dns.rcode
import pytest

from tests.integration.changing import rule
from tests.integration.conftest import short_directory
from tests.integration.remembering import XCLIENT, Remembering, arriving, said, send
from tools.dns_servers import Act, NameServer, Recursive, Unruly
from tools.postfix_instance import PostfixInstance

pytestmark = pytest.mark.integration

CLIENT: Final = "192.0.2.1"
TIMEOUT: Final = 0.6
"""Seconds of a question."""
NETWORKS: Final = " ".join(
    '"' + "".join(f"ip4:198.51.100.{number} " for number in range(first, first + 10)) + '"'
    for first in range(0, 200, 10)
)
ZONE: Final = f"""\
mail    A 192.0.2.9
good    MX 10 mail
good    TXT "v=spf1 ip4:{CLIENT} -all"
long    MX 10 mail
long    TXT "v=spf1 " {NETWORKS} "ip4:{CLIENT} -all"
tail    MX 10 mail
tail    TXT "v=spf1 " {NETWORKS} "-all"
"""
"""The policies of `long` and `tail` fit into no datagram: only their ends tell what they say."""
BODY: Final = (
    rule("unknown", "550 5.7.1 No such domain", "not resolves(sender_domain)")
    + 'on_error = "451 4.4.3 The DNS does not tell"\n'
    + rule("spf-fail", "spf-fail: {spf_domain}", "spf() == 'fail'")
    + rule("spf-temperror", "spf-temperror: {spf_domain}", "spf() == 'temperror'")
)


@pytest.fixture(scope="module")
def directory() -> Iterator[Path]:
    made = short_directory()
    yield made
    shutil.rmtree(made)


@pytest.fixture(scope="module")
def resolver(directory: Path) -> Iterator[Recursive]:
    """A resolver that asks a sound server, and four that are not."""
    with (
        NameServer(directory / "nsd", {"test": ZONE}) as sound,
        Unruly(lambda _: Act(rcode=dns.rcode.SERVFAIL)) as failing,
        Unruly(lambda _: Act(delay=10.0)) as slow,
        Unruly(lambda _: Act(silent=True)) as silent,
    ):
        stubs = {
            "test": sound.address,
            "lame.example": sound.address,  # which knows nothing of it
            "failing.example": failing.address,
            "slow.example": slow.address,
            "silent.example": silent.address,
        }
        with Recursive(directory / "unbound", stubs) as server:
            yield server


@pytest.fixture(scope="module")
def policyd(directory: Path, resolver: Recursive) -> Iterator[Remembering]:
    servers = f'[dns]\nservers = ["{resolver.address}"]\ntimeout = "{TIMEOUT}s"\n'
    with Remembering(directory, servers + BODY, policy=("rcpt",), workers=1) as running:
        yield running


@pytest.fixture(scope="module")
def postfix(
    policyd: Remembering, postfix_factory: Callable[..., PostfixInstance]
) -> PostfixInstance:
    return postfix_factory(
        services={"rcpt": {"smtpd_recipient_restrictions": policyd.asked("rcpt")}}, main=XCLIENT
    )


def reply(postfix: PostfixInstance, sender: str) -> str:
    """Send a message: what the client is told of its recipient, without Postfix's words."""
    with arriving(postfix, "rcpt", CLIENT) as client:
        found = send(client, sender, "b@policyd.test")
    return said(found).replace("<b@policyd.test>: Recipient address rejected: ", "")


def test_a_sound_server_tells(postfix: PostfixInstance) -> None:
    assert reply(postfix, "a@good.test").startswith("250 ")
    assert reply(postfix, "a@gone.test") == "550 5.7.1 No such domain"


def test_what_fits_into_no_datagram_is_asked_for_over_tcp(postfix: PostfixInstance) -> None:
    assert reply(postfix, "a@long.test").startswith("250 ")
    assert reply(postfix, "a@tail.test") == "550 5.7.23 tail.test"


@pytest.mark.parametrize("domain", ["failing.example", "lame.example"])
def test_a_server_that_fails_or_is_lame_is_no_answer(postfix: PostfixInstance, domain: str) -> None:
    assert reply(postfix, f"a@{domain}") == "451 4.4.3 The DNS does not tell"


@pytest.mark.parametrize("domain", ["slow.example", "silent.example"])
def test_one_that_answers_after_10_s_or_never_is_given_up_in_time(
    postfix: PostfixInstance, domain: str
) -> None:
    before = time.monotonic()
    assert reply(postfix, f"a@{domain}") == "451 4.4.3 The DNS does not tell"
    # resolves(): MX, and then addresses beside it
    assert time.monotonic() - before < 2 * TIMEOUT + 1


def test_what_was_answered_without_it_is_counted_and_others_are_answered(
    postfix: PostfixInstance, policyd: Remembering
) -> None:
    fallbacks = "policyd_dependency_fallbacks_total"
    before = policyd.value(fallbacks, dependency="dns")
    reply(postfix, "a@silent.example")
    assert reply(postfix, "a@good.test").startswith("250 ")
    assert policyd.value(fallbacks, dependency="dns") == (before or 0) + 1
    assert policyd.value("policyd_dependency_up", dependency="dns") == 1
    fault = {"frontend": "policy", "stage": "rcpt", "verdict": "defer", "source": "error"}
    assert policyd.value("policyd_replies_total", **fault, code="451", enhanced="4.3.0") == 0

"""Greylisting by a real Postfix: who is told to come back, and who is not (RFC 6647)."""

import os
import re
import shutil
import signal
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Final, NamedTuple

import pytest

from tests.integration.changing import rule
from tests.integration.conftest import short_directory
from tests.integration.remembering import XCLIENT, Remembering, arriving, said, send
from tools.postfix_instance import PostfixInstance
from tools.smtp_dialogue import Reply

pytestmark = pytest.mark.integration

DELAY: Final = 2.0
ENOUGH: Final = 3
"""Messages after which a client is allowed."""
SAYS: Final = "450 4.2.0 Come back in {retry_after}"
BODY: Final = (
    f'[greylist]\ndelay = "{DELAY:g}s"\nauto_allow_after = {ENOUGH}\n'
    + rule("grey", SAYS, "service == 'mx' and greylisted()")
    + rule("unless-rejected", f"if_permitted {SAYS}", "service == 'permit' and greylisted()")
    + rule("by-milter", SAYS, "service == 'mx.policyd.test' and greylisted()")
    + rule("try-out", SAYS, "service == 'shadow' and greylisted()")
    + 'mode = "shadow"\n'
    + rule("big", "552 5.3.4 Too big", "size > '20 KiB'", stage="end-of-data")
)
BIG: Final = b"Subject: x\n\n" + b"0123456789\n" * 2_100
DEFERRED: Final = re.compile(
    r"450 4\.2\.0 (<\S+>: (Recipient address|Data command) rejected: )?Come back in [12]s"
)

Outcomes = dict[str, float]


class Attempt(NamedTuple):
    """A message of a client, and the service that it comes to."""

    address: str
    name: str = "[UNAVAILABLE]"
    sender: str = "a@sender.test"
    recipients: tuple[str, ...] = ("b@policyd.test",)
    service: str = "mx"
    login: str = ""


WAITING: Final = {
    "plain": Attempt("192.0.2.1", "mail.plain-host.net"),
    "restart": Attempt("192.0.9.1", "mail.restart-host.net"),
    "reload": Attempt("192.0.10.1", "mail.reload-host.net"),
    "kill_all_workers": Attempt("192.0.11.1", "mail.kill-host.net"),
    "provider": Attempt("192.0.3.1", "mail-a.provider-pool.net"),
    "network": Attempt("192.0.4.1"),
    "null sender": Attempt("192.0.5.1", "mail.notifier-host.net", sender=""),
    "successful": Attempt(
        "192.0.6.1", "mail.good-host.net", recipients=tuple(f"{n}@policyd.test" for n in "abc")
    ),
    "shadow": Attempt("192.0.7.1", "mail.shadow-host.net", service="shadow"),
    "milter": Attempt("192.0.12.1", "mail-a.filtered-pool.net", service="milter"),
    "null by milter": Attempt(
        "192.0.13.1", "mail.filtered-bounce.net", sender="", service="milter"
    ),
    "permit": Attempt("192.0.8.1", "mail.permit-host.net", service="permit"),
}
"""Whose first attempts are made together, so that the tests wait once."""


@pytest.fixture(scope="module")
def directory() -> Iterator[Path]:
    directory = short_directory()
    yield directory
    shutil.rmtree(directory)


@pytest.fixture(scope="module")
def policyd(directory: Path) -> Iterator[Remembering]:
    with Remembering(directory, BODY) as running:
        yield running


@pytest.fixture(scope="module")
def filtering() -> Iterator[Remembering]:
    """Another, which Postfix asks as a milter alone."""
    directory = short_directory()
    with Remembering(directory, BODY, policy=None, milter=(), workers=1) as running:
        yield running
    shutil.rmtree(directory)


@pytest.fixture(scope="module")
def postfix(
    policyd: Remembering,
    filtering: Remembering,
    postfix_factory: Callable[..., PostfixInstance],
) -> PostfixInstance:
    lists = ("recipient", "data", "end_of_data")
    services = {
        service: {f"smtpd_{each}_restrictions": policyd.asked(service) for each in lists}
        for service in ("mx", "permit", "shadow")
    }
    services["too-late"] = dict(services["permit"])
    services["permit"]["smtpd_recipient_restrictions"] += ", reject_unlisted_recipient"
    services["milter"] = {"smtpd_milters": filtering.filters}
    return postfix_factory(
        services=services,
        main=XCLIENT,
        mailboxes=("@policyd.test", "known@listed.test"),
    )


@pytest.fixture(scope="module")
def waited(postfix: PostfixInstance) -> None:
    """Make all first attempts, and wait as long as they are told to."""
    for name, attempt in WAITING.items():
        for recipient in attempt.recipients:
            reply = make(postfix, attempt._replace(recipients=(recipient,)))
            if name == "shadow":
                assert reply.code == 250
            else:
                assert DEFERRED.fullmatch(said(reply)), name
    time.sleep(DELAY)


def make(postfix: PostfixInstance, attempt: Attempt, message: bytes = b"Subject: x\n\n") -> Reply:
    """Make an attempt in a session of its own; the reply that it ends with."""
    address, name, sender, recipients, service, login = attempt
    with arriving(postfix, service, address, name, login=login) as client:
        return send(client, sender, *recipients, message=message)


def is_deferred(reply: Reply) -> bool:
    return DEFERRED.fullmatch(said(reply)) is not None


def outcomes(policyd: Remembering) -> Outcomes:
    return {
        dict(labels)["outcome"]: value
        for labels, value in policyd.samples("policyd_greylist_outcomes_total").items()
    }


def added(before: Outcomes, after: Outcomes) -> Outcomes:
    return {name: after[name] - before[name] for name in after if after[name] != before[name]}


# coming back


def test_a_first_attempt_and_early_ones_are_deferred_and_told_how_long_to_wait(
    postfix: PostfixInstance, policyd: Remembering
) -> None:
    before, replies = outcomes(policyd), policyd.counted("policyd_replies_total")
    attempt = Attempt("198.51.100.1", "mail.early-host.net")
    says = "450 4.2.0 <b@policyd.test>: Recipient address rejected: Come back in 2s"
    started = time.monotonic()
    assert said(make(postfix, attempt)) == says
    assert is_deferred(make(postfix, attempt))
    assert is_deferred(make(postfix, attempt))
    assert time.monotonic() - started < DELAY
    assert added(before, outcomes(policyd)) == {"first": 1, "early": 2}
    assert policyd.counted("policyd_replies_total") - replies == 3


@pytest.mark.usefixtures("waited")
def test_a_retry_after_the_delay_is_accepted_and_counted_with_how_late_it_came(
    postfix: PostfixInstance, policyd: Remembering
) -> None:
    before, replies = outcomes(policyd), policyd.counted("policyd_replies_total")
    late = policyd.counted("policyd_greylist_delay_seconds_sum")
    retries = policyd.counted("policyd_greylist_delay_seconds_count")
    attempt = WAITING["plain"]._replace(recipients=("plain@policyd.test",))
    assert is_deferred(make(postfix, attempt)), "another recipient is another triplet"
    assert make(postfix, WAITING["plain"]).code == 250
    assert make(postfix, WAITING["plain"]).code == 250, "what has passed waits no more"
    assert added(before, outcomes(policyd)) == {"first": 1, "passed": 2}
    assert policyd.counted("policyd_greylist_delay_seconds_count") - retries == 1
    assert DELAY <= policyd.counted("policyd_greylist_delay_seconds_sum") - late < 60
    # rcpt of the first; rcpt, data and end-of-data of the others
    assert policyd.counted("policyd_replies_total") - replies == 7


def test_an_early_retry_does_not_restart_the_clock(postfix: PostfixInstance) -> None:
    attempt = Attempt("198.51.100.2", "mail.eager-host.net")
    assert is_deferred(make(postfix, attempt))
    started = time.monotonic()
    time.sleep(DELAY / 2)
    assert is_deferred(make(postfix, attempt))
    time.sleep(max(0.0, started + DELAY - time.monotonic()))
    assert make(postfix, attempt).code == 250


# who comes back


@pytest.mark.usefixtures("waited")
def test_hosts_of_one_provider_retry_for_each_other_over_ipv4_and_ipv6(
    postfix: PostfixInstance,
) -> None:
    first = WAITING["provider"]
    over_ipv6 = first._replace(address="2001:db8:3::b", name="mail-b.provider-pool.net")
    assert make(postfix, over_ipv6).code == 250
    third = first._replace(address="198.51.100.3", name="out.eu.provider-pool.net")
    assert make(postfix, third).code == 250
    zombie = first._replace(address="203.0.113.3", name="dsl-203-0-113-3.provider-pool.net")
    assert is_deferred(make(postfix, zombie)), "a name that is the address speaks for nobody"
    stranger = first._replace(address="192.0.3.2", name="mail.another-provider.net")
    assert is_deferred(make(postfix, stranger))


@pytest.mark.usefixtures("waited")
def test_clients_without_a_name_are_known_by_their_network(postfix: PostfixInstance) -> None:
    first = WAITING["network"]
    assert make(postfix, first._replace(address="192.0.4.200")).code == 250
    assert is_deferred(make(postfix, first._replace(address="192.0.44.1")))


@pytest.mark.usefixtures("waited")
def test_the_milter_greylists_by_the_same_rules(
    postfix: PostfixInstance, filtering: Remembering
) -> None:
    before = outcomes(filtering)
    first = WAITING["milter"]
    another_host = first._replace(address="2001:db8:12::b", name="mail-b.filtered-pool.net")
    assert make(postfix, another_host).code == 250
    stranger = first._replace(recipients=("stranger@policyd.test",))
    assert said(make(postfix, stranger)) == "450 4.2.0 Come back in 2s"
    assert make(postfix, WAITING["null by milter"]).code == 250
    assert make(postfix, first._replace(login="jo", sender="jo@policyd.test")).code == 250
    assert added(before, outcomes(filtering)) == {"passed": 2, "first": 1}


def test_logins_and_loopback_clients_are_not_asked(
    postfix: PostfixInstance, policyd: Remembering
) -> None:
    before = outcomes(policyd)
    exempt = {"check": "greylisted", "result": "exempt"}
    told = policyd.counted("policyd_checks_total", **exempt)
    assert make(postfix, Attempt("198.51.100.4", login="jo")).code == 250
    assert make(postfix, Attempt("127.0.0.1")).code == 250
    assert make(postfix, Attempt("::1")).code == 250
    assert added(before, outcomes(policyd)) == {}
    assert policyd.counted("policyd_checks_total", **exempt) - told >= 3


@pytest.mark.usefixtures("waited")
def test_a_null_sender_is_deferred_at_data_so_that_callouts_pass(
    postfix: PostfixInstance, policyd: Remembering
) -> None:
    attempt = WAITING["null sender"]
    assert make(postfix, attempt).code == 250
    before = outcomes(policyd)
    with arriving(postfix, "mx", "198.51.100.5", "mail.callout-host.net") as client:
        assert client.mail("").code == 250
        assert client.rcpt("b@policyd.test").code == 250
        assert client.rcpt("c@policyd.test").code == 250
        assert added(before, outcomes(policyd)) == {}
        assert is_deferred(client.data())
        assert added(before, outcomes(policyd)) == {"first": 1}


# what state outlives


def restart(policyd: Remembering) -> None:
    policyd.restart()


def reload(policyd: Remembering) -> None:
    policyd.become(BODY + rule("another", "pass", "sender == 'x@y.test'"))


def kill_all_workers(policyd: Remembering) -> None:
    before = policyd.worker_pids()
    for pid in before:
        os.kill(pid, signal.SIGKILL)
    policyd.until_all_up()
    assert not set(before) & set(policyd.worker_pids())


@pytest.mark.parametrize("disturb", [restart, reload, kill_all_workers])
@pytest.mark.usefixtures("waited")
def test_nothing_is_forgotten_over(
    postfix: PostfixInstance, policyd: Remembering, disturb: Callable[[Remembering], None]
) -> None:
    known = WAITING[disturb.__name__]
    attempt = known._replace(sender="new@x.test")
    assert make(postfix, known).code == 250
    assert is_deferred(make(postfix, attempt))
    started = time.monotonic()
    disturb(policyd)
    assert make(postfix, known).code == 250
    time.sleep(max(0.0, started + DELAY - time.monotonic()))
    before = outcomes(policyd)
    assert make(postfix, attempt).code == 250
    assert added(before, outcomes(policyd)) == {"passed": 1}


# whom experience allows


@pytest.mark.usefixtures("waited")
def test_a_client_is_allowed_after_enough_messages_that_were_accepted(
    postfix: PostfixInstance, policyd: Remembering
) -> None:
    good = WAITING["successful"]
    numbers = iter(range(10))

    def stranger() -> Reply:
        return make(postfix, good._replace(recipients=(f"stranger-{next(numbers)}@policyd.test",)))

    assert make(postfix, good).code == 250  # one message, though it has three recipients
    assert is_deferred(stranger())
    for _ in range(ENOUGH):
        assert said(make(postfix, good, BIG)).startswith("552 5.3.4")
    with arriving(postfix, "mx", good.address, good.name) as client:
        for _ in range(ENOUGH):
            client.mail(good.sender)
            assert client.rcpt(good.recipients[0]).code == 250
            client.rset()
    assert is_deferred(stranger()), "neither refused nor abandoned messages are successes"
    assert make(postfix, good).code == 250
    assert is_deferred(stranger())
    assert make(postfix, good).code == 250
    before = outcomes(policyd)
    assert stranger().code == 250
    assert added(before, outcomes(policyd)) == {"auto_allowed": 1}
    same_domain = good._replace(address="198.18.7.7", name="198-18-7-7.good-host.net")
    assert is_deferred(make(postfix, same_domain))


# how rules use it


@pytest.mark.usefixtures("waited")
def test_a_rule_in_shadow_defers_nobody_and_helps_nobody(
    postfix: PostfixInstance, policyd: Remembering
) -> None:
    shadow = {"rule": "try-out", "mode": "shadow", "code": "450"}
    hits = policyd.counted("policyd_rule_replies_total", **shadow)
    attempt = WAITING["shadow"]
    assert make(postfix, attempt._replace(sender="new@x.test")).code == 250
    assert policyd.counted("policyd_rule_replies_total", **shadow) - hits == 1
    assert make(postfix, attempt).code == 250
    assert policyd.counted("policyd_rule_replies_total", **shadow) - hits == 1, "it has passed"
    assert is_deferred(make(postfix, attempt._replace(service="mx")))


@pytest.mark.usefixtures("waited")
def test_if_permitted_leaves_unknown_users_their_550(postfix: PostfixInstance) -> None:
    attempt = WAITING["permit"]
    assert make(postfix, attempt).code == 250
    unknown = make(postfix, attempt._replace(recipients=("unknown@listed.test",)))
    assert unknown.pair == "550 5.1.1"
    assert is_deferred(make(postfix, attempt._replace(recipients=("known@listed.test",))))
    at_mx = attempt._replace(recipients=("unknown@listed.test",), service="mx")
    assert is_deferred(make(postfix, at_mx))
    # without reject_unlisted_recipient, Postfix looks for unknown users when all lists are done
    too_late = attempt._replace(recipients=("another@listed.test",), service="too-late")
    assert is_deferred(make(postfix, too_late))

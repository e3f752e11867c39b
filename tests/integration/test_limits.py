"""Limits by a real Postfix: what counts, what is given back, and what who is over them is told."""

import contextlib
import itertools
import re
import shutil
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor

import pytest

from tests.integration.changing import until
from tests.integration.conftest import short_directory
from tests.integration.limited import (
    AT_THE_END,
    BIG,
    LATE,
    LIMITS,
    OVERRIDES,
    RULES,
    SMALL,
    WHOLE,
    Crowd,
    Login,
)
from tests.integration.remembering import XCLIENT, Remembering, arriving, send, spent
from tools.postfix_instance import PostfixInstance
from tools.smtp_dialogue import Reply

pytestmark = pytest.mark.integration

Stages = tuple[str, ...] | None


@pytest.fixture(scope="module")
def policyds() -> Iterator[dict[str, Remembering]]:
    """A policyd for each wiring: by which front end end-of-data is decided, if by any."""
    before = ("connect", "helo", "mail", "rcpt", "data")
    with contextlib.ExitStack() as stack:

        def made(
            body: str, policy: Stages = (), milter: Stages = None, workers: int = 2
        ) -> Remembering:
            directory = short_directory()
            stack.callback(shutil.rmtree, directory)
            (directory / "overrides.txt").write_text(OVERRIDES)
            return Remembering(
                directory, LIMITS + body, policy=policy, milter=milter, workers=workers
            )

        every = {
            "policy": made(RULES + AT_THE_END),
            "both": made(RULES + AT_THE_END, policy=(), milter=()),
            "milter": made(RULES + AT_THE_END, policy=None, milter=(), workers=1),
            "unsettled": made(RULES, policy=before, workers=1),
        }
        with ThreadPoolExecutor() as pool:
            list(pool.map(stack.enter_context, every.values()))
        yield every


@pytest.fixture(scope="module")
def postfix(
    policyds: dict[str, Remembering], postfix_factory: Callable[..., PostfixInstance]
) -> PostfixInstance:
    late = f"check_recipient_access inline:{{ {{ {LATE} = REJECT }} }}"
    policy, both, milter, unsettled = policyds.values()

    def lists(policyd: Remembering, service: str, *every: str) -> dict[str, str]:
        asked = {f"smtpd_{each}_restrictions": policyd.asked(service) for each in every}
        return {**asked, "smtpd_recipient_restrictions": f"{policyd.asked(service)}, {late}"}

    filtered = {"smtpd_milters": both.filters}
    return postfix_factory(
        services={
            "policy": lists(policy, "mx", "data", "end_of_data"),
            "grey": lists(policy, "grey", "data", "end_of_data"),
            "both": {**lists(both, "mx", "data"), **filtered},
            "both-asked": {**lists(both, "mx", "data", "end_of_data"), **filtered},
            "milter": {"smtpd_milters": milter.filters, "smtpd_recipient_restrictions": late},
            "unsettled": lists(unsettled, "mx", "end_of_data"),
        },
        main=XCLIENT,
    )


LogIn = Callable[..., Login]


@pytest.fixture(scope="module")
def log_in(postfix: PostfixInstance, policyds: dict[str, Remembering]) -> LogIn:
    """Log in to a service as somebody new, whose name begins with what says which rules apply."""
    numbers = itertools.count()

    def log_in(service: str, prefix: str, name: str = "") -> Login:
        policyd = policyds[service.partition("-")[0]]
        return Login(postfix, policyd, service, f"{prefix}-{name or next(numbers)}@policyd.test")

    return log_in


everywhere = pytest.mark.parametrize("service", ["policy", "both", "both-asked", "milter"])
"""End-of-data decided by policy delegation, by the milter alone or beside it, all by the milter."""
with_milter = pytest.mark.parametrize("service", ["both", "both-asked", "milter"])


def is_over(reply: Reply) -> bool:
    return reply.pair == "450 4.7.1" and "used, come back in" in reply.text


# what who is over a limit is told


@everywhere
def test_a_login_over_its_limit_is_told_how_much_it_may_and_when(
    log_in: LogIn, service: str
) -> None:
    login = log_in(service, "m")
    for _ in range(3):
        assert login.send().code == 250
    reply = login.send()
    assert reply.pair == "450 4.7.1"
    prefix = "" if service == "milter" else "<b@policyd.test>: Recipient address rejected: "
    assert re.fullmatch(
        prefix + r"3 messages per 1h, 3 used, come back in (1h|1h1m|59m\d\ds)", reply.text
    )
    assert login.spent("messages") == 3
    assert log_in(service, "m").send().code == 250, "others are not concerned"


def test_a_file_gives_some_logins_more_and_some_no_bound(log_in: LogIn) -> None:
    more, free = log_in("policy", "m", "more"), log_in("policy", "m", "free")
    for _ in range(5):
        assert more.send().code == 250
    assert "5 messages per 1h, 5 used" in more.send().text
    for _ in range(7):
        assert free.send().code == 250
    assert free.spent("messages") == 0


# once a message


@everywhere
def test_later_recipients_of_an_admitted_message_pass_although_the_limit_is_reached(
    log_in: LogIn, service: str
) -> None:
    login = log_in(service, "m")
    every = [f"{name}@policyd.test" for name in "abcd"]
    for _ in range(3):
        assert login.send(*every).code == 250
    assert login.spent("messages") == 3
    assert is_over(login.send(*every))


def test_a_message_that_two_lists_ask_about_is_charged_once(log_in: LogIn) -> None:
    login = log_in("policy", "t")
    for count in (1, 2, 3):
        assert login.send("a@policyd.test", "b@policyd.test").code == 250
        assert login.spent("messages") == count
    assert is_over(login.send())


@everywhere
def test_a_recipient_named_twice_is_charged_once(log_in: LogIn, service: str) -> None:
    login = log_in(service, "r")
    with login.session() as client:
        assert send(client, "a@x.test", *["a@policyd.test"] * 4).code == 250
    assert login.spent("recipients") == 1


# what is refused does not count


@everywhere
def test_a_message_refused_at_its_end_does_not_count(log_in: LogIn, service: str) -> None:
    login = log_in(service, "m")
    for _ in range(4):
        assert login.send(message=BIG).pair == "552 5.3.4"
        assert login.spent("messages") == 0
    for _ in range(3):
        assert login.send().code == 250
    assert is_over(login.send(message=BIG))


def test_what_follows_a_refused_end_in_the_same_transaction_is_charged_anew(
    log_in: LogIn,
) -> None:
    """smtpd(8) resets nothing where its end-of-data list refuses: RCPT has the same instance."""
    login = log_in("policy", "m")
    with login.session() as client:
        for count in (1, 2, 3):
            client.mail("few@x.test")
            client.rcpt("b@policyd.test")
            client.data()
            assert client.body(SMALL).code == 554
            assert client.mail("few@x.test").code == 503
            client.rcpt("c@policyd.test")
            client.data()
            assert client.body(SMALL).code == 250
            assert login.spent("messages") == count
        client.mail("few@x.test")
        assert is_over(client.rcpt("b@policyd.test"))


@everywhere
def test_a_message_refused_at_data_does_not_count(log_in: LogIn, service: str) -> None:
    login = log_in(service, "m")
    for _ in range(4):
        with login.session() as client:
            assert client.mail("a@x.test").code == 250
            for name in "abcde":
                assert client.rcpt(f"{name}@policyd.test").code == 250
            assert client.data().pair == "550 5.5.3"
            client.quit()
        until(lambda: login.spent("messages") == 0, seconds=5)
    for _ in range(3):
        assert login.send().code == 250
    assert login.spent("messages") == 3


@everywhere
def test_recipients_that_postfix_refused_are_given_back_at_the_end(
    log_in: LogIn, service: str
) -> None:
    login = log_in(service, "r")
    with login.session() as client:
        client.mail("a@x.test")
        assert client.rcpt("a@policyd.test").code == 250
        assert client.rcpt(LATE).code == 554
        assert client.rcpt("b@policyd.test").code == 250
        client.data()
        assert client.body(SMALL).code == 250
    assert login.spent("recipients") == 2
    assert login.send("a@policyd.test", "b@policyd.test").code == 250
    assert login.spent("recipients") == 4
    assert is_over(login.send())


@everywhere
def test_a_refused_recipient_costs_nothing(log_in: LogIn, service: str) -> None:
    login = log_in(service, "r")
    with login.session() as client:
        client.mail("a@x.test")
        every = [client.rcpt(f"{name}@policyd.test") for name in "abcdef"]
        assert [reply.code for reply in every] == [250] * 4 + [450] * 2
        assert login.spent("recipients") == 4
        client.data()
        assert client.body(SMALL).code == 250
    assert login.spent("recipients") == 4


@everywhere
def test_two_limits_are_charged_together_or_not_at_all(log_in: LogIn, service: str) -> None:
    login = log_in(service, "p")
    with login.session() as client:
        client.mail("a@x.test")
        for name in "abcd":
            assert client.rcpt(f"{name}@policyd.test").code == 250
        assert "4 recipients per 1h, 4 used" in client.rcpt("e@policyd.test").text
        client.data()
        assert client.body(SMALL).code == 250
    assert login.spent("messages") == 1
    assert is_over(login.send())
    assert (login.spent("messages"), login.spent("recipients")) == (1, 4)


@pytest.mark.parametrize(("sender", "address"), [("a@x.test", "192.0.2.8"), ("", "192.0.3.8")])
def test_what_greylisting_defers_costs_nothing(
    postfix: PostfixInstance, policyds: dict[str, Remembering], sender: str, address: str
) -> None:
    """The null sender is deferred at DATA, after its recipients have been charged."""
    for _ in range(4):
        with arriving(postfix, "grey", address) as client:
            assert send(client, sender, "b@policyd.test").pair == "450 4.2.0"
        assert spent(policyds["policy"], "clients", address) == 0


@everywhere
def test_a_limit_in_shadow_refuses_nobody_and_counts_for_itself(
    log_in: LogIn, policyds: dict[str, Remembering], service: str
) -> None:
    policyd = policyds[service.partition("-")[0]]
    shadow = {"rule": "try-out", "mode": "shadow"}
    hits = policyd.counted("policyd_rule_replies_total", **shadow)
    login = log_in(service, "s")
    for _ in range(3):
        assert login.send().code == 250
    assert (login.spent("messages"), login.spent("messages", shadow=True)) == (3, 3)
    assert policyd.counted("policyd_rule_replies_total", **shadow) == hits
    assert is_over(login.send())
    assert policyd.counted("policyd_rule_replies_total", **shadow) == hits + 1


# what is abandoned


@with_milter
@pytest.mark.parametrize("word", ["RSET", "EHLO client.test"])
def test_what_is_abandoned_is_given_back_before_the_next_message(
    log_in: LogIn, service: str, word: str
) -> None:
    """Postfix tells the milter of the end together with what comes next (milter8_abort)."""
    login = log_in(service, "m")
    with login.session() as client:
        client.mail("a@x.test")
        assert client.rcpt("b@policyd.test").code == 250
        assert login.spent("messages") == 1
        client.command(word)
        assert client.mail("a@x.test").code == 250
        assert login.spent("messages") == 0


@with_milter
@pytest.mark.parametrize("word", ["QUIT", "DATA", ""])
def test_what_is_abandoned_with_its_session_is_given_back(
    log_in: LogIn, service: str, word: str
) -> None:
    login = log_in(service, "m")
    with login.session() as client:
        client.mail("a@x.test")
        assert client.rcpt("b@policyd.test").code == 250
        assert login.spent("messages") == 1
        if word:
            client.command(word)
    until(lambda: login.spent("messages") == 0, seconds=5)


@with_milter
def test_who_comes_by_ipv6_is_the_same_client_to_both_front_ends(
    postfix: PostfixInstance, policyds: dict[str, Remembering], service: str
) -> None:
    policyd = policyds[service.partition("-")[0]]
    name = f"m-ipv6-{service}"
    for address in ("2001:DB8:0:0::7", "::ffff:192.0.2.7"):
        where = {"address": address, "destination": "2001:db8::0:25", "login": name}
        with arriving(postfix, service, **where) as client:
            client.mail("a@x.test")
            assert client.rcpt("b@policyd.test").code == 250
            assert spent(policyd, "messages", name) == 1
            client.rset()
            client.mail("a@x.test")
            assert spent(policyd, "messages", name) == 0


def test_policy_delegation_alone_does_not_see_what_is_abandoned(log_in: LogIn) -> None:
    login = log_in("policy", "m")
    for _ in range(3):
        with login.session() as client:
            client.mail("a@x.test")
            assert client.rcpt("b@policyd.test").code == 250
            client.rset()
    assert is_over(login.send())


@with_milter
def test_abandoned_messages_in_one_packet_leave_the_next_alone(log_in: LogIn, service: str) -> None:
    login = log_in(service, "m")
    begun = b"MAIL FROM:<a@x.test>\r\nRCPT TO:<b@policyd.test>\r\n"
    abandoned = 20
    with login.session() as client:
        for count in (1, 2, 3):
            client.send((begun + b"RSET\r\n") * abandoned + begun + b"DATA\r\n")
            replies = [client.read_reply().code for _ in range(3 * abandoned + 3)]
            assert replies == [250] * (3 * abandoned + 2) + [354]
            assert client.body(SMALL).code == 250
            assert login.spent("messages") == count
    assert is_over(login.send())


@everywhere
def test_of_many_sessions_at_once_exactly_what_was_accepted_counts(
    log_in: LogIn, service: str
) -> None:
    login = log_in(service, "c")
    ways = ("accepted", "refused", *(("RSET",) if service != "policy" else ()))
    accepted, recipients = Crowd(login, ways).come()
    assert accepted > Crowd.sessions
    until(lambda: login.spent("many") == accepted, seconds=5)
    until(lambda: login.spent("many_recipients") == recipients, seconds=5)


# where nothing is settled


def test_without_the_end_of_data_recipients_count_as_they_are_asked_about(log_in: LogIn) -> None:
    login = log_in("unsettled", "r")
    with login.session() as client:
        client.mail("a@x.test")
        assert client.rcpt("a@policyd.test").code == 250
        assert client.rcpt(LATE).code == 554
        assert login.spent("recipients") == 2
        client.rset()
        assert login.spent("recipients") == 2
        client.mail("a@x.test")
        assert client.rcpt("a@policyd.test").code == 250
        client.data()
        assert client.body(SMALL).code == 250
    assert login.spent("recipients") == 3


# bytes


@everywhere
def test_bytes_are_those_of_whole_messages(log_in: LogIn, service: str) -> None:
    login = log_in(service, "b")
    message = WHOLE + b"0123456\n" * 1_000
    octets = len(message) + message.count(b"\n")
    for count in (1, 2):
        assert login.send("a@policyd.test", "b@policyd.test", message=message).code == 250
        assert login.spent("bytes") == count * octets
    reply = login.send(message=message)
    assert is_over(reply)
    assert "20 kB per 1h, 17.7 KiB used" in reply.text
    assert login.spent("bytes") == 2 * octets
    assert login.send().code == 250, "less still fits"
    assert login.send(message=BIG).pair == "552 5.3.4"

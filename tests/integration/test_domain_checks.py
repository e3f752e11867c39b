"""Domains and clients' names on the wire: a real Postfix asks, a real name server answers."""

import shutil
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Final

import pytest

from policyd.smtp.catalogue import named
from tests.integration.changing import rule
from tests.integration.conftest import short_directory
from tests.integration.remembering import XCLIENT, Remembering, arriving, send
from tools.dns_servers import NameServer
from tools.postfix_instance import PostfixInstance
from tools.smtp_dialogue import SmtpDialogue

pytestmark = pytest.mark.integration

ZONES: Final = {
    "test": """\
client   A 192.0.2.1
mx       MX 10 mail.mx
mail.mx  A 192.0.2.2
address  A 192.0.2.3
null     MX 0 .
null     A 192.0.2.4
named    A 192.0.2.21
wrong    A 192.0.2.99
""",
    "2.0.192.in-addr.arpa": """\
21  PTR named.test.
22  PTR wrong.test.
""",
}
"""Names outside the zones are refused by the server: no answer."""

PLAIN: Final = "192.0.2.21"
"""A client with a name that leads back."""
BODY: Final = (
    rule("reverse", "550 5.7.25 No PTR", "service == 'client' and not reverse_resolves()")
    + 'on_error = "450 4.7.25 Your name cannot be looked up now"\n'
    + rule("fcrdns", "no-reverse-dns", "service == 'client' and not fcrdns()")
    + rule("helo", "helo-unknown", "service == 'helo' and not helo_resolves()")
    + rule("null", "sender-null-mx", "null_mx(sender_domain)")
    + rule("unknown", "sender-domain-unknown", "not resolves(sender_domain)")
    + 'on_error = "sender-domain-lookup-failed"\n'
    + rule("no-mx", "450 4.1.8 No MX", "service == 'strict' and not has_mx(sender_domain)")
    + rule("null-recipient", "recipient-null-mx", "null_mx(recipient_domain)")
    + rule(
        "kin",
        "450 4.7.1 One of {sender_domain}",
        "service == 'kin' and registered_domain(sender_domain) == 'example.co.uk'",
    )
)
SERVICES: Final = ("rcpt", "client", "helo", "strict", "kin")


@pytest.fixture(scope="module")
def directory() -> Iterator[Path]:
    made = short_directory()
    yield made
    shutil.rmtree(made)


@pytest.fixture(scope="module")
def policyd(directory: Path) -> Iterator[Remembering]:
    with NameServer(directory / "dns", ZONES | {"co.uk": "mail.example MX 1 mx.example"}) as dns:
        body = f'[dns]\nservers = ["{dns.address}"]\n' + BODY
        with Remembering(directory, body, policy=("rcpt",), workers=1) as running:
            yield running


@pytest.fixture(scope="module")
def postfix(
    policyd: Remembering, postfix_factory: Callable[..., PostfixInstance]
) -> PostfixInstance:
    services = {
        service: {"smtpd_recipient_restrictions": policyd.asked(service)} for service in SERVICES
    }
    return postfix_factory(
        services=services, main=XCLIENT, mailboxes=("@policyd.test", "@null.test")
    )


def reply_to(
    session: SmtpDialogue, sender: str, recipient: str = "b@policyd.test"
) -> tuple[str, str]:
    """Give pair and text of the refusal; empty if accepted."""
    reply = send(session, sender, recipient)
    return ("", "") if reply.code == 250 else (reply.pair, reply.text)


def refused(postfix: PostfixInstance, service: str, sender: str, client: str = PLAIN) -> str:
    """Give the pair of the refusal."""
    with arriving(postfix, service, client) as session:
        return reply_to(session, sender)[0]


@pytest.mark.parametrize(
    ("sender", "pair"),
    [
        ("jo@mx.test", ""),
        ("jo@address.test", ""),
        ("jo@null.test", "550 5.7.27"),
        ("jo@not-there.test", "550 5.1.2"),  # Postfix sends X.1.2 for X.1.8 at a recipient list
        ("jo@refused.example", "451 4.1.2"),
        ("jo@[192.0.2.1]", ""),
        ("", ""),
    ],
)
def test_the_senders_domain(postfix: PostfixInstance, sender: str, pair: str) -> None:
    assert refused(postfix, "rcpt", sender) == pair


def test_a_recipient_whose_domain_takes_no_mail(postfix: PostfixInstance) -> None:
    with arriving(postfix, "rcpt") as session:
        pair, text = reply_to(session, "jo@mx.test", "b@null.test")
    assert pair.startswith("556 5.1.")
    assert text.endswith(named("recipient-null-mx").text)


def test_an_address_alone_is_no_mail_server(postfix: PostfixInstance) -> None:
    assert refused(postfix, "strict", "jo@mx.test") == ""
    assert refused(postfix, "strict", "jo@address.test").startswith("450 4.1.")


@pytest.mark.parametrize(
    ("client", "pair", "text"),
    [
        (PLAIN, "", ""),
        ("192.0.2.22", "550 5.7.25", named("no-reverse-dns").text),
        ("192.0.2.23", "550 5.7.25", "No PTR"),
        ("198.51.100.1", "450 4.7.25", "Your name cannot be looked up now"),
    ],
)
def test_the_clients_name(postfix: PostfixInstance, client: str, pair: str, text: str) -> None:
    with arriving(postfix, "client", client) as session:
        found = reply_to(session, "jo@mx.test")
    assert found[0] == pair
    assert found[1].endswith(text)


def test_a_name_that_postfix_has_confirmed_is_not_asked_for(postfix: PostfixInstance) -> None:
    with arriving(postfix, "client", "192.0.2.23", "mail.elsewhere.example") as session:
        assert reply_to(session, "jo@mx.test") == ("", "")


@pytest.mark.parametrize(
    ("name", "pair"),
    [
        ("client.test", ""),
        ("mx.test", ""),
        ("not-there.test", "450 4.7.1"),
        ("[192.0.2.1]", ""),
        ("[IPv6:2001:db8::1]", ""),
        ("192.0.2.1", "450 4.7.1"),
        ("refused.example", ""),  # no answer: the rule is skipped
    ],
)
def test_the_helo_name(postfix: PostfixInstance, name: str, pair: str) -> None:
    with arriving(postfix, "helo", PLAIN) as session:
        assert session.ehlo(name).code == 250
        assert reply_to(session, "jo@mx.test")[0] == pair


def test_the_registered_domain(postfix: PostfixInstance) -> None:
    with arriving(postfix, "kin") as session:
        pair, text = reply_to(session, "jo@mail.example.co.uk")
    assert (pair, text.rpartition(": ")[2]) == ("450 4.7.1", "One of mail.example.co.uk")

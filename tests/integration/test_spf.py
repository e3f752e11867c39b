"""SPF on the wire: a real Postfix asks, a real name server has the records."""

import shutil
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Final

import pytest

from policyd.mail.spf import RESULTS as RESULTS_OF_SPF
from policyd.smtp.catalogue import named
from tests.integration.changing import rule
from tests.integration.conftest import short_directory
from tests.integration.remembering import XCLIENT, Remembering, arriving, send
from tools.dns_servers import NameServer
from tools.postfix_instance import PostfixInstance

pytestmark = pytest.mark.integration

ZONE: Final = """\
pass       TXT "v=spf1 ip4:192.0.2.0/24 ip6:2001:db8::/32 -all"
fail       TXT "v=spf1 -all"
says       TXT "v=spf1 -all exp=why.says.test"
why.says   TXT "Mail of %{d} does not come from %{i}"
softfail   TXT "v=spf1 ~all"
neutral    TXT "v=spf1 ?all"
none       TXT "not SPF"
error      TXT "v=spf1 moo -all"
twice      TXT "v=spf1 -all"
twice      TXT "v=spf1 +all"
later      TXT "v=spf1 include:nobody.answers.example -all"
include    TXT "v=spf1 include:pass.test -all"
redirect   TXT "v=spf1 redirect=says.test"
client     TXT "v=spf1 ip4:192.0.2.1 -all"
"""
"""Names outside the zone are refused by the server: no answer."""

SAYS: Final = "Mail of says.test does not come from 192.0.2.1"
CLIENT: Final = "192.0.2.1"
OTHER: Final = "192.0.2.2"


HELO: Final = "sender_local == 'helo'"


def rules(stage: str, service: str) -> str:
    """Write rules that tell each result."""
    on = f"service == '{service}' and "
    return "".join(
        rule(f"{service}-{name}", then, on + when, stage)
        for name, when, then in (
            ("helo", f"{HELO} and spf_helo() == 'fail'", "550 5.7.23 HELO {spf_domain}"),
            ("fail", "spf() == 'fail'", "spf-fail: {spf_domain}, {spf_reason}. {spf_explanation}"),
            ("permerror", "spf() == 'permerror'", "spf-permerror: {spf_domain}: {spf_reason}"),
            ("temperror", "spf() == 'temperror'", "spf-temperror"),
            ("others", "spf() in ['softfail', 'neutral', 'none']", "450 4.7.1 {spf_result}"),
        )
    )


BODY: Final = rules("rcpt", "rcpt") + rules("mail", "mail") + rules("end-of-data", "milter")


@pytest.fixture(scope="module")
def directory() -> Iterator[Path]:
    made = short_directory()
    yield made
    shutil.rmtree(made)


@pytest.fixture(scope="module")
def policyd(directory: Path) -> Iterator[Remembering]:
    with NameServer(directory / "dns", {"test": ZONE}) as dns:
        body = f'[dns]\nservers = ["{dns.address}"]\n' + BODY
        stages = ("mail", "rcpt")
        with Remembering(
            directory, body, policy=stages, milter=("end-of-data",), workers=1
        ) as running:
            yield running


@pytest.fixture(scope="module")
def postfix(
    policyd: Remembering, postfix_factory: Callable[..., PostfixInstance]
) -> PostfixInstance:
    return postfix_factory(
        services={
            "rcpt": {"smtpd_recipient_restrictions": policyd.asked("rcpt")},
            "mail": {
                "smtpd_sender_restrictions": policyd.asked("mail"),
                "smtpd_delay_reject": "no",
            },
            "milter": {
                "smtpd_milters": policyd.filters,
                "milter_macro_daemon_name": "milter",
            },
        },
        main=XCLIENT,
    )


RESULTS: Final = [
    ("jo@pass.test", CLIENT, ""),
    ("jo@pass.test", "2001:db8::1", ""),
    ("jo@pass.test", "198.51.100.1", "550 5.7.23 pass.test, -all."),
    ("jo@fail.test", CLIENT, "550 5.7.23 fail.test, -all."),
    ("jo@FAIL.test", CLIENT, "550 5.7.23 fail.test, -all."),
    ("jo@says.test", CLIENT, f"550 5.7.23 says.test, -all. {SAYS}"),
    ("jo@redirect.test", CLIENT, f"550 5.7.23 redirect.test, -all. {SAYS}"),
    ("jo@softfail.test", CLIENT, "450 4.7.1 softfail"),
    ("jo@neutral.test", CLIENT, "450 4.7.1 neutral"),
    ("jo@none.test", CLIENT, "450 4.7.1 none"),
    ("jo@not-there.test", CLIENT, "450 4.7.1 none"),
    ("jo@[192.0.2.1]", CLIENT, "450 4.7.1 none"),
    ("jo@error.test", CLIENT, "550 5.7.24 error.test: Unknown mechanism found: moo"),
    ("jo@twice.test", CLIENT, "550 5.7.24 twice.test: Two or more type TXT spf records found."),
    ("jo@later.test", CLIENT, f"451 4.7.24 {named('spf-temperror').text}"),
    ("jo@include.test", CLIENT, ""),
    ("", CLIENT, ""),
    ("", OTHER, "550 5.7.23 client.test, -all."),
    ("helo@pass.test", CLIENT, ""),
    ("helo@pass.test", OTHER, "550 5.7.23 HELO client.test"),
]
"""Sender, client, and how it is refused; the client's HELO name is client.test."""


@pytest.mark.parametrize("service", ["rcpt", "mail", "milter"])
@pytest.mark.parametrize(("sender", "client", "refused"), RESULTS)
def test_each_result_has_its_reply(
    postfix: PostfixInstance, service: str, sender: str, client: str, refused: str
) -> None:
    with arriving(postfix, service, client) as session:
        reply = send(session, sender, "b@policyd.test")
    if refused:
        code, enhanced, text = refused.split(" ", 2)
        assert (reply.code, reply.enhanced) == (int(code), enhanced), reply
        assert reply.text.endswith(text), reply
    else:
        assert reply.code == 250, reply


@pytest.mark.parametrize("service", ["rcpt", "mail"])
def test_a_client_whose_address_is_not_known_is_none(
    postfix: PostfixInstance, service: str
) -> None:
    with arriving(postfix, service, "[UNAVAILABLE]") as session:
        assert send(session, "jo@fail.test", "b@policyd.test").text.endswith("none")


def test_results_are_counted(postfix: PostfixInstance, policyd: Remembering) -> None:
    def counted() -> dict[str, float]:
        names = (*RESULTS_OF_SPF, "failed")
        return {n: policyd.counted("policyd_checks_total", check="spf", result=n) for n in names}

    before = counted()
    for name in ("pass", "fail", "softfail", "neutral", "none", "error", "later"):
        with arriving(postfix, "rcpt", CLIENT) as session:
            send(session, f"jo@{name}.test", "b@policyd.test")
    grown = {name: value - before[name] for name, value in counted().items()}
    assert grown == dict.fromkeys(RESULTS_OF_SPF, 1) | {"failed": 0}

"""The lines in etc/postfix, as Postfix reads them: it knows each word, and asks what they say."""

import os
import subprocess
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from tests.integration.throw_away import MilterHandler, PolicyServer, ThrowAwayServer, serving
from tools.postfix_instance import PostfixInstance
from tools.smtp_dialogue import SmtpDialogue

pytestmark = pytest.mark.integration

ETC = Path(__file__).parents[2] / "etc" / "postfix"
MAIN = sorted(ETC.glob("main.cf.*"))
MASTER = sorted(ETC.glob("master.cf.*"))
POLICY = "inet:127.0.0.1:10040"
MILTER = "unix:/policyd/milter.sock"


def postconf(directory: Path, main: str, master: str, option: str) -> str:
    """Have postconf(1) read both files and print what they set; whatever it warns of is an error.

    It writes warnings to stderr only.
    """
    for name, text in (("main.cf", main), ("master.cf", master)):
        (directory / name).write_text(text)
        os.utime(directory / name, (0, 0))  # Postfix waits for files that have just changed
    done = subprocess.run(
        ["postconf", "-c", str(directory), option], capture_output=True, text=True, check=True
    )
    assert done.stderr == ""
    return done.stdout


def main_cf(directory: Path, file: Path) -> dict[str, str]:
    """Read a main.cf of etc/ by way of postconf."""
    lines = postconf(directory, file.read_text(), "", "-n").splitlines()
    return {name: value.strip() for name, _, value in (line.partition(" =") for line in lines)}


def master_cf(directory: Path, file: Path) -> dict[str, str]:
    """Read the -o options of the one service in a master.cf of etc/."""
    lines = postconf(directory, "", file.read_text(), "-P").splitlines()
    options = (line.split("/", 2)[2] for line in lines)
    return {name: value.strip() for name, _, value in (o.partition(" =") for o in options)}


@pytest.fixture
def policy() -> Iterator[PolicyServer]:
    server = PolicyServer()
    with serving(server):
        yield server


@pytest.fixture
def milter() -> Iterator[ThrowAwayServer]:
    server = ThrowAwayServer(MilterHandler)
    with serving(server):
        yield server


@pytest.mark.parametrize("file", MAIN, ids=lambda file: file.name)
def test_postfix_knows_every_parameter_of_main_cf(file: Path, tmp_path: Path) -> None:
    assert main_cf(tmp_path, file)


@pytest.mark.parametrize("file", MASTER, ids=lambda file: file.name)
def test_postfix_knows_every_parameter_of_master_cf(file: Path, tmp_path: Path) -> None:
    assert master_cf(tmp_path, file)


@pytest.mark.parametrize(
    ("file", "asked"),
    [
        ("main.cf.plain", [("RCPT", ""), ("DATA", "")]),
        (
            "main.cf.lists",
            [
                ("CONNECT", "stage=connect;list=client"),
                ("EHLO", "stage=helo;list=helo"),
                ("MAIL", "stage=mail;list=sender"),
                ("RCPT", "stage=rcpt;list=recipient"),
                ("DATA", "stage=data;list=data"),
            ],
        ),
        ("main.cf.milter", []),
    ],
)
def test_a_mail_is_asked_about_as_main_cf_says(
    *,
    file: str,
    asked: list[tuple[str, str]],
    policy: PolicyServer,
    milter: ThrowAwayServer,
    tmp_path: Path,
    postfix_factory: Callable[..., PostfixInstance],
) -> None:
    parameters = {
        name: value.replace(POLICY, f"inet:127.0.0.1:{policy.port}").replace(
            MILTER, f"inet:127.0.0.1:{milter.port}"
        )
        for name, value in main_cf(tmp_path, ETC / file).items()
    }
    mta = postfix_factory(main=parameters)
    with SmtpDialogue(mta.ports["smtp"]) as smtp:
        smtp.banner()
        smtp.ehlo()
        assert smtp.mail("refused@example.net").pair == "550 5.7.1"  # by the milter
        policy.asked()
    with SmtpDialogue(mta.ports["smtp"]) as smtp:
        smtp.banner()
        smtp.ehlo()
        replies = (smtp.mail("a@example.net"), smtp.rcpt("b@policyd.test"), smtp.data())
        assert [reply.code for reply in replies] == [250, 250, 354]
        assert smtp.body("Subject: hello\n\nhello\n").code == 250
    assert policy.asked() == asked


@pytest.mark.parametrize("file", ["main.cf.plain", "main.cf.lists"])
def test_mail_is_deferred_when_policyd_does_not_answer(
    file: str, tmp_path: Path, postfix_factory: Callable[..., PostfixInstance]
) -> None:
    parameters = main_cf(tmp_path, ETC / file) | {"smtpd_milters": ""}
    closed = parameters | {"smtpd_policy_service_try_limit": "1", "smtpd_delay_reject": "yes"}
    mta = postfix_factory(
        main={name: value.replace(POLICY, "inet:127.0.0.1:1") for name, value in closed.items()}
    )
    with SmtpDialogue(mta.ports["smtp"]) as smtp:
        smtp.banner()
        smtp.ehlo()
        smtp.mail("a@example.net")
        reply = smtp.rcpt("b@policyd.test")
    assert reply.pair == "451 4.3.5"
    assert reply.text.endswith("Policy service is not available")


def test_submission_is_told_from_other_mail_before_logins_are_permitted(
    policy: PolicyServer, tmp_path: Path, postfix_factory: Callable[..., PostfixInstance]
) -> None:
    options = master_cf(tmp_path, ETC / "master.cf.submission")
    restrictions = options["smtpd_recipient_restrictions"]
    # Neither a certificate nor a login: this test is of who is asked, and when.
    without_tls = {"smtpd_tls_security_level": "none", "smtpd_sasl_auth_enable": "no"}
    relay = {"smtpd_relay_restrictions": "permit_auth_destination, reject"}
    asks = restrictions.replace(POLICY, f"inet:127.0.0.1:{policy.port}")
    services = {
        "submission": {**options, **without_tls, **relay, "smtpd_recipient_restrictions": asks}
    }
    mta = postfix_factory(services=services)
    with SmtpDialogue(mta.ports["submission"]) as smtp:
        smtp.banner()
        smtp.ehlo()
        smtp.mail("a@policyd.test")
        assert smtp.rcpt("b@policyd.test").pair == "554 5.7.1"  # the list ends with reject
    assert policy.asked() == [("RCPT", "service=submission")]


def test_mail_that_comes_back_from_a_filter_is_not_asked_about_again(
    policy: PolicyServer, tmp_path: Path, postfix_factory: Callable[..., PostfixInstance]
) -> None:
    asks = f"check_policy_service inet:127.0.0.1:{policy.port}"
    lists = ("client", "helo", "sender", "recipient", "data", "end_of_data")
    mta = postfix_factory(
        services={"reinject": master_cf(tmp_path, ETC / "master.cf.reinject")},
        main={f"smtpd_{name}_restrictions": asks for name in lists}
        | {"smtpd_milters": "inet:127.0.0.1:1", "milter_default_action": "tempfail"},
    )
    with SmtpDialogue(mta.ports["reinject"]) as smtp:
        smtp.banner()
        smtp.ehlo()
        replies = (smtp.mail("a@example.net"), smtp.rcpt("b@policyd.test"), smtp.data())
        assert [reply.code for reply in replies] == [250, 250, 354]
        assert smtp.body("Subject: hello\n\nhello\n").code == 250
    assert policy.asked() == []

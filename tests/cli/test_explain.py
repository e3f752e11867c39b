"""`policyd explain`: each rule, the decision, and what the client sees."""

import json
from pathlib import Path

import pytest
from click.testing import CliRunner, Result

from policyd.cli import main


def run(configuration: str, *arguments: str) -> Result:
    return CliRunner().invoke(main, ["explain", "-c", configuration, *arguments])


def test_every_part_of_a_condition_has_its_value(configuration: str) -> None:
    out = run(configuration, "recipient=x@example.org", "helo_name=mx").stdout
    assert "    recipient not in mailboxes = True" in out
    assert "    helo_name = 'mx'" in out
    assert 'decided    reject: rule "unknown" at rcpt' in out
    assert "action     550 5.1.1 No x@example.org here" in out
    assert "client     RCPT: 550 5.1.1 <x@example.org>: Recipient address rejected: No x" in out


def test_what_evaluation_did_not_come_to_is_told(configuration: str) -> None:
    out = run(configuration, "recipient=x@example.org", "size=1").stdout
    assert 'rule "odd" (shadow)' in out
    assert "not reached" in out
    spam = run(configuration, "stage=end-of-data", "header=Subject: ham", "recipients=a@b").stdout
    assert "score >= 0: not evaluated" in spam


def test_an_accept_of_an_earlier_stage_is_evaluated_again(configuration: str) -> None:
    out = run(
        configuration,
        "stage=end-of-data",
        "sender=friend@example.net",
        "header=Subject: spam",
        "recipients=a@b",
    ).stdout
    assert 'rule "friend" (again)' in out
    assert 'decided    accept: rule "friend"' in out
    assert "client     sees nothing of it" in out


MESSAGE_RULES = """\
[milter]
listen = ["unix:/run/policyd/milter.sock"]
stages = ["end-of-data"]
[[rule]]
name = "unsigned"
stage = "end-of-data"
when = "header('Subject') == 'folded once' and size == 60 and body_size == 5 and dkim() == 'none'"
then = "550 5.7.20 No signature"
"""


@pytest.mark.parametrize("end", ["\n", "\r\n"])
def test_a_message_is_read_as_if_it_had_arrived(tmp_path: Path, end: str) -> None:
    (tmp_path / "policyd.toml").write_text(MESSAGE_RULES)
    message = tmp_path / "message"
    lines = ("From: a@b.example", "Subject: folded", " once", "X-Empty:", "", "Hi.", "")
    message.write_bytes(end.join(lines).encode())
    asked = (str(tmp_path / "policyd.toml"), "stage=end-of-data", f"message={message}")
    out = run(*asked).stdout
    assert "client     end-of-data: 550 5.7.20 No signature" in out
    assert json.loads(run(*asked, "--json").stdout)["decision"]["rule"] == "unsigned"
    missing = run(*asked[:2], f"message={tmp_path}/nothing")
    assert missing.exit_code == 2
    assert "No such file or directory" in missing.stderr


@pytest.mark.parametrize(
    ("arguments", "seen"),
    [
        (["helo_name=localhost", "recipient=a@b"], "RCPT: 550 5.7.1 <a@b>: Recipient address"),
        (["helo_name=localhost", "stage=helo"], "RCPT: 550 5.7.1 <localhost>: Helo command"),
        (
            ["--no-delay-reject", "helo_name=localhost", "stage=helo"],
            "EHLO: 550 5.7.1 <localhost>: Helo command",
        ),
        (
            ["helo_name=localhost", "protocol_state=RCPT", "policy_context=stage=helo;list=client"],
            "RCPT: 550 5.7.1 <[]>: Client host rejected",
        ),
        (["request=smtpd_access_policy", "protocol_state=DATA"], "sees nothing of it"),
    ],
)
def test_where_postfix_asks_decides_what_the_client_sees(
    configuration: str, arguments: list[str], seen: str
) -> None:
    result = run(configuration, *arguments)
    assert result.exit_code == 0, result.stderr
    assert seen in result.stdout


def test_json_holds_the_same(configuration: str) -> None:
    found = json.loads(run(configuration, "recipient=x@example.org", "--json").stdout)
    assert found["decision"]["rule"] == "unknown"
    assert found["stages"] == ["connect", "helo", "mail", "rcpt"]
    assert found["prediction"]["lines"][0]["code"] == 550
    assert [rule["matched"] for rule in found["rules"]] == [False, False, True, None]


@pytest.mark.parametrize(
    ("arguments", "told"),
    [
        (["recipient"], "is no name=value"),
        (["sendr=a@b"], "there is no fact sendr"),
        (["stage=rctp"], "there is no stage rctp"),
        (["stage=rcpt", "list=everything"], "unknown-list"),
        (["stage=data", "protocol_state=MAIL"], "later-stage"),
        (["protocol_state=LUNCH"], "unknown-state"),
        (["stage=end-of-data", "header=nothing"], "is no `Name: value`"),
    ],
)
def test_wrong_words_have_status_2(configuration: str, arguments: list[str], told: str) -> None:
    result = run(configuration, *arguments)
    assert result.exit_code == 2
    assert told in result.stderr

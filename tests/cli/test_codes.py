"""`policyd codes`: what is printed, and the exit status."""

import json
from typing import Any

import pytest
from click.testing import CliRunner, Result

from policyd.cli.codes import codes
from policyd.smtp.catalogue import DOCUMENTS


def _run(*arguments: str, env: dict[str, str] | None = None) -> Result:
    return CliRunner().invoke(codes, arguments, env=env)


def _json(*arguments: str) -> dict[str, Any]:
    result = _run(*arguments, "--json")
    assert result.exit_code == 0
    document: dict[str, Any] = json.loads(result.stdout)
    return document


def test_a_pair_is_explained() -> None:
    result = _run("450", "4.2.1")
    assert result.exit_code == 0
    assert "a right pair" in result.stdout
    assert "may be given at: rcpt, end-of-data" in result.stdout
    assert "Mailbox disabled, not accepting messages" in result.stdout
    assert "RFC 5321 4.2.3" in result.stdout
    assert "mailbox-unavailable" in result.stdout


def test_a_pair_may_be_one_argument() -> None:
    assert _run("450 4.2.1").stdout == _run("450", "4.2.1").stdout


def test_a_wrong_pair_is_explained_with_the_mend() -> None:
    result = _run("550", "4.2.1")
    assert result.exit_code == 0
    assert "error: 550 and 4.2.1 are of different classes" in result.stdout
    assert 'write "450 4.2.1" (try again) or "550 5.2.1" (final)' in result.stdout
    assert "is refused at: connect" in result.stdout


def test_a_word_finds_a_named_reply_with_its_pair_and_source() -> None:
    (line,) = (line for line in _run("spf-fail").stdout.splitlines() if line.startswith("spf-fail"))
    assert "550 5.7.23" in line
    assert "mail rcpt end-of-data" in line
    assert "RFC 7372" in line


def test_references_in_brackets_are_printed_as_they_are() -> None:
    assert "[RFC7505] (Standards Track)" in _run("X.1.10").stdout


def test_plain_output_has_one_line_an_entry_and_no_drawing() -> None:
    result = _run("--command", "ehlo")
    lines = [line for line in result.stdout.splitlines() if line.startswith("EHLO")]
    assert len(lines) == 11
    assert result.stdout.isascii()
    assert all(line == line.rstrip() for line in result.stdout.splitlines())


def test_a_terminal_is_given_tables_of_its_width() -> None:
    result = _run("mailbox", "full", env={"TTY_COMPATIBLE": "1", "COLUMNS": "100"})
    assert "─" in result.stdout
    assert "mailbox-full-final" in result.stdout
    assert "552 5.2.2" in result.stdout


def test_stage_and_command_may_be_written_in_either_case() -> None:
    assert _run("--stage", "RCPT").stdout == _run("--stage", "rcpt").stdout
    assert _run("--command", "rcpt").stdout == _run("--command", "RCPT").stdout


def test_without_a_query_the_whole_catalogue_is_one_json_document() -> None:
    document = _json()
    assert len(document["basic"]) == 47
    assert len(document["commands"]) == 205
    assert len(document["enhanced"]) == 81
    assert len(document["replies"]) == 94
    assert document["documents"] == list(DOCUMENTS)


def test_json_holds_all_that_is_known_of_an_entry() -> None:
    document = _json("greylisted")
    assert document["replies"] == [
        {
            "name": "greylisted",
            "code": 450,
            "enhanced": "4.2.0",
            "text": "Greylisted; please try again in a few minutes",
            "stages": ["rcpt"],
            "source": "RFC 6647; RFC 5321 4.2.3; postgrey",
            "note": "",
        }
    ]
    (basic,) = document["basic"]
    assert (basic["code"], basic["default"], basic["seen_in"]) == (450, "4.2.0", [0, 1, 2, 3, 4])
    (enhanced,) = document["enhanced"]
    assert (enhanced["code"], enhanced["classes"]) == ("X.2.0", [4, 5])


def test_json_of_a_pair_has_the_judgement() -> None:
    result = _run("450", "5.2.1", "--json")
    pair = json.loads(result.stdout)["pair"]
    assert pair["findings"][0]["severity"] == "error"
    assert '"550 5.2.1"' in pair["findings"][0]["mend"]
    assert pair["stages"]["rcpt"] == "error"


def test_nothing_found_is_exit_status_1() -> None:
    result = _run("xyzzy")
    assert result.exit_code == 1
    assert result.stdout == ""
    assert result.stderr == "Nothing found.\n"


def test_nothing_found_offers_the_nearest_name() -> None:
    result = _run("greylistd")
    assert result.exit_code == 1
    assert "greylisted" in result.stderr


def test_nothing_found_is_an_empty_json_document_too() -> None:
    result = _run("xyzzy", "--json")
    assert result.exit_code == 1
    assert json.loads(result.stdout)["basic"] == []


@pytest.mark.parametrize(
    "arguments", [("--stage", "greeting"), ("--command", "FOO"), ("--unknown",)]
)
def test_wrong_usage_is_exit_status_2(arguments: tuple[str, ...]) -> None:
    assert _run(*arguments).exit_code == 2


def test_the_help_says_what_can_be_asked() -> None:
    text = " ".join(_run("--help").stdout.split())
    assert "a pair (450 4.2.1)" in text
    assert "Exit status: 0 found, 1 nothing found, 2 wrong usage" in text

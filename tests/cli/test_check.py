"""`policyd check`: what it prints of a good configuration and of a bad one."""

import json
from pathlib import Path

from click.testing import CliRunner, Result

from policyd.cli import main


def run(*arguments: str) -> Result:
    return CliRunner().invoke(main, ["check", *arguments])


def test_it_shows_what_the_client_will_see_of_each_reply(configuration: str) -> None:
    result = run("-c", configuration)
    assert result.exit_code == 0, result.stderr
    assert (
        "RCPT: 550 5.1.1 <recipient>: Recipient address rejected: No {recipient} here"
        in result.stdout
    )
    assert "EHLO: 550 5.7.1 <helo>: Helo command rejected: Fix your HELO" in result.stdout
    assert "RCPT: 550 5.7.1 <recipient>: Recipient address rejected: Fix your HELO" in result.stdout
    assert "end-of-data: 550 5.7.1 No spam" in result.stdout
    assert "odd (shadow)" in result.stdout
    assert result.stdout.rstrip().endswith("The configuration is good.")


def test_the_lines_for_main_cf_name_each_stage_that_has_rules(configuration: str) -> None:
    report = json.loads(run("-c", configuration, "--json").stdout)
    lines = [line.strip() for line in report["main_cf"]]
    assert "check_policy_service unix:/policyd/policy.sock" in lines
    assert "smtpd_milters = inet:127.0.0.1:10041" in lines
    assert not [line for line in lines if "smtpd_data_restrictions" in line]
    assert report["series"] > 100
    assert {reply["rule"] for reply in report["replies"]} == {
        "helo",
        "friend",
        "unknown",
        "odd",
        "spam",
    }


def test_errors_go_to_standard_error_with_status_78(tmp_path: Path) -> None:
    file = tmp_path / "policyd.toml"
    file.write_text('[[rule]]\nname = "r"\nstage = "rcpt"\nthen = "450 5.1.1 x"\n')
    result = run("-c", str(file))
    assert result.exit_code == 78
    assert result.stdout == ""
    assert f'{file}:4: rule "r": ' in result.stderr
    assert f"{file}:1: neither [policy_service] nor [milter]" in result.stderr


def test_a_file_that_is_not_there_is_a_configuration_error(tmp_path: Path) -> None:
    result = run("-c", str(tmp_path / "nowhere.toml"))
    assert result.exit_code == 78
    assert "cannot be read" in result.stderr


def test_usage_errors_have_status_2() -> None:
    assert run("--no-such-option").exit_code == 2
    assert CliRunner().invoke(main, ["no-such-command"]).exit_code == 2


def test_help_names_every_command_without_loading_it() -> None:
    result = CliRunner().invoke(main, ["--help"])
    assert result.exit_code == 0
    for command in ("serve", "check", "explain", "codes"):
        assert command in result.stdout
        assert CliRunner().invoke(main, [command, "--help"]).exit_code == 0

"""`policyd reload`: what it says, and how it ends, of a daemon that runs and of none."""

import json
import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
from click.testing import CliRunner, Result

from policyd.cli import main
from tests.integration.changing import Asking, Changing, rule

pytestmark = pytest.mark.integration

AS_ANOTHER_USER = """
import difflib, os, sys  # click loads difflib late, from folders that may be closed to that user
from policyd.cli import main, reload
os.setgroups([])
os.setresgid(65534, 65534, 65534)
os.setresuid(65534, 65534, 65534)
main(["reload", "-c", sys.argv[1]])
"""


@pytest.fixture(scope="module")
def policyd(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Changing]:
    with Changing(tmp_path_factory.mktemp("reload"), letters("abc")) as running:
        yield running


def run(command: str, *arguments: str) -> Result:
    return CliRunner().invoke(main, [command, *arguments])


def reload(policyd: Changing, *arguments: str) -> Result:
    return run("reload", "-c", str(policyd.configuration), *arguments)


def letter(name: str, then: str = "550 5.1.1 No") -> str:
    return rule(name, then, f"recipient_local == '{name}'")


def letters(names: str) -> str:
    return "".join(map(letter, names))


def in_force(policyd: Changing) -> str:
    (labels,) = policyd.samples("policyd_config_info")
    return dict(labels)["hash"]


def test_it_says_what_changed_and_what_is_in_force(policyd: Changing) -> None:
    policyd.become(letters("abcd") + '[lists.old]\ndomains = ["old.example"]\n')
    policyd.write(
        '[replies]\nshow_id = true\n[lists.new]\ndomains = ["new.example"]\n'
        + letters("da")
        + letter("c", "550 5.7.1 Not you")
        + letter("e")
    )
    result = reload(policyd)
    assert (result.exit_code, result.stderr) == (0, "")
    *changes, last = result.stdout.splitlines()
    assert changes == [
        "[replies] show_id changed",
        'rule "b" removed',
        'rule "e" added',
        'rule "c" changed: then',
        'rule "d" moved',
        'list "old" removed',
        'list "new" added',
    ]
    assert last.startswith("reloaded in ")
    assert last.endswith(f" s: {in_force(policyd)} is in force")


def test_it_says_the_same_as_json(policyd: Changing) -> None:
    policyd.become(letters("ab"))
    policyd.write(letters("a"))
    result = reload(policyd, "--json")
    assert result.exit_code == 0
    outcome = json.loads(result.stdout)
    assert outcome["changes"] == ['rule "b" removed']
    assert outcome["refused"] == ""
    assert outcome["config_hash"] == in_force(policyd)
    assert 0 < outcome["seconds"] < 60


def test_where_nothing_changed_it_names_nothing(policyd: Changing) -> None:
    policyd.become(letters("ab"))
    policyd.write("\n# only a remark\n" + letters("ab"))
    (line,) = reload(policyd).stdout.splitlines()
    assert line.startswith("reloaded in ")


def test_doubts_are_told_as_check_tells_them(policyd: Changing) -> None:
    policyd.write(rule("doubtful", "450 4.7.1 Later"))
    result = reload(policyd)
    assert result.exit_code == 0
    checked = run("check", "-c", str(policyd.configuration)).stdout.splitlines()
    doubts = [line.removeprefix("warning: ") for line in checked if line.startswith("warning: ")]
    assert doubts
    assert result.stderr.splitlines() == doubts


def test_what_needs_a_restart_is_named_with_status_1(policyd: Changing) -> None:
    policyd.become(letters("ab"))
    before = in_force(policyd)
    head = (
        policyd.head.replace("workers = 2", "workers = 3")
        .replace('format = "json"', 'format = "console"')
        .replace(f":{policyd.port}", f":{policyd.port + 1}")
    )
    policyd.write(letters("abc"), head)
    result = reload(policyd)
    assert result.exit_code == 1
    assert result.stdout == ""
    assert result.stderr.splitlines() == [
        "[server] workers changes only with a restart of policyd",
        "[policy_service] listen changes only with a restart of policyd",
        "[log] format changes only with a restart of policyd",
        f"not reloaded: {before} stays in force",
    ]
    assert json.loads(reload(policyd, "--json").stdout)["refused"] == "restart"
    assert in_force(policyd) == before


def test_errors_are_told_as_check_tells_them_with_status_78(policyd: Changing) -> None:
    policyd.become(letters("ab"))
    before = in_force(policyd)
    policyd.write(rule("bad", "450 5.1.1 mispaired") + rule("b", "550 5.1.1 No", "nonsense == 1"))
    result = reload(policyd)
    assert (result.exit_code, result.stdout) == (78, "")
    checked = run("check", "-c", str(policyd.configuration))
    assert checked.exit_code == 78
    *errors, last = result.stderr.splitlines()
    assert errors == checked.stderr.splitlines()
    assert len(errors) >= 2
    assert last == f"not reloaded: {before} stays in force"
    assert in_force(policyd) == before
    assert policyd.value("policyd_config_last_reload_successful") == 0
    policyd.configuration.unlink()
    assert reload(policyd).exit_code == 78
    with Asking(policyd.port) as connection:
        assert connection.ask("a@example.org") == "550 5.1.1 No"


def test_thousands_of_errors_are_told_in_full(policyd: Changing) -> None:
    count = 9000
    policyd.write("".join(rule(f"r{number}", "450 5.1.1 x") for number in range(count)))
    result = reload(policyd)
    assert result.exit_code == 78
    assert len(result.stderr) > 1 << 20
    assert len(result.stderr.splitlines()) > count


def test_where_nobody_serves_the_file_the_status_is_69(tmp_path: Path) -> None:
    file = tmp_path / "policyd.toml"
    result = run("reload", "-c", str(file))
    assert (result.exit_code, result.stdout) == (69, "")
    assert result.stderr == f"no policyd serves {file}: Connection refused\n"


def test_a_file_is_known_by_any_of_its_names(policyd: Changing, tmp_path: Path) -> None:
    link = tmp_path / "link.toml"
    link.symlink_to(policyd.configuration)
    policyd.write(letters("ab"))
    assert run("reload", "-c", str(link)).exit_code == 0
    other = policyd.directory / "none" / ".." / "policyd.toml"
    assert run("reload", "-c", str(other)).exit_code == 0


def test_a_link_that_leads_to_another_file_by_now_names_the_same_daemon(tmp_path: Path) -> None:
    with Changing(tmp_path, letters("ab")) as policyd:
        policyd.stop()
        first, second = tmp_path / "first.toml", tmp_path / "second.toml"
        policyd.configuration.rename(first)
        policyd.configuration.symlink_to(first)
        with policyd:
            policyd.configuration.unlink()
            policyd.configuration.symlink_to(second)
            second.write_text(policyd.head + letters("abc"))
            assert 'rule "c" added' in reload(policyd).stdout.splitlines()


@pytest.mark.skipif(os.geteuid() != 0, reason="only root can become another user")
def test_another_user_may_not_ask(policyd: Changing) -> None:
    policyd.become(letters("ab"))
    before = in_force(policyd)
    policyd.write(letters("abc"))
    done = subprocess.run(
        [sys.executable, "-c", AS_ANOTHER_USER, str(policyd.configuration)],
        capture_output=True,
        text=True,
        timeout=30,
        check=False,
    )
    assert done.returncode == 69
    assert done.stderr == "policyd gave no answer: it has stopped, or this user may not ask\n"
    assert in_force(policyd) == before


def test_usage_errors_have_status_2() -> None:
    assert run("reload", "now").exit_code == 2

"""What the documents say is so: examples load, tables are current, the check works."""

import os
import re
import subprocess
import sys
from dataclasses import fields
from pathlib import Path

import click
import pytest

from policyd.checks.declaration import ONLY_OURS
from policyd.checks.interface import Check
from policyd.cli import main
from policyd.config.difference import RESTART
from policyd.config.policy import load_policy
from policyd.smtp.stage import FrontEnd
from tools.reference import DOCUMENTS, rendered

ROOT = Path(__file__).parents[2]
README = (ROOT / "README.md").read_text()
CHECKS = (ROOT / "docs" / "checks.md").read_text()

# What the examples take for granted, by the table's heading.
SURROUNDINGS = {
    "[policy_service]": 'listen = ["inet:127.0.0.1:10040"]',
    "[milter]": 'listen = ["unix:/var/spool/postfix/policyd/milter.sock"]',
    "[lists.partners]": 'networks = ["192.0.2.0/24"]',
    "[lists.programs]": r"patterns = ['\.exe$']",
    "[lists.blocked_senders]": 'addresses = ["@example.com"]',
}


def blocks(document: Path, language: str) -> list[str]:
    return re.findall(rf"^```{language}\n(.*?)^```", document.read_text(), re.MULTILINE | re.DOTALL)


(OVERRIDES,) = re.findall(
    r"^```\n(# login .*?)^```",
    (ROOT / "docs" / "language.md").read_text(),
    re.MULTILINE | re.DOTALL,
)
EXAMPLES = [
    pytest.param(block, id=f"{document.name}-{number}")
    for document in DOCUMENTS
    for number, block in enumerate(blocks(document, "toml"))
    if "[project" not in block and "digits(" not in block
]


@pytest.mark.parametrize("document", DOCUMENTS, ids=lambda document: document.name)
def test_the_tables_are_what_policyd_says_today(document: Path) -> None:
    text = document.read_text()
    assert rendered(text) == text, "run make docs"


@pytest.mark.parametrize("example", EXAMPLES)
def test_an_example_loads_without_a_warning(example: str, tmp_path: Path) -> None:
    for name in re.findall(r'_file = "(.*?)"', example):
        (tmp_path / name).write_text("alice@example.org\n")
    for name in re.findall(r'overrides_file += "(.*?)"', example):
        (tmp_path / name).write_text(OVERRIDES)
    missing = (f"{head}\n{keys}\n" for head, keys in SURROUNDINGS.items() if head not in example)
    file = tmp_path / "policyd.toml"
    file.write_text("\n".join(missing) + example)
    assert list(map(str, load_policy(file).problems)) == []


def test_the_stages_are_decided_as_the_documents_say(tmp_path: Path) -> None:
    file = tmp_path / "policyd.toml"
    file.write_text("\n".join(f"{head}\n{keys}\n" for head, keys in SURROUNDINGS.items()))
    policy = load_policy(file).policy_in_force
    milter = [stage for stage, owner in policy.owners.items() if owner is FrontEnd.MILTER]
    assert milter == ["end-of-data"]


def test_every_command_is_in_the_readme() -> None:
    context = click.Context(main)
    assert set(re.findall(r"^\| `policyd (\w+)", README, re.MULTILINE)) == set(
        main.list_commands(context)
    )


def test_every_file_that_the_readme_names_is_there() -> None:
    named = re.findall(r"`((?:main|master)\.cf\.\w+)`", README)
    assert sorted(named) == sorted(file.name for file in (ROOT / "etc" / "postfix").iterdir())


def test_the_check_of_the_documents_can_be_used_in_a_rule(tmp_path: Path) -> None:
    document = ROOT / "docs" / "checks.md"
    (source,) = blocks(document, "python")
    (project,) = (b for b in blocks(document, "toml") if "[project" in b)
    (rule,) = (b for b in blocks(document, "toml") if "digits(" in b)
    (point,) = re.findall(r'^digits = "(\w+):digits"$', project, re.MULTILINE)
    (tmp_path / f"{point}.py").write_text(source)
    metadata = tmp_path / f"{point}-1.dist-info"
    metadata.mkdir()
    (metadata / "METADATA").write_text(f"Metadata-Version: 2.1\nName: {point}\nVersion: 1\n")
    (metadata / "entry_points.txt").write_text(f"[policyd.checks]\ndigits = {point}:digits\n")
    file = tmp_path / "policyd.toml"
    file.write_text(f'[policy_service]\nlisten = ["inet:127.0.0.1:10040"]\n{rule}')
    done = subprocess.run(
        [
            *(sys.executable, "-c", "from policyd.cli import main; main()", "explain"),
            *("-c", str(file), "client_address=192.0.2.1", "sender=u123456789@example.net"),
            "recipient=a@example.org",
        ],
        capture_output=True,
        text=True,
        check=False,
        env=os.environ | {"PYTHONPATH": str(tmp_path)},
    )
    assert "450 4.7.1 A sender with 9 digits is looked at first" in done.stdout, done.stderr


def test_what_a_check_declares_is_in_its_table() -> None:
    (table,) = re.findall(r"^\| field .*?\n\n", CHECKS, re.MULTILINE | re.DOTALL)
    declared = {field.name for field in fields(Check)}
    assert set(re.findall(r"^\| `(\w+)`", table, re.MULTILINE)) == declared - set(ONLY_OURS)


def test_every_event_of_the_log_is_in_the_operators_guide() -> None:
    written = re.compile(r'(?:event|tell)\(\s*[^,()]+,\s*"([a-z]+\.[a-z]+)"')
    modules = (module.read_text() for module in (ROOT / "policyd").rglob("*.py"))
    told = {event for module in modules for event in written.findall(module)}
    guide = (ROOT / "docs" / "operation.md").read_text().partition("## The log")[2]
    assert len(told) > 10
    assert told == set(re.findall(r"`([a-z]+\.[a-z]+)`", guide.partition("## ")[0]))


def test_every_key_that_needs_a_restart_is_in_the_operators_guide() -> None:
    guide = (ROOT / "docs" / "operation.md").read_text()
    refused = " ".join(guide.partition("## Reloading")[2].partition("Files of lists")[0].split())
    for key in RESTART:
        table, _, name = key.partition(" ")
        listening = name in {"listen", "socket_mode", "socket_group"}
        assert ("what is listened on" if listening else f"`{table} {name}`") in refused

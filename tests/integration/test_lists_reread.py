"""List files that change while policyd serves, by themselves and with the configuration."""

import os
import signal
import time
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import pytest

from policyd.lists.keys import FEW
from tests.integration.changing import Asking, Changing, Load, rule, until

pytestmark = pytest.mark.integration

ENTRIES = 300_000


def of_file(name: str, kind: str = "addresses") -> str:
    return f'[lists.{name}]\n{kind}_file = "{name}.txt"\n'


def asks(*names: str) -> str:
    """Write a rule for each list: a recipient that it has is answered with its name."""
    return "".join(rule(name, f"450 4.2.1 {name}", f"recipient in {name}") for name in names)


def replace(file: Path, text: str) -> None:
    """Put a new file in its place, as those who write one should."""
    new = file.with_suffix(".new")
    new.write_text(text)
    new.rename(file)


def boxes(count: int) -> list[str]:
    return [f"mailbox{number}@example.org" for number in range(count)]


@pytest.fixture(scope="module")
def policyd(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Changing]:
    directory = tmp_path_factory.mktemp("lists")
    with Changing(directory, rule("all", "pass")) as running:
        yield running


def told(policyd: Changing, name: str) -> list[dict[str, Any]]:
    """Give what the log says of the reading of one list."""
    lines = policyd.events("list.read", "list.refused")
    return [line for line in lines if name in str(line["list"])]


def holding(connections: Sequence[Asking], name: str, recipient: str) -> set[bool]:
    """Ask on every connection whether a list has a recipient."""
    return {each.ask(recipient) == f"450 4.2.1 {name}" for each in connections}


def all_read(connections: Sequence[Asking], policyd: Changing, name: str, recipient: str) -> None:
    """Wait until a list is read again, and until every worker finds a new recipient in it."""
    until(lambda: bool(told(policyd, name)))
    until(lambda: holding(connections, name, recipient) == {True}, 1.0)


def test_a_changed_file_is_used_by_every_worker_however_it_was_written(policyd: Changing) -> None:
    lists = ("renamed", "written")
    files = {name: policyd.directory / f"{name}.txt" for name in lists}
    for name, file in files.items():
        file.write_text(f"old@{name}.example\n")
    policyd.become("".join(map(of_file, lists)) + asks(*lists))
    with policyd.asking(4) as connections:
        assert all(holding(connections, name, f"old@{name}.example") == {True} for name in lists)
        replace(files["renamed"], "new@renamed.example\nother@renamed.example\n")
        files["written"].write_text("new@written.example\nother@written.example\n")
        for name in lists:
            all_read(connections, policyd, name, f"new@{name}.example")
            assert holding(connections, name, f"old@{name}.example") == {False}
            (line,) = told(policyd, name)
            assert (line["event"], line["entries"]) == ("list.read", 2)


def test_a_file_that_is_wrong_or_emptied_is_refused_and_told_once(policyd: Changing) -> None:
    lists = ("wrong", "emptied", "missing", "filled")
    files = {name: policyd.directory / f"{name}.txt" for name in lists}
    for name, file in files.items():
        file.write_text("" if name == "filled" else f"old@{name}.example\n")
    policyd.become("".join(map(of_file, lists)) + asks(*lists))
    with policyd.asking(2) as connections:
        replace(files["wrong"], "new@wrong.example\nno address at all\n")
        files["emptied"].write_text("")
        files["missing"].unlink()
        files["filled"].write_text("new@filled.example\n")
        until(lambda: all(told(policyd, name) for name in lists))
        assert told(policyd, "filled")[0]["event"] == "list.read"
        replace(files["wrong"], "new@wrong.example\n")
        files["filled"].write_text("")
        until(lambda: len(told(policyd, "wrong")) == len(told(policyd, "filled")) == 2)
        lines = {name: told(policyd, name) for name in lists}
        assert [len(found) for found in lines.values()] == [2, 1, 1, 2]
        assert [found[-1]["event"] for found in lines.values()] == [
            "list.read",
            "list.refused",
            "list.refused",
            "list.refused",
        ]
        assert lines["wrong"][0]["event"] == "list.refused"
        assert "wrong.txt:2: " in str(lines["wrong"][0]["faults"])
        assert "was emptied" in str(lines["emptied"][0]["faults"])
        assert "cannot be read" in str(lines["missing"][0]["faults"])
        assert "was emptied" in str(lines["filled"][1]["faults"])
        assert lines["filled"][1]["entries"] == 1
        for name in ("emptied", "missing"):
            assert holding(connections, name, f"old@{name}.example") == {True}
        for name in ("wrong", "filled"):
            until(lambda n=name: holding(connections, n, f"new@{n}.example") == {True})  # type: ignore[misc]


def test_a_reload_takes_a_list_that_has_changed_too(policyd: Changing) -> None:
    file = policyd.directory / "both.txt"
    file.write_text("old@example.org\n")
    policyd.become(of_file("both") + asks("both"))
    with policyd.asking(4) as connections:
        file.write_text("new@example.org\n")
        policyd.become(of_file("both") + asks("both") + rule("last", "550 5.1.1 None"))
        assert holding(connections, "both", "new@example.org") == {True}
        assert {each.ask("old@example.org") for each in connections} == {"550 5.1.1 None"}
        replace(file, "newer@example.org\n")
        all_read(connections, policyd, "both", "newer@example.org")


def test_a_reload_does_not_take_a_list_whose_file_was_emptied(policyd: Changing) -> None:
    file = policyd.directory / "kept.txt"
    file.write_text("old@example.org\n")
    policyd.become(of_file("kept") + asks("kept"))
    with Asking(policyd.port) as connection:
        file.write_text("")
        outcome = policyd.reload()
        assert outcome.refused == "configuration"
        assert [reason.partition("; ")[0] for reason in outcome.reasons] == [
            f"{policyd.configuration}:13: {file} was emptied"
        ]
        assert connection.ask("old@example.org") == "450 4.2.1 kept"
        file.write_text("# nobody any more\n")
        assert not policyd.reload().refused
        assert connection.ask("old@example.org") == "DUNNO"


def test_a_list_is_made_of_what_the_reload_says_and_that_is_watched(policyd: Changing) -> None:
    for name in ("first", "second"):
        (policyd.directory / f"{name}.txt").write_text(f"{name}@example.org\n")
    definition = '[lists.made]\naddresses_file = "{}.txt"\n'
    policyd.become(definition.format("first") + asks("made"))
    with policyd.asking(4) as connections:
        outcome = policyd.become(definition.format("second") + asks("made"))
        assert outcome.changes == ('list "made" changed: addresses_file',)
        assert holding(connections, "made", "second@example.org") == {True}
        assert holding(connections, "made", "first@example.org") == {False}
        (policyd.directory / "first.txt").write_text("never@example.org\n")
        replace(policyd.directory / "second.txt", "third@example.org\n")
        all_read(connections, policyd, "made", "third@example.org")
        made = '[lists.made]\ndomains = ["example.net"]\n'
        policyd.become(made + rule("made", "450 4.2.1 made", "recipient_domain in made"))
        assert holding(connections, "made", "any@example.net") == {True}
        assert holding(connections, "made", "third@example.org") == {False}
        assert len(told(policyd, "made")) == 1


def test_more_lists_than_one_packet_takes_reach_every_worker(policyd: Changing) -> None:
    names = [f"many{number}" for number in range(600)]
    lists = "".join(f'[lists.{name}]\naddresses = ["{name}@example.org"]\n' for name in names)
    policyd.become(lists + asks(*names))
    with policyd.asking(4) as connections:
        for name in (names[0], names[250], names[-1]):
            assert holding(connections, name, f"{name}@example.org") == {True}


def private(pid: int) -> float:
    """Give a process's own memory in MiB, which it shares with nobody (proc(5), smaps_rollup)."""
    rollup = Path(f"/proc/{pid}/smaps_rollup").read_text()
    return sum(
        int(line.split()[1]) / 1024
        for line in rollup.splitlines()
        if line.startswith(("Private_Dirty:", "Private_Clean:"))
    )


def test_a_long_list_is_in_memory_once_for_all_workers(policyd: Changing) -> None:
    mailboxes = boxes(ENTRIES)
    networks = [f"16.{number >> 8}.{number & 255}.0/24" for number in range(FEW * 2)]
    entries = {"long_addresses": mailboxes, "long_networks": networks}
    files = {name: policyd.directory / f"{name}.txt" for name in entries}
    for name, file in files.items():
        file.write_text("\n".join(entries[name]))
    policyd.become(rule("short", "450 4.2.1 short", "recipient == 'jo@example.org'"))
    before = {pid: private(pid) for pid in policyd.worker_pids()}
    policyd.become(
        of_file("long_addresses")
        + of_file("long_networks", "networks")
        + rule("boxes", "450 4.2.1 box", "recipient in long_addresses")
        + rule("networks", "450 4.2.1 network", "client_address in long_networks")
    )
    with policyd.asking(4) as connections:

        def used() -> None:
            for each in connections:
                assert {each.ask(box) for box in mailboxes[::2000]} == {"450 4.2.1 box"}
                clients = [network.replace(".0/24", ".1") for network in networks[::200]]
                assert {each.ask(client=client) for client in clients} == {"450 4.2.1 network"}
                assert each.ask() == "DUNNO"
            grown = [private(pid) - before[pid] for pid in policyd.worker_pids()]
            assert max(grown) < 4, "MiB; 300,000 texts of a worker's own have more than twenty"

        used()
        for name, file in files.items():
            replace(file, "\n".join(reversed(entries[name])))
        until(lambda: all(told(policyd, name) for name in entries))
        assert [told(policyd, name)[0]["entries"] for name in entries] == [ENTRIES, FEW * 2]
        used()


def test_a_changing_long_list_under_load_loses_nothing(policyd: Changing) -> None:
    file = policyd.directory / "busy.txt"
    others = "\n".join(boxes(FEW * 2))
    file.write_text(others)
    policyd.become(of_file("busy") + asks("busy") + rule("last", "550 5.1.1 None"))
    with Load(policyd.port, 4) as load:
        replace(file, f"jo@example.org\n{others}")
        until(lambda: bool(told(policyd, "busy")))
        replace(file, others)
        policyd.become(of_file("busy") + asks("busy") + rule("last", "550 5.1.1 Nobody"))
        time.sleep(0.1)
    assert load.lost == []
    assert set(load.answers) == {"550 5.1.1 None", "450 4.2.1 busy", "550 5.1.1 Nobody"}


def test_a_killed_reader_is_told_and_the_next_change_read(policyd: Changing) -> None:
    file = policyd.directory / "again.txt"
    file.write_text("old@example.org\n")
    policyd.become(of_file("again") + asks("again"))
    replace(file, "new@example.org\n")
    until(lambda: bool(policyd.builder_pids()))
    os.kill(policyd.builder_pids()[0], signal.SIGKILL)
    until(lambda: bool(told(policyd, "again")))
    assert told(policyd, "again")[0]["event"] == "list.refused"
    assert "signal 9" in told(policyd, "again")[0]["reason"]
    replace(file, "newer@example.org\n")
    until(lambda: len(told(policyd, "again")) == 2)
    with Asking(policyd.port) as connection:
        assert connection.ask("newer@example.org") == "450 4.2.1 again"

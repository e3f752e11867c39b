"""What signals do to a serving policyd, whichever of its threads they reach."""

import ctypes
import os
import platform
import signal
import socket
import time
from collections.abc import Iterator
from pathlib import Path

import msgspec
import pytest

from tools.policyd_process import PolicydProcess, free_port

pytestmark = pytest.mark.integration

CONFIGURATION = """
[policy_service]
listen = ["inet:127.0.0.1:{port}"]
[milter]
listen = ["unix:{directory}/milter.sock"]
[metrics]
listen = "127.0.0.1:{metrics}"
[log]
format = "json"
[[rule]]
name = "r"
stage = "rcpt"
then = "450 4.7.1 Later"
[[rule]]
name = "e"
stage = "end-of-data"
then = "450 4.7.1 Later"
"""
TGKILL = {"x86_64": 234, "aarch64": 131}[platform.machine()]
"""The number of tgkill(2), which sends a signal to one thread."""
REQUEST = b"request=smtpd_access_policy\nprotocol_state=RCPT\nrecipient=a@b\n\n"


@pytest.fixture
def serving(tmp_path: Path) -> Iterator[tuple[PolicydProcess, int]]:
    port, metrics = free_port(), free_port()
    file = tmp_path / "policyd.toml"
    file.write_text(CONFIGURATION.format(port=port, metrics=metrics, directory=tmp_path))
    with PolicydProcess(file, f"127.0.0.1:{metrics}") as process:
        yield process, port


def ended(process: PolicydProcess, seconds: float = 15.0) -> int:
    """Wait for its end and give its exit status."""
    assert process._process is not None
    return process._process.wait(seconds)


def events(process: PolicydProcess) -> list[str]:
    lines = process.log.read_bytes().splitlines()
    return [msgspec.json.decode(line)["event"] for line in lines]


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_it_stops(serving: tuple[PolicydProcess, int], number: signal.Signals) -> None:
    process, _ = serving
    time.sleep(0.3)  # libmilter's own signal thread has settled
    os.kill(process.pid, number)
    assert ended(process) == 0
    assert events(process)[-1] == "policyd.stopped"
    assert not (process.configuration.parent / "milter.sock").exists()


def test_sighup_refuses_a_reload_and_closes_no_connection(
    serving: tuple[PolicydProcess, int],
) -> None:
    process, port = serving
    time.sleep(0.3)
    with socket.create_connection(("127.0.0.1", port), timeout=10) as connection:
        os.kill(process.pid, signal.SIGHUP)
        connection.sendall(REQUEST)
        assert connection.recv(200) == b"action=450 4.7.1 Later\n\n"
    deadline = time.monotonic() + 5
    while "reload.refused" not in events(process):
        assert time.monotonic() < deadline
        time.sleep(0.02)
    assert process.ready()


def test_a_signal_that_libmilter_takes_ends_it_for_a_new_start(
    serving: tuple[PolicydProcess, int],
) -> None:
    process, _ = serving
    time.sleep(0.3)
    libc = ctypes.CDLL(None, use_errno=True)
    others = {int(task.name) for task in Path(f"/proc/{process.pid}/task").iterdir()}
    for task in sorted(others - {process.pid}):
        libc.syscall(TGKILL, process.pid, task, int(signal.SIGTERM))
    assert ended(process) in (0, 70)
    assert "policyd.stopped" in events(process)


def test_what_is_taken_already_is_named_with_status_69(
    serving: tuple[PolicydProcess, int], tmp_path: Path
) -> None:
    process, port = serving
    again = tmp_path / "again.toml"
    again.write_text(
        f'[policy_service]\nlisten = ["inet:127.0.0.1:{port}"]\n'
        '[[rule]]\nname = "r"\nstage = "rcpt"\nthen = "pass"\n'
    )
    other = PolicydProcess(again, "127.0.0.1:1")
    with pytest.raises(Exception, match=f"cannot serve: .*{port}"), other:
        pass
    assert ended(other) == 69
    assert process.ready()

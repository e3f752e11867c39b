"""A contender is started, measured with its children, and ended with them."""

import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from bench.contender import (
    CannotStartError,
    Contender,
    Running,
    accepts,
    family,
    free_port,
)

pytestmark = pytest.mark.integration

LISTENER = """
import socket, subprocess, sys, time
child = subprocess.Popen([sys.executable, "-c", "while True: pass"])
with socket.create_server(("127.0.0.1", int(sys.argv[1]))) as server:
    while True:
        server.accept()[0].close()
        print("a line", file=sys.stderr, flush=True)
"""


def contender(
    tmp_path: Path, program: str, address: str, *arguments: str, policyd: bool = False
) -> Contender:
    return Contender(
        name="it",
        command=(sys.executable, "-c", program, *arguments),
        address=address,
        stderr=tmp_path / "stderr",
        null="it",
        policyd=policyd,
    )


def test_processor_time_and_memory_are_of_the_process_and_its_children(tmp_path: Path) -> None:
    port = free_port()
    running = Running(contender(tmp_path, LISTENER, f"inet:127.0.0.1:{port}", str(port)))
    try:
        before = running.cpu_seconds()
        time.sleep(0.5)
        members = family(running.process.pid)

        assert len(members) == 2
        assert running.cpu_seconds() > before
        assert running.resident_mb() > 10
    finally:
        running.stop()


@pytest.mark.parametrize("policyd", [False, True])
def test_it_is_ended_with_its_children(tmp_path: Path, policyd: bool) -> None:
    port = free_port()
    address = f"inet:127.0.0.1:{port}"
    running = Running(contender(tmp_path, LISTENER, address, str(port), policyd=policyd))
    members = family(running.process.pid)
    running.stop()
    end = time.monotonic() + 5
    while any(_alive(pid) for pid in members) and time.monotonic() < end:
        time.sleep(0.05)

    assert not any(_alive(pid) for pid in members)
    assert not accepts(address)
    assert running.process.returncode == (-signal.SIGTERM if policyd else -signal.SIGKILL)


def _alive(pid: int) -> bool:
    done = subprocess.run(["ps", "-o", "stat=", "-p", str(pid)], capture_output=True, check=False)
    return done.stdout.strip() not in (b"", b"Z", b"Zs")


def test_a_program_that_ends_cannot_be_started_and_its_words_are_kept(tmp_path: Path) -> None:
    with pytest.raises(CannotStartError, match=r"ended with 78: no such policy"):
        Running(
            contender(
                tmp_path,
                "import sys; print('no such policy', file=sys.stderr); sys.exit(78)",
                f"inet:127.0.0.1:{free_port()}",
            )
        )


def test_a_program_that_is_missing_cannot_be_started(tmp_path: Path) -> None:
    missing = Contender("it", ("/nonexistent",), "inet:127.0.0.1:1", tmp_path / "stderr", "it")

    with pytest.raises(CannotStartError, match="No such file"):
        Running(missing)


def test_log_lines_are_counted_once_and_the_file_is_emptied(tmp_path: Path) -> None:
    port = free_port()
    address = f"inet:127.0.0.1:{port}"
    running = Running(contender(tmp_path, LISTENER, address, str(port), policyd=True))
    try:
        running.take_log()
        for _ in range(3):
            assert accepts(address)

        assert running.take_log() == 3
        assert running.take_log() == 0
        assert (tmp_path / "stderr").stat().st_size == 0
    finally:
        running.stop()

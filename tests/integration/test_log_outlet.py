"""The log's other end: read by nobody, on a full disk, and shared by several processes."""

import contextlib
import fcntl
import os
import statistics
import subprocess
import threading
import time
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from pathlib import Path
from select import PIPE_BUF
from typing import Any, Self

import msgspec
import pytest

from tests.integration.changing import Asking, Changing, rule, saying, until

pytestmark = pytest.mark.integration

AT_ONCE = 100
"""Requests that a connection sends before it reads the answers."""


RELOADS = 3


class Pipe:
    """The log as a pipe, that is read when a test says so."""

    def __init__(self, octets: int = 65536) -> None:
        self._there, self._here = os.pipe()
        fcntl.fcntl(self._here, fcntl.F_SETPIPE_SZ, octets)
        self.path = Path(f"/proc/self/fd/{self._here}")
        self._reading = threading.Event()
        self._thread = threading.Thread(target=self._read)
        self._octets = bytearray()

    def __enter__(self) -> Self:
        self._thread.start()
        self.read(True)
        return self

    def __exit__(self, *_: object) -> None:
        os.close(self._here)
        self.read(True)
        self._thread.join()
        os.close(self._there)

    def read(self, wanted: bool) -> None:
        """Read from now on, or not."""
        if wanted:
            self._reading.set()
        else:
            self._reading.clear()

    def _read(self) -> None:
        while self._reading.wait() and (data := os.read(self._there, 65536)):
            self._octets += data

    def lines(self) -> list[dict[str, Any]]:
        """Give the whole lines that were read; each is JSON, whoever wrote it."""
        whole = bytes(self._octets).rpartition(b"\n")[0]
        return [msgspec.json.decode(line) for line in whole.splitlines()]


def decisions(lines: list[dict[str, Any]]) -> int:
    return sum(line["event"] == "decision" for line in lines)


def ask(connection: Asking, count: int) -> float:
    """Ask so often; the seconds that it took."""
    begun = time.monotonic()
    for _ in range(count // AT_ONCE):
        connection.send("jo@example.org", times=AT_ONCE)
        for _ in range(AT_ONCE):
            assert connection.receive() == "450 4.2.1 said"
    return time.monotonic() - begun


def all_ask(connections: Sequence[Asking], count: int) -> None:
    """Ask so often on each connection, on all at the same time."""
    with ThreadPoolExecutor(len(connections)) as threads:
        list(threads.map(partial(ask, count=count), connections))


def dropped(policyd: Changing) -> float:
    value = policyd.value("policyd_dropped_total", what="log")
    assert value is not None
    return value


@contextlib.contextmanager
def logging_to(directory: Path, log: Path, workers: int) -> Iterator[Changing]:
    policyd = Changing(directory, saying("said"), workers=workers)
    policyd.log = log
    with policyd:
        yield policyd


def test_answers_go_on_when_nobody_reads_the_log_and_what_is_lost_is_counted(
    tmp_path: Path,
) -> None:
    with (
        Pipe() as pipe,
        logging_to(tmp_path, pipe.path, workers=1) as policyd,
        Asking(policyd.port) as connection,
    ):
        read = [ask(connection, 1000) for _ in range(5)]
        until(lambda: decisions(pipe.lines()) == 5000)
        pipe.read(False)
        unread = [ask(connection, 1000) for _ in range(20)]
        assert dropped(policyd) > 0
        assert statistics.median(unread) < 2 * statistics.median(read)
        pipe.read(True)
        until(lambda: decisions(pipe.lines()) + dropped(policyd) == 25_000)
        lost = dropped(policyd)
        ask(connection, 1000)
        until(lambda: decisions(pipe.lines()) + lost == 26_000)
        assert dropped(policyd) == lost


def test_answers_go_on_when_the_logs_reader_is_gone(tmp_path: Path) -> None:
    there, here = os.pipe()
    with logging_to(tmp_path, Path(f"/proc/self/fd/{here}"), workers=2) as policyd:
        os.close(there)
        os.close(here)
        with policyd.asking(4) as connections:
            all_ask(connections, 100)
            until(lambda: dropped(policyd) >= 101 * len(connections))
            policyd.become(saying("said"))
            assert policyd.all_up()


def test_processes_that_share_a_pipe_write_whole_lines(tmp_path: Path) -> None:
    with Pipe(PIPE_BUF) as pipe, logging_to(tmp_path, pipe.path, workers=3) as policyd:
        count = everybody_logs(policyd)
        until(lambda: decisions(pipe.lines()) == count)
        assert dropped(policyd) == 0
        assert said_by_the_supervisor(pipe.lines()) == RELOADS


def test_processes_that_share_a_file_write_whole_lines(tmp_path: Path) -> None:
    with Changing(tmp_path, saying("said"), workers=3) as policyd:
        count = everybody_logs(policyd)
        until(lambda: decisions(policyd.lines()) == count)
        assert dropped(policyd) == 0
        assert said_by_the_supervisor(policyd.lines()) == RELOADS


def everybody_logs(policyd: Changing) -> int:
    """Have every worker answer while the supervisor has much to say; how many answers."""
    names = [f"{number:060}" for number in range(10)]
    doubtful = "".join(rule(name, "450 4.7.1 Later", "size > '1 MiB'") for name in names)
    with policyd.asking(6) as connections:
        asking = threading.Thread(target=all_ask, args=(connections, 500))
        asking.start()
        for number in range(RELOADS):
            policyd.become(doubtful * (number == 1) + saying("said"))
        asking.join()
        return 501 * len(connections)


def said_by_the_supervisor(lines: list[dict[str, Any]]) -> int:
    return sum(line["event"] == "config.reloaded" for line in lines)


@pytest.fixture
def small_disk(tmp_path: Path) -> Iterator[Path]:
    """A file system of 64 KiB."""
    disk = tmp_path / "disk"
    disk.mkdir()
    mount = ["mount", "-t", "tmpfs", "-o", "size=64k", "tmpfs", str(disk)]
    if subprocess.run(mount, capture_output=True, check=False).returncode != 0:
        pytest.skip("no file system can be mounted here")
    yield disk
    subprocess.run(["umount", "-l", str(disk)], check=True)


def test_answers_go_on_when_the_logs_disk_is_full_and_lines_when_it_has_room(
    tmp_path: Path, small_disk: Path
) -> None:
    log, other = small_disk / "log", small_disk / "other"
    other.write_bytes(bytes(32768))
    with (
        logging_to(tmp_path, log, workers=2) as policyd,
        policyd.asking(4) as connections,
    ):
        all_ask(connections, 1000)
        until(lambda: decisions(sound(log)) + dropped(policyd) == 1001 * len(connections))
        assert dropped(policyd) > 0
        other.unlink()
        for each in connections:
            assert each.ask("late@example.org") == "450 4.2.1 said"
        until(lambda: decisions(sound(log)) + dropped(policyd) == 1002 * len(connections))
        late = [line for line in sound(log) if line.get("recipient") == "late@example.org"]
        assert len(late) == len(connections)


def sound(log: Path) -> list[dict[str, Any]]:
    """Give the lines that are whole."""
    found = []
    for line in log.read_bytes().splitlines():
        with contextlib.suppress(msgspec.DecodeError):
            found.append(msgspec.json.decode(line))
    return found


def test_answers_go_on_when_the_log_never_has_room(tmp_path: Path) -> None:
    with (
        logging_to(tmp_path, Path("/dev/full"), workers=2) as policyd,
        policyd.asking(4) as connections,
    ):
        all_ask(connections, 100)
        until(lambda: dropped(policyd) >= 101 * len(connections))
        assert policyd.all_up()

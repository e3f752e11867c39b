"""Several processes write one log: every line whole, what is dropped counted, nobody waits."""

import contextlib
import json
import os
import socket
import subprocess
import sys
import threading
import time
from collections import Counter
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

WORKERS = ("1", "2", "3", "4")
LINES = 3000
PROGRAM = """
import asyncio, json, sys, threading
import uvloop
from policyd.observe.log import open_log
from policyd.smtp.decision import Decision, Source, Verdict
from policyd.smtp.stage import FrontEnd, Stage

worker, lines, goodbye = sys.argv[1], int(sys.argv[2]), float(sys.argv[3])
lost = []
log = open_log("json", lost.append, worker=worker)
longest = 0.0

async def main():
    global longest
    loop = asyncio.get_running_loop()
    log.sink.start(loop)
    sys.stdin.readline()  # all begin at one time
    thread = threading.Thread(target=decide, args=(0, lines // 2))
    thread.start()
    before = loop.time()
    for number in range(lines // 2, lines):
        log.event("info", "line.written", number=number, filled="x" * (number * 7 % 900))
        if number % 20 == 0:
            await asyncio.sleep(0)
            longest, before = max(longest, loop.time() - before), loop.time()
    while thread.is_alive():
        await asyncio.sleep(0.001)
    log.sink.close(goodbye)

def decide(first, after):
    for number in range(first, after):
        # of a milter's thread; some are too long and are cut
        decision = Decision(f"{worker}-{number}", Verdict.PASS, Stage.RCPT, Source.DEFAULT)
        log.decision(decision, {"sender": "y" * (number * 13 % 6000)}, FrontEnd.MILTER, 0.1)

uvloop.run(main())
print(json.dumps({"lost": sum(lost), "longest": longest}))
"""


class Crew:
    """Four processes with one standard error, which is a copy of `descriptor`."""

    def __init__(
        self, descriptor: int, lines: int = LINES, before: str = "", goodbye: float = 5
    ) -> None:
        self.processes = [
            subprocess.Popen(
                [sys.executable, "-c", before + PROGRAM, worker, str(lines), str(goodbye)],
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                stderr=descriptor,
            )
            for worker in WORKERS
        ]

    def run(self) -> list[dict[str, float]]:
        """Have them write all at one time; give what each told."""
        for process in self.processes:
            assert process.stdin is not None
            process.stdin.write(b"\n")
            process.stdin.flush()
        told = [json.loads(process.communicate(timeout=60)[0]) for process in self.processes]
        assert [process.returncode for process in self.processes] == [0] * len(WORKERS)
        return told


class Reader(threading.Thread):
    """Reads a descriptor to its end."""

    def __init__(self, read: Callable[[], bytes]) -> None:
        super().__init__()
        self._read = read
        self.octets = b""
        self.start()

    def run(self) -> None:
        while more := self._read():
            self.octets += more


def written(octets: bytes) -> list[tuple[str, int]]:
    """Read lines back as whole JSON: the worker that wrote each, and its number."""
    *lines, rest = octets.split(b"\n")
    assert rest == b""
    found = []
    for line in lines:
        fields = json.loads(line)
        if fields["event"] == "decision":
            assert "worker" not in fields, "decisions have ids, and are many"
            worker, number = fields["id"].split("-")
        else:
            worker, number = fields["worker"], fields["number"]
            assert fields["filled"] == "x" * (number * 7 % 900)
        found.append((worker, int(number)))
    return found


@contextlib.contextmanager
def a_pipe() -> Iterator[tuple[int, int]]:
    reader, writer = os.pipe()
    try:
        yield reader, writer
    finally:
        os.close(reader)
        with contextlib.suppress(OSError):
            os.close(writer)


EVERY_LINE = sorted((worker, number) for worker in WORKERS for number in range(LINES))


def test_four_processes_write_whole_lines_to_one_pipe() -> None:
    with a_pipe() as (reader, writer):
        crew = Crew(writer)
        os.close(writer)
        reading = Reader(lambda: os.read(reader, 65536))
        told = crew.run()
        reading.join()
    assert sorted(written(reading.octets)) == EVERY_LINE
    assert {each["lost"] for each in told} == {0}


def test_four_processes_write_whole_lines_to_one_socket() -> None:
    """As systemd gives standard error: one stream to the journal."""
    ours, theirs = socket.socketpair()
    with ours:
        with theirs:
            crew = Crew(theirs.fileno())
        reading = Reader(lambda: ours.recv(65536))
        told = crew.run()
        reading.join()
    assert sorted(written(reading.octets)) == EVERY_LINE
    assert {each["lost"] for each in told} == {0}


@pytest.mark.parametrize("append", [False, True], ids=[">", ">>"])
def test_four_processes_write_whole_lines_to_one_file(tmp_path: Path, append: bool) -> None:
    log = tmp_path / "log"
    with log.open("ab" if append else "wb") as file:
        crew = Crew(file.fileno())
        told = crew.run()
    assert sorted(written(log.read_bytes())) == EVERY_LINE
    assert {each["lost"] for each in told} == {0}


REFUSED = """
import os
_open = os.open
def refused(path, *args, **named):  # as /proc does for the pipe of another user
    if str(path).startswith("/proc/self/fd/"):
        raise PermissionError
    return _open(path, *args, **named)
os.open = refused
"""


@pytest.mark.parametrize("before", ["", REFUSED], ids=["own", "another user's"])
def test_nobody_reads_the_pipe_and_nobody_waits(before: str) -> None:
    with a_pipe() as (reader, writer):
        told = Crew(writer, 40_000, before, goodbye=0.1).run()
        os.close(writer)
        octets = b""
        while more := os.read(reader, 65536):
            octets += more
    found = Counter(worker for worker, _ in written(octets))
    for worker, each in zip(WORKERS, told, strict=True):
        assert found[worker] + each["lost"] == 40_000
        assert each["longest"] < 2


@pytest.mark.parametrize("before", ["", REFUSED], ids=["own", "another user's"])
def test_a_slow_reader_gets_whole_lines_and_nobody_waits_for_it(before: str) -> None:
    with a_pipe() as (reader, writer):
        crew = Crew(writer, LINES, before)
        os.close(writer)

        def slowly() -> bytes:
            time.sleep(0.0005)
            return os.read(reader, 5000)

        reading = Reader(slowly)
        told = crew.run()
        reading.join()
    found = Counter(worker for worker, _ in written(reading.octets))
    for worker, each in zip(WORKERS, told, strict=True):
        assert found[worker] + each["lost"] == LINES
        assert each["longest"] < 2

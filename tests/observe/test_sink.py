"""The sink: never waits, never tears a line, counts what it could not write."""

import asyncio
import contextlib
import os
import pty
import re
import select
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
import uvloop

from policyd.observe.output import MOST_OCTETS, Output, open_output
from policyd.observe.sink import Sink


class Pipe:
    """Both ends of a pipe; `read` takes what is there."""

    def __init__(self) -> None:
        self.reader, self.writer = os.pipe()
        os.set_blocking(self.reader, False)

    def read(self) -> bytes:
        octets = b""
        with contextlib.suppress(BlockingIOError):
            while more := os.read(self.reader, 65536):
                octets += more
        return octets

    def close(self) -> None:
        for descriptor in (self.reader, self.writer):
            with contextlib.suppress(OSError):
                os.close(descriptor)


@pytest.fixture
def pipe() -> Iterator[Pipe]:
    made = Pipe()
    yield made
    made.close()


@pytest.fixture(params=[asyncio.run, uvloop.run], ids=["asyncio", "uvloop"])
def run(request: pytest.FixtureRequest) -> Callable[..., None]:
    runner: Callable[..., None] = request.param
    return runner


def line(number: int, size: int = 100) -> bytes:
    return b"%08d" % number + b"." * (size - 9) + b"\n"


def numbers(octets: bytes) -> list[int]:
    """Read back whole lines; anything else fails."""
    lines = octets.split(b"\n")
    assert lines.pop() == b""
    assert all(re.fullmatch(rb"\d{8}\.*", item) for item in lines)
    return [int(item[:8]) for item in lines]


async def until(true: Callable[[], bool]) -> None:
    for _ in range(500):
        if true():
            return
        await asyncio.sleep(0.01)
    raise AssertionError("it did not come about")


def test_before_the_loop_runs_a_line_is_written_at_once(pipe: Pipe) -> None:
    sink = Sink(pipe.writer, lambda count: pytest.fail(f"{count} dropped"))
    sink.write(line(1))
    assert numbers(pipe.read()) == [1]
    sink.close(0)


def test_lines_keep_their_order_from_start_up_to_the_end(
    pipe: Pipe, run: Callable[..., None]
) -> None:
    lost: list[int] = []

    async def main() -> None:
        sink = Sink(pipe.writer, lost.append)
        sink.write(line(0))
        sink.start(asyncio.get_running_loop())
        for number in range(1, 200):
            sink.write(line(number))
            if number % 50 == 0:
                await asyncio.sleep(0)
        sink.close(1)

    run(main())
    assert numbers(pipe.read()) == list(range(200))
    assert lost == []


def test_a_burst_goes_out_in_writes_of_whole_lines_of_at_most_4_kib(
    run: Callable[..., None],
) -> None:
    ours, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)

    writes: list[bytes] = []

    async def main() -> None:
        sink = Sink(ours.fileno(), lambda count: pytest.fail(f"{count} dropped"))
        sink.start(asyncio.get_running_loop())
        for number in range(100):
            sink.write(line(number, 700))
        await asyncio.sleep(0.05)
        theirs.setblocking(False)
        with contextlib.suppress(BlockingIOError):
            while True:
                writes.append(theirs.recv(65536))
        sink.close(1)

    with ours, theirs:
        run(main())
    assert [number for write in writes for number in numbers(write)] == list(range(100))
    assert {len(write) for write in writes} == {3500}
    assert max(map(len, writes)) <= MOST_OCTETS


def test_nobody_reads_and_nobody_waits(pipe: Pipe, run: Callable[..., None]) -> None:
    lost: list[int] = []

    async def main() -> None:
        sink = Sink(pipe.writer, lost.append, most_lines=300)
        sink.start(asyncio.get_running_loop())
        for number in range(5000):
            sink.write(line(number))
            if number % 100 == 0:
                await asyncio.sleep(0)
        await asyncio.sleep(0.01)
        # counted while still nobody reads
        assert sum(lost) > 3000
        read = b""
        while more := pipe.read():
            read += more
            await asyncio.sleep(0.01)
        written = numbers(read)
        assert len(written) + sum(lost) == 5000
        assert written == sorted(written)
        sink.write(line(5000))
        await asyncio.sleep(0.01)
        assert numbers(pipe.read()) == [5000]
        sink.close(1)

    before = time.monotonic()
    run(main())
    assert time.monotonic() - before < 5


def test_the_buffer_is_bounded_in_octets(pipe: Pipe) -> None:
    lost: list[int] = []

    async def main() -> None:
        sink = Sink(pipe.writer, lost.append, most_octets=10_000)
        sink.start(asyncio.get_running_loop())
        for number in range(100):
            sink.write(line(number, 1000))
        await asyncio.sleep(0.01)
        sink.close(1)

    asyncio.run(main())
    assert sum(lost) == 90
    assert numbers(pipe.read()) == list(range(10))


def test_drops_are_reported_on_the_loops_thread(pipe: Pipe) -> None:
    reported: list[tuple[int, int]] = []

    async def main() -> None:
        sink = Sink(
            pipe.writer,
            lambda count: reported.append((threading.get_ident(), count)),
            most_lines=1,
        )
        sink.start(asyncio.get_running_loop())

        def flood() -> None:
            for number in range(2000):
                sink.write(line(number))

        await asyncio.to_thread(flood)
        await asyncio.sleep(0.01)
        sink.close(1)

    asyncio.run(main())
    assert {thread for thread, _ in reported} == {threading.get_ident()}
    assert sum(count for _, count in reported) + len(numbers(pipe.read())) == 2000


def test_threads_do_not_tear_each_others_lines(pipe: Pipe, run: Callable[..., None]) -> None:
    lost: list[int] = []

    async def main() -> None:
        sink = Sink(pipe.writer, lost.append)
        sink.start(asyncio.get_running_loop())

        def flood(first: int) -> None:
            for number in range(first, first + 100):
                sink.write(line(number))

        await asyncio.gather(*(asyncio.to_thread(flood, 100 * index) for index in range(4)))
        sink.close(1)

    run(main())
    assert sorted(numbers(pipe.read())) == list(range(400))
    assert lost == []


def test_o_nonblock_of_the_shared_description_stays_as_it_was(pipe: Pipe) -> None:
    sink = Sink(pipe.writer, lambda count: pytest.fail(f"{count} dropped"))
    sink.write(line(1))
    assert os.get_blocking(pipe.writer)
    sink.close(0)
    assert os.get_blocking(pipe.writer)


def test_a_reader_that_goes_away_costs_lines_and_nothing_else(
    pipe: Pipe, run: Callable[..., None]
) -> None:
    lost: list[int] = []

    async def main() -> None:
        sink = Sink(pipe.writer, lost.append)
        sink.start(asyncio.get_running_loop())
        for number in range(2000):
            sink.write(line(number))
        await asyncio.sleep(0.01)
        os.close(pipe.reader)
        await until(lambda: sum(lost) > 0)
        already = sum(lost)
        sink.write(line(2000))
        await until(lambda: sum(lost) == already + 1)
        sink.close(1)

    run(main())


def test_a_pipe_without_a_reader_is_still_no_error(pipe: Pipe) -> None:
    os.close(pipe.reader)
    lost: list[int] = []
    sink = Sink(pipe.writer, lost.append)
    sink.write(line(1))
    sink.write(line(2))
    sink.close(0)
    assert sum(lost) == 2


def test_a_blocking_pipe_that_cannot_be_opened_again_is_written_only_when_it_has_room(
    pipe: Pipe, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refused(*_: object) -> int:
        raise PermissionError

    lost: list[int] = []
    with monkeypatch.context() as patched:
        patched.setattr(os, "open", refused)  # as /proc does for another user's pipe
        sink = Sink(pipe.writer, lost.append)

    async def main() -> None:
        sink.start(asyncio.get_running_loop())
        for number in range(2000):
            sink.write(line(number))
        await asyncio.sleep(0.05)
        first = pipe.read()
        await asyncio.sleep(0.05)
        sink.close(0)
        assert numbers(first + pipe.read()) == list(range(2000 - sum(lost)))
        assert numbers(first)

    asyncio.run(main())


def test_whose_room_another_takes_at_the_same_moment_does_not_wait(
    pipe: Pipe, monkeypatch: pytest.MonkeyPatch
) -> None:
    """As workers do that share a standard error which none of them may open again."""

    def refused(*_: object) -> int:
        raise PermissionError

    writers = 4
    with monkeypatch.context() as patched:
        patched.setattr(os, "open", refused)
        outputs = [open_output(pipe.writer) for _ in range(writers)]
    together = threading.Barrier(writers)
    outcomes: list[int] = []

    def write(output: Output) -> None:
        together.wait()
        try:
            outcomes.append(output.write(line(1, MOST_OCTETS)))
        except BlockingIOError:
            outcomes.append(0)

    for _ in range(500):
        outcomes.clear()
        while select.select([], [pipe.writer], [], 0)[1]:
            os.write(pipe.writer, line(0, MOST_OCTETS))
        os.read(pipe.reader, MOST_OCTETS)  # room for one
        threads = [threading.Thread(target=write, args=[output]) for output in outputs]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join(2)
        waited = any(thread.is_alive() for thread in threads)
        read = pipe.read()  # also lets those go that wait
        for thread in threads:
            thread.join()
        assert not waited
        assert sorted(outcomes) == [0, 0, 0, MOST_OCTETS]
        assert numbers(read)[-1] == 1
    for output in outputs:
        output.close()


def test_a_pipe_of_another_user_that_nobody_reads_any_more_is_an_error_each_time(
    pipe: Pipe, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refused(*_: object) -> int:
        raise PermissionError

    with monkeypatch.context() as patched:
        patched.setattr(os, "open", refused)
        output = open_output(pipe.writer)
    os.close(pipe.reader)
    for _ in range(40):  # more than a pipe holds, if what was not moved stayed behind
        with pytest.raises(BrokenPipeError):
            output.write(line(1, MOST_OCTETS))
    output.close()


def test_a_full_disk_costs_lines_and_is_counted() -> None:
    lost: list[int] = []

    async def main(descriptor: int) -> None:
        sink = Sink(descriptor, lost.append)
        sink.start(asyncio.get_running_loop())
        for number in range(100):
            sink.write(line(number))
        await until(lambda: sum(lost) == 100)
        sink.close(1)

    with Path("/dev/full").open("wb") as full:
        asyncio.run(main(full.fileno()))
    assert sum(lost) == 100


def test_after_a_torn_write_the_next_line_starts_anew(tmp_path: Path) -> None:
    """RLIMIT_FSIZE cuts a write short as a full disk does; both then fail (write(2))."""
    program = """
import resource, signal, sys
from policyd.observe.sink import Sink
signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
lost = []
sink = Sink(2, lost.append)
resource.setrlimit(resource.RLIMIT_FSIZE, (150, resource.RLIM_INFINITY))
sink.write(b"a" * 99 + b"\\n")
sink.write(b"b" * 99 + b"\\n")
sink.write(b"c" * 99 + b"\\n")
resource.setrlimit(resource.RLIMIT_FSIZE, (resource.RLIM_INFINITY, resource.RLIM_INFINITY))
sink.write(b"d" * 99 + b"\\n")
print(sum(lost))
"""
    lines, told = left_by(program, tmp_path / "log")
    assert lines == [b"a" * 99, b"b" * 50, b"d" * 99, b""]
    assert told == b"2\n"


def test_after_another_writer_s_torn_line_the_next_starts_anew(tmp_path: Path) -> None:
    program = """
import resource, signal, sys
from policyd.observe.sink import Sink
signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
lost = []
one, other = Sink(2, lost.append), Sink(2, lost.append)
resource.setrlimit(resource.RLIMIT_FSIZE, (150, resource.RLIM_INFINITY))
one.write(b"a" * 99 + b"\\n")
one.write(b"b" * 99 + b"\\n")
other.write(b"c" * 99 + b"\\n")
resource.setrlimit(resource.RLIMIT_FSIZE, (resource.RLIM_INFINITY, resource.RLIM_INFINITY))
other.write(b"d" * 99 + b"\\n")
other.write(b"e" * 99 + b"\\n")
print(sum(lost))
"""
    lines, told = left_by(program, tmp_path / "log")
    assert lines == [b"a" * 99, b"b" * 50, b"d" * 99, b"e" * 99, b""]
    assert told == b"2\n"


def left_by(program: str, log: Path) -> tuple[list[bytes], bytes]:
    """Run a program with a file as its standard error; give the file's lines, and its output."""
    with log.open("wb") as stderr:
        done = subprocess.run(
            [sys.executable, "-c", program], stderr=stderr, stdout=subprocess.PIPE, check=True
        )
    return log.read_bytes().split(b"\n"), done.stdout


def test_two_writers_of_one_file_do_not_overwrite_each_other(tmp_path: Path) -> None:
    with (tmp_path / "log").open("wb", buffering=0) as log:
        sink = Sink(log.fileno(), lambda count: pytest.fail(f"{count} dropped"))
        log.write(line(1))
        sink.write(line(2))
        log.write(line(3))
        sink.close(0)
    assert numbers((tmp_path / "log").read_bytes()) == [1, 2, 3]


def test_a_stream_socket_nobody_reads_is_not_waited_for(run: Callable[..., None]) -> None:
    ours, theirs = socket.socketpair()
    lost: list[int] = []

    async def main() -> None:
        sink = Sink(ours.fileno(), lost.append)
        sink.start(asyncio.get_running_loop())
        for number in range(8000):
            sink.write(line(number))
        await asyncio.sleep(0.05)
        assert ours.getblocking()
        read = b""
        theirs.setblocking(False)
        for _ in range(100):
            with contextlib.suppress(BlockingIOError):
                while True:
                    read += theirs.recv(65536)
            await asyncio.sleep(0.002)
        sink.close(1)
        assert numbers(read) == list(range(8000))

    with ours, theirs:
        run(main())
    assert lost == []


def test_a_stopped_terminal_is_not_waited_for(run: Callable[..., None]) -> None:
    controller, terminal = pty.openpty()
    lost: list[int] = []

    async def main() -> None:
        sink = Sink(terminal, lost.append)
        sink.start(asyncio.get_running_loop())
        for number in range(3000):
            sink.write(line(number))
        await asyncio.sleep(0.05)
        sink.close(0)

    try:
        run(main())
        assert 0 < sum(lost) < 3000
        assert os.get_blocking(terminal)
    finally:
        os.close(controller)
        os.close(terminal)


def test_without_a_descriptor_every_line_is_dropped_and_counted() -> None:
    lost: list[int] = []
    reader, writer = os.pipe()
    os.close(reader)
    os.close(writer)
    for closed in (None, writer):
        sink = Sink(closed, lost.append)
        sink.write(line(1))
        sink.close(1)
    assert lost == [1, 1]


def test_close_writes_what_is_left_and_drops_what_comes_later(pipe: Pipe) -> None:
    lost: list[int] = []

    async def main() -> None:
        sink = Sink(pipe.writer, lost.append)
        sink.start(asyncio.get_running_loop())
        for number in range(100):
            sink.write(line(number))
        sink.close(1)
        sink.write(line(100))

    asyncio.run(main())
    assert numbers(pipe.read()) == list(range(100))
    assert lost == [1]


def test_close_waits_no_longer_than_it_may(pipe: Pipe) -> None:
    lost: list[int] = []

    async def main() -> float:
        sink = Sink(pipe.writer, lost.append)
        sink.start(asyncio.get_running_loop())
        for number in range(5000):
            sink.write(line(number))
        before = time.monotonic()
        sink.close(0.2)
        return time.monotonic() - before

    took = asyncio.run(main())
    assert 0.2 <= took < 1
    assert len(numbers(pipe.read())) + sum(lost) == 5000

"""A message on its way into a file: its octets, where they are kept, and what is made of them."""

import asyncio
import mmap
import os
import re
import resource
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from policyd.mail.arrived import UnreadableError
from policyd.mail.spool import IN_MEMORY, Spool, taken_apart

NAMES = st.from_regex(re.compile(rb"[!-9;-~]{1,20}"), fullmatch=True).map(bytes.decode)
VALUES = st.lists(st.binary(max_size=40).map(lambda b: re.sub(rb"[\r\n\0]", b"", b)), max_size=4)


@pytest.fixture
def spool() -> Iterator[Spool]:
    spool = Spool()
    yield spool
    spool.drop()


def open_files() -> set[str]:
    return {entry.name for entry in Path("/proc/self/fd").iterdir()}


def octets(spool: Spool) -> bytes:
    return os.pread(spool.descriptor(), spool.size + 1, 0)


def kind_of_file(spool: Spool) -> str:
    return str(Path(f"/proc/self/fd/{spool.descriptor()}").readlink())


class TestOctets:
    @given(
        st.lists(st.tuples(NAMES, VALUES), max_size=5),
        st.lists(st.binary(max_size=300), max_size=5),
        st.sampled_from([10, IN_MEMORY]),
    )
    def test_it_is_what_the_client_sent(
        self, headers: list[tuple[str, list[bytes]]], chunks: list[bytes], in_memory: int
    ) -> None:
        spool = Spool(in_memory=in_memory)
        for name, lines in headers:
            spool.header(name, b"\n ".join(lines))
        for chunk in chunks:
            spool.body(chunk)
        sent = b"".join(
            name.encode() + b":" + b"\r\n ".join(lines) + b"\r\n" for name, lines in headers
        )
        assert octets(spool) == sent + b"\r\n" + b"".join(chunks)
        assert spool.size == len(octets(spool))
        spool.drop()

    @pytest.mark.parametrize("end", [b"\r\n", b"\n"])
    def test_a_file_is_taken_apart_into_what_makes_it(self, end: bytes) -> None:
        lines = (b"A: b", b"\tc: d", b"B:", b"no colon", b"", b"e: f", b"", b"g")
        headers, body = taken_apart(end.join(lines))
        assert headers == (("A", b" b\r\n\tc: d"), ("B", b""), ("no colon", b""))
        assert body == b"e: f\r\n\r\ng"

    def test_lines_of_a_header_may_end_in_either_way(self, spool: Spool) -> None:
        spool.header("A", b" one\n two\r\n\tthree")
        assert octets(spool) == b"A: one\r\n two\r\n\tthree\r\n\r\n"

    def test_nothing_at_all_is_an_empty_message(self, spool: Spool) -> None:
        assert octets(spool) == b"\r\n"

    def test_the_same_descriptor_is_given_again(self, spool: Spool) -> None:
        spool.body(b"x")
        assert spool.descriptor() == spool.descriptor()
        with mmap.mmap(spool.descriptor(), 0, prot=mmap.PROT_READ) as memory:
            assert memory[:] == b"\r\nx"


class TestPlaces:
    def test_a_small_message_that_nobody_reads_has_no_file(self, spool: Spool) -> None:
        before = open_files()
        spool.header("A", b" b")
        spool.body(b"x" * 60_000)
        assert open_files() == before

    def test_up_to_the_bound_it_is_in_memory(self, spool: Spool) -> None:
        for _ in range(16):
            spool.body(b"x" * (IN_MEMORY // 16 - 1))
        assert kind_of_file(spool).startswith("/memfd:policyd-message")

    def test_beyond_it_is_a_file_without_a_name_in_the_temporary_directory(
        self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setattr("tempfile.tempdir", str(tmp_path))
        spool = Spool()
        for number in range(40):
            spool.body(bytes([number]) * 65_535)
        place = kind_of_file(spool)
        assert place.startswith(str(tmp_path))
        assert place.endswith("(deleted)")
        assert list(tmp_path.iterdir()) == []
        assert octets(spool) == b"\r\n" + b"".join(bytes([n]) * 65_535 for n in range(40))
        spool.drop()

    @pytest.mark.parametrize("size", [1, 70_000, 2 * IN_MEMORY])
    def test_nothing_is_left_open_when_it_is_dropped(self, size: int) -> None:
        before = open_files()
        spool = Spool()
        spool.body(b"x" * size)
        spool.descriptor()
        spool.drop()
        assert open_files() == before
        with pytest.raises(UnreadableError, match="it has ended"):
            spool.descriptor()


LITTLE = """
import os, resource, sys
from policyd.mail.arrived import UnreadableError
from policyd.mail.spool import Spool
import signal
signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
spools = []
kind, limit = getattr(resource, sys.argv[1]), int(sys.argv[2])
resource.setrlimit(kind, (limit, limit))
spool = Spool()
spool.header("A", b" b")
for _ in range(60):
    spool.body(b"x" * 65535)
try:
    spool.descriptor()
except UnreadableError as error:
    print(spool.size, error)
spool.drop()
"""


class TestWithoutRoom:
    @pytest.mark.parametrize(
        ("limit", "most", "why"),
        [
            ("RLIMIT_FSIZE", 3_000_000, os.strerror(27)),
            ("RLIMIT_FSIZE", 10_000, os.strerror(27)),
            ("RLIMIT_NOFILE", 3, os.strerror(24)),
        ],
    )
    def test_the_message_is_unreadable_and_counted_all_the_same(
        self, limit: str, most: int, why: str
    ) -> None:
        assert getattr(resource, limit)
        done = subprocess.run(
            [sys.executable, "-c", LITTLE, limit, str(most)],
            capture_output=True,
            text=True,
            check=False,
            timeout=30,
        )
        assert (done.returncode, done.stderr) == (0, "")
        size = len("A: b\r\n\r\n") + 60 * 65_535
        assert done.stdout == f"{size} the message cannot be read: {why}\n"

    def test_a_full_disk_is_told_by_its_name(
        self, spool: Spool, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        full = os.open("/dev/full", os.O_WRONLY)
        monkeypatch.setattr("os.memfd_create", lambda *_: full)
        spool.body(b"x")
        with pytest.raises(UnreadableError, match="No space left on device"):
            spool.descriptor()
        with pytest.raises(OSError, match="Bad file descriptor"):
            os.fstat(full)


class TestMaking:
    def test_what_is_made_once_is_given_to_all(self, spool: Spool) -> None:
        async def scene() -> None:
            made: list[int] = []

            async def make() -> int:
                await asyncio.sleep(0.01)
                made.append(spool.size)
                return len(made)

            assert await asyncio.gather(*(spool.once("a", make) for _ in range(5))) == [1] * 5
            assert await spool.once("a", make) == 1
            assert await spool.once("b", make) == 2

        asyncio.run(scene())

    def test_a_failure_is_everybodys_and_made_anew(self, spool: Spool) -> None:
        async def scene() -> None:
            tries: list[int] = []

            async def make() -> str:
                tries.append(1)
                await asyncio.sleep(0)
                if len(tries) == 1:
                    raise ValueError("no luck")
                return "luck"

            found = await asyncio.gather(
                spool.once("a", make), spool.once("a", make), return_exceptions=True
            )
            assert [str(each) for each in found] == ["no luck", "no luck"]
            assert await spool.once("a", make) == "luck"
            assert len(tries) == 2

        asyncio.run(scene())

    def test_it_goes_on_without_the_one_who_asked_first(self, spool: Spool) -> None:
        async def scene() -> None:
            go = asyncio.Event()

            async def make() -> str:
                await go.wait()
                return "made"

            with pytest.raises(TimeoutError):
                async with asyncio.timeout(0.01):
                    await spool.once("a", make)
            go.set()
            assert await spool.once("a", make) == "made"

        asyncio.run(scene())

    def test_nothing_is_closed_before_what_is_being_made_has_ended(self) -> None:
        async def scene() -> None:
            spool = Spool()
            spool.body(b"x" * 70_000)
            descriptor = spool.descriptor()
            ended = asyncio.Event()

            async def make() -> None:
                try:
                    await asyncio.sleep(60)
                finally:
                    await asyncio.sleep(0.01)  # as a helper's process takes to end
                    os.fstat(descriptor)
                    ended.set()

            with pytest.raises(TimeoutError):
                async with asyncio.timeout(0.01):
                    await spool.once("a", make)
            await asyncio.to_thread(spool.drop)
            await asyncio.wait_for(ended.wait(), 5)
            await asyncio.sleep(0.01)
            with pytest.raises(OSError, match="Bad file descriptor"):
                os.fstat(descriptor)

        asyncio.run(scene())

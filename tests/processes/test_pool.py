"""Work in helper processes: done, killed at its limit, done anew; nothing is left behind."""

import asyncio
import contextlib
import gc
import os
import signal
import socket
import subprocess
import sys
import time
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
import uvloop
from msgspec.msgpack import encode

from policyd.processes import pool as pool_module
from policyd.processes import running
from policyd.processes.memory import kept, let_go
from policyd.processes.messages import Asked, Done, Failed, Ready
from policyd.processes.pool import Pool
from policyd.processes.spawn import start_module
from policyd.processes.work import WorkError

HERE = Path(__file__).parent
LONG = 20.0
"""Seconds that nothing here takes."""

Scene = Callable[[], Awaitable[None]]
Play = Callable[[Scene], None]


def descriptors_open() -> int:
    gc.collect()
    return len(os.listdir("/proc/self/fd"))  # noqa: PTH208 -- a count, not paths


def children() -> list[int]:
    """Give the processes that this one has started and not yet waited for, dead ones too."""
    task = Path(f"/proc/self/task/{os.getpid()}/children")
    return [int(pid) for pid in task.read_text().split()]


def alive(pid: int) -> bool:
    try:
        state = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0]
    except FileNotFoundError:
        return False
    return state != "Z"


async def gone(*pids: int) -> None:
    async with asyncio.timeout(5):
        while any(map(alive, pids)):  # noqa: ASYNC110 -- nobody announces it
            await asyncio.sleep(0.005)


@pytest.fixture(autouse=True)
def path(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PYTHONPATH", str(HERE))


Loop = Callable[[], asyncio.AbstractEventLoop]


@contextlib.contextmanager
def player(loop: Loop) -> Iterator[Play]:
    """Run scenes on a loop; no process and no descriptor is left behind."""

    def run(scene: Scene) -> None:
        async def main() -> None:
            async with asyncio.timeout(60):
                await scene()

        with asyncio.Runner(loop_factory=loop) as runner:
            runner.run(main())

    loop().close()  # libuv's first loop opens a pipe for the life of the process
    before, older = descriptors_open(), set(children())
    yield run
    assert set(children()) <= older
    assert descriptors_open() == before


@pytest.fixture(params=[asyncio.new_event_loop, uvloop.new_event_loop], ids=["asyncio", "uvloop"])
def play(request: pytest.FixtureRequest) -> Iterator[Play]:
    with player(request.param) as run:
        yield run


@pytest.fixture
def play_once() -> Iterator[Play]:
    """Run scenes on the loop of a worker only: for what does not depend on loops."""
    with player(uvloop.new_event_loop) as run:
        yield run


@contextlib.asynccontextmanager
async def a_pool(processes: int = 1, at_once: int = 1, **more: Any) -> AsyncIterator[Pool]:
    pool = Pool(processes=processes, at_once=at_once, **more)
    try:
        yield pool
    finally:
        before = time.monotonic()
        await pool.close()
        assert time.monotonic() - before < 1.5


async def process_of(pool: Pool) -> int:
    return int(await pool.run("labour:sleep", b"0", limit=LONG))


# what is done


@pytest.mark.parametrize("size", [0, 1, 100_000, 100_001, 10 * 2**20])
def test_work_gets_its_payload_and_gives_its_result_however_large(
    play_once: Play, size: int
) -> None:
    async def scene() -> None:
        async with a_pool() as pool:
            payload = os.urandom(size)
            assert await pool.run("labour:echo", payload, limit=LONG) == payload
            assert await pool.run("labour:echo", b"x", limit=LONG) == b"x"

    play_once(scene)


def test_descriptors_are_the_works_in_their_order_and_stay_the_callers(play: Play) -> None:
    async def scene() -> None:
        files = [kept(str(number).encode(), "test") for number in range(3)]
        async with a_pool() as pool:
            for payload in (b"", b"x" * 200_000):
                done = pool.run("labour:read_all", payload, limit=LONG, descriptors=files)
                assert await done == b"0|1|2"
        let_go(files)

    play(scene)


@pytest.mark.parametrize(
    ("work", "payload", "why"),
    [
        ("labour:fail", b"no such thing", r"ValueError: no such thing \(labour.py:\d+\)"),
        ("labour:fail", b"\xff", r"ValueError: \? \(labour.py:\d+\)"),
        ("labour:fail", b"long" * 100_000, r"ValueError: (long)+l \(labour.py:\d+\)"),
        ("labour:refuse", b"not today", "not today"),
        ("labour:leave", b"", "SystemExit: as if it were a program .*"),
        ("labour:give_text", b"", "labour:give_text gave str, not bytes"),
        ("labour:nowhere", b"", "AttributeError: .*"),
        ("no_such_module:work", b"", "ModuleNotFoundError: .*"),
        ("labour:grow", str(256 * 2**20 + 1).encode(), "labour:grow gave .* octets, more than .*"),
    ],
)
def test_what_work_raises_is_told_and_its_process_goes_on(
    play_once: Play, work: str, payload: bytes, why: str
) -> None:
    async def scene() -> None:
        async with a_pool() as pool:
            worker = await process_of(pool)
            with pytest.raises(WorkError, match=f"^{why}$") as raised:
                await pool.run(work, payload, limit=LONG)
            assert len(str(raised.value)) <= 500
            assert await process_of(pool) == worker

    play_once(scene)


def test_pieces_of_work_run_side_by_side_in_one_process_and_in_several(play_once: Play) -> None:
    async def scene() -> None:
        async with a_pool(processes=2, at_once=4) as pool:
            await process_of(pool)
            before = time.monotonic()
            work = [pool.run("labour:sleep", b"0.4", limit=LONG) for _ in range(8)]
            assert len(set(await asyncio.gather(*work))) == 2
            assert time.monotonic() - before < 3

    play_once(scene)


def test_a_process_is_started_when_needed_and_kept(play_once: Play) -> None:
    async def scene() -> None:
        before = set(children())
        async with a_pool(processes=3) as pool:
            assert set(children()) == before
            pids = {await process_of(pool) for _ in range(5)}
            assert pids == set(children()) - before
            assert len(pids) == 1

    play_once(scene)


def test_processes_are_started_ahead_with_what_they_import(play_once: Play, tmp_path: Path) -> None:
    async def scene() -> None:
        module = tmp_path / "imported_ahead.py"
        module.write_text(f"open({str(tmp_path / 'seen')!r}, 'a').write('x')")
        async with a_pool(processes=2) as pool:
            pool.start("labour", "imported_ahead", "no_such_module")
            pool.start("labour", "imported_ahead")
            assert await process_of(pool)
            await asyncio.gather(*(pool.run("labour:sleep", b"0.2", limit=LONG) for _ in range(2)))
            assert (tmp_path / "seen").read_text() == "xx"

    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("PYTHONPATH", f"{HERE}:{tmp_path}")
        play_once(scene)


def test_a_helper_has_nothing_of_its_workers_and_leaves_signals_to_the_supervisor(
    play_once: Play,
) -> None:
    async def scene() -> None:
        async with a_pool() as pool:
            said = (await pool.run("labour:surroundings", b"", limit=LONG)).decode()
        ignored, nice, *descriptors = said.splitlines()
        for number in (signal.SIGTERM, signal.SIGINT, signal.SIGHUP):
            assert int(ignored, 16) & 1 << (number - 1)
        assert int(nice) == os.nice(0) + 5
        assert len(descriptors) == 4
        assert descriptors[0] == "/dev/null"
        assert descriptors[1] == descriptors[2]
        assert descriptors[3].startswith("socket:")

    play_once(scene)


# asking


def test_work_asks_its_worker_and_waits_for_the_answer(play: Play) -> None:
    async def scene() -> None:
        async def answer(question: bytes) -> bytes:
            await asyncio.sleep(0.01)
            return question.upper()

        async with a_pool(at_once=8, answer=answer) as pool:
            questions = [b"dns%d" % number for number in range(20)] + [b"x" * 300_000]
            found = await asyncio.gather(
                *(pool.run("labour:ask_twice", each, limit=LONG) for each in questions)
            )
            assert found == [each.upper() * 2 for each in questions]

    play(scene)


def test_a_question_without_an_answer_is_an_error_in_the_work(play_once: Play) -> None:
    async def scene() -> None:
        async def answer(question: bytes) -> bytes:
            raise LookupError("\udcff" * 1000 if question == b"long" else "nobody knows")

        async with a_pool(answer=answer) as pool, a_pool() as mute:
            with pytest.raises(WorkError, match=r"^nobody knows$"):
                await pool.run("labour:ask_twice", b"x", limit=LONG)
            with pytest.raises(WorkError, match=r"^\?+$"):
                await pool.run("labour:ask_twice", b"long", limit=LONG)
            with pytest.raises(WorkError, match=r"^nobody answers what is asked here$"):
                await mute.run("labour:ask_twice", b"x", limit=LONG)

    play_once(scene)


def test_a_question_that_is_never_answered_is_forgotten_at_the_works_limit(play: Play) -> None:
    async def scene() -> None:
        forgotten = asyncio.Event()

        async def answer(_question: bytes) -> bytes:
            try:
                await asyncio.sleep(60)
            except asyncio.CancelledError:
                forgotten.set()
                raise
            return b""

        async with a_pool(answer=answer) as pool:
            with pytest.raises(WorkError, match=r"took longer than 0.3 s"):
                await pool.run("labour:ask_twice", b"x", limit=0.3)
            await forgotten.wait()

    play(scene)


# limits and ends


@pytest.mark.parametrize("work", ["labour:sleep", "labour:backtrack"])
def test_work_past_its_limit_is_killed_and_another_process_begins(play: Play, work: str) -> None:
    async def scene() -> None:
        async with a_pool() as pool:
            first = await process_of(pool)
            before = time.monotonic()
            with pytest.raises(WorkError, match=f"^{work} took longer than 0.3 s$"):
                await pool.run(work, b"60", limit=0.3)
            assert time.monotonic() - before < 5
            assert await process_of(pool) != first
            await gone(first)

    play(scene)


def test_the_seconds_of_work_begin_when_it_does(play_once: Play) -> None:
    async def scene() -> None:
        async with a_pool() as pool:
            work = [pool.run("labour:sleep", b"0.2", limit=0.5) for _ in range(4)]
            assert len(set(await asyncio.gather(*work))) == 1

    play_once(scene)


def test_what_else_a_killed_process_did_is_done_anew(play_once: Play) -> None:
    async def scene() -> None:
        async with a_pool(at_once=8) as pool:
            first = await process_of(pool)
            innocent = [
                asyncio.ensure_future(pool.run("labour:sleep", b"0.6", limit=LONG))
                for _ in range(5)
            ]
            with pytest.raises(WorkError, match="took longer"):
                await pool.run("labour:sleep", b"60", limit=0.3)
            (second,) = set(await asyncio.gather(*innocent))
            assert int(second) != first

    play_once(scene)


def test_work_is_done_anew_once_only(play_once: Play) -> None:
    async def scene() -> None:
        async with a_pool(at_once=8) as pool:
            await process_of(pool)
            innocent = asyncio.ensure_future(pool.run("labour:sleep", b"30", limit=LONG))
            for _ in range(2):
                with pytest.raises(WorkError, match="took longer"):
                    await pool.run("labour:sleep", b"60", limit=0.3)
            why = "^labour:sleep: the process was killed, since labour:sleep took too long in it$"
            with pytest.raises(WorkError, match=why):
                await innocent

    play_once(scene)


@pytest.mark.parametrize(
    ("work", "why"),
    [
        ("crash", "the process was ended by SIGSEGV"),
        ("exit_at_once", "the process ended with status 3"),
    ],
)
def test_work_that_ends_its_process_is_told_how(play_once: Play, work: str, why: str) -> None:
    async def scene() -> None:
        async with a_pool() as pool:
            with pytest.raises(WorkError, match=f"^labour:{work}: {why}$"):
                await pool.run(f"labour:{work}", b"", limit=LONG)
            assert await process_of(pool)

    play_once(scene)


def test_one_that_ends_processes_does_not_take_others_with_it_twice(play_once: Play) -> None:
    async def scene() -> None:
        async with a_pool(at_once=8) as pool:
            await process_of(pool)
            innocent = [
                asyncio.ensure_future(pool.run("labour:sleep", b"0.1", limit=LONG))
                for _ in range(4)
            ]
            with pytest.raises(WorkError, match="ended with status 3"):
                await pool.run("labour:exit_at_once", b"", limit=LONG)
            assert len(await asyncio.gather(*innocent)) == 4

    play_once(scene)


def test_work_whose_process_was_ended_by_others_is_done_anew(
    play_once: Play, tmp_path: Path
) -> None:
    async def scene() -> None:
        async with a_pool(at_once=2) as pool:
            await process_of(pool)
            other = asyncio.ensure_future(pool.run("labour:sleep", b"0.5", limit=LONG))
            seen = str(tmp_path / "seen").encode()
            assert await pool.run("labour:exit_once", seen, limit=LONG) == b"the second time"
            assert await other

    play_once(scene)


def test_work_that_wants_too_much_memory_fails_and_its_process_is_replaced(play_once: Play) -> None:
    async def scene() -> None:
        async with a_pool(at_once=2, memory=200 * 2**20) as pool:
            first = await process_of(pool)
            with pytest.raises(WorkError, match="there is not enough memory for it"):
                await pool.run("labour:devour", b"", limit=LONG)
            assert await process_of(pool) != first

    play_once(scene)


def test_what_work_has_started_is_killed_with_its_process(play_once: Play) -> None:
    async def scene() -> None:
        async with a_pool() as pool:
            started = int(await pool.run("labour:start_program", b"", limit=LONG))
            assert alive(started)
            with pytest.raises(WorkError, match="took longer"):
                await pool.run("labour:sleep", b"60", limit=0.1)
            await gone(started)

    play_once(scene)


def test_nobody_may_wait_any_more_and_the_process_is_still_killed_at_the_limit(play: Play) -> None:
    async def scene() -> None:
        async with a_pool() as pool:
            first = await process_of(pool)
            with pytest.raises(TimeoutError):
                async with asyncio.timeout(0.1):
                    await pool.run("labour:sleep", b"60", limit=0.5)
            assert alive(first)
            await gone(first)
            assert await process_of(pool) != first

    play(scene)


def test_work_that_nobody_waits_for_any_more_is_not_begun(play_once: Play, tmp_path: Path) -> None:
    async def scene() -> None:
        async with a_pool() as pool:
            await process_of(pool)
            busy = asyncio.ensure_future(pool.run("labour:sleep", b"0.3", limit=LONG))
            await asyncio.sleep(0)
            seen = tmp_path / "seen"
            with pytest.raises(TimeoutError):
                async with asyncio.timeout(0.1):
                    await pool.run("labour:exit_once", str(seen).encode(), limit=LONG)
            assert await process_of(pool) == int(await busy)
            assert not seen.exists()

    play_once(scene)


def test_beyond_what_may_wait_work_is_refused_at_once(play_once: Play) -> None:
    async def scene() -> None:
        async with a_pool(most_waiting=3) as pool:
            await process_of(pool)
            begun = [
                asyncio.ensure_future(pool.run("labour:sleep", b"0.1", limit=LONG))
                for _ in range(4)
            ]
            await asyncio.sleep(0)
            with pytest.raises(WorkError, match=r"^3 pieces of work wait already$"):
                await pool.run("labour:echo", b"", limit=LONG)
            await asyncio.gather(*begun)
            assert await pool.run("labour:echo", b"x", limit=LONG) == b"x"

    play_once(scene)


def test_closing_ends_what_is_under_way_and_what_waits(play: Play) -> None:
    async def scene() -> None:
        async with a_pool() as pool:
            work = [
                asyncio.ensure_future(pool.run("labour:sleep", b"60", limit=LONG)) for _ in range(3)
            ]
            await asyncio.sleep(0.3)
        for each in work:
            with pytest.raises(WorkError, match="its processes are ended"):
                await each
        with pytest.raises(WorkError, match="no more work is done here"):
            await pool.run("labour:echo", b"", limit=LONG)

    play(scene)


# processes that misbehave


@pytest.mark.parametrize(
    "message",
    [
        b"nonsense",
        b"\0" * 1000,
        encode(Ready()),
        encode(Done(7, b"")),
        encode(Failed(7, "not one of yours")),
        encode({"type": "Failed", "piece": 1, "why": "x" * 501}),
        encode({"type": "Done", "piece": "1", "octets": b""}),
        encode(Done(1, None)),
        encode(Asked(7, b"")),
        b"descriptors",
        b"flood",
    ],
)
def test_a_helper_that_sends_what_it_should_not_is_killed(play_once: Play, message: bytes) -> None:
    async def scene() -> None:
        async with a_pool() as pool:
            with pytest.raises(
                WorkError, match=r"^labour:talk_nonsense: the process sent nonsense"
            ):
                await pool.run("labour:talk_nonsense", message, limit=LONG)
            assert await process_of(pool)

    play_once(scene)


def test_processes_that_do_not_start_are_an_answer_and_are_tried_more_and_more_slowly(
    play_once: Play, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "deadly.py").write_text(
        f"import os\nopen({str(tmp_path / 'starts')!r}, 'a').write('x')\nos._exit(9)"
    )
    monkeypatch.setenv("PYTHONPATH", f"{HERE}:{tmp_path}")
    monkeypatch.setattr(pool_module, "_FIRST_DELAY", 0.1)

    async def scene() -> None:
        async with a_pool() as pool:
            pool.start("deadly")
            with pytest.raises(WorkError, match="the process ended with status 9"):
                await pool.run("labour:echo", b"", limit=LONG)
            await asyncio.sleep(0.7)
            assert 2 <= len((tmp_path / "starts").read_text()) <= 4
            (tmp_path / "deadly.py").write_text("")
            async with asyncio.timeout(LONG):
                while True:
                    with contextlib.suppress(WorkError):
                        assert await pool.run("labour:echo", b"x", limit=LONG) == b"x"
                        break
                    await asyncio.sleep(0.05)

    play_once(scene)


def test_a_process_that_is_never_ready_is_killed(
    play_once: Play, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "endless.py").write_text("import time\ntime.sleep(60)")
    monkeypatch.setenv("PYTHONPATH", f"{HERE}:{tmp_path}")
    monkeypatch.setattr(running, "START_WITHIN", 0.5)

    async def scene() -> None:
        async with a_pool() as pool:
            pool.start("endless")
            with pytest.raises(WorkError, match=r"it was not ready within 0.5 s"):
                await pool.run("labour:echo", b"", limit=LONG)

    play_once(scene)


ORPHANS = """
import asyncio, os, signal, sys
from policyd.processes.pool import Pool

async def main():
    pool = Pool(processes=2, at_once=2)
    pids = set()
    while len(pids) < 2:
        pids |= set(await asyncio.gather(
            *(pool.run("labour:sleep", b"0.05", limit=20) for _ in range(4))
        ))
    print(*(pid.decode() for pid in pids), flush=True)
    work = [asyncio.ensure_future(pool.run(name, b"60", limit=60)) for name in sys.argv[1:]]
    await asyncio.sleep(0.2)
    os.kill(os.getpid(), signal.SIGKILL)

asyncio.run(main())
"""


@pytest.mark.parametrize("work", [[], ["labour:sleep"], ["labour:backtrack"] * 2])
def test_helpers_end_with_their_worker_whatever_they_do(work: list[str]) -> None:
    done = subprocess.run(
        [sys.executable, "-c", ORPHANS, *work], capture_output=True, text=True, check=False
    )
    assert done.returncode == -signal.SIGKILL, done.stderr
    pids = [int(pid) for pid in done.stdout.split()]
    assert len(pids) == 2
    asyncio.run(gone(*pids))


def test_a_helper_whose_control_socket_ends_ends_itself() -> None:
    ours, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
    with theirs:
        process = start_module("policyd.processes.helper", theirs.fileno())
    ours.close()
    assert process.wait(10) == -signal.SIGKILL

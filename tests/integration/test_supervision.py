"""Workers that die, hang or cannot start are replaced, and nobody else notices."""

import contextlib
import os
import random
import resource
import signal
import socket
import subprocess
import time
from collections.abc import Iterator, Sequence
from datetime import datetime
from pathlib import Path

import pytest

from policyd.serve.crew import _SHORT_LIFE, HUNG_AFTER, LOOK_EVERY
from tests.integration.changing import Asking, rule, until
from tests.integration.supervised import (
    REPLY,
    REQUEST,
    RULES,
    Supervised,
    is_closed,
    is_silent,
    standing_still,
)
from tools.milter_client import MilterClient, MilterClosedError
from tools.policyd_process import COMMAND, free_port

pytestmark = pytest.mark.integration


@pytest.fixture(scope="module")
def running(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Supervised]:
    with Supervised(tmp_path_factory.mktemp("supervision")) as supervised:
        yield supervised


@pytest.fixture
def policyd(running: Supervised) -> Iterator[Supervised]:
    """One for all tests, whole again before each."""
    running.until_all_serve()
    until(lambda: running.connections() == 0)
    yield running
    assert "Traceback" not in running.log.read_text()


@contextlib.contextmanager
def asking(policyd: Supervised, count: int) -> Iterator[list[Asking]]:
    """Open connections, and have each answered once."""
    with contextlib.ExitStack() as stack:
        every = [stack.enter_context(Asking(policyd.port)) for _ in range(count)]
        for one in every:
            assert one.ask() == REPLY
        yield every


def parted(policyd: Supervised, every: Sequence[Asking], pid: int) -> tuple[list[Asking], ...]:
    """Give the connections that a worker holds, and the others."""
    own = [one for one in every if policyd.holder(one.socket) == pid]
    return own, [one for one in every if one not in own]


# those that die


def test_a_killed_worker_takes_nothing_along_but_its_own_connections(policyd: Supervised) -> None:
    before, counted, restarts = policyd.pids(), policyd.answered(), policyd.restarts()
    with asking(policyd, 8) as every:
        own, others = parted(policyd, every, before[1])
        os.kill(before[1], signal.SIGKILL)
        assert all(is_closed(one.socket, 1) for one in own)
        until(lambda: policyd.value("policyd_connections", frontend="policy") == 4, 1)
        assert policyd.answered() == counted + 8
        assert [one.ask() for one in others] == [REPLY] * 4
        after = policyd.until_all_serve()
        assert after[1] != before[1]
        assert after[2] == before[2]
        assert policyd.answered() == counted + 12
        assert policyd.value("policyd_connections", frontend="policy") == 4
    assert policyd.restarts() == {**restarts, "signal": restarts["signal"] + 1}
    last = policyd.events("worker.ended")[-1]
    assert (last["worker"], last["pid"], last["reason"]) == (1, before[1], "signal")
    assert (last["level"], last["status"]) == ("error", -signal.SIGKILL)


def test_the_worker_in_its_place_goes_on_counting_where_it_had_ended(policyd: Supervised) -> None:
    os.kill(policyd.pids()[2], signal.SIGKILL)
    policyd.until_all_serve()
    counted = policyd.answered()
    with asking(policyd, 8):
        assert policyd.spread() == [4, 4]
        assert policyd.answered() == counted + 8


def test_a_worker_that_exits_is_replaced_and_the_reason_is_told(policyd: Supervised) -> None:
    before, restarts = policyd.pids(), policyd.restarts()
    with Asking(policyd.port) as one:
        one.ask()
        pid = policyd.holder(one.socket)
        one.send("ends@example.org")
        assert is_closed(one.socket, 5)
    assert policyd.until_all_serve() != before
    assert policyd.restarts() == {**restarts, "exit": restarts["exit"] + 1}
    last = policyd.events("worker.ended")[-1]
    assert (last["pid"], last["reason"], last["status"]) == (pid, "exit", 3)


def test_while_no_worker_serves_connections_wait_and_are_answered(policyd: Supervised) -> None:
    ended = len(policyd.events("worker.ended"))
    for pid in policyd.pids().values():
        os.kill(pid, signal.SIGKILL)
    until(lambda: len(policyd.events("worker.ended")) == ended + 2)
    with asking(policyd, 4):
        policyd.until_all_serve()


def test_milter_sessions_of_other_workers_go_on_when_one_is_killed(policyd: Supervised) -> None:
    with contextlib.ExitStack() as stack:
        every = [stack.enter_context(policyd.session()) for _ in range(20)]
        for one in every:
            one.mail()
        victim = policyd.pids()[1]
        held = int(policyd.value("policyd_worker_connections", worker="1", frontend="milter") or 0)
        os.kill(victim, signal.SIGKILL)
        answers = []
        for one in every:
            with contextlib.suppress(OSError, MilterClosedError):
                one.rcpt()
                one.data()
                answers.append(one.message().answer.text)
        assert answers == [REPLY] * (20 - held)
        until(lambda: policyd.value("policyd_connections", frontend="milter") == 20 - held, 1)


def test_who_dies_at_the_start_is_started_more_and_more_slowly(policyd: Supervised) -> None:
    time.sleep(_SHORT_LIFE)  # both have served that long when they are killed
    policyd.let_workers_start(False)
    began = len(policyd.events("worker.ended", "worker.started"))
    try:
        first, second = policyd.pids().values()
        os.kill(first, signal.SIGKILL)
        until(lambda: len(pauses(policyd, began, 1)) >= 2)
        with asking(policyd, 4):
            assert policyd.spread() == [0, 4]
        os.kill(second, signal.SIGKILL)
        until(lambda: not policyd.ready())
        assert "no worker serves" in policyd.why_not_ready()
        with Asking(policyd.port) as one:
            one.send("jo@example.org")
            until(lambda: len(pauses(policyd, began, 1)) >= 5)
            assert is_silent(one.socket)
            policyd.let_workers_start(True)
            assert one.receive() == REPLY
    finally:
        policyd.let_workers_start(True)
    for pause, least in zip(pauses(policyd, began, 1), (0, 0.1, 0.2, 0.4, 0.8), strict=False):
        assert least <= pause < 2 * least + 0.5
    assert policyd.events("worker.ended")[-1]["status"] == 4


def pauses(policyd: Supervised, skipped: int, number: int) -> list[float]:
    """Give the seconds between each end of a worker and the start of the next in its place."""
    lines = policyd.events("worker.ended", "worker.started")[skipped:]
    own = [line for line in lines if line["worker"] == number]
    times = [datetime.fromisoformat(line["timestamp"]).timestamp() for line in own]
    return [start - end for end, start in zip(times[::2], times[1::2], strict=False)]


# those that hang


def test_a_frozen_worker_is_passed_over_then_replaced(policyd: Supervised) -> None:
    before, restarts = policyd.pids(), policyd.restarts()
    with asking(policyd, 4) as every:
        own, others = parted(policyd, every, before[1])
        os.kill(before[1], signal.SIGSTOP)
        frozen = time.monotonic()
        own[0].send("jo@example.org")
        time.sleep(1)
        with asking(policyd, 10):
            assert policyd.held(1) == 2
        assert [one.ask() for one in others] == [REPLY] * 2
        assert is_closed(own[0].socket, HUNG_AFTER + 2)
        assert HUNG_AFTER - 1 < time.monotonic() - frozen < HUNG_AFTER + 2
        with asking(policyd, 1):
            assert is_closed(own[1].socket, 1)
    after = policyd.until_all_serve()
    assert after[1] != before[1]
    assert after[2] == before[2]
    assert policyd.restarts() == {**restarts, "hung": restarts["hung"] + 1}
    assert policyd.events("worker.hangs")[-1]["pid"] == before[1]
    assert policyd.events("worker.ended")[-1]["reason"] == "hung"


def test_who_was_passed_to_a_frozen_worker_is_answered_by_another_on_the_same_connection(
    policyd: Supervised,
) -> None:
    before = policyd.pids()
    with contextlib.ExitStack() as stack:
        os.kill(before[1], signal.SIGSTOP)
        every = [stack.enter_context(Asking(policyd.port)) for _ in range(20)]
        for one in every:
            one.send("jo@example.org")
        assert [one.receive() for one in every] == [REPLY] * 20
    assert policyd.until_all_serve()[1] != before[1]


def test_nobody_is_blamed_for_a_time_in_which_all_stood_still(policyd: Supervised) -> None:
    before, restarts = policyd.pids(), policyd.restarts()
    with asking(policyd, 4) as every:
        with standing_still(policyd.tree()):
            time.sleep(HUNG_AFTER + 3)
        assert [one.ask() for one in every] == [REPLY] * 4
        time.sleep(3 * LOOK_EVERY)
        assert [one.ask() for one in every] == [REPLY] * 4
    assert policyd.pids() == before
    assert policyd.restarts() == restarts


def test_more_connections_than_workers_take_at_once_wait_and_are_answered(
    policyd: Supervised,
) -> None:
    before = policyd.pids()
    with contextlib.ExitStack() as stack:
        with standing_still(before.values()):
            every = [stack.enter_context(Asking(policyd.port)) for _ in range(700)]
            for one in every:
                one.send("jo@example.org")
            time.sleep(0.5)
        assert [one.receive() for one in every] == [REPLY] * 700
    assert policyd.pids() == before


def test_a_worker_without_descriptors_closes_what_it_cannot_take(policyd: Supervised) -> None:
    before, counted = policyd.pids(), policyd.protocol_errors("too-many-connections")
    limits = resource.getrlimit(resource.RLIMIT_NOFILE)
    with contextlib.ExitStack() as stack:
        for pid in before.values():
            limits = resource.prlimit(pid, resource.RLIMIT_NOFILE)
            stack.callback(resource.prlimit, pid, resource.RLIMIT_NOFILE, limits)
            resource.prlimit(pid, resource.RLIMIT_NOFILE, (free_until(pid, 4), limits[1]))
        every = [stack.enter_context(Asking(policyd.port)) for _ in range(100)]
        answers = []
        for one in every:
            with contextlib.suppress(ConnectionError):
                answers.append(one.ask())
        assert set(answers) == {REPLY}
        refused = 100 - len(answers)
        assert refused
        assert policyd.protocol_errors("too-many-connections") == counted + refused
        assert policyd.connections() == len(answers)
    assert policyd.pids() == before


def free_until(pid: int, count: int) -> int:
    """Give the number below which so many descriptors of a process are free."""
    taken = {int(each.name) for each in Path(f"/proc/{pid}/fd").iterdir()}
    return [number for number in range(len(taken) + count + 1) if number not in taken][count]


# who holds what


@pytest.mark.parametrize("workers", [2, 4])
def test_connections_are_spread_evenly(policyd: Supervised, tmp_path: Path, workers: int) -> None:
    with contextlib.ExitStack() as stack:
        serving = policyd
        if workers != policyd.workers:
            serving = stack.enter_context(Supervised(tmp_path, workers=workers))
        every = [stack.enter_context(Asking(serving.port)) for _ in range(100)]
        assert_even(serving)
        for one in random.Random(1).sample(every, 50):
            one.socket.close()
        until(lambda: serving.connections() == 50)
        every = [stack.enter_context(Asking(serving.port)) for _ in range(50)]
        assert_even(serving)


def assert_even(policyd: Supervised) -> None:
    """Have 100 connections spread at most 40 to 60, or as that for more workers."""
    until(lambda: sum(policyd.spread()) == 100)
    even = 100 / policyd.workers
    assert all(0.8 * even <= held <= 1.2 * even for held in policyd.spread())


def test_who_may_not_connect_or_is_one_too_many_is_closed_and_counted(policyd: Supervised) -> None:
    bounds = 'max_connections = 3\nallow = ["127.0.0.2"]\n'
    head = policyd.head.replace("[policy_service]\n", f"[policy_service]\n{bounds}")
    policyd.write(RULES, head.replace("[milter]\n", "[milter]\nmax_connections = 1\n"))
    assert not policyd.reload().refused
    try:
        before = policyd.protocol_errors("not-allowed")
        with Asking(policyd.port) as one:
            assert is_closed(one.socket, 2)
        assert policyd.protocol_errors("not-allowed") == before + 1
        assert_bounded(policyd)
        assert_milter_bounded(policyd)
    finally:
        policyd.become(RULES)


def assert_bounded(policyd: Supervised) -> None:
    before = policyd.protocol_errors("too-many-connections")
    with contextlib.ExitStack() as stack:
        unix = stack.enter_context(socket.socket(socket.AF_UNIX))
        unix.connect(policyd.unix)
        near = [stack.enter_context(allowed_connection(policyd.port)) for _ in range(3)]
        assert is_closed(near.pop(), 2)
        assert policyd.protocol_errors("too-many-connections") == before + 1
        for one in (unix, *near):
            one.sendall(REQUEST)
            assert one.recv(1000) == f"action={REPLY}\n\n".encode()
        near[0].close()
        until(lambda: policyd.connections() == 2)
        again = stack.enter_context(allowed_connection(policyd.port))
        again.sendall(REQUEST)
        assert again.recv(1000) == f"action={REPLY}\n\n".encode()


def allowed_connection(port: int) -> socket.socket:
    return socket.create_connection(("127.0.0.1", port), 10, source_address=("127.0.0.2", 0))


def assert_milter_bounded(policyd: Supervised) -> None:
    """Have one session a worker, whoever of them the kernel gives the next one to."""
    before = policyd.protocol_errors("too-many-connections", "milter")
    refused = 0
    with contextlib.ExitStack() as stack:
        for _ in range(20):
            try:
                stack.enter_context(MilterClient(policyd.milter))
            except (MilterClosedError, ConnectionError):
                refused += 1
        assert refused >= 18
        assert policyd.value("policyd_connections", frontend="milter") == 20 - refused
    assert policyd.protocol_errors("too-many-connections", "milter") == before + refused


# who cannot serve


def served(configuration: str, file: Path) -> subprocess.CompletedProcess[str]:
    """Serve what cannot be served."""
    file.write_text(configuration)
    arguments = [COMMAND, "serve", "-c", str(file)]
    return subprocess.run(arguments, capture_output=True, text=True, timeout=60, check=False)


MAIL = rule("mail", REPLY, stage="end-of-data")


@pytest.mark.parametrize("taken", ["policy_service", "milter", "metrics"])
def test_what_is_taken_is_named_and_everything_is_as_before(
    policyd: Supervised, tmp_path: Path, taken: str
) -> None:
    places = {
        "policy_service": f"inet:127.0.0.1:{policyd.port}",
        "milter": f"unix:{policyd.milter}",
        "metrics": policyd.metrics,
    }
    own = {
        "policy_service": f'["unix:{tmp_path}/policy.sock"]',
        "milter": f'["unix:{tmp_path}/milter.sock"]',
        "metrics": f'"127.0.0.1:{free_port()}"',
    }
    place = f'"{places[taken]}"'
    own[taken] = {
        "policy_service": f'["unix:{tmp_path}/policy.sock", {place}]',
        "milter": f"[{place}]",
        "metrics": place,
    }[taken]
    tables = "".join(f"[{table}]\nlisten = {listen}\n" for table, listen in own.items())
    with asking(policyd, 2) as every, policyd.session() as session:
        ended = served(tables + MAIL, tmp_path / "other.toml")
        assert ended.returncode == 69
        assert "cannot serve: [Errno 98]" in ended.stderr
        assert places[taken] in ended.stderr
        assert [each.name for each in tmp_path.iterdir()] == ["other.toml"]
        assert [one.ask() for one in every] == [REPLY] * 2
        assert policyd.message(session) == REPLY
    with policyd.session() as session:
        assert policyd.message(session) == REPLY


def test_a_configuration_with_errors_is_told_as_by_check(tmp_path: Path) -> None:
    faulty = """
[policy_service]
listen = ["inet:127.0.0.1:1"]
[[rule]]
name = "r"
stage = "rcpt"
when = "recipient in nowhere"
then = "450 5.7.1 Later"
[[rule]]
name = "s"
stage = "rcpt"
then = "250 2.1.0 Fine"
"""
    file = tmp_path / "policyd.toml"
    refused = served(faulty, file)
    checked = subprocess.run(
        [COMMAND, "check", "-c", str(file)], capture_output=True, text=True, check=False
    )
    assert refused.returncode == checked.returncode == 78
    assert refused.stderr == checked.stderr
    assert f"{file}:" in refused.stderr


# a policy that goes while it is in use


def test_a_check_under_way_keeps_the_series_of_its_policy(policyd: Supervised) -> None:
    shorter = rule("all", REPLY)

    def rules() -> set[str]:
        return {dict(labels)["rule"] for labels in policyd.samples("policyd_rule_replies_total")}

    try:
        with asking(policyd, 1) as (one,):
            under_way = False
            for _ in range(5):  # where the machine is slow, the check is sooner done than a reload
                policyd.become(RULES)
                one.send("slow@example.org")
                policyd.become(shorter)
                there = rules()
                under_way = is_silent(one.socket)
                if under_way:
                    assert "slow" in there
                assert one.receive() == REPLY
                until(lambda: rules() == {"all"})
                if under_way:
                    break
            assert under_way
        assert policyd.value("policyd_dropped_total", what="series") == 0
    finally:
        policyd.become(RULES)

"""A stop that breaks no mail: what is under way is seen to its end, and nothing is left behind."""

import contextlib
import os
import signal
import time
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager
from pathlib import Path

import pytest

from tests.integration.changing import Asking, ended, until
from tests.integration.supervised import REPLY, SLOW, Supervised, gone, is_closed
from tools.milter_client import MilterClient
from tools.policyd_process import PolicydProcess

pytestmark = pytest.mark.integration

QUICKLY = 5.0
"""Seconds that an end takes on a machine which has much else to do: a tenth of it if not."""


@contextlib.contextmanager
def ending(policyd: Supervised) -> Iterator[Supervised]:
    """Serve until a test has ended it; nothing of it is left then."""
    with policyd:
        tree = policyd.tree()
        yield policyd
        ended(policyd)
        assert gone(tree)
        assert not list(policyd.directory.glob("*.sock"))
        assert "Traceback" not in policyd.log.read_text()


@pytest.fixture
def policyd(tmp_path: Path) -> Iterator[Supervised]:
    with ending(Supervised(tmp_path)) as supervised:
        yield supervised


@pytest.fixture
def alone(tmp_path: Path) -> Iterator[Supervised]:
    """One with a single worker."""
    with ending(Supervised(tmp_path, workers=1, drain="1s")) as supervised:
        yield supervised


def terminate(policyd: PolicydProcess, number: signal.Signals = signal.SIGTERM) -> float:
    """Send a signal to the supervisor; the moment."""
    os.kill(policyd.pid, number)
    return time.monotonic()


def stopping(policyd: Supervised) -> bool:
    return bool(policyd.events("policyd.stopping"))


def refuses(connect: Callable[[], AbstractContextManager[object]]) -> bool:
    """Tell whether a connection is refused, and not left to wait."""
    try:
        with connect():
            return False
    except (FileNotFoundError, ConnectionRefusedError):
        return True


# milter sessions in each of their states, and how they go on


def negotiated(session: MilterClient) -> None:
    session.connect()
    session.helo()


def greeted(session: MilterClient) -> None:
    session.mail()


def told_the_sender(session: MilterClient) -> None:
    session.rcpt()


def told_a_recipient(session: MilterClient) -> None:
    session.data()


STEPS = (negotiated, greeted, told_the_sender, told_a_recipient)


def until_state(policyd: Supervised, steps: int) -> MilterClient:
    """Open a session and bring it so far."""
    session = MilterClient(policyd.milter_address, timeout=10)
    for step in STEPS[:steps]:
        step(session)
    return session


def to_the_end(session: MilterClient, steps: int) -> str:
    """Bring a session from there to the end of a message; the reply."""
    for step in STEPS[steps:]:
        step(session)
    return session.message().answer.text


def test_milter_sessions_go_on_to_their_end_and_policy_connections_with_them(
    policyd: Supervised,
) -> None:
    with contextlib.ExitStack() as stack:
        idle = stack.enter_context(Asking(policyd.port))
        states = [*range(len(STEPS) + 1)] * 4
        sessions = [stack.enter_context(until_state(policyd, steps)) for steps in states]
        again = stack.enter_context(until_state(policyd, 1))
        assert to_the_end(again, 1) == REPLY
        terminate(policyd)
        until(lambda: stopping(policyd))
        assert policyd.events("policyd.stopping")[0]["milter_sessions"] == len(sessions) + 1
        assert refuses(lambda: MilterClient(policyd.milter_address))
        assert not policyd.ready()
        with Asking(policyd.port) as new:
            assert new.ask() == REPLY
        assert idle.ask() == REPLY
        answers = [to_the_end(*each) for each in zip(sessions, states, strict=True)]
        assert answers == [REPLY] * len(sessions)
        assert to_the_end(again, 1) == REPLY
        for session in sessions:
            session.close()
        assert idle.ask() == REPLY
        last = time.monotonic()
        again.close()
        assert is_closed(idle.socket, QUICKLY)
        assert ended(policyd) == 0
        assert time.monotonic() - last < QUICKLY
    assert policyd.lines()[-1]["event"] == "policyd.stopped"
    assert not policyd.events("worker.ended", "worker.killed", "milter.ended")


def test_an_answer_under_way_is_given_and_who_is_idle_is_closed_at_once(
    alone: Supervised,
) -> None:
    with Asking(alone.port) as asks, Asking(alone.port) as idle:
        asks.send("slow@example.org")
        began = terminate(alone)
        assert is_closed(idle.socket, SLOW)
        assert time.monotonic() - began < SLOW
        assert asks.receive() == REPLY
        assert is_closed(asks.socket, 1)
        assert refuses(lambda: Asking(alone.port))
    assert ended(alone) == 0


def test_a_second_signal_waits_for_no_session_and_hardly_for_an_answer(
    policyd: Supervised,
) -> None:
    with Asking(policyd.port) as asks, until_state(policyd, 3):
        asks.send("endless@example.org")
        terminate(policyd, signal.SIGINT)
        until(lambda: stopping(policyd))
        time.sleep(0.3)
        assert not policyd.events("policyd.stopped")
        began = terminate(policyd, signal.SIGTERM)
        assert ended(policyd) == 0
        assert time.monotonic() - began < QUICKLY


def test_a_second_signal_ends_the_wait_for_an_answer_too(alone: Supervised) -> None:
    with Asking(alone.port) as asks:
        asks.send("endless@example.org")
        time.sleep(0.1)
        terminate(alone, signal.SIGTERM)
        until(lambda: refuses(lambda: Asking(alone.port)))
        began = terminate(alone, signal.SIGINT)
        assert ended(alone) == 0
        assert time.monotonic() - began < QUICKLY


def test_frozen_workers_end_at_a_second_signal_too(policyd: Supervised) -> None:
    for pid in policyd.pids().values():
        os.kill(pid, signal.SIGSTOP)
    terminate(policyd)
    until(lambda: stopping(policyd))
    began = terminate(policyd)
    assert ended(policyd) == 0
    assert time.monotonic() - began < QUICKLY


def test_drain_timeout_bounds_the_wait_for_milter_sessions(alone: Supervised) -> None:
    with until_state(alone, 3):
        began = terminate(alone)
        assert ended(alone) == 0
        assert 1 <= time.monotonic() - began < 1 + QUICKLY


def test_a_worker_lost_during_a_stop_is_not_replaced_and_keeps_nobody_waiting(
    policyd: Supervised,
) -> None:
    with contextlib.ExitStack() as stack:
        sessions = [stack.enter_context(until_state(policyd, 3)) for _ in range(8)]
        terminate(policyd)
        until(lambda: stopping(policyd))
        started = len(policyd.events("worker.started"))
        for pid in policyd.pids().values():
            os.kill(pid, signal.SIGKILL)
        assert ended(policyd) == 0
        assert len(policyd.events("worker.started")) == started
        assert all(is_closed(session._socket, 1) for session in sessions)


# the supervisor's own death


@pytest.mark.parametrize("family", ["unix", "inet"])
def test_workers_whose_supervisor_was_killed_finish_while_another_takes_the_place(
    tmp_path: Path, family: str
) -> None:
    states = (1, 2, 3, 4) * 2
    first = Supervised(tmp_path)
    if family == "inet":
        first.milter_over_tcp()
    with first, contextlib.ExitStack() as stack:
        sessions = [stack.enter_context(until_state(first, steps)) for steps in states]
        workers = list(first.pids().values())
        terminate(first, signal.SIGKILL)
        second = PolicydProcess(first.configuration, first.metrics)
        second.log = tmp_path / "second.log"
        second.environment = first.environment
        began = time.monotonic()
        with second:
            assert time.monotonic() - began < 2 * QUICKLY
            with Asking(first.port) as asks, until_state(first, 2) as session:
                assert asks.ask() == REPLY
                assert to_the_end(session, 2) == REPLY
            answers = [to_the_end(*each) for each in zip(sessions, states, strict=True)]
            assert answers == [REPLY] * len(sessions)
            for one in sessions:
                one.close()
            assert gone(workers, QUICKLY)
            assert second.ready()
        assert not list(tmp_path.glob("*.sock"))


def test_workers_whose_supervisor_was_killed_end_without_sessions_at_once(tmp_path: Path) -> None:
    with (
        Supervised(tmp_path, workers=1) as policyd,
        Asking(policyd.port) as asks,
        Asking(policyd.port) as idle,
    ):
        tree = policyd.tree()
        asks.send("slow@example.org")
        time.sleep(0.2)
        terminate(policyd, signal.SIGKILL)
        assert is_closed(idle.socket, 1)
        assert asks.receive() == REPLY
        assert gone(tree, QUICKLY)

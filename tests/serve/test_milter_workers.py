"""Milters of several processes on one socket: who serves, draining, signals, bounds, counts."""

import contextlib
import os
import random
import signal
import socket
import threading
import time
from collections import Counter
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pytest

from policyd.serve.milter.listening import _dead_socket
from policyd.serve.sockets import open_listeners, parse_endpoint
from tests.serve.milter_running import RunningMilter, listen
from tools.milter_client import Answer, MilterClient, MilterClosedError, packet

ROUNDS = 8  # of a process that is drained and ended; 300 have been tried
RULES: tuple[dict[str, Any], ...] = (
    {"stage": "rcpt", "then": "450 4.2.1 Not {recipient_local}", "when": "recipient_local == 'no'"},
    {"stage": "end-of-data", "then": "550 5.7.1 {recipient_count}", "when": "recipient_count > 0"},
)
NOT_NO = Answer("reply", b"450 4.2.1 Not no\0")
ONE_RECIPIENT = Answer("reply", b"550 5.7.1 1\0")
QUIET: dict[str, Any] = {"open": 0, "older": False, "kept": 0, "policies": 1}

Start = Callable[..., RunningMilter]


@pytest.fixture(params=["unix", "inet"])
def shared(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[socket.socket]:
    """A socket for several processes."""
    if request.param == "unix":
        listener = listen(tmp_path)
    else:
        listener = open_listeners(parse_endpoint("inet:127.0.0.1:0"))[0].socket
    with listener:
        yield listener


@pytest.fixture
def start(tmp_path: Path) -> Iterator[Start]:
    """Start milters with RULES; all end with the test, and must have lived until then."""
    with contextlib.ExitStack() as stack:

        def one(**given: Any) -> RunningMilter:
            return stack.enter_context(RunningMilter(tmp_path, *RULES, **given))

        yield one


def finish(client: MilterClient) -> None:
    """Go on from MAIL to the end of the message, and be answered as the rules say."""
    assert client.rcpt(b"<no@x.example>") == NOT_NO
    assert client.rcpt(b"<yes@x.example>") == Answer("continue")
    client.data()
    assert client.message().answer == ONE_RECIPIENT


def session(milter: RunningMilter, messages: int = 1) -> None:
    """Hold a whole session."""
    with milter.client() as client:
        client.connect()
        client.helo()
        for _ in range(messages):
            client.mail()
            finish(client)


def settled(milter: RunningMilter, state: dict[str, Any], seconds: float = 5) -> None:
    """Wait until a milter's state is what it ought to be."""
    deadline = time.monotonic() + seconds
    while (now := milter.order("state")) != state and time.monotonic() < deadline:
        time.sleep(0.02)
    assert now == state


class TestSeveralProcesses:
    @pytest.mark.parametrize("count", [2, 4])
    def test_each_takes_its_part_of_100_sessions(
        self, shared: socket.socket, start: Start, count: int
    ) -> None:
        milters = [start(listener=shared) for _ in range(count)]
        together = threading.Barrier(100)

        def one(_: int) -> None:
            with milters[0].client() as client:
                client.connect(), client.mail()
                together.wait(20)
                finish(client)

        with ThreadPoolExecutor(100) as pool:
            list(pool.map(one, range(100)))
        for milter in milters:
            settled(milter, QUIET)
        begun = [milter.begun for milter in milters]
        assert sum(begun) == 100
        assert min(begun) >= 25 / count

    def test_none_is_stuck_in_accept_for_a_connection_that_another_took(
        self, shared: socket.socket, start: Start
    ) -> None:
        shared.setblocking(True)
        milters = [start(listener=shared) for _ in range(3)]
        assert not os.get_blocking(shared.fileno())  # it is the same open file in all
        with ThreadPoolExecutor(8) as pool:
            list(pool.map(lambda _: session(milters[0]), range(300)))
        for milter in milters[:2]:
            milter.order("drain")
            milter.until("idle")
        before = milters[2].order("state") and milters[2].begun
        for _ in range(10):
            session(milters[2])
        settled(milters[2], QUIET)
        assert milters[2].begun == before + 10


class TestDrain:
    def test_open_sessions_go_on_and_new_ones_go_to_another_process(
        self, shared: socket.socket, start: Start
    ) -> None:
        leaving, staying = start(listener=shared), start(listener=shared)
        clients = [leaving.client() for _ in range(40)]
        while not leaving.order("state")["open"]:  # the kernel wakes whom it likes
            clients.insert(0, leaving.client())
        for client in clients[20:]:
            client.connect(), client.mail()
        leaving.order("drain")
        open_there = leaving.order("state")["open"]
        for _ in range(20):
            session(staying)
        for client in clients[:20]:
            client.connect(), client.mail()
        for client in clients:
            finish(client)
            client.mail()  # the session has another message
            finish(client)
        assert leaving.order("state")["open"] == open_there
        assert leaving.begun == open_there
        for client in clients:
            client.close()
        leaving.until("idle")
        settled(leaving, QUIET)

    def test_idle_is_told_when_the_last_session_has_ended_and_not_before(
        self, start: Start
    ) -> None:
        milter = start()
        first, second = milter.client(), milter.client()
        milter.order("drain")
        first.close()
        time.sleep(0.3)
        settled(milter, {"open": 1, "older": False, "kept": 1, "policies": 1})
        second.connect(), second.mail()
        finish(second)
        assert milter.told("idle") == 0
        second.close()
        milter.until("idle")
        time.sleep(0.3)
        assert milter.told("idle") == 1
        milter.order("drain")
        milter.until("idle")

    def test_who_has_connected_and_not_yet_negotiated_is_waited_for(self, start: Start) -> None:
        milter = start()
        descriptors = milter.descriptors()
        with socket.socket(socket.AF_UNIX) as early:
            early.connect(milter.path)
            while milter.descriptors() == descriptors:
                time.sleep(0.01)
            milter.order("drain")
            time.sleep(0.5)
            assert milter.told("idle") == 0
            client = MilterClient(early)
            client.connect(), client.mail()
            finish(client)
            client.close()
        milter.until("idle")

    def test_a_connection_that_waits_is_left_to_the_next_process(
        self, shared: socket.socket, start: Start
    ) -> None:
        leaving = start(listener=shared)
        leaving.order("drain")
        leaving.until("idle")
        with ThreadPoolExecutor(1) as pool:
            waiting = pool.submit(session, leaving)
            time.sleep(0.3)
            assert not waiting.done()
            start(listener=shared)
            waiting.result(10)
        settled(leaving, QUIET)
        assert leaving.begun == 0

    def test_sessions_on_a_socket_of_libmilters_own_go_on_too(
        self, tmp_path: Path, start: Start
    ) -> None:
        milter = start(endpoint=f"unix:{tmp_path}/milter.sock")
        with milter.client() as client:
            client.connect(), client.mail()
            milter.order("drain")
            with pytest.raises(FileNotFoundError):
                milter.client()
            finish(client)
        milter.until("idle")

    def test_what_takes_the_sockets_place_is_reached_by_nobody(self) -> None:
        with _dead_socket() as dead, socket.socket() as visitor:
            dead.listen(0)
            visitor.settimeout(0.3)
            with pytest.raises(TimeoutError):
                visitor.connect(dead.getsockname())
            with pytest.raises(BlockingIOError):
                dead.accept()

    def test_no_session_is_broken_by_processes_that_come_and_go(self, tmp_path: Path) -> None:
        """Sessions without a pause, while one process is drained and ended after another."""
        broken: Counter[str] = Counter()
        over = threading.Event()
        moments = random.Random(7)

        def one_after_another(milter: RunningMilter) -> int:
            held = 0
            while not over.is_set():
                held += 1
                try:
                    session(milter, messages=1 + held % 2)
                except (OSError, AssertionError, MilterClosedError) as error:
                    broken[repr(error)] += 1
            return held

        with (
            listen(tmp_path) as listener,
            RunningMilter(tmp_path, *RULES, listener=listener) as staying,
            ThreadPoolExecutor(12) as pool,
        ):
            busy = [pool.submit(one_after_another, staying) for _ in range(12)]
            try:
                for _ in range(ROUNDS):
                    with RunningMilter(tmp_path, *RULES, listener=listener) as leaving:
                        time.sleep(moments.random() / 20)
                        leaving.order("drain")
                        leaving.until("idle")
                        assert leaving.order("state") == QUIET
            finally:
                over.set()
            assert sum(each.result(10) for each in busy) > 10 * ROUNDS
        assert not broken


class TestSignals:
    @pytest.mark.parametrize("seed", range(4))
    def test_none_of_50_right_after_the_start_stops_it(self, tmp_path: Path, seed: int) -> None:
        moments = random.Random(seed)
        milter = RunningMilter(tmp_path, *RULES)
        milter.until("ignoring")
        for _ in range(50):
            milter.process.send_signal(
                moments.choice([signal.SIGTERM, signal.SIGINT, signal.SIGHUP])
            )
            time.sleep(moments.random() / 50)
        with milter:
            for _ in range(3):
                session(milter)
            assert milter.told("ended") == 0


class TestBounds:
    def test_one_session_too_many_is_closed_and_counted_and_the_others_go_on(
        self, start: Start
    ) -> None:
        milter = start(most=3)
        clients = [milter.client() for _ in range(3)]
        for _ in range(5):
            with pytest.raises(MilterClosedError):
                milter.client()
        for client in clients:
            client.connect(), client.mail()
            finish(client)
        clients.pop().close()
        settled(milter, {"open": 2, "older": False, "kept": 2, "policies": 1})
        session(milter)
        for client in clients:
            client.mail()
            finish(client)
            client.close()
        settled(milter, QUIET)
        assert milter.errors == ["too-many-connections"] * 5
        assert milter.begun == 4

    def test_the_bound_can_be_changed(self, start: Start) -> None:
        milter = start(most=1)
        with milter.client():
            milter.order("most 2")
            milter.client().close()
            settled(milter, {"open": 1, "older": False, "kept": 1, "policies": 1})
            milter.order("most 0")
            with pytest.raises(MilterClosedError):
                milter.client()
        settled(milter, QUIET)


def _abort(client: MilterClient) -> None:
    client.mail()
    client.rcpt(b"<yes@x.example>")
    client.abort()
    client.abort()


Step = Callable[[MilterClient], object]
STEPS: tuple[Step, ...] = (
    lambda client: client.connect(),
    lambda client: client.helo(),
    lambda client: client.mail(),
    lambda client: client.rcpt(b"<yes@x.example>"),
    lambda client: client.rcpt(b"<no@x.example>"),
    lambda client: client.data(),
    lambda client: client.message(),
    _abort,
)
OCTETS = (
    packet(b"L", b"x" * 100)[:50],  # half a packet
    b"GET / HTTP/1.1\r\n\r\n",
    packet(b"O", b"\0\0\0\6" + b"\xff" * 8),  # another negotiation
)


class TestCount:
    @pytest.mark.parametrize("quits", [True, False])
    def test_it_comes_down_wherever_sessions_end(self, start: Start, *, quits: bool) -> None:
        milter = start()
        with milter.client() as lasting:
            for number in range(len(STEPS) + 1):
                for octets in (b"", *OCTETS):
                    client = milter.client()
                    for step in STEPS[:number]:
                        step(client)
                    client.send(octets)
                    client.close() if quits else client.cut()
            settled(milter, {"open": 1, "older": False, "kept": 1, "policies": 1})
            lasting.connect(), lasting.mail()
            finish(lasting)
        settled(milter, QUIET)
        assert milter.begun == (len(STEPS) + 1) * (len(OCTETS) + 1) + 1
        assert milter.connections[-1] == 0

    def test_who_never_negotiates_is_not_counted(self, start: Start) -> None:
        milter = start()
        for octets in (b"", packet(b"O", b"\0"), b"GET / HTTP/1.1\r\n\r\n"):
            with socket.socket(socket.AF_UNIX) as visitor:
                visitor.connect(milter.path)
                visitor.sendall(octets)
        session(milter)
        settled(milter, QUIET)
        assert milter.connections == [1, 0]


class TestPolicies:
    def test_an_older_one_is_in_use_until_its_last_session_has_ended(self, start: Start) -> None:
        milter = start(more=RULES[1:])
        old, older = milter.client(), milter.client()
        assert milter.order("state") == {"open": 2, "older": False, "kept": 2, "policies": 1}
        milter.order("reload")
        assert milter.order("state") == {"open": 2, "older": True, "kept": 2, "policies": 2}
        new = milter.client()
        for client in (old, older):
            client.connect(), client.mail()
            assert milter.order("state")["older"]
            finish(client)
            client.close()
        settled(milter, {"open": 1, "older": False, "kept": 1, "policies": 1})
        new.connect(), new.mail()
        assert new.rcpt(b"<no@x.example>") != NOT_NO
        milter.order("reload")
        assert milter.order("state")["older"]
        new.close()
        settled(milter, QUIET)

    def test_one_without_sessions_is_let_go_at_once(self, start: Start) -> None:
        milter = start(more=RULES[1:])
        session(milter)
        settled(milter, QUIET)
        milter.order("reload")
        assert milter.order("state") == QUIET

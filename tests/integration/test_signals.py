"""What signals do, at whatever moment they come and whomever they reach."""

import os
import random
import signal
import subprocess
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from tests.integration.changing import Asking, ended, rule, until
from tests.integration.supervised import REPLY, Supervised, gone
from tools.campaign import processes
from tools.policyd_process import COMMAND

pytestmark = pytest.mark.integration

STOPS = (signal.SIGTERM, signal.SIGINT)
SIGNALS = (*STOPS, signal.SIGHUP)
ENDS_WITHIN = 30.0
"""Seconds; one when the machine has nothing else to do."""


@pytest.fixture(scope="module")
def running(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Supervised]:
    with Supervised(tmp_path_factory.mktemp("signals")) as supervised:
        yield supervised


# to those who are not the supervisor


def test_workers_and_their_libmilter_see_nothing_of_the_supervisors_signals(
    running: Supervised,
) -> None:
    before = running.until_all_serve()
    with Asking(running.port) as asks, running.session() as session:
        for pid in [*before.values()] * 20:
            for number in SIGNALS:
                os.kill(pid, number)
        time.sleep(0.3)
        assert asks.ask() == REPLY
        assert running.message(session) == REPLY
    with running.session() as session:
        assert running.message(session) == REPLY
    assert running.pids() == before
    assert not running.events("milter.ended", "worker.ended")


# to the supervisor, while it serves


def test_sighup_reloads_and_closes_no_connection(running: Supervised) -> None:
    before, count = running.until_all_serve(), len(running.events("config.reloaded"))
    with Asking(running.port) as asks, running.session() as session:
        running.hup()
        until(lambda: len(running.events("config.reloaded")) == count + 1)
        assert asks.ask() == REPLY
        assert running.message(session) == REPLY
    assert running.pids() == before


@pytest.mark.parametrize("number", STOPS)
def test_a_stop_ends_a_reload_that_is_under_way(tmp_path: Path, number: signal.Signals) -> None:
    with Supervised(tmp_path, workers=1) as policyd:
        policyd.hup()
        until(lambda: bool(policyd.builder_pids()))
        tree = policyd.tree()
        os.kill(policyd.pid, number)
        assert ended(policyd) == 0
        assert gone(tree)
        assert [line["event"] for line in policyd.lines()][-1] == "policyd.stopped"


# at any moment


class Started:
    """A `policyd serve` that leads a session of its own, as a terminal gives it."""

    def __init__(self, directory: Path) -> None:
        directory.mkdir()
        self.log = directory / "log"
        self._socket = directory / "policy"
        file = directory / "policyd.toml"
        file.write_text(
            f'[server]\nworkers = 1\n[policy_service]\nlisten = ["unix:{self._socket}"]\n'
            f'[log]\nformat = "json"\n{rule("r", REPLY)}'
        )
        with self.log.open("wb") as log:
            self.process = subprocess.Popen(
                [COMMAND, "serve", "-c", str(file)], stdout=log, stderr=log, start_new_session=True
            )

    def says(self, event: str) -> bool:
        return f'"event":"{event}"' in self.log.read_text()

    def end(self) -> int:
        """Await its end: nothing of it is left then, nor has anybody complained; the status."""
        try:
            status = self.process.wait(ENDS_WITHIN)
        finally:
            left = session(self.process.pid)
            for pid in left:
                os.kill(pid, signal.SIGKILL)
        said = self.log.read_text()
        assert not left, said
        assert not self._socket.exists(), said
        if status == 0:
            assert all(line.startswith('{"timestamp"') for line in said.splitlines()), said
        elif status == -signal.SIGINT:
            # Python's own answer to it, before a line of ours was run
            assert "policyd.serve" not in said
            assert not said or said.endswith("KeyboardInterrupt\n"), said
        elif status != -signal.SIGTERM:
            assert (status, said) == (1, "\nAborted!\n")  # click's
        else:
            assert not said
        return status


def session(leader: int) -> list[int]:
    """Give the processes of a session that have not ended."""
    every = (int(each.name) for each in Path("/proc").iterdir() if each.name.isdecimal())
    return [pid for pid in every if session_of(pid) == leader]


def session_of(pid: int) -> int:
    """Give the session of a process (proc(5), stat); 0 when it has ended."""
    fields = processes._stat(pid)
    return int(fields[3]) if fields and fields[0] not in {"Z", "X"} else 0


def signalled(directory: Path, number: signal.Signals, moment: float) -> int:
    """Start one, send it a signal after so many seconds, and await its end; its status."""
    started = Started(directory)
    time.sleep(moment)
    if number is signal.SIGHUP:
        started.process.send_signal(number)
        until(lambda: started.process.poll() is not None or started.says("policyd.started"))
        if started.process.poll() == -signal.SIGHUP:
            assert not started.log.read_text()
            return -signal.SIGHUP
        number = signal.SIGTERM
    started.process.send_signal(number)
    return started.end()


@pytest.mark.parametrize(
    "count", [pytest.param(9, id="some"), pytest.param(60, id="many", marks=pytest.mark.slow)]
)
def test_a_signal_at_any_moment_of_the_start_leaves_nothing_behind(
    tmp_path: Path, count: int
) -> None:
    moments = [random.uniform(2 * i / count, 2 * (i + 1) / count) for i in range(count)]
    random.shuffle(moments)
    cases = [
        (tmp_path / str(i), SIGNALS[i % len(SIGNALS)], moment) for i, moment in enumerate(moments)
    ]
    with ThreadPoolExecutor(3) as pool:
        statuses = list(pool.map(lambda case: signalled(*case), cases))
    assert 0 in statuses


def killed(directory: Path, moment: float) -> str:
    """Start one, kill its supervisor after so many seconds, and await the others' end."""
    started = Started(directory)
    time.sleep(moment)
    started.process.kill()
    started.process.wait()
    until(lambda: not session(started.process.pid))
    return started.log.read_text()


def test_a_supervisor_killed_at_any_moment_of_the_start_leaves_no_process(tmp_path: Path) -> None:
    with ThreadPoolExecutor(3) as pool:
        said = pool.map(lambda i: killed(tmp_path / str(i), random.uniform(0.2, 1.5)), range(6))
        assert not any("Traceback" in each for each in said)


@pytest.mark.parametrize("event", ["worker.started", "policyd.started"])
def test_a_terminals_interrupt_reaches_all_and_is_the_supervisors_alone(
    tmp_path: Path, event: str
) -> None:
    started = Started(tmp_path / "one")
    until(lambda: started.says(event))
    os.killpg(started.process.pid, signal.SIGINT)
    assert started.end() == 0
    assert not started.says("worker.ended")


def test_a_terminals_interrupt_while_the_configuration_is_built(tmp_path: Path) -> None:
    started = Started(tmp_path / "one")
    until(lambda: len(session(started.process.pid)) == 2)
    os.killpg(started.process.pid, signal.SIGINT)
    assert started.end() == 0
    assert not started.log.read_text()


def test_a_reload_asked_for_while_it_starts_follows_the_start(tmp_path: Path) -> None:
    started = Started(tmp_path / "one")
    until(lambda: len(session(started.process.pid)) == 2)
    started.process.send_signal(signal.SIGHUP)
    until(lambda: started.says("config.reloaded"))
    started.process.send_signal(signal.SIGTERM)
    assert started.end() == 0


def test_any_number_of_signals_while_it_stops_change_nothing(tmp_path: Path) -> None:
    started = Started(tmp_path / "one")
    until(lambda: started.says("policyd.started"))
    while started.process.poll() is None:
        for number in SIGNALS:
            started.process.send_signal(number)
        time.sleep(0.001)
    assert started.end() == 0

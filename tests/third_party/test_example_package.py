"""The example package of docs/checks.md is built, installed, and asked by a real policyd."""

import contextlib
import json
import os
import signal
import socketserver
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.checks.packages import install
from tests.integration.changing import Asking, Changing, rule, until
from tools.campaign import processes
from tools.milter_client import END_OF_HEADER
from tools.policyd_process import COMMAND

pytestmark = pytest.mark.integration

PACKAGE = Path(__file__).parent / "policyd-check-example"
CUSTOMERS = {"jo": 40, "al": 0}
"""For how many days each has owed something."""
HANGING = """
import time
from policyd.checks.interface import Answer, Check

def ask(facts):
    time.sleep(60)

def mistake(facts):
    raise LookupError("a mistake")

hanging = Check("hanging", ask, limit=1.0, on_error="450 4.3.2 Not now")
mistaken = Check("mistaken", mistake, on_error="450 4.3.2 Not so")
"""
RULES = (
    rule("arrears", "450 4.7.1 {arrears_days} days", "arrears() > 30")
    + rule("hanging", "550 5.7.1 x", "recipient == 'hanging@example.org' and hanging()")
    + rule("mistaken", "550 5.7.1 x", "recipient == 'mistaken@example.org' and mistaken()")
    + rule("all", "450 4.2.1 all")
    + rule("word", "550 5.7.1 {passphrase_place}", "passphrase('sesame')", stage="end-of-data")
    + rule("no-word", "450 4.2.1 no word", stage="end-of-data")
)


class Customers(socketserver.ThreadingTCPServer):
    """The service of the example's check arrears()."""

    class Handler(socketserver.StreamRequestHandler):
        def handle(self) -> None:
            login = self.rfile.readline().decode().strip()
            self.wfile.write(f"{CUSTOMERS[login]}\n".encode())

    allow_reuse_address = True

    def __init__(self) -> None:
        super().__init__(("127.0.0.1", 0), self.Handler)


@pytest.fixture(scope="module")
def packages(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Build and install the example as a site would, and what hangs as pip would leave it."""
    folder = tmp_path_factory.mktemp("packages")
    options = ["--quiet", "--no-build-isolation", "--no-deps", "--no-index", "--target"]
    subprocess.run(
        [sys.executable, "-m", "pip", "install", *options, str(folder), str(PACKAGE)], check=True
    )
    install(folder, "hanging-check", HANGING, {"hanging": "hanging", "mistaken": "mistaken"})
    return folder


@pytest.fixture(scope="module")
def policyd(packages: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Changing]:
    with Customers() as customers:
        serving = threading.Thread(target=customers.serve_forever, args=(0.05,))
        serving.start()
        running = Changing(tmp_path_factory.mktemp("example"), RULES, workers=1)
        host, port = customers.server_address[:2]
        running.environment |= {
            "PYTHONPATH": str(packages),
            "ARREARS_SERVICE": f"{host!s}:{port}",
        }
        with running:
            yield running
        customers.shutdown()
        serving.join()


def ask(policyd: Changing, recipient: str = "b@example.org", login: str = "") -> str:
    with Asking(policyd.port) as asking:
        asking.socket.sendall(
            b"request=smtpd_access_policy\nprotocol_state=RCPT\nclient_address=192.0.2.1\n"
            + f"recipient={recipient}\nsasl_username={login}\n\n".encode()
        )
        return asking.receive()


def checked(policyd: Changing, check: str, result: str) -> float:
    found = policyd.value("policyd_checks_total", check=check, result=result)
    assert found is not None
    timed = policyd.value("policyd_check_duration_seconds_count", check=check, result=result)
    assert timed == found
    return found


def helpers(policyd: Changing) -> list[int]:
    return [
        pid
        for worker in policyd.worker_pids()
        for pid in processes._children(worker)
        if b"policyd.processes.helper" in processes._command(pid)
    ]


def message(policyd: Changing, body: bytes) -> str:
    with policyd.session() as session:
        session.mail()
        session.rcpt()
        session.data()
        session.header(b"Subject", b" open sesame" if body == b"header" else b" x")
        session.event(END_OF_HEADER)
        session.body(body)
        return session.end().answer.text


def test_an_asynchronous_check_is_asked_on_the_loop(policyd: Changing) -> None:
    before = checked(policyd, "arrears", "owing"), checked(policyd, "arrears", "paid")
    assert ask(policyd, login="jo") == "450 4.7.1 40 days"
    assert ask(policyd, login="al") == "450 4.2.1 all"
    assert ask(policyd) == "450 4.2.1 all"
    after = checked(policyd, "arrears", "owing"), checked(policyd, "arrears", "paid")
    assert after == (before[0] + 1, before[1] + 2)


def test_what_it_relies_on_may_fail_and_its_reply_is_given(policyd: Changing) -> None:
    before = checked(policyd, "arrears", "failed")
    assert ask(policyd, login="nobody") == "451 4.3.5 Try again later"
    assert checked(policyd, "arrears", "failed") == before + 1
    failed = policyd.events("check.failed")[-1]
    assert failed["rule"] == "arrears"
    assert failed["failure"].startswith("arrears(): the service for arrears: ")


def test_a_synchronous_check_reads_the_message_in_a_process(policyd: Changing) -> None:
    before = {place: checked(policyd, "passphrase", place) for place in ("header", "body")}
    assert message(policyd, b"header") == "550 5.7.1 header"
    assert message(policyd, b"open sesame\r\n") == "550 5.7.1 body"
    assert message(policyd, b"x" * 2**20) == "450 4.2.1 no word"
    for place, count in before.items():
        assert checked(policyd, "passphrase", place) == count + 1
    assert policyd.value("policyd_check_passphrase_words_total", place="body") == 2 + 1 + 1
    assert policyd.value("policyd_dropped_total", what="series") == 0


def test_one_that_hangs_is_killed_at_its_limit_while_others_are_answered(
    policyd: Changing,
) -> None:
    before = checked(policyd, "hanging", "failed")
    until(lambda: len(helpers(policyd)) == 2)
    there = set(helpers(policyd))
    with Asking(policyd.port) as hanging:
        hanging.send("hanging@example.org")
        answered = 0
        started = time.monotonic()
        while time.monotonic() - started < 0.5:
            assert ask(policyd, login="jo") == "450 4.7.1 40 days"
            answered += 1
        assert answered > 10
        assert hanging.receive() == "450 4.3.2 Not now"
        assert 0.9 < time.monotonic() - started < 5
    assert checked(policyd, "hanging", "failed") == before + 1
    until(lambda: len(helpers(policyd)) == 2)
    assert len(set(helpers(policyd)) - there) == 1
    said = [line["failure"] for line in policyd.events("check.failed")]
    assert "hanging() took longer than 1 s" in said


def test_a_mistake_in_one_is_its_failure_and_no_fault_of_policyds(policyd: Changing) -> None:
    assert ask(policyd, "mistaken@example.org") == "450 4.3.2 Not so"
    said = [line["failure"] for line in policyd.events("check.failed")]
    assert any("mistaken(): LookupError: a mistake (hanging_check.py:" in each for each in said)
    assert policyd.events("decision.failed") == []


def test_check_lists_them_with_their_packages(packages: Path, policyd: Changing) -> None:
    command = [COMMAND, "check", "-c", str(policyd.configuration)]
    environment = os.environ | {"PYTHONPATH": str(packages)}
    done = subprocess.run([*command, "--json"], env=environment, capture_output=True, check=True)
    found = {each["call"]: each for each in json.loads(done.stdout)["checks"]}
    assert set(found) == {"arrears()", "passphrase(text)", "hanging()", "mistaken()"}
    one = found["passphrase(text)"]
    assert (one["package"], one["version"]) == ("policyd-check-example", "1.2.0")
    assert (one["runs"], one["limit"], one["on_error"]) == ("in a process", 2.0, "skip")
    assert found["arrears()"]["runs"] == "on the loop"
    text = subprocess.run(command, env=environment, capture_output=True, text=True, check=True)
    (line,) = [line for line in text.stdout.splitlines() if "hanging-check 1.0" in line][:1]
    assert line.split()[0] == "hanging()"


def test_a_killed_worker_leaves_no_process_behind(policyd: Changing) -> None:
    until(lambda: len(helpers(policyd)) == 2)
    left = helpers(policyd)
    with contextlib.suppress(ConnectionError), Asking(policyd.port) as hanging:
        hanging.send("hanging@example.org")
        time.sleep(0.2)
        os.kill(policyd.worker_pids()[0], signal.SIGKILL)
        hanging.receive()
    until(lambda: not any(map(processes.running, left)))
    until(policyd.all_up)
    assert ask(policyd, login="jo") == "450 4.7.1 40 days"


def test_a_stopped_policyd_leaves_no_process_behind(packages: Path, tmp_path: Path) -> None:
    running = Changing(tmp_path, RULES, workers=2)
    running.environment["PYTHONPATH"] = str(packages)
    with running:
        until(lambda: len(helpers(running)) == 4)
        left = helpers(running)
        assert running.stop() == 0
        assert not any(map(processes.running, left))

"""A `policyd serve` whose processes a test ends, stops and watches."""

import contextlib
import os
import select
import signal
import socket
import time
import urllib.error
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Final

from tests.integration.changing import Changing, rule, until
from tools.campaign import processes
from tools.policyd_process import free_port

REPLY: Final = "450 4.2.1 Later"
"""What the policy answers every recipient and every message."""
REQUEST: Final = b"request=smtpd_access_policy\nprotocol_state=RCPT\nrecipient=jo@example.org\n\n"
SLOW: Final = 1.5
"""Seconds that the check `slow` takes."""

CHECKS: Final = f"""
import asyncio, os, sys
from pathlib import Path
from policyd.checks.interface import Answer, Check

async def slow(attributes):
    await asyncio.sleep({SLOW})
    return Answer(True, "true")

async def endless(attributes):
    await asyncio.sleep(3600)

async def ends(attributes):
    os._exit(3)

def at_the_start():
    if Path(sys.argv[0]).name == "worker.py" and Path(__file__).with_name("no-worker").exists():
        os._exit(4)
    return Check("at_the_start", ends.ask, remote=True)

slow = Check("slow", slow, remote=True)
endless = Check("endless", endless, remote=True, limit=60.0)
ends = Check("ends", ends, remote=True)
"""
"""Checks as another package may bring them: one that takes long, and some that do worse."""

RULES: Final = (
    rule("slow", REPLY, "recipient == 'slow@example.org' and slow()")
    + rule("endless", REPLY, "recipient == 'endless@example.org' and endless()")
    + rule("ends", REPLY, "recipient == 'ends@example.org' and ends()")
    + rule("all", REPLY)
    + rule("mail", REPLY, stage="end-of-data")
)


class Supervised(Changing):
    """A policyd with checks that are slow, or that end the worker which makes them."""

    def __init__(self, directory: Path, *, workers: int = 2, drain: str = "30s") -> None:
        super().__init__(directory, RULES, workers=workers)
        self.milter_address: str | tuple[str, int] = self.milter
        self.unix = f"{directory}/policy.sock"
        self.head = self.head.replace('drain_timeout = "1s"', f'drain_timeout = "{drain}"')
        self.head = self.head.replace(
            "[policy_service]\nlisten = [", f'[policy_service]\nlisten = ["unix:{self.unix}", '
        )
        self.write(RULES)
        self._install(directory / "packages")

    def _install(self, packages: Path) -> None:
        """Install the checks as pip would."""
        information = packages / "policyd_test_checks-1.dist-info"
        information.mkdir(parents=True)
        (packages / "policyd_test_checks.py").write_text(CHECKS)
        (information / "METADATA").write_text(
            "Metadata-Version: 2.1\nName: policyd-test-checks\nVersion: 1\n"
        )
        points = "".join(
            f"{name} = policyd_test_checks:{name}\n"
            for name in ("slow", "endless", "ends", "at_the_start")
        )
        (information / "entry_points.txt").write_text(f"[policyd.checks]\n{points}")
        self.environment["PYTHONPATH"] = str(packages)
        self._no_worker = packages / "no-worker"

    def milter_over_tcp(self) -> None:
        """Have the milter listen on TCP instead of a unix socket."""
        port = free_port()
        self.head = self.head.replace(f"unix:{self.milter}", f"inet:127.0.0.1:{port}")
        self.milter_address = ("127.0.0.1", port)
        self.write(RULES)

    def let_workers_start(self, may: bool) -> None:
        """Have workers die as they start, or have them start again."""
        if may:
            self._no_worker.unlink(missing_ok=True)
        else:
            self._no_worker.touch()

    # its processes

    def pids(self) -> dict[int, int]:
        """Give the process id of each worker that serves, by its number, as the log tells it."""
        alive = set(self.worker_pids())
        served = {line["worker"]: line["pid"] for line in self.events("worker.serves")}
        return {number: pid for number, pid in sorted(served.items()) if pid in alive}

    def until_all_serve(self) -> dict[int, int]:
        """Wait until no worker is missing; their process ids by their numbers."""
        until(lambda: self.all_up() and len(self.pids()) == self.workers)
        return self.pids()

    def tree(self) -> list[int]:
        """Give the process ids of all that it consists of, the supervisor first."""
        return [self.pid, *processes._children(self.pid)]

    def restarts(self) -> dict[str, float]:
        """Give how many workers were replaced, by the reason."""
        found = self.samples("policyd_worker_restarts_total")
        return {dict(labels)["reason"]: value for labels, value in found.items()}

    # its connections

    def holder(self, connection: socket.socket) -> int:
        """Give the process id of the worker that holds a connection."""
        port = connection.getsockname()[1]
        found = [pid for pid in self.worker_pids() if port in processes.peers(pid, self.port)]
        assert len(found) == 1, found
        return found[0]

    def held(self, worker: int) -> int:
        """Give how many policy connections a worker holds."""
        name = "policyd_worker_connections"
        return int(self.value(name, frontend="policy", worker=str(worker)) or 0)

    def spread(self) -> list[int]:
        """Give how many policy connections each worker holds."""
        return [self.held(worker) for worker in range(1, self.workers + 1)]

    def connections(self) -> int:
        """Give how many policy connections are open."""
        return int(self.value("policyd_connections", frontend="policy") or 0)

    def why_not_ready(self) -> str:
        """Give what it says about its not being ready; nothing if it is."""
        try:
            self.get("/readyz")
        except urllib.error.HTTPError as error:
            with error:
                return error.read().decode().strip()
        return ""

    def protocol_errors(self, reason: str, frontend: str = "policy") -> float:
        """Give how many protocol errors were counted."""
        return self.value("policyd_protocol_errors_total", frontend=frontend, reason=reason) or 0

    def answered(self) -> float:
        """Give how many policy answers were counted."""
        found = self.samples("policyd_replies_total")
        return sum(value for labels, value in found.items() if ("frontend", "policy") in labels)


def is_closed(connection: socket.socket, seconds: float) -> bool:
    """Tell whether the other end closes a connection, on which nothing is to be read, in time."""
    connection.settimeout(seconds)
    try:
        return connection.recv(1) == b""
    except ConnectionError:
        return True
    except TimeoutError:
        return False


def is_silent(connection: socket.socket) -> bool:
    """Tell whether nothing is to be read now, nor the end."""
    readable, _, _ = select.select([connection], [], [], 0)
    return not readable


def gone(pids: list[int], seconds: float = 20.0) -> bool:
    """Tell whether processes end in time."""
    deadline = time.monotonic() + seconds
    while any(map(processes.running, pids)):
        if time.monotonic() > deadline:
            return False
        time.sleep(0.01)
    return True


@contextlib.contextmanager
def standing_still(pids: Iterable[int]) -> Iterator[None]:
    """Have processes stand still for a while."""
    for pid in pids:
        os.kill(pid, signal.SIGSTOP)
    try:
        yield
    finally:
        for pid in pids:
            if processes.running(pid):
                os.kill(pid, signal.SIGCONT)

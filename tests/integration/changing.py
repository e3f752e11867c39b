"""A `policyd serve` whose configuration a test changes, and connections that ask it."""

import contextlib
import os
import signal
import socket
import threading
import time
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any, Final, Self

import msgspec

from policyd.serve.commands import Outcome, ask
from tools.campaign import processes
from tools.milter_client import MilterClient
from tools.policyd_process import PolicydProcess, free_port

PATIENCE: Final = 20.0
"""Seconds for what takes one or two on a quiet machine."""

_PAUSE: Final = 0.01
"""Seconds between an answer and the next request of a load, which is to leave others some CPU."""

HEAD: Final = """\
[server]
workers = {workers}
drain_timeout = "1s"
[policy_service]
listen = ["inet:127.0.0.1:{port}"]
[milter]
listen = ["unix:{directory}/milter.sock"]
[metrics]
listen = "127.0.0.1:{metrics}"
[log]
format = "json"
"""

_REQUEST: Final = """\
request=smtpd_access_policy
protocol_state=RCPT
client_address={}
recipient={}

"""


def rule(name: str, then: str, when: str = "", stage: str = "rcpt") -> str:
    """Write a rule in TOML."""
    condition = f'when = "{when}"\n' if when else ""
    return f'[[rule]]\nname = "{name}"\nstage = "{stage}"\n{condition}then = "{then}"\n'


def saying(word: str) -> str:
    """Write a policy that answers every recipient, and every message, with a word."""
    return rule("all", f"450 4.2.1 {word}") + rule("mail", f"450 4.2.1 {word}", stage="end-of-data")


def answer(word: str) -> str:
    """Give what a policy of saying() answers a policy request with."""
    return f"450 4.2.1 {word}"


def until(true: Callable[[], bool], seconds: float = PATIENCE) -> None:
    """Wait for something that becomes true."""
    deadline = time.monotonic() + seconds
    while not true():
        assert time.monotonic() < deadline, "it did not become true in time"
        time.sleep(0.01)


class Asking:
    """A connection that asks about recipients, one at a time."""

    def __init__(self, port: int) -> None:
        self.socket = socket.create_connection(("127.0.0.1", port), timeout=PATIENCE)
        self._received = b""

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.socket.close()

    def send(self, recipient: str, client: str = "192.0.2.1", times: int = 1) -> None:
        """Ask, several times at once, and await no answer."""
        self.socket.sendall(_REQUEST.format(client, recipient).encode() * times)

    def receive(self) -> str:
        """Await the action of the next answer; ConnectionError when it was closed."""
        while b"\n\n" not in self._received:
            data = self.socket.recv(65536)
            if not data:
                raise ConnectionError("closed")
            self._received += data
        whole, _, self._received = self._received.partition(b"\n\n")
        return whole.decode().removeprefix("action=")

    def ask(self, recipient: str = "jo@example.org", client: str = "192.0.2.1") -> str:
        """Ask, and await the action."""
        self.send(recipient, client)
        return self.receive()


class Load:
    """Connections that ask again and again, each on a thread of its own."""

    def __init__(self, port: int, connections: int, *, tolerant: bool = False) -> None:
        """With `tolerant`, one that is closed is opened anew and asks again, as Postfix does."""
        self.answers: Counter[str] = Counter()
        self.lost: list[str] = []
        self._port = port
        self._tolerant = tolerant
        self._ended = threading.Event()
        self._lock = threading.Lock()
        self._threads = [threading.Thread(target=self._run) for _ in range(connections)]

    def __enter__(self) -> Self:
        for thread in self._threads:
            thread.start()
        until(lambda: self.answers.total() > len(self._threads))
        return self

    def __exit__(self, *_: object) -> None:
        self._ended.set()
        for thread in self._threads:
            thread.join()

    def _run(self) -> None:
        while not self._ended.is_set():
            try:
                with Asking(self._port) as asking:
                    self._ask(asking)
            except OSError as error:
                if not self._tolerant:
                    self.lost.append(repr(error))
                    return
                time.sleep(0.01)

    def _ask(self, asking: Asking) -> None:
        while not self._ended.is_set():
            action = asking.ask()
            with self._lock:
                self.answers[action] += 1
            time.sleep(_PAUSE)


class Changing(PolicydProcess):
    """A policyd with both front ends, whose rules and lists are written by a test."""

    def __init__(self, directory: Path, body: str, *, workers: int = 2) -> None:
        self.port = free_port()
        metrics = free_port()
        self.workers = workers
        self.directory = directory
        self.milter = f"{directory}/milter.sock"
        self.head = HEAD.format(
            workers=workers, port=self.port, directory=directory, metrics=metrics
        )
        super().__init__(directory / "policyd.toml", f"127.0.0.1:{metrics}")
        self.write(body)

    def write(self, body: str, head: str | None = None) -> None:
        """Change the configuration at one stroke."""
        new = self.directory / f"new-{threading.get_ident()}"
        new.write_text((self.head if head is None else head) + body)
        new.rename(self.configuration)

    def reload(self) -> Outcome:
        """Ask as `policyd reload` does."""
        outcome = ask(self.configuration, "reload", Outcome)
        assert isinstance(outcome, Outcome)
        return outcome

    def become(self, body: str) -> Outcome:
        """Change the configuration and have it taken."""
        self.write(body)
        outcome = self.reload()
        assert not outcome.refused, outcome.reasons
        return outcome

    def hup(self) -> None:
        """Send SIGHUP."""
        os.kill(self.pid, signal.SIGHUP)

    # what it says

    def lines(self) -> list[dict[str, Any]]:
        """Read the whole lines of its log."""
        whole = self.log.read_bytes().rpartition(b"\n")[0]
        return [msgspec.json.decode(line) for line in whole.splitlines()]

    def events(self, *names: str) -> list[dict[str, Any]]:
        """Read the lines of some events."""
        return [line for line in self.lines() if line["event"] in names]

    def value(self, name: str, **labels: str) -> float | None:
        """Scrape one value; None if there is no such series."""
        return self.samples(name).get(tuple(sorted(labels.items())))

    # whom it consists of

    def worker_pids(self) -> list[int]:
        """Give its workers' process ids."""
        return processes.workers(self.pid)

    def builder_pids(self) -> list[int]:
        """Give its builder's process id, if one is at work."""
        return [
            pid
            for pid in processes._children(self.pid)
            if b"policyd.serve.builder" in processes._command(pid)
        ]

    def all_up(self) -> bool:
        """Tell whether every worker serves."""
        return sum(self.samples("policyd_worker_up").values()) == self.workers

    @contextlib.contextmanager
    def asking(self, count: int) -> Iterator[Sequence[Asking]]:
        """Open at least so many connections, of which every worker holds some."""
        every: list[Asking] = []

        def spread() -> bool:
            every.append(stack.enter_context(Asking(self.port)))
            every[-1].ask()
            return len(every) >= count and all(
                processes.peers(pid, self.port) for pid in self.worker_pids()
            )

        with contextlib.ExitStack() as stack:
            until(spread)
            yield every

    def message(self, session: MilterClient) -> str:
        """Tell a whole message in a milter session, and give the reply at its end."""
        session.mail()
        session.rcpt()
        session.data()
        return session.message().answer.text

    def session(self) -> MilterClient:
        """Open a milter session."""
        session = MilterClient(self.milter, timeout=PATIENCE)
        session.connect()
        session.helo()
        return session


def ended(process: PolicydProcess, seconds: float = PATIENCE) -> int:
    """Wait for its end and give its exit status."""
    assert process._process is not None
    return process._process.wait(seconds)

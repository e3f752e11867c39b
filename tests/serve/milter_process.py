"""
A process with a milter and the real service, for tests: rules in, what was counted out.

`python milter_process.py SPECIFICATION`, where SPECIFICATION is JSON: `endpoint`, `directory`
(for the configuration), `rules` (tables of it, over the lists users and programs), `more` (rules
in force after a line `reload` on standard input), `socket` (further arguments of MilterServer),
`broken` (a callback that raises: name and error), `without_fd` (a libmilter that does not know
`fd:`). Each answer and each protocol error is a line of JSON on standard output. pymilter's
callbacks are the process's and its main loop runs once, so each test of it needs a process.
"""

import json
import os
import random
import select
import signal
import socket
import sys
import threading
import time
from pathlib import Path
from threading import Lock
from typing import Any

import milter

from policyd.checks.interface import Answer as Found
from policyd.checks.interface import Check
from policyd.config.policy import load_policy
from policyd.facts.table import Attributes
from policyd.observe.log import Level
from policyd.rules.policy import Policy
from policyd.serve.milter import MilterServer
from policyd.serve.milter.session import Session
from policyd.service import Ids, Service, Settings
from policyd.smtp.decision import Decision
from policyd.smtp.stage import FrontEnd, Stage


def _raises(_attributes: Attributes) -> Found:
    raise RuntimeError("a fault of ours")


def _exits(_attributes: Attributes) -> Found:
    raise SystemExit(3)


CONFIGURATION = """
[milter]
listen = ["unix:/nowhere"]
stages = ["connect", "helo", "mail", "rcpt", "data", "end-of-data"]

[lists.users]
addresses = ["a@x.example", "c@x.example"]

[lists.programs]
patterns = ['^a\\.exe$']
"""
CHECKS = {check.name: check for check in (Check("raises", _raises), Check("exits", _exits))}


class Recorder:
    """Counts and logs by writing lines."""

    def __init__(self) -> None:
        self._lock = Lock()

    def line(self, **fields: object) -> None:
        with self._lock:
            sys.stdout.write(json.dumps(fields, default=str) + "\n")
            sys.stdout.flush()

    def answered(
        self, front_end: FrontEnd, decision: Decision, stages: tuple[Stage, ...], seconds: float
    ) -> None:
        assert front_end is FrontEnd.MILTER
        assert decision.stage in stages
        assert seconds >= 0

    def check(self, check: str, result: str, seconds: float) -> None:
        """Checks are no subject here."""

    def protocol_error(self, front_end: FrontEnd, reason: str) -> None:
        self.line(error=reason, front_end=front_end)

    def connections(self, front_end: FrontEnd, delta: int) -> None:
        self.line(connections=delta, front_end=front_end)

    def decision(
        self, decision: Decision, attributes: Attributes, front_end: FrontEnd, seconds: float
    ) -> None:
        assert front_end is FrontEnd.MILTER
        assert seconds >= 0
        self.line(
            stage=decision.stage,
            verdict=decision.verdict,
            code=decision.code,
            enhanced=decision.enhanced,
            source=decision.source,
            rule=decision.rule,
            reason=decision.reason,
            attributes=dict(attributes),
        )

    def event(self, level: Level, event: str, /, **fields: object) -> None:
        self.line(level=level, event=event, **fields)


def policy(rules: list[dict[str, Any]], directory: Path) -> Policy:
    """Load the policy of some rules, all stages decided by the milter."""
    tables = [CONFIGURATION]
    for number, rule in enumerate(rules):
        keys = {"name": f"rule {number}", **{key: value for key, value in rule.items() if value}}
        lines = (f"{key} = {json.dumps(value)}" for key, value in keys.items())
        tables.append("\n".join(("[[rule]]", *lines)))
    file = directory / "policyd.toml"
    file.write_text("\n\n".join(tables))
    loaded = load_policy(file, CHECKS)
    assert loaded.policy is not None, [str(problem) for problem in loaded.problems]
    return loaded.policy


def spoil(given: dict[str, Any]) -> None:
    """Make something go wrong that does not by itself."""
    if "broken" in given:
        callback, error = given["broken"]

        def raising(*_: object) -> Any:
            raise {"RuntimeError": RuntimeError, "SystemExit": SystemExit}[error]("a fault of ours")

        setattr(Session, callback, raising)
    if given.get("without_fd"):
        setconn = milter.setconn
        milter.setconn = lambda name: setconn(name.replace("fd:", "no-such-kind:"))


def main() -> None:
    """Serve until SIGTERM or the end of standard input."""
    given = json.loads(sys.argv[1])
    spoil(given)
    recorder = Recorder()
    directory = Path(given["directory"])
    service = Service(
        policy(given["rules"], directory),
        recorder,
        recorder,
        Ids(random.getrandbits),
        Settings(utf8=True),
    )
    main_thread = threading.get_ident()
    server = MilterServer(
        service,
        given["endpoint"],
        **given.get("socket", {}),
        ended=lambda: signal.pthread_kill(main_thread, signal.SIGTERM),
    )
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(0))
    server.start()
    recorder.line(ready=True)
    # A thread of libmilter may run the signal's C handler: only the wake-up tells the main thread.
    woken, waker = socket.socketpair()
    waker.setblocking(False)
    signal.set_wakeup_fd(waker.fileno())
    try:
        while True:
            ready, _, _ = select.select([sys.stdin, woken], [], [])
            line = sys.stdin.readline() if sys.stdin in ready else ""
            if sys.stdin in ready and not line:
                break
            if line:
                assert line == "reload\n"
                service.policy = policy(given["more"], directory)
                recorder.line(reloaded=True)
    finally:
        started = time.monotonic()
        server.stop()
        recorder.line(stopped=not server.alive, seconds=time.monotonic() - started)
        os._exit(0)  # as `policyd serve` does, and why


if __name__ == "__main__":
    main()

"""
A process with a milter and the real service, for tests: rules in, what was counted out.

`python milter_process.py SPECIFICATION`, where SPECIFICATION is JSON: `listener` (the descriptor of
an inherited socket) or `endpoint` (where libmilter listens by itself), `directory` (for the
configuration), `rules` (tables of it, over the lists users and programs), `tables` (further text of
it), `more` (rules in force after the order `reload`, without those), `most` (sessions at once),
`socket` (further arguments of MilterServer), `broken` (a callback that raises: name and error),
`without_fd` (a libmilter that does not know `fd:`), `tempdir` (where messages go that are too large
for memory). Lines on standard input are orders: reload, drain, state, most N; its end ends the
process. Each answer, each protocol error and each change of the number of sessions is a line of
JSON on standard output. pymilter's callbacks are the process's and its main loop runs once, so each
test of it needs a process.
"""

import asyncio
import gc
import hashlib
import json
import os
import random
import signal
import socket
import sys
import tempfile
from pathlib import Path
from threading import Lock, Thread
from typing import Any, cast

import milter

from policyd.checks.interface import Answer as Found
from policyd.checks.interface import Check, Counting
from policyd.config.policy import load_policy
from policyd.facts.table import Attributes
from policyd.mail.arrived import Arrived
from policyd.observe.log import Level
from policyd.observe.series import Layout, Row
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


async def _digest(attributes: Attributes) -> Found:
    """Tell the message by its size and its octets' digest."""
    message = cast("Arrived", attributes["message"])
    digest = hashlib.sha256(os.pread(message.descriptor(), 10**9, 0)).hexdigest()
    return Found(True, "true", {"digest": f"{message.size} {digest}"})


CONFIGURATION = """
[milter]
listen = ["unix:/nowhere"]
stages = ["connect", "helo", "mail", "rcpt", "data", "end-of-data"]

[lists.users]
addresses = ["a@x.example", "c@x.example"]

[lists.programs]
patterns = ['^a\\.exe$']
"""
CHECKS = {
    check.name: check
    for check in (
        Check("raises", _raises),
        Check("exits", _exits),
        Check("digest", _digest, needs=("message",), remote=True, values={"digest": "what it is"}),
    )
}


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

    def count(self, counting: Counting, labels: tuple[str, ...], amount: float) -> None:
        """Nor is what they count."""

    def unsettled(self, limit: str, count: int) -> None:
        """Nothing is reserved here."""

    def dependency_up(self, name: str, up: bool) -> None:
        """There is no dependency here."""

    def fallback(self, name: str) -> None:
        """There is no dependency here."""

    def protocol_error(self, front_end: FrontEnd, reason: str) -> None:
        self.line(error=reason, front_end=front_end)

    def dropped(self, what: str, count: int) -> None:
        """Nothing is dropped here."""

    def move(self, layout: Layout, row: Row) -> None:
        """There is no layout here."""

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


def policy(rules: list[dict[str, Any]], directory: Path, more: str = "") -> Policy:
    """Load the policy of some rules, all stages decided by the milter."""
    tables = [CONFIGURATION, more]
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
    if "tempdir" in given:
        tempfile.tempdir = given["tempdir"]
    if given.get("without_fd"):
        setconn = milter.setconn
        milter.setconn = lambda name: setconn(name.replace("fd:", "no-such-kind:"))


def obey(order: str, server: MilterServer, service: Service, given: dict[str, Any]) -> object:
    """Do what a line says, and give what to answer."""
    match order.split():
        case ["reload"]:
            service.policy = policy(given["more"], Path(given["directory"]))
            return None
        case ["drain"]:
            server.drain(lambda: RECORDER.line(idle=True))
            return None
        case ["state"]:
            older = bool(server.policies - {service.policy})
            counts = {"open": server.open_sessions, "older": older}
            objects = gc.get_objects()
            counts["kept"] = sum(isinstance(each, Session) for each in objects)
            counts["policies"] = sum(isinstance(each, Policy) for each in objects)
            return counts
        case ["most", number]:
            server.most_sessions = int(number)
            return None
        case _:
            raise ValueError(order)


RECORDER = Recorder()


def main() -> None:
    """Serve until the end of standard input."""
    for number in (signal.SIGTERM, signal.SIGINT, signal.SIGHUP):
        signal.signal(number, signal.SIG_IGN)
    RECORDER.line(ignoring=True)
    given = json.loads(sys.argv[1])
    spoil(given)
    service = Service(
        policy(
            given["rules"], Path(given["directory"]), given.get("tables", "")
        ),  # kept here alone
        RECORDER,
        RECORDER,
        Ids(random.getrandbits),
        Settings(utf8=True),
    )
    service.loop = asyncio.new_event_loop()
    Thread(target=service.loop.run_forever, daemon=True).start()
    server = MilterServer(
        service,
        listener=socket.socket(fileno=given["listener"]) if "listener" in given else None,
        endpoint=given.get("endpoint", ""),
        most_sessions=given.get("most", 1000),
        sessions=lambda count: RECORDER.line(connections=count),
        ended=lambda: RECORDER.line(ended=True),
        **given.get("socket", {}),
    )
    server.start()
    RECORDER.line(ready=True)
    for order in sys.stdin:
        RECORDER.line(done=order.strip(), answer=obey(order, server, service, given))
    os._exit(0)  # libmilter's threads outlive everything; the interpreter would wait for them


if __name__ == "__main__":
    main()

"""policyd itself, run as a user runs it, with the matrix for its rules."""

import contextlib
import http.client
import random
import socket
import subprocess
import sys
import time
from collections import Counter
from collections.abc import Iterable
from pathlib import Path
from types import TracebackType
from typing import Self

import msgspec
from prometheus_client.parser import text_string_to_metric_families

from policyd.smtp.decision import Verdict
from policyd.smtp.stage import TRANSACTION, FrontEnd, Stage
from tests.integration.wire.cells import STAGES, Cell
from tests.integration.wire.tap import Pair

_COMMAND = str(Path(sys.executable).with_name("policyd"))
_READY_WITHIN = 20.0  # seconds
_STOP_WITHIN = 15.0  # seconds; libmilter takes five


def configuration(front_end: FrontEnd, cells: Iterable[Cell], endpoint: str, metrics: int) -> str:
    """Write a policyd.toml in which `front_end` alone decides, one rule a stage and outcome."""
    table = "milter" if front_end is FrontEnd.MILTER else "policy_service"
    stages = TRANSACTION if front_end is FrontEnd.MILTER else STAGES
    head = f"""
[{table}]
listen = ["{endpoint}"]
socket_mode = "0666"
stages = [{", ".join(f'"{stage}"' for stage in stages)}]

[metrics]
listen = "127.0.0.1:{metrics}"

[state]
url = "memory:"

[log]
format = "json"
"""
    return head + "".join(dict.fromkeys(map(rule, cells)))


def rule(cell: Cell) -> str:
    """Write the rule that decides a cell."""
    whole = cell.stage is Stage.RCPT and cell.outcome.verdict in (Verdict.DISCARD, Verdict.HOLD)
    return f"""
[[rule]]
name = "{cell.rule}"
stage = "{cell.stage}"
when = "client_address == '{cell.address}'"
then = "{cell.outcome.then}"
{"whole_message = true" if whole else ""}
"""


class Policyd:
    """`policyd serve` with a configuration; used as a context manager it is running within."""

    def __init__(self, directory: Path, front_end: FrontEnd, cells: Iterable[Cell]) -> None:
        self.socket = directory / f"{front_end}.sock"
        self.front_end = front_end
        self._port = _free_port()
        self._file = directory / f"{front_end}.toml"
        self._log = directory / f"{front_end}.log"
        endpoint = f"unix:{self.socket}"
        self._file.write_text(configuration(front_end, cells, endpoint, self._port))

    def __enter__(self) -> Self:
        """Start, and wait until it is ready."""
        with self._log.open("wb") as log:
            self._process = subprocess.Popen(
                [_COMMAND, "serve", "-c", str(self._file)], stdout=log, stderr=log
            )
        deadline = time.monotonic() + _READY_WITHIN
        while not self._ready():
            if self._process.poll() is not None or time.monotonic() > deadline:
                self._process.kill()
                raise RuntimeError(f"policyd does not serve:\n{self._log.read_text()}")
            time.sleep(0.05)
        return self

    def __exit__(
        self,
        exception: type[BaseException] | None,
        value: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        """Stop it."""
        self._process.terminate()
        try:
            self._process.wait(_STOP_WITHIN)
        except subprocess.TimeoutExpired:
            self._process.kill()
            raise

    def replies(self) -> Counter[Pair]:
        """Add up policyd_replies_total by pair, as scraped now."""
        counted: Counter[Pair] = Counter()
        for family in text_string_to_metric_families(self._get("/metrics")):
            for sample in family.samples:
                if sample.name == "policyd_replies_total":
                    assert sample.labels["frontend"] == self.front_end
                    pair = (sample.labels["code"], sample.labels["enhanced"])
                    counted[pair] += round(sample.value)
        return +counted

    def logged(self) -> Counter[Pair]:
        """Count the decisions in the log by pair."""
        lines = self._log.read_bytes().splitlines()
        logged = [msgspec.json.decode(line) for line in lines if line.startswith(b"{")]
        return Counter(
            (line.get("code", ""), line.get("enhanced", ""))
            for line in logged
            if line["event"] == "decision"
        )

    def _ready(self) -> bool:
        try:
            self._get("/readyz")
        except OSError:
            return False
        return True

    def _get(self, path: str) -> str:
        connection = http.client.HTTPConnection("127.0.0.1", self._port, timeout=10)
        with contextlib.closing(connection):
            connection.request("GET", path)
            reply = connection.getresponse()
            body = reply.read().decode()
        if reply.status != 200:
            raise OSError(f"{path}: {reply.status} {reply.reason}: {body}")
        return body


def _free_port() -> int:
    """Find a port below those that the kernel gives to outgoing connections."""
    while True:
        port = random.SystemRandom().randrange(10_000, 32_000)
        with socket.socket() as candidate, contextlib.suppress(OSError):
            candidate.bind(("127.0.0.1", port))
            return port

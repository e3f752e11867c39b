"""`policyd serve` as a process of its own, run as a user runs it: for tests and the demo."""

import os
import socket
import subprocess
import sys
import time
import urllib.error
import urllib.request
from pathlib import Path
from types import TracebackType
from typing import Any, Final, Self

import msgspec
from prometheus_client.parser import text_string_to_metric_families

COMMAND: Final = str(Path(sys.executable).with_name("policyd"))
READY_WITHIN: Final = 60.0
"""Seconds from start to readiness: two on a machine that has nothing else to do."""
STOP_WITHIN: Final = 20.0
"""Seconds from SIGTERM to the end."""

Labels = tuple[tuple[str, str], ...]


class PolicydProcessError(Exception):
    """policyd does not serve; says so with its log."""


class PolicydProcess:
    """
    A running `policyd serve`; used as a context manager it is ready within.

    `metrics` is the address that the configuration gives to `[metrics]`. Its log goes to
    `<configuration>.log`. `environment` may be changed before it starts.
    """

    def __init__(self, configuration: Path, metrics: str) -> None:
        """Take a configuration file that is complete."""
        self.configuration = configuration
        self.metrics = metrics
        self.log = configuration.with_suffix(".log")
        self.environment = dict(os.environ)
        self._process: subprocess.Popen[bytes] | None = None

    def __enter__(self) -> Self:
        """Start, and wait until it is ready; PolicydProcessError if it is not."""
        with self.log.open("wb") as log:
            self._process = subprocess.Popen(
                [COMMAND, "serve", "-c", str(self.configuration)],
                stdout=log,
                stderr=log,
                env=self.environment,
            )
        deadline = time.monotonic() + READY_WITHIN
        while not self.ready():
            if self._process.poll() is not None or time.monotonic() > deadline:
                self._process.kill()
                raise PolicydProcessError(f"policyd does not serve:\n{self.log.read_text()}")
            time.sleep(0.05)
        return self

    def __exit__(
        self,
        exception: type[BaseException] | None,
        value: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        """Stop it."""
        self.stop()

    @property
    def pid(self) -> int:
        """Its process id."""
        assert self._process is not None
        return self._process.pid

    def stop(self) -> int:
        """Stop it as systemd would, and give its exit status."""
        assert self._process is not None
        self._process.terminate()
        try:
            return self._process.wait(STOP_WITHIN)
        except subprocess.TimeoutExpired:
            self._process.kill()
            raise

    def get(self, path: str) -> str:
        """Read a page of its HTTP listener."""
        with urllib.request.urlopen(f"http://{self.metrics}{path}", timeout=10) as reply:
            body: bytes = reply.read()
        return body.decode()

    def ready(self) -> bool:
        """Tell whether it says that it is."""
        try:
            self.get("/readyz")
        except (urllib.error.URLError, ConnectionError):
            return False
        return True

    def samples(self, name: str) -> dict[Labels, float]:
        """Scrape one metric: values by their labels, in alphabetical order of names."""
        return {
            tuple(sorted(sample.labels.items())): sample.value
            for family in text_string_to_metric_families(self.get("/metrics"))
            for sample in family.samples
            if sample.name == name
        }

    def decisions(self) -> list[dict[str, Any]]:
        """Read the decisions in its log, which has to be JSON; a line half written is left out."""
        whole = self.log.read_bytes().rpartition(b"\n")[0]
        lines = map(msgspec.json.decode, whole.splitlines())
        return [line for line in lines if line.get("event") == "decision"]


def free_port() -> int:
    """Find a TCP port of loopback that nobody listens on now."""
    with socket.socket() as candidate:
        candidate.bind(("127.0.0.1", 0))
        port: int = candidate.getsockname()[1]
        return port

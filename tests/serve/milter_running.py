"""Start a milter in a process of its own, talk with it, and read what it counted."""

import json
import os
import queue
import socket
import subprocess
import sys
import threading
import time
from collections import Counter
from itertools import pairwise
from pathlib import Path
from types import TracebackType
from typing import Any, Self

from policyd.serve.sockets import Endpoint, open_listeners
from tools.milter_client import MilterClient

_ROOT = Path(__file__).parents[2]
_PROGRAM = Path(__file__).with_name("milter_process.py")


def listen(directory: Path, *, mode: int = 0o660) -> socket.socket:
    """Open a socket as the supervisor does, for one milter or for several to inherit."""
    return open_listeners(Endpoint(path=str(directory / "milter.sock")), mode=mode)[0].socket


class RunningMilter:
    """
    A milter with some rules.

    It serves on `listener`, which others may share, on `endpoint`, which libmilter then opens by
    itself, else on a socket of its own in `directory`.
    """

    def __init__(
        self,
        directory: Path,
        *rules: dict[str, Any],
        listener: socket.socket | None = None,
        endpoint: str = "",
        **given: Any,
    ) -> None:
        self.path = str(directory / "milter.sock")
        specification = {"directory": str(directory), "rules": rules, **given}
        own = listener
        if endpoint:
            specification["endpoint"] = endpoint
        elif own is None:
            own = listen(directory)
        self.address: str | tuple[str, int] = self.path
        if own is not None:
            self.address = own.getsockname()
            specification["listener"] = own.fileno()
        self.process = subprocess.Popen(
            [sys.executable, str(_PROGRAM), json.dumps(specification)],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
            cwd=_ROOT,
            env={**os.environ, "PYTHONPATH": str(_ROOT)},
            pass_fds=() if own is None else (own.fileno(),),
        )
        if own is not None and own is not listener:
            own.close()
        self.errors: list[str] = []
        self.connections: list[int] = []
        self._told: Counter[str] = Counter()
        self._lines: queue.Queue[dict[str, Any]] = queue.Queue()
        self._reader = threading.Thread(target=self._read, daemon=True)
        self._reader.start()

    def __enter__(self) -> Self:
        """Wait until it serves."""
        self.until("ready")
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        """End it; it must have lived until now and written no traceback."""
        assert self.process.stdin is not None
        assert self.process.stderr is not None
        alive = self.process.poll() is None
        self.process.stdin.close()
        try:
            self.process.wait(15)
        finally:
            self.process.kill()
            self._reader.join()
        complaints = self.process.stderr.read()
        for stream in (self.process.stdout, self.process.stderr):
            assert stream is not None
            stream.close()
        if error is None:
            assert alive
            assert self.process.returncode == 0, complaints
            assert not complaints

    def client(self, **macros: str | bytes) -> MilterClient:
        """Open a session; macros by name without braces, beside those that always have a value."""
        always = {"mail_addr": "sender@example.net", "rcpt_addr": "user@example.org"}
        named = {
            name if len(name) == 1 else f"{{{name}}}": text
            for name, text in {"v": "Postfix 3.7.11", **always, **macros}.items()
        }
        return MilterClient(self.address, macros=named)

    def order(self, order: str) -> Any:
        """Have it reload, drain or tell its state; give what it answers."""
        assert self.process.stdin is not None
        self.process.stdin.write(f"{order}\n")
        self.process.stdin.flush()
        return self.until("done")["answer"]

    def told(self, key: str) -> int:
        """Count the lines with a key that it has written until now."""
        self.order("state")
        return self._told[key]

    def until(self, key: str) -> dict[str, Any]:
        """Read on to the line that has a key, and give it."""
        while key not in (line := self.line()):
            self._sorted(line)
        return line

    def line(self) -> dict[str, Any]:
        """Give the next line that the process wrote."""
        line = self._lines.get(timeout=15)
        assert line, self.process.communicate()[1]
        return line

    def answers(self, count: int = 1) -> list[dict[str, Any]]:
        """Give the next answers that were counted."""
        found: list[dict[str, Any]] = []
        while len(found) < count:
            found += self._sorted(self.line())
        return found

    def answer(self) -> dict[str, Any]:
        """Give the next answer that was counted."""
        return self.answers()[0]

    def rest(self) -> list[dict[str, Any]]:
        """Give the answers that were counted and have not been read."""
        time.sleep(0.05)
        found: list[dict[str, Any]] = []
        while not self._lines.empty():
            found += self._sorted(self.line())
        return found

    def _sorted(self, line: dict[str, Any]) -> list[dict[str, Any]]:
        """Set aside what is no answer: errors and connections, in the order they were told."""
        if "verdict" in line:
            return [line]
        self.errors += [line["error"]] if "front_end" in line and "error" in line else []
        self.connections += [line["connections"]] if "connections" in line else []
        return []

    @property
    def begun(self) -> int:
        """How many sessions have begun, as far as its lines have been read."""
        return sum(now > before for before, now in pairwise([0, *self.connections]))

    def descriptors(self) -> int:
        """Count the process's open files."""
        return len(list(Path(f"/proc/{self.process.pid}/fd").iterdir()))

    def _read(self) -> None:
        assert self.process.stdout is not None
        for line in self.process.stdout:
            fields = json.loads(line)
            self._told.update(fields.keys())
            self._lines.put(fields)
        self._lines.put({})

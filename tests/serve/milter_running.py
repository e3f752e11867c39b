"""Start a milter in a process of its own, talk with it, and read what it counted."""

import json
import os
import queue
import signal
import subprocess
import sys
import threading
import time
from pathlib import Path
from types import TracebackType
from typing import Any, Self

from tools.milter_client import MilterClient

_ROOT = Path(__file__).parents[2]
_PROGRAM = Path(__file__).with_name("milter_process.py")


class RunningMilter:
    """A milter with some rules, on a unix socket in `directory` or on `endpoint`."""

    def __init__(
        self, directory: Path, *rules: dict[str, Any], endpoint: str = "", **given: Any
    ) -> None:
        self.path = str(directory / "milter.sock")
        self.endpoint = endpoint or f"unix:{self.path}"
        specification = {
            "endpoint": self.endpoint,
            "directory": str(directory),
            "rules": rules,
            **given,
        }
        self.process = subprocess.Popen(
            [sys.executable, str(_PROGRAM), json.dumps(specification)],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
            cwd=_ROOT,
            env={**os.environ, "PYTHONPATH": str(_ROOT)},
        )
        self.errors: list[str] = []
        self.connections: list[int] = []
        self._lines: queue.Queue[dict[str, Any]] = queue.Queue()
        self._reader = threading.Thread(target=self._read, daemon=True)
        self._reader.start()

    def __enter__(self) -> Self:
        """Wait until it serves."""
        while "ready" not in self.line():
            pass
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        """Stop it; it must have lived until now and written no traceback."""
        alive = self.process.poll() is None
        self.process.send_signal(signal.SIGTERM)
        try:
            self.process.wait(15)
        finally:
            self.process.kill()
            self._reader.join()
        assert self.process.stderr is not None
        complaints = self.process.stderr.read()
        for stream in (self.process.stdin, self.process.stdout, self.process.stderr):
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
        return MilterClient(self.path, macros=named)

    def reload(self) -> None:
        """Put the rules `more` in force."""
        assert self.process.stdin is not None
        self.process.stdin.write("reload\n")
        self.process.stdin.flush()
        while "reloaded" not in self.line():
            pass

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

    def descriptors(self) -> int:
        """Count the process's open files."""
        return len(list(Path(f"/proc/{self.process.pid}/fd").iterdir()))

    def _read(self) -> None:
        assert self.process.stdout is not None
        for line in self.process.stdout:
            self._lines.put(json.loads(line))
        self._lines.put({})

"""A real postgrey on loopback, with a database of its own and a clock that the test sets."""

import grp
import os
import pwd
import shutil
import socket
import subprocess
import time
from pathlib import Path
from typing import Final, Self

from tools.policyd_process import free_port

PROGRAM: Final = shutil.which("postgrey", path=os.environ["PATH"] + ":/usr/sbin")
_PATIENCE: Final = 20.0


class Postgrey:
    """Runs between entering and leaving it; kill() ends it without a word."""

    def __init__(self, dbdir: Path, *options: str) -> None:
        assert PROGRAM is not None
        self.dbdir = dbdir
        dbdir.mkdir(exist_ok=True)
        self._port = free_port()
        self._command = [
            PROGRAM,
            f"--inet=127.0.0.1:{self._port}",
            f"--dbdir={dbdir}",
            f"--user={pwd.getpwuid(os.geteuid()).pw_name}",
            f"--group={grp.getgrgid(os.getegid()).gr_name}",
            "--whitelist-clients=/dev/null",
            "--whitelist-recipients=/dev/null",
            *options,
        ]

    def __enter__(self) -> Self:
        self._process = subprocess.Popen(
            self._command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL
        )
        deadline = time.monotonic() + _PATIENCE
        while True:
            try:
                self._connection = socket.create_connection(("127.0.0.1", self._port), _PATIENCE)
            except ConnectionRefusedError:
                assert self._process.poll() is None, "postgrey ended"
                assert time.monotonic() < deadline
                time.sleep(0.05)
            else:
                return self

    def __exit__(self, *_: object) -> None:
        self._connection.close()
        deadline = time.monotonic() + _PATIENCE
        while self._process.poll() is None:
            # a signal that comes just before it waits for input again is lost on it
            assert time.monotonic() < deadline, "postgrey does not end"
            self._process.terminate()
            time.sleep(0.05)

    def kill(self) -> None:
        self._process.kill()
        self._process.wait(_PATIENCE)

    def ask(self, client: str, sender: str, recipient: str, *, at: int) -> str:
        """Ask as Postfix does and give the action; `at` is the time in seconds."""
        request = {
            "request": "smtpd_access_policy",
            "client_address": client,
            "client_name": "unknown",
            "sender": sender,
            "recipient": recipient,
            "policy_test_time": str(at),
        }
        lines = "".join(f"{name}={value}\n" for name, value in request.items())
        self._connection.sendall(lines.encode("utf-8", "surrogateescape") + b"\n")
        answer = b""
        while not answer.endswith(b"\n\n"):
            received = self._connection.recv(4096)
            assert received, "postgrey closed the connection"
            answer += received
        return answer.decode().strip().removeprefix("action=")

    def deliver(self, client: str, sender: str, recipient: str, *, at: int) -> None:
        """Have a triplet seen at a time, and passed ten minutes later."""
        assert self.ask(client, sender, recipient, at=at).startswith("DEFER_IF_PERMIT")
        later = self.ask(client, sender, recipient, at=at + 600)
        assert later.startswith(("PREPEND", "DUNNO")), later

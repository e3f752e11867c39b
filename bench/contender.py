"""One contender of the benchmark: a server process, its start, its end and what it consumes."""

import contextlib
import os
import signal
import socket
import subprocess
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Final

START_LIMIT: Final = 20.0
"""Seconds in which a contender accepts a connection, or it cannot be measured."""

STOP_LIMIT: Final = 10.0
"""Seconds from SIGTERM to SIGKILL; libmilter takes up to 5."""

_TICKS: Final = os.sysconf("SC_CLK_TCK")


class CannotStartError(Exception):
    """A contender that does not come up; it is left out."""


@dataclass(frozen=True)
class Contender:
    """How one is started, and where it then listens (``inet:HOST:PORT`` or ``unix:/path``)."""

    name: str
    command: tuple[str, ...]
    address: str
    stderr: Path
    null: str
    """The contender that it is compared with."""
    policyd: bool = False
    """It logs each answer on standard error, and has something to finish when it is ended."""


class Running:
    """A started contender."""

    def __init__(self, contender: Contender) -> None:
        """Start it and wait until it accepts a connection; raises CannotStartError."""
        self.contender = contender
        # Appending, so that the file can be emptied while the contender writes to it.
        with contender.stderr.open("ab") as stderr:
            try:
                self.process = subprocess.Popen(
                    contender.command, stdout=stderr, stderr=stderr, start_new_session=True
                )
            except OSError as error:
                raise CannotStartError(f"{contender.command[0]}: {error.strerror}") from None
        try:
            self._wait_until_it_accepts()
        except CannotStartError:
            self.stop()
            raise

    def _wait_until_it_accepts(self) -> None:
        end = time.monotonic() + START_LIMIT
        while not accepts(self.contender.address):
            if self.process.poll() is not None:
                said = self.contender.stderr.read_text(errors="replace").strip()[-400:]
                raise CannotStartError(f"ended with {self.process.returncode}: {said}")
            if time.monotonic() > end:
                raise CannotStartError(f"accepts no connection after {START_LIMIT:g} s")
            time.sleep(0.05)

    def stop(self) -> None:
        """End it and its children: policyd is asked first; a null responder has nothing to lose."""
        if self.contender.policyd and self.process.poll() is None:
            self.process.terminate()
            with contextlib.suppress(subprocess.TimeoutExpired):
                self.process.wait(STOP_LIMIT)
        # Its session is its own: what it left behind dies with it.
        with contextlib.suppress(ProcessLookupError):
            os.killpg(self.process.pid, signal.SIGKILL)
        self.process.wait()

    def cpu_seconds(self) -> float:
        """User and system time so far, of it and of its living children (proc(5), stat)."""
        return sum(_cpu_ticks(pid) for pid in family(self.process.pid)) / _TICKS

    def resident_mb(self) -> float:
        """Resident set size, summed over it and its children, in MB of 10^6 octets."""
        return sum(_resident_octets(pid) for pid in family(self.process.pid)) / 1e6

    def take_log(self) -> int:
        """Count the lines it has logged since the last call, and empty the file."""
        if not self.contender.policyd:
            return 0
        self._wait_until_it_is_written()
        with self.contender.stderr.open("rb") as log:
            lines = sum(block.count(b"\n") for block in iter(lambda: log.read(1 << 20), b""))
        os.truncate(self.contender.stderr, 0)
        return lines

    def _wait_until_it_is_written(self) -> None:
        size = -1
        end = time.monotonic() + 2
        while size != (size := self.contender.stderr.stat().st_size) and time.monotonic() < end:
            time.sleep(0.1)


def accepts(address: str) -> bool:
    """Tell whether a connection to the address can be made."""
    kind, _, endpoint = address.partition(":")
    host, _, port = endpoint.rpartition(":")
    unix = kind == "unix"
    with socket.socket(socket.AF_UNIX if unix else socket.AF_INET) as probe:
        probe.settimeout(1)
        try:
            probe.connect(endpoint if unix else (host, int(port)))
        except OSError:
            return False
    return True


def free_port() -> int:
    """Return a TCP port on loopback that nobody listens on now."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


def family(pid: int) -> set[int]:
    """Return the process and its living descendants."""
    parents = dict(_parents())
    members = {pid}
    grown = True
    while grown:
        children = {child for child, parent in parents.items() if parent in members} - members
        members |= children
        grown = bool(children)
    return members


def _parents() -> Iterator[tuple[int, int]]:
    for entry in Path("/proc").iterdir():
        if entry.name.isdigit():
            fields = _stat(int(entry.name))
            if fields:
                yield int(entry.name), int(fields[1])


def _stat(pid: int) -> list[str]:
    """Return proc(5)'s stat fields after the command's name; nothing when the process is gone."""
    try:
        return Path(f"/proc/{pid}/stat").read_text(errors="replace").rpartition(")")[2].split()
    except OSError:
        return []


def _cpu_ticks(pid: int) -> int:
    fields = _stat(pid)
    return int(fields[11]) + int(fields[12]) if fields else 0  # utime and stime


def _resident_octets(pid: int) -> int:
    fields = _stat(pid)
    return int(fields[21]) * os.sysconf("SC_PAGESIZE") if fields else 0

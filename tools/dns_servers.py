"""
Real name servers of one's own on loopback, for tests and benches, and one that misbehaves.

NameServer is nsd(8), authoritative for zones given as texts; Recursive is unbound(8), which asks
name servers; Unruly answers late, wrongly or never, or stands before another and delays. They need
Debian's nsd and unbound packages; each keeps its files in a directory of its own.
"""

import contextlib
import os
import random
import re
import signal
import socket
import subprocess
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from types import TracebackType
from typing import Final, Self

import dns.exception
import dns.message
import dns.query

from tools.dns_unruly import Act, Unruly, by_first_label

__all__ = ["Act", "DnsServerError", "NameServer", "Recursive", "Unruly", "by_first_label"]

_LOOPBACK: Final = "127.0.0.1"
_PORTS: Final = range(22_001, 30_000)
"""Below those that the kernel gives to outgoing connections, and not those of Redis's tests."""
_START: Final = 20.0
_STOP: Final = 2.0
_PAUSE: Final = 0.01
_ATTEMPTS: Final = 5
_RECORD: Final = r"(?:\d+\s+)?(?:IN\s+)?(?:\d+\s+)?"
_SOA: Final = re.compile(rf"^\S*\s+{_RECORD}SOA\s", re.MULTILINE | re.IGNORECASE)
_NS: Final = re.compile(rf"^@?\s+{_RECORD}NS\s", re.MULTILINE | re.IGNORECASE)


class DnsServerError(Exception):
    """A server did not start; the message holds its own words."""


class _Server:
    """A program that serves the DNS on a free port of 127.0.0.1. As a context manager it runs."""

    def __init__(self, folder: Path) -> None:
        folder.mkdir(parents=True, exist_ok=True)
        self.folder = folder.resolve()
        self.port = free_port()
        self._process: subprocess.Popen[bytes] | None = None
        self._frozen = False

    @property
    def address(self) -> str:
        """Host and port."""
        return f"{_LOOPBACK}:{self.port}"

    @property
    def _log(self) -> Path:
        return self.folder / "log"

    def _prepare(self) -> None:
        """Write the files."""
        raise NotImplementedError

    def _command(self) -> Sequence[str]:
        raise NotImplementedError

    def start(self) -> None:
        """Start it and wait until it answers; DnsServerError with its log if it does not."""
        self._prepare()
        with (self.folder / "output").open("wb") as output:
            self._process = subprocess.Popen(
                self._command(), stdout=output, stderr=output, start_new_session=True
            )
        ends = time.monotonic() + _START
        while not self._answers():
            if self._process.poll() is not None or time.monotonic() > ends:
                self.kill()
                said = [(self.folder / "output").read_text("utf-8", "replace")]
                if self._log.exists():
                    said.append(self._log.read_text("utf-8", "replace"))
                raise DnsServerError("\n".join(said))
            time.sleep(_PAUSE)

    def kill(self) -> None:
        """End it with all its processes, frozen or not; nothing if it does not run."""
        if self._process is None:
            return
        if not self._frozen:  # nsd then waits for its own processes
            self._process.terminate()
            with contextlib.suppress(subprocess.TimeoutExpired):
                self._process.wait(_STOP)
        with contextlib.suppress(ProcessLookupError):
            os.killpg(self._process.pid, signal.SIGKILL)
        self._process.wait()
        self._process = None
        self._frozen = False

    def freeze(self) -> None:
        """Stop all its processes where they are: nothing answers, nothing is refused (SIGSTOP)."""
        if self._process is not None:
            os.killpg(self._process.pid, signal.SIGSTOP)
            self._frozen = True

    def thaw(self) -> None:
        """Let it go on (SIGCONT)."""
        if self._process is not None:
            os.killpg(self._process.pid, signal.SIGCONT)
            self._frozen = False

    def restart(self) -> None:
        """Kill it and start it again, on the same port."""
        self.kill()
        self.start()

    def __enter__(self) -> Self:
        """Start it; on another port if somebody has taken this one since."""
        for left in reversed(range(_ATTEMPTS)):
            try:
                self.start()
            except DnsServerError:
                if not left:
                    raise
                self.port = free_port()
            else:
                break
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        """Kill it."""
        self.kill()

    def _answers(self) -> bool:
        question = dns.message.make_query("version.bind.", "TXT", "CH")
        try:
            dns.query.udp(question, _LOOPBACK, timeout=0.2, port=self.port)
        except (OSError, dns.exception.DNSException):
            return False
        return self._process is not None and self._process.poll() is None


class NameServer(_Server):
    """
    An nsd(8), authoritative for zones: name without final dot, and text as in a zone file.

    A zone without SOA or NS at its top is given them; its SOA then lets negative answers be kept
    for 60 s. Names outside the zones are refused; a zone `.` catches all others. `options` are
    lines of nsd.conf's server clause.
    """

    def __init__(
        self, folder: Path, zones: Mapping[str, str], options: Mapping[str, str] | None = None
    ) -> None:
        super().__init__(folder)
        self.zones = dict(zones)
        self._options = dict(options or {})

    def change(self, zones: Mapping[str, str]) -> None:
        """Serve these zones from now on, on the same port; nothing answers for a moment."""
        self.zones = dict(zones)
        self.restart()

    def _prepare(self) -> None:
        lines = {
            "ip-address": f"{_LOOPBACK}@{self.port}",
            "username": '""',
            "chroot": '""',
            "zonesdir": f'"{self.folder}"',
            "database": '""',
            "pidfile": '""',
            "xfrdfile": f'"{self.folder}/xfrd"',
            "xfrdir": f'"{self.folder}"',
            "zonelistfile": f'"{self.folder}/zonelist"',
            "logfile": f'"{self._log}"',
            "server-count": "1",
            "rrl-ratelimit": "0",
            "rrl-whitelist-ratelimit": "0",
        } | self._options
        text = ["server:", *(f"  {name}: {value}" for name, value in lines.items())]
        text += ["remote-control:", "  control-enable: no"]
        for number, (name, records) in enumerate(self.zones.items()):
            file = self.folder / f"{number}.zone"
            file.write_text(_zone(name, records), encoding="utf-8")
            text += ["zone:", f'  name: "{name}"', f'  zonefile: "{file}"']
        (self.folder / "nsd.conf").write_text("\n".join([*text, ""]), encoding="utf-8")

    def _command(self) -> Sequence[str]:
        return ["/usr/sbin/nsd", "-d", "-c", f"{self.folder / 'nsd.conf'}"]


class Recursive(_Server):
    """
    An unbound(8) that asks name servers for their zones: name of the zone to host and port.

    It knows no root: names elsewhere are refused. Delegations in the zones are followed to port 53.
    `options` are lines of unbound.conf's server clause.
    """

    def __init__(
        self, folder: Path, stubs: Mapping[str, str], options: Mapping[str, str] | None = None
    ) -> None:
        super().__init__(folder)
        self._stubs = dict(stubs)
        self._options = dict(options or {})

    def _prepare(self) -> None:
        lines = {
            "interface": f"{_LOOPBACK}@{self.port}",
            "username": '""',
            "chroot": '""',
            "directory": f'"{self.folder}"',
            "pidfile": f'"{self.folder}/pid"',
            "logfile": f'"{self._log}"',
            "use-syslog": "no",
            "do-daemonize": "no",
            "do-ip6": "no",
            "do-not-query-localhost": "no",
            "module-config": '"iterator"',
            "qname-minimisation": "no",
            "num-threads": "1",
        } | self._options
        text = ["server:", *(f"  {name}: {value}" for name, value in lines.items())]
        text += ['  local-zone: "." always_refuse']
        text += [f'  local-zone: "{name}" transparent' for name in self._stubs]
        text += ["remote-control:", "  control-enable: no"]
        for name, address in self._stubs.items():
            host, _, port = address.rpartition(":")
            text += ["stub-zone:", f'  name: "{name}"', f"  stub-addr: {host}@{port}"]
        (self.folder / "unbound.conf").write_text("\n".join([*text, ""]), encoding="utf-8")

    def _command(self) -> Sequence[str]:
        return ["/usr/sbin/unbound", "-d", "-c", f"{self.folder / 'unbound.conf'}"]


def free_port() -> int:
    """Find a port of loopback that nothing has, neither for UDP nor for TCP."""
    while True:
        port = random.choice(_PORTS)  # noqa: S311  no secret
        with (
            socket.socket(type=socket.SOCK_STREAM) as stream,
            socket.socket(type=socket.SOCK_DGRAM) as datagram,
            contextlib.suppress(OSError),
        ):
            stream.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            for each in (stream, datagram):
                each.bind((_LOOPBACK, port))
            return port


def _zone(name: str, records: str) -> str:
    """Give a zone file: the records, and SOA and NS if they have none."""
    lines = [f"$ORIGIN {name.rstrip('.')}.", "$TTL 300"]
    if not _SOA.search(records):
        lines.append("@ 300 IN SOA ns.invalid. hostmaster.invalid. 1 3600 900 604800 60")
    if not _NS.search(records):
        lines.append("@ 300 IN NS ns.invalid.")
    return "\n".join([*lines, records, ""])

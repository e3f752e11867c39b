"""A real Postfix of one's own on loopback, for tests and the demo.

`PostfixInstance` keeps its configuration, queue, log and delivered mail in one directory and
leaves the system's Postfix alone, which may be running, stopped or unconfigured. It needs
Debian's postfix package (3.4 or later, for postlogd) and root, as `postfix start` does.
"""

import contextlib
import functools
import json
import os
import pwd
import random
import re
import shutil
import socket
import stat
import subprocess
import threading
import time
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from types import TracebackType
from typing import Any, Self

from tools import postfix_config

_ENVIRONMENT = {"PATH": "/usr/sbin:/usr/bin:/sbin:/bin", "LC_ALL": "C"}
_COMMAND_TIMEOUT = 60  # seconds
_STOP_TIMEOUT = 10  # seconds that processes are given before they are killed
_LONGEST_DIRECTORY = 80  # a socket's path has 107 octets: sun_path in unix(7)
_PORTS = range(10_000, 32_000)  # below the ports that the kernel gives to outgoing connections
_MAILBOX_OWNER = "nobody"
_SELF_TEST_LOG = "self-test"  # stands in for postlog(8)'s socket while we try each smtpd
_TROUBLE = re.compile(r"(?:fatal|panic|error): .*")


class PostfixError(Exception):
    """Postfix did not do what it was asked; the message holds its own words."""


class PostfixInstance:
    """A private Postfix in `directory`, which is made if need be.

    Each entry of `services` is an smtpd(8) on a free port of 127.0.0.1 with its own parameters
    (`-o` in master.cf); `main` adds to main.cf or replaces what stands there. `mailboxes` are the
    addresses whose mail is kept, `@domain` for all of a domain. Other domains may be relayed to
    (`main={"relay_domains": ...}`): their mail is discarded. Values may run over several lines.

    Used as a context manager it is running within. The directory remains; its parents must be
    open to all (mode o+x), because Postfix delivers mail as an unprivileged user.
    """

    def __init__(
        self,
        directory: Path,
        *,
        services: Mapping[str, Mapping[str, str]] | None = None,
        main: Mapping[str, str] | None = None,
        mailboxes: Sequence[str] = ("@policyd.test",),
        hostname: str = "mx.policyd.test",
        compatibility_level: str = "3.6",
    ) -> None:
        self.directory = directory.resolve()
        self.config_directory = self.directory / "etc"
        self.queue_directory = self.directory / "spool"
        self.log_file = self.directory / "mail.log"
        self.hostname = hostname
        self.mailboxes = tuple(mailbox.lower() for mailbox in mailboxes)
        self.services = {"smtp": {}} if services is None else dict(services)
        self.ports = dict(zip(self.services, _free_ports(len(self.services)), strict=True))
        self._owner = pwd.getpwnam(_MAILBOX_OWNER).pw_uid
        self.main = postfix_config.default_parameters(
            self.directory, hostname, compatibility_level, self.mailboxes, self._owner
        ) | dict(main or {})

    def __enter__(self) -> Self:
        """Start."""
        self.start()
        return self

    def __exit__(
        self,
        exception: type[BaseException] | None,
        value: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        """Stop."""
        self.stop()

    # Life ---------------------------------------------------------------------------------------

    def start(self) -> None:
        """Write the configuration, start Postfix and see that each service can run.

        PostfixError for a parameter that Postfix does not know and for everything of which
        Postfix says that it is fatal or an error; nothing is then left running. Postfix itself
        finds an unknown restriction or a wrong milter option only when a client meets it.
        """
        self._require()
        if self._processes():
            raise PostfixError(f"{self.directory}: a Postfix is running there")
        self._make_directories()
        self._write_configuration()
        try:
            self._check_parameters()
            self._postfix("start")
            self._check_services()
        except BaseException:
            self.stop()
            raise

    def stop(self) -> None:
        """Stop, and see that no process remains; without effect if nothing runs."""
        if self._processes():
            with contextlib.suppress(PostfixError):  # it ended by itself meanwhile
                self._postfix("stop")
        deadline = time.monotonic() + _STOP_TIMEOUT
        while remaining := self._processes():
            if time.monotonic() > deadline:
                for process in remaining:
                    with contextlib.suppress(ProcessLookupError):
                        os.kill(process, 9)
            time.sleep(0.01)

    def reload(
        self,
        *,
        main: Mapping[str, str] | None = None,
        services: Mapping[str, Mapping[str, str]] | None = None,
    ) -> None:
        """Let Postfix read its configuration again, after adding these parameters to it.

        Sessions in progress keep the old one. The set of services cannot change.
        """
        self.main.update(main or {})
        for service, overrides in (services or {}).items():
            self.services[service] = {**self.services[service], **overrides}
        self._write_configuration()
        self._check_parameters()
        seen = len(self.log_lines())
        self._postfix("reload")
        self.wait_log(r"postfix/master\[\d+\]: reload ", after=seen)
        self._check_services()

    # What can be asked of it --------------------------------------------------------------------

    def queue(self) -> list[dict[str, Any]]:
        """List the queue as `postqueue -j` does: `queue_name`, `queue_id`, `sender`, ..."""
        output = self._run("postqueue", "-c", str(self.config_directory), "-j")
        return [json.loads(line) for line in output.splitlines()]

    def submit(self, sender: str, recipient: str, message: str | bytes) -> None:
        """Submit a message as a local user does, by sendmail(1); an empty sender is `<>`."""
        octets = message.encode() if isinstance(message, str) else message
        configuration = str(self.config_directory)
        self._run(
            "sendmail", "-C", configuration, "-i", "-f", sender, "--", recipient, given=octets
        )

    def log_lines(self) -> list[str]:
        """Return the mail log so far."""
        try:
            text = self.log_file.read_text("utf-8", "backslashreplace")
        except FileNotFoundError:
            return []
        whole_lines = text[: text.rfind("\n") + 1]
        return whole_lines.split("\n")[:-1]

    def wait_log(self, pattern: str, *, timeout: float = 10, after: int = 0) -> str:
        """Wait for a log line, past the first `after` ones, in which the pattern is found."""
        wanted = re.compile(pattern)
        for _ in _until(timeout):
            for line in self.log_lines()[after:]:
                if wanted.search(line):
                    return line
        raise TimeoutError(f"no log line with {pattern!r} in {timeout} s:\n{self._log_tail()}")

    def delivered(self, mailbox: str) -> list[bytes]:
        """Return the messages in a mailbox, oldest first, with all their headers.

        An address without a mailbox of its own is looked for in the one of its domain.
        """
        kept = self._mailbox(mailbox)
        files = (self.directory / "mail" / kept / "new").glob("*")
        messages = [file.read_bytes() for file in sorted(files, key=lambda f: f.stat().st_mtime_ns)]
        if kept == mailbox.lower():
            return messages
        header = f"\nDelivered-To: {mailbox}\n".lower().encode()
        return [m for m in messages if header in m.partition(b"\n\n")[0].lower() + b"\n"]

    def wait_delivered(self, mailbox: str, count: int = 1, *, timeout: float = 10) -> list[bytes]:
        """Wait until there are so many messages in a mailbox, and return all that are there."""
        for _ in _until(timeout):
            if len(messages := self.delivered(mailbox)) >= count:
                return messages
        raise TimeoutError(f"{mailbox}: no {count} messages in {timeout} s:\n{self._log_tail()}")

    # How it is done -----------------------------------------------------------------------------

    def _require(self) -> None:
        if os.geteuid() != 0:
            raise PostfixError("Postfix can only be started by root")
        if shutil.which("postfix", path=_ENVIRONMENT["PATH"]) is None:
            raise PostfixError("the postfix package is not installed")
        path = str(self.directory)
        if len(path) > _LONGEST_DIRECTORY or re.search(r"[\s${}]", path):
            raise PostfixError(f"{path}: Postfix needs a short path without blanks, $ or braces")
        for parent in self.directory.parents:
            if parent.exists() and not parent.stat().st_mode & stat.S_IXOTH:
                raise PostfixError(f"{parent}: closed to Postfix's users (chmod o+x)")

    def _make_directories(self) -> None:
        for made in (self.directory, self.config_directory, self.queue_directory):
            made.mkdir(parents=True, exist_ok=True)
            made.chmod(0o755)
        for name, owner in (
            ("data", pwd.getpwnam(self.main["mail_owner"]).pw_uid),
            ("mail", self._owner),
        ):
            private = self.directory / name
            private.mkdir(mode=0o700, exist_ok=True)
            os.chown(private, owner, 0)

    def _write_configuration(self) -> None:
        an_hour_ago = time.time() - 3600
        for name, text in (
            ("mailboxes", postfix_config.mailbox_table(self.mailboxes)),
            ("main.cf", postfix_config.main_cf(self.main)),
            ("master.cf", postfix_config.master_cf(self.ports, self.services)),
        ):
            file = self.config_directory / name
            file.write_text(text)
            # Postfix waits until a file has not changed for two seconds (dict_load_file_xt in its
            # source), in each program that reads it: a start would take that much longer.
            os.utime(file, (an_hour_ago, an_hour_ago))

    def _check_parameters(self) -> None:
        """Refuse names that postconf(1) does not know; Postfix itself would pass over them."""
        command = ("postconf", "-c", str(self.config_directory), "-n")
        status, _, said = _call(command)
        unknown = re.findall(r"[^:\n]*: (?:unused|undefined) parameter: .*", said)
        if status != 0 or unknown:
            raise PostfixError("\n".join(map(str.strip, unknown)) or said)

    def _check_services(self) -> None:
        """Run each service's smtpd(8) once in its stand-alone mode, as `sendmail -bs` does.

        It reads its parameters as ever, so what is fatal is found now rather than by the first
        client, but asks no policy server and no milter. What it logs does not reach the mail log.
        """
        for service, overrides in self.services.items():
            parameters = {**overrides, "postlog_service_name": _SELF_TEST_LOG}
            options = [
                option
                for name, value in parameters.items()
                for option in ("-o", f"{name}={postfix_config.one_line(value)}")
            ]
            with _LogSocket(self.queue_directory / "public" / _SELF_TEST_LOG) as log:
                status, _, said = _call(
                    (str(self.daemon_directory / "smtpd"), "-S", "-o", "stress=", *options),
                    given=b"QUIT\r\n",
                    environment={"MAIL_CONFIG": str(self.config_directory)},
                )
            trouble = [found[0] for line in log.lines if (found := _TROUBLE.search(line))]
            if status != 0 or trouble:
                raise PostfixError(f"service {service}: " + ("\n".join(trouble) or said))

    @functools.cached_property
    def daemon_directory(self) -> Path:
        """Where the daemons are, as the package was built."""
        return Path(self._run("postconf", "-dh", "daemon_directory").strip())

    def _postfix(self, command: str) -> None:
        self._run("postfix", "-c", str(self.config_directory), command)

    def _run(self, *command: str, given: bytes = b"") -> str:
        """Run a command and return what it prints; PostfixError with its words if it fails."""
        before = len(self.log_lines())
        status, printed, said = _call(command, given)
        if status != 0:
            logged = [
                found[0] for line in self.log_lines()[before:] if (found := _TROUBLE.search(line))
            ]
            words = "\n".join(dict.fromkeys([said.strip(), *logged]))
            raise PostfixError(f"{' '.join(command)} (exit status {status}): {words}")
        return printed

    def _processes(self) -> list[int]:
        """Return this instance's daemons: they all work in its queue directory."""
        found = []
        for entry in Path("/proc").glob("[0-9]*"):
            with contextlib.suppress(OSError):  # it ended, or has ended and waits for its parent
                if (entry / "cwd").readlink() == self.queue_directory and (
                    (entry / "exe").readlink().parent == self.daemon_directory
                ):
                    found.append(int(entry.name))
        return found

    def _log_tail(self) -> str:
        return "\n".join(self.log_lines()[-20:])

    def _mailbox(self, address: str) -> str:
        for mailbox in (address.lower(), f"@{postfix_config.domain(address.lower())}"):
            if mailbox in self.mailboxes:
                return mailbox
        raise ValueError(f"{address}: no such mailbox, there are: {', '.join(self.mailboxes)}")


class _LogSocket:
    """A datagram socket that stands in for postlogd(8) and keeps the lines it is sent."""

    def __init__(self, path: Path) -> None:
        self.lines: list[str] = []
        self._path = path
        self._socket = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
        self._reader = threading.Thread(target=self._read)

    def __enter__(self) -> Self:
        self._path.unlink(missing_ok=True)
        self._socket.bind(str(self._path))
        self._reader.start()
        return self

    def __exit__(self, *_: object) -> None:
        with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as last:
            last.sendto(b"", str(self._path))
        self._reader.join()
        self._socket.close()
        self._path.unlink()

    def _read(self) -> None:
        while record := self._socket.recv(65536):
            self.lines.append(record.decode("utf-8", "backslashreplace"))


def _call(
    command: Sequence[str], given: bytes = b"", environment: Mapping[str, str] | None = None
) -> tuple[int, str, str]:
    """Run a Postfix program; return its exit status, what it prints and what it complains of.

    Postfix programs write errors to stderr only if that is a terminal (else to the log alone, if
    they have got as far as to know where that is): so they are given one.
    """
    ours, theirs = os.openpty()
    complaints: list[bytes] = []
    reader = threading.Thread(target=_drain, args=(ours, complaints), daemon=True)
    try:
        with subprocess.Popen(
            command,
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=theirs,
            env={**_ENVIRONMENT, **(environment or {})},
        ) as process:
            os.close(theirs)
            reader.start()
            try:
                printed, _ = process.communicate(given, _COMMAND_TIMEOUT)
            except subprocess.TimeoutExpired:
                process.kill()
                raise
        reader.join(_COMMAND_TIMEOUT)
    finally:
        os.close(ours)
    said = b"".join(complaints).decode("utf-8", "backslashreplace").replace("\r\n", "\n")
    return process.returncode, printed.decode("utf-8", "backslashreplace"), said


def _drain(terminal: int, received: list[bytes]) -> None:
    # EIO is how a terminal says that nobody has it open for writing any more.
    with contextlib.suppress(OSError):
        while octets := os.read(terminal, 65536):
            received.append(octets)


def _free_ports(count: int) -> list[int]:
    """Return ports on which nothing listens."""
    randomness = random.SystemRandom()  # two test runs with one seed shall not want the same
    ports: set[int] = set()
    while len(ports) < count:
        port = randomness.choice(_PORTS)
        with socket.socket() as candidate, contextlib.suppress(OSError):
            candidate.bind(("127.0.0.1", port))
            ports.add(port)
    return list(ports)


def _until(timeout: float) -> Iterator[None]:
    """Yield at once and then again and again until the time is over, once more at its end."""
    deadline = time.monotonic() + timeout
    while time.monotonic() < deadline:
        yield
        time.sleep(0.01)
    yield

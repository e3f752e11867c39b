"""
Real servers that lists are looked up in, for tests: PostgreSQL, slapd and Redis on loopback.

Each has a folder of its own, which goes with it, and can be killed, frozen and started again.
"""

import os
import pwd
import shutil
import signal
import socket
import subprocess
import tempfile
import time
from pathlib import Path
from types import TracebackType
from typing import Final, Self

from tools.policyd_process import free_port

_READY_WITHIN: Final = 30.0
_POSTGRES: Final = Path("/usr/lib/postgresql/15/bin")
_SCHEMAS: Final = Path("/etc/ldap/schema")

LDAP_BASE: Final = "dc=example,dc=org"
LDAP_ADMIN: Final = f"cn=admin,{LDAP_BASE}"
LDAP_PASSWORD: Final = "geheim"  # noqa: S105 -- of a server that lives for a test


class ServerError(Exception):
    """A server does not start; says so with what it wrote."""


class Server:
    """
    A server with data in a folder of its own; used as a context manager it is ready within.

    Run by root, it is `user`'s: PostgreSQL refuses root.
    """

    user = "nobody"

    def __init__(self) -> None:
        """Choose a port and make the folder."""
        self.port = free_port()
        self.folder = Path(tempfile.mkdtemp(prefix="policyd-list-"))
        self._as_user: dict[str, object] = {}
        if os.geteuid() == 0:
            user = pwd.getpwnam(self.user)
            os.chown(self.folder, user.pw_uid, user.pw_gid)
            self._as_user = {"user": user.pw_uid, "group": user.pw_gid, "extra_groups": []}
        self._process: subprocess.Popen[bytes] | None = None

    @property
    def certificate(self) -> Path:
        """What the server shows who asks for TLS, signed by itself, of 127.0.0.1."""
        return self.folder / "certificate.pem"

    def certify(self) -> None:
        """Make the certificate and its key."""
        self.run(
            *("openssl", "req", "-x509", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:P-256"),
            *("-nodes", "-keyout", "key.pem", "-out", str(self.certificate), "-days", "2"),
            *("-subj", "/CN=127.0.0.1", "-addext", "subjectAltName=IP:127.0.0.1"),
        )

    def prepare(self) -> None:
        """Make the data, once, before the first start."""

    def command(self) -> list[str]:
        """Give the command that serves in the foreground."""
        raise NotImplementedError

    def run(self, *command: str, given: str = "") -> str:
        """Run a program as the server's user; its output. ServerError if it fails."""
        done = subprocess.run(
            command,
            input=given,
            cwd=self.folder,
            capture_output=True,
            text=True,
            check=False,
            **self._as_user,  # type: ignore[call-overload] # user, group and extra_groups
        )
        if done.returncode:
            raise ServerError(f"{command[0]}: {done.stdout}{done.stderr}")
        return str(done.stdout)

    def __enter__(self) -> Self:
        """Make the data and start."""
        try:
            self.certify()
            self.prepare()
            self.start()
        except BaseException:
            self.__exit__(None, None, None)
            raise
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        """Kill it and take the folder away."""
        self.kill()
        shutil.rmtree(self.folder, ignore_errors=True)

    def start(self) -> None:
        """Start, and wait until it listens."""
        log = (self.folder / "log").open("ab")
        with log:
            self._process = subprocess.Popen(
                self.command(),
                cwd=self.folder,
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
                start_new_session=True,
                **self._as_user,  # type: ignore[call-overload] # as above
            )
        deadline = time.monotonic() + _READY_WITHIN
        while not self.ready():
            if self._process.poll() is not None or time.monotonic() > deadline:
                raise ServerError((self.folder / "log").read_text())
            time.sleep(0.02)

    def ready(self) -> bool:
        """Tell whether it takes connections."""
        try:
            socket.create_connection(("127.0.0.1", self.port), 1).close()
        except OSError:
            return False
        return True

    def kill(self) -> None:
        """End it at once, with all of its processes."""
        if self._process is not None:
            self._signal(signal.SIGKILL)
            self._process.wait()
            self._process = None

    def freeze(self) -> None:
        """Let it answer nothing, without closing a connection."""
        self._signal(signal.SIGSTOP)

    def thaw(self) -> None:
        """Let it go on."""
        self._signal(signal.SIGCONT)

    def _signal(self, number: signal.Signals) -> None:
        # children of PostgreSQL have sessions, so process groups, of their own
        assert self._process is not None
        children = Path(f"/proc/{self._process.pid}/task/{self._process.pid}/children")
        for pid in (self._process.pid, *map(int, children.read_text().split())):
            os.kill(pid, number)


class PostgresServer(Server):
    """PostgreSQL; the role `policyd` of the database `mail` logs in by TCP with a password."""

    user = "postgres"
    password = "geheim"  # noqa: S105 -- of a server that lives for a test

    def prepare(self) -> None:
        """Make a cluster."""
        self.run(
            str(_POSTGRES / "initdb"),
            "--pgdata=data",
            "--username=postgres",
            "--auth-local=trust",
            "--auth-host=scram-sha-256",
            "--no-sync",
            "--no-locale",
            "--encoding=UTF8",
        )

    def command(self) -> list[str]:
        """Serve without care for a power failure."""
        return [
            str(_POSTGRES / "postgres"),
            *("-D", "data", "-p", str(self.port), "-k", str(self.folder)),
            *("-c", "fsync=off", "-c", "listen_addresses=127.0.0.1", "-c", "shared_buffers=1MB"),
            *("-c", "ssl=on", "-c", f"ssl_cert_file={self.certificate}"),
            *("-c", f"ssl_key_file={self.folder}/key.pem"),
        ]

    def ready(self) -> bool:
        """Tell whether it takes queries."""
        try:
            self.sql("SELECT 1", database="postgres")
        except ServerError:
            return False
        return True

    def sql(self, *statements: str, database: str = "mail") -> None:
        """Run statements as the superuser, over the socket in the folder."""
        self.run(
            *("psql", "-X", "-q", "-v", "ON_ERROR_STOP=1", "-h", str(self.folder)),
            *("-p", str(self.port), "-U", "postgres", database),
            given=";\n".join(statements),
        )

    def fill(self) -> None:
        """Make the role and the database."""
        self.sql(
            f"CREATE ROLE policyd LOGIN PASSWORD '{self.password}'",
            "CREATE DATABASE mail OWNER policyd",
            database="postgres",
        )


class SlapdServer(Server):
    """OpenLDAP's slapd with inetOrgPerson entries below `ou=people`."""

    user = "openldap"

    def __init__(self, entries: str) -> None:
        """Take entries as LDIF, for below the people."""
        super().__init__()
        self._entries = entries

    def prepare(self) -> None:
        """Write the configuration, and the entries into the database."""
        schemas = (
            f"include {_SCHEMAS}/{name}.schema" for name in ("core", "cosine", "inetorgperson")
        )
        (self.folder / "slapd.conf").write_text(
            "\n".join(
                (
                    *schemas,
                    "modulepath /usr/lib/ldap",
                    "moduleload back_mdb",
                    f"TLSCertificateFile {self.certificate}",
                    f"TLSCertificateKeyFile {self.folder}/key.pem",
                    "database mdb",
                    "maxsize 10485760",
                    f"suffix {LDAP_BASE}",
                    f"rootdn {LDAP_ADMIN}",
                    f"rootpw {LDAP_PASSWORD}",
                    f"directory {self.folder}/db",
                    "access to * by users read by anonymous auth",
                    "",
                )
            )
        )
        self.run("mkdir", "db")
        base = f"dn: {LDAP_BASE}\nobjectClass: dcObject\nobjectClass: organization\n"
        people = f"dn: ou=people,{LDAP_BASE}\nobjectClass: organizationalUnit\nou: people\n"
        entries = f"{base}o: x\ndc: example\n\n{people}\n{self._entries}"
        self.run("/usr/sbin/slapadd", "-q", "-f", "slapd.conf", given=entries)

    def command(self) -> list[str]:
        """Serve in the foreground."""
        return [
            "/usr/sbin/slapd",
            "-d",
            "0",
            "-f",
            "slapd.conf",
            "-h",
            f"ldap://127.0.0.1:{self.port}",
        ]


class RedisServer(Server):
    """Redis that keeps its data over a kill; `tls_port` is a second one."""

    def __init__(self) -> None:
        """Choose the other port, too."""
        super().__init__()
        self.tls_port = free_port()

    def command(self) -> list[str]:
        """Serve, each command written to the append-only file before the next."""
        return [
            *("redis-server", "--port", str(self.port), "--bind", "127.0.0.1"),
            *("--dir", str(self.folder), "--save", "", "--appendonly", "yes"),
            *("--appendfsync", "always"),
            *("--tls-port", str(self.tls_port), "--tls-auth-clients", "no"),
            *("--tls-cert-file", str(self.certificate), "--tls-key-file", "key.pem"),
            *("--tls-ca-cert-file", str(self.certificate)),
        ]

    def cli(self, *command: str) -> str:
        """Run a command; its output."""
        return self.run("redis-cli", "-p", str(self.port), *command)

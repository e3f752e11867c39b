"""
Real Redis servers of one's own on loopback, for tests and fault campaigns: one, Sentinel, Cluster.

Each keeps its files in a directory of its own and can be killed, frozen, thawed and started again.
They need Debian's redis-server and redis-sentinel packages (7.0 or later), and with TLS openssl.
"""

import contextlib
import random
import signal
import socket
import subprocess
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from types import TracebackType
from typing import Any, Self

import redis
from redis.backoff import NoBackoff
from redis.exceptions import RedisError
from redis.retry import Retry

_BUS = 10_000  # what a node adds to its port for the Cluster bus
_PORTS = range(10_000, 22_000)  # both below those that the kernel gives to outgoing connections
_SLOTS = 16_384
_START = 20  # seconds that servers are given to start, or to agree on something
_MASTER = "mail"
_PAUSE = 0.02


class RedisServerError(Exception):
    """A server did not do what it was asked; the message holds its own words."""


class Certificates:
    """A certificate authority and a certificate for 127.0.0.1 and localhost (openssl-req(1))."""

    def __init__(self, directory: Path) -> None:
        directory.mkdir(parents=True, exist_ok=True)
        self.authority = directory / "ca.pem"
        self.certificate = directory / "server.pem"
        self.key = directory / "server.key"
        ca_key = directory / "ca.key"
        new = ["openssl", "req", "-x509", "-nodes", "-days", "2", "-newkey", "ec"]
        new += ["-pkeyopt", "ec_paramgen_curve:prime256v1"]
        _run([*new, "-subj", "/CN=test", "-keyout", f"{ca_key}", "-out", f"{self.authority}"])
        signed = [*new, "-CA", f"{self.authority}", "-CAkey", f"{ca_key}", "-subj", "/CN=localhost"]
        signed += ["-addext", "subjectAltName=IP:127.0.0.1,DNS:localhost"]
        signed += ["-addext", "basicConstraints=critical,CA:FALSE"]
        _run([*signed, "-keyout", f"{self.key}", "-out", f"{self.certificate}"])


class RedisServer:
    """
    A redis-server(1), or redis-sentinel(1), on a free port of 127.0.0.1.

    `options` are lines of redis.conf. Nothing is written to disk but by a server that has
    `appendonly yes`. As a context manager it runs within.
    """

    def __init__(
        self,
        directory: Path,
        options: Mapping[str, str] | None = None,
        *,
        password: str = "",
        certificates: Certificates | None = None,
        sentinel: bool = False,
    ) -> None:
        directory.mkdir(parents=True, exist_ok=True)
        self.port = free_port()
        self._password = password
        self._certificates = certificates
        self._log = directory / "redis.log"
        self._configuration = directory / "redis.conf"
        self._program = "redis-sentinel" if sentinel else "redis-server"
        self._process: subprocess.Popen[bytes] | None = None
        lines = {"bind": "127.0.0.1", "dir": f"{directory}", "logfile": f"{self._log}"}
        if not sentinel:
            lines["save"] = '""'
        if certificates:
            lines |= {"port": "0", "tls-port": f"{self.port}", "tls-auth-clients": "no"}
            lines |= {"tls-cert-file": f"{certificates.certificate}"}
            lines |= {"tls-key-file": f"{certificates.key}", "tls-replication": "yes"}
            lines |= {"tls-ca-cert-file": f"{certificates.authority}"}
        else:
            lines["port"] = f"{self.port}"
        if password:
            lines |= {"requirepass": password, "masterauth": password}
        lines |= options or {}
        text = "".join(f"{key} {value}\n" for key, value in lines.items())
        self._configuration.write_text(text, encoding="utf-8")

    @property
    def address(self) -> str:
        """Host and port."""
        return f"127.0.0.1:{self.port}"

    @property
    def url(self) -> str:
        """The place as policyd's `[state] url`, without the password."""
        return f"{'rediss' if self._certificates else 'redis'}://{self.address}"

    @property
    def ready(self) -> bool:
        """Whether it answers."""
        try:
            return bool(self.ask("PING"))
        except RedisError:
            return False

    def ask(self, *command: str | int) -> Any:
        """Send a command over a connection of its own; RedisError as redis-py raises it."""
        tls: dict[str, Any] = {}
        if self._certificates:
            tls = {"ssl": True, "ssl_ca_certs": f"{self._certificates.authority}"}
        client = redis.Redis(
            host="127.0.0.1",
            port=self.port,
            password=self._password or None,
            socket_timeout=5,
            retry=Retry(NoBackoff(), 0),
            decode_responses=True,
            **tls,
        )
        with contextlib.closing(client):
            ask: Any = client.execute_command  # it has no types
            return ask(*command)

    def start(self) -> None:
        """Start it, and return at once."""
        self._process = subprocess.Popen(
            [self._program, self._configuration], stdout=subprocess.DEVNULL
        )

    def wait(self) -> None:
        """
        Wait until it answers; RedisServerError with its log if it does not.

        It is started again if it has ended: somebody may have had its port, or its port of the
        Cluster bus, for a moment.
        """

        def answers() -> bool:
            if self._process is not None and self._process.poll() is not None:
                self.start()
            return self.ready

        try:
            until(answers)
        except TimeoutError as error:
            raise RedisServerError(self._log.read_text("utf-8", "replace")) from error

    def kill(self) -> None:
        """Kill it (SIGKILL), frozen or not; nothing if it does not run."""
        if self._process is not None:
            self._process.kill()
            self._process.wait()
            self._process = None

    def freeze(self) -> None:
        """Stop it where it is: its connections stay open and nothing answers (SIGSTOP)."""
        self._signal(signal.SIGSTOP)

    def thaw(self) -> None:
        """Let it go on (SIGCONT)."""
        self._signal(signal.SIGCONT)

    def restart(self) -> None:
        """Kill it and start it again, on the same port."""
        self.kill()
        self.start()
        self.wait()

    def __enter__(self) -> Self:
        """Start it."""
        self.start()
        try:
            self.wait()
        except BaseException:
            self.kill()
            raise
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        """Kill it."""
        self.kill()

    def _signal(self, number: signal.Signals) -> None:
        if self._process is not None:
            self._process.send_signal(number)


class RedisSentinel:
    """
    A master, a replica and three sentinels of quorum 2 that miss a master after one second.

    As a context manager they run within.
    """

    def __init__(
        self, directory: Path, *, password: str = "", certificates: Certificates | None = None
    ) -> None:
        tls = {"tls-replication": "yes"} if certificates else {}
        common: Any = {"password": password, "certificates": certificates}
        first = RedisServer(directory / "first", {"repl-diskless-sync-delay": "0"}, **common)
        follow = {"replicaof": f"127.0.0.1 {first.port}", "repl-diskless-sync-delay": "0"}
        second = RedisServer(directory / "second", follow | tls, **common)
        self.servers = (first, second)
        watch = {
            "sentinel monitor": f"{_MASTER} 127.0.0.1 {first.port} 2",
            "sentinel down-after-milliseconds": f"{_MASTER} 1000",
            "sentinel failover-timeout": f"{_MASTER} 3000",
        }
        if password:
            watch["sentinel auth-pass"] = f"{_MASTER} {password}"
        self.sentinels = tuple(
            RedisServer(
                directory / f"sentinel{number}", watch, certificates=certificates, sentinel=True
            )
            for number in range(3)
        )
        self._scheme = "rediss" if certificates else "redis"

    @property
    def url(self) -> str:
        """The place as policyd's `[state] url`, without the password."""
        hosts = ",".join(sentinel.address for sentinel in self.sentinels)
        return f"{self._scheme}+sentinel://{hosts}/{_MASTER}"

    @property
    def master(self) -> RedisServer:
        """Give the server that the first sentinel tells of."""
        _, port = self.sentinels[0].ask("SENTINEL", "GET-MASTER-ADDR-BY-NAME", _MASTER)
        return next(server for server in self.servers if server.port == int(port))

    def failover(self) -> None:
        """
        Have the replica promoted, and wait until it is master (SENTINEL FAILOVER).

        The one before takes itself for a master for some ten seconds more.
        """
        before = self.master
        self.sentinels[0].ask("SENTINEL", "FAILOVER", _MASTER)
        until(lambda: self.master is not before)

    def __enter__(self) -> Self:
        """Start all, and wait until they know each other."""
        try:
            for servers in (self.servers, self.sentinels):
                for server in servers:
                    server.start()
                for server in servers:
                    server.wait()
                # a sentinel looks for replicas at once, and then every ten seconds
                until(lambda: _follows(self.servers[1]))
            until(lambda: all(map(self._complete, self.sentinels)))
        except BaseException:
            self.kill()
            raise
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        """Kill all."""
        self.kill()

    def kill(self) -> None:
        """Kill all."""
        for server in (*self.sentinels, *self.servers):
            server.kill()

    @staticmethod
    def _complete(sentinel: RedisServer) -> bool:
        state = sentinel.ask("SENTINEL", "MASTER", _MASTER)
        return (int(state["num-other-sentinels"]), int(state["num-slaves"])) == (2, 1)


class RedisCluster:
    """
    A Redis Cluster of three masters, each with so many replicas, that miss a node after 1 s.

    As a context manager it runs within.
    """

    def __init__(
        self,
        directory: Path,
        *,
        replicas: int = 0,
        password: str = "",
        certificates: Certificates | None = None,
    ) -> None:
        self._directory = directory
        options = {"cluster-enabled": "yes", "cluster-node-timeout": "1000"}
        options |= {"cluster-replica-validity-factor": "0", "repl-diskless-sync-delay": "0"}
        if certificates:
            options["tls-cluster"] = "yes"
        self.nodes = tuple(
            RedisServer(
                directory / f"node{number}",
                options | {"cluster-port": f"{free_port()}"},
                password=password,
                certificates=certificates,
            )
            for number in range(3 + 3 * replicas)
        )
        self._scheme = "rediss" if certificates else "redis"

    @property
    def url(self) -> str:
        """The place as policyd's `[state] url`, without the password."""
        hosts = ",".join(node.address for node in self.nodes)
        return f"{self._scheme}+cluster://{hosts}"

    @property
    def masters(self) -> Sequence[RedisServer]:
        """Those that were made masters."""
        return self.nodes[:3]

    def complete(self) -> bool:
        """Tell whether all that run know all nodes and have all slots covered."""
        known = f"cluster_known_nodes:{len(self.nodes)}"
        states = [node.ask("CLUSTER", "INFO").split() for node in self.nodes if node.ready]
        return all("cluster_state:ok" in state and known in state for state in states)

    def move_slot(self, slot: int) -> None:
        """Have a slot without keys moved to another master (CLUSTER SETSLOT)."""
        names = [master.ask("CLUSTER", "MYID") for master in self.masters]
        owner = self._owner(slot, names)
        to = (owner + 1) % 3
        self.masters[to].ask("CLUSTER", "SETSLOT", slot, "IMPORTING", names[owner])
        self.masters[owner].ask("CLUSTER", "SETSLOT", slot, "MIGRATING", names[to])
        for number in (to, owner, 3 - to - owner):
            self.masters[number].ask("CLUSTER", "SETSLOT", slot, "NODE", names[to])

    def _owner(self, slot: int, names: Sequence[str]) -> int:
        for first, last, master, *_ in self.nodes[0].ask("CLUSTER", "SLOTS"):
            if first <= slot <= last:
                return names.index(master[2])
        raise RedisServerError(f"nobody has slot {slot}")

    def __enter__(self) -> Self:
        """Start all nodes and make them a cluster."""
        try:
            for node in self.nodes:
                node.start()
            for node in self.nodes:
                node.wait()
            self._join()
        except BaseException:
            self.kill()
            raise
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        """Kill all nodes."""
        self.kill()

    def kill(self) -> None:
        """Kill all nodes."""
        for node in self.nodes:
            node.kill()

    def _join(self) -> None:
        for number, master in enumerate(self.masters):
            slots = _slots_of(number)
            master.ask("CLUSTER", "ADDSLOTSRANGE", slots.start, slots.stop - 1)
            master.ask("CLUSTER", "SET-CONFIG-EPOCH", number + 1)
        for number, node in enumerate(self.nodes[3:]):
            node.ask("CLUSTER", "SET-CONFIG-EPOCH", 4 + number)
        first = self.nodes[0]
        for node in self.nodes[1:]:
            bus = first.ask("CONFIG", "GET", "cluster-port")["cluster-port"]
            node.ask("CLUSTER", "MEET", "127.0.0.1", first.port, int(bus))
        until(self.complete)
        for number, node in enumerate(self.nodes[3:]):
            name = self.masters[number % 3].ask("CLUSTER", "MYID")
            node.ask("CLUSTER", "REPLICATE", name)
        until(lambda: all(map(_follows, self.nodes[3:])))
        if len(self.nodes) > 3:
            until(lambda: all(map(self._known_as_replicas, self.nodes)))

    def _known_as_replicas(self, node: RedisServer) -> bool:
        lines = node.ask("CLUSTER", "NODES").splitlines()
        return sum("slave" in line.split()[2] for line in lines) == len(self.nodes) - 3


def _slots_of(number: int) -> range:
    return range(number * _SLOTS // 3, (number + 1) * _SLOTS // 3)


def _follows(replica: RedisServer) -> bool:
    return bool(replica.ask("INFO", "replication")["master_link_status"] == "up")


def free_port() -> int:
    """Find a port of loopback that nothing listens on, nor on that of its Cluster bus."""
    while True:
        port = random.choice(_PORTS)  # noqa: S311  no secret
        with (
            socket.socket() as listening,
            socket.socket() as bus,
            contextlib.suppress(OSError),
        ):
            for each, number in ((listening, port), (bus, port + _BUS)):
                each.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
                each.bind(("127.0.0.1", number))
            return port


def until(holds: Callable[[], bool], seconds: float = _START) -> None:
    """Wait until something holds; TimeoutError if it does not in time."""
    ends = time.monotonic() + seconds
    while not holds():
        if time.monotonic() > ends:
            raise TimeoutError(f"not within {seconds:g} s")
        time.sleep(_PAUSE)


@contextlib.contextmanager
def frozen(server: RedisServer) -> Iterator[None]:
    """Freeze a server, and thaw it at the end."""
    server.freeze()
    try:
        yield
    finally:
        server.thaw()


def _run(command: Sequence[str]) -> None:
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    if done.returncode:
        raise RedisServerError(done.stderr)

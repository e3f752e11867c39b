"""policyd greylisting beside Debian's postgrey and sqlgrey, on the same requests."""

import contextlib
import grp
import itertools
import os
import pwd
import random
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Final

import msgspec

from bench import programs
from bench.contender import Contender, Running, free_port
from bench.field import NULL_POLICY, POLICYD, Field
from bench.report import Sample, rows
from bench.run import Cell, measure
from bench.state.plan import Plan, Say, circumstances, kept_directory
from bench.state.results import Peers
from tools.redis_servers import RedisServer

CONNECTIONS: Final = 20
TRIPLETS: Final = 2_000
DELAY: Final = 4
"""Hours that a retry has to wait, so that none passes while this runs."""

POSTGREY: Final = "postgrey"
SQLGREY: Final = "sqlgrey"

_FIRST: Final = 1_000_000
_NUMBERS: Final = 1_000_000
"""More than are asked in a run; see policy_load.c, -i and -r."""
_WARM_UP: Final = 60.0
"""Seconds at most for a server to be asked about each triplet once."""
_SEED: Final = 5321
_PATH: Final = "/usr/sbin:/usr/bin:/sbin:/bin"


class Load(msgspec.Struct, frozen=True):
    """What comes again: its name in the table, and how policy_load is told."""

    name: str
    option: str
    numbered: bool

    def options(self, number: int) -> tuple[str, ...]:
        """Give the options of policy_load for a run, whose numbers begin there."""
        return ("-d", f"{TRIPLETS}", self.option, *([f"{number}"] if self.numbered else []))


LOADS: Final = (
    Load("retries too early", "-i", numbered=True),
    Load("the same message again", "-u", numbered=False),
    Load("first attempts", "-r", numbered=True),
)


def run(plan: Plan, say: Say) -> Peers:
    """Measure all servers that are there."""
    built = programs.build()
    measured = circumstances(plan.peer_rounds, plan.peer_seconds)
    with _field(built, say) as field:
        samples = _compete(field, plan)
        left_out = field.left_out
    return Peers(measured, rows(samples), left_out, _versions())


@contextlib.contextmanager
def _field(built: dict[str, Path], say: Say) -> Iterator[Field]:
    """Start everything that is compared, and end it."""
    with (
        tempfile.TemporaryDirectory(prefix="peers-", dir=kept_directory()) as scratch,
        contextlib.ExitStack() as servers,
    ):
        directory = Path(scratch)
        field = Field(built, directory, directory, say, [], [])
        try:
            for name, options in ((NULL_POLICY, ()), (f"{NULL_POLICY}, parsing", ("--parse",))):
                address = f"inet:127.0.0.1:{free_port()}"
                script = str(programs.HERE / "null_uvloop.py")
                command = (sys.executable, script, *options, address)
                _add(field, name, command, address)
            add_peer(field, POSTGREY, postgrey)
            add_peer(field, SQLGREY, sqlgrey)
            for workers in (1, 2):
                add_policyd(field, "SQLite", f"sqlite:{directory}/policyd-{workers}", workers)
            if shutil.which("redis-server") is None:
                field.left_out.append("policyd, Redis (no redis-server is installed)")
            else:
                for workers in (1, 2):
                    server = RedisServer(directory / f"redis-{workers}")
                    add_policyd(field, "Redis", servers.enter_context(server).url, workers)
            add_policyd(field, "memory", "memory:", 1)
            yield field
        finally:
            field.stop()


def _add(
    field: Field, name: str, command: tuple[str, ...], address: str, *, policyd: bool = False
) -> None:
    stderr = field.stderr(name)
    field.add(Contender(name, command, address, stderr, null=NULL_POLICY, policyd=policyd))


def add_policyd(field: Field, kind: str, url: str, workers: int) -> None:
    """Start policyd with one rule, which greylists."""
    name = f"policyd, {kind}, {workers} worker{'s' if workers > 1 else ''}"
    address = f"inet:127.0.0.1:{free_port()}"
    file = field.scratch / f"{kind}-{workers}.toml"
    file.write_text(policy(address, f"127.0.0.1:{free_port()}", url, workers))
    _add(field, name, (str(POLICYD), "serve", "-c", str(file)), address, policyd=True)


def policy(address: str, metrics: str, url: str, workers: int) -> str:
    """Write a configuration of policyd that greylists and does nothing else, as the others do."""
    return f"""\
[server]
workers = {workers}

[policy_service]
listen = ["{address}"]

[metrics]
listen = "{metrics}"

[log]
format = "json"

[state]
url = "{url}"

[greylist]
delay = "{DELAY}h"

[[rule]]
name  = "greylist"
stage = "rcpt"
when  = "greylisted()"
then  = "if_permitted 450 4.2.0 Greylisted; please try again in {{retry_after}}"
"""


def add_peer(field: Field, name: str, command: Callable[[str, Path, int], list[str]]) -> None:
    """Start a program of Debian's if it is installed, with files of its own."""
    program = shutil.which(name, path=_PATH)
    if program is None:
        field.left_out.append(f"{name} (not installed)")
        field.say(f"left out: {name} is not installed")
        return
    directory = field.scratch / name
    directory.mkdir()
    port = free_port()
    _add(field, name, tuple(command(program, directory, port)), f"inet:127.0.0.1:{port}")


def postgrey(program: str, directory: Path, port: int) -> list[str]:
    """Give the command: whitelists cost time, so it has none (postgrey(8))."""
    return [
        program,
        f"--inet=127.0.0.1:{port}",
        f"--dbdir={directory}",
        f"--delay={DELAY * 3600}",
        f"--user={_user()}",
        f"--group={_group()}",
        "--whitelist-clients=/dev/null",
        "--whitelist-recipients=/dev/null",
    ]


def sqlgrey(program: str, directory: Path, port: int) -> list[str]:
    """Give the command: on SQLite, with Debian's patterns, and empty whitelists (sqlgrey(1))."""
    for name in ("smtp_server.regexp", "dyn_fqdn.regexp"):
        shutil.copy(Path("/etc/sqlgrey", name), directory / name)
    for name in ("clients_ip_whitelist", "clients_fqdn_whitelist"):
        (directory / name).touch()
    configuration = directory / "sqlgrey.conf"
    settings = {
        "conf_dir": directory,
        "user": _user(),
        "group": _group(),
        "inet": f"127.0.0.1:{port}",
        "pidfile": directory / "sqlgrey.pid",
        "reconnect_delay": DELAY * 60,
        "db_type": "SQLite",
        "db_name": directory / "sqlgrey.db",
        "admin_mail": "",
    }
    configuration.write_text("".join(f"{key} = {value}\n" for key, value in settings.items()))
    return [program, "-f", str(configuration)]


def _compete(field: Field, plan: Plan) -> list[Sample]:
    """Measure all under each load, round by round; returns samples in the order of the table."""
    program = field.programs["policy_load"]
    numbers = itertools.count(_FIRST, _NUMBERS)
    turns = [(load, running) for load in LOADS for running in field.running]
    for running in field.running:
        _know_all(running, program, next(numbers))
    samples: list[tuple[int, Sample]] = []
    chance = random.Random(_SEED)
    for round_ in range(1, plan.peer_rounds + 1):
        field.say(f"peers: round {round_} of {plan.peer_rounds}")
        for load, running in chance.sample(turns, len(turns)):
            cell = Cell(load.name, CONNECTIONS, load.options(next(numbers)))
            sample = measure(running, cell, program, plan.peer_seconds)
            samples.append((turns.index((load, running)), sample))
    samples.sort(key=lambda placed: placed[0])
    return [sample for _, sample in samples]


def _know_all(running: Running, program: Path, number: int) -> None:
    """Have a server see each triplet once."""
    options = (*LOADS[0].options(number), "-n", f"{TRIPLETS}")
    programs.load(
        program,
        running.contender.address,
        at_once=CONNECTIONS,
        seconds=_WARM_UP,
        options=options,
    )
    running.take_log()


def _versions() -> dict[str, str]:
    """Give the versions of Debian's packages that are compared."""
    command = ["dpkg-query", "--show", "--showformat=${Package} ${Version}\n"]
    try:
        done = subprocess.run(
            [*command, POSTGREY, SQLGREY, "redis-server"],
            capture_output=True,
            text=True,
            check=False,
        )
    except FileNotFoundError:
        return {}
    return dict(line.split() for line in done.stdout.splitlines() if len(line.split()) == 2)


def _user() -> str:
    return pwd.getpwuid(os.geteuid()).pw_name


def _group() -> str:
    return grp.getgrgid(os.getegid()).gr_name

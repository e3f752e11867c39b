"""Who is measured: null responders and policyd, each with its configuration and its address."""

import sys
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from bench.contender import CannotStartError, Contender, Running, free_port
from bench.programs import HERE, load

POLICYD: Final = Path(sys.executable).with_name("policyd")

NULL_POLICY: Final = "null uvloop"
NULL_MILTER: Final = "null pymilter, all callbacks"

# As the configurations in this directory have them, to be replaced by addresses that are free.
_POLICY_LISTEN: Final = "inet:127.0.0.1:10040"
_MILTER_LISTEN: Final = "unix:/var/spool/postfix/policyd/milter.sock"
_METRICS_LISTEN: Final = "127.0.0.1:9741"

# By pymilter's name of a callback: the steps (libmilter's SMFIP_NO* and SMFIP_NR_*) with which a
# milter declines it or its reply.
_STEPS: Final = {
    "connect": (0x1, 0x1000),
    "hello": (0x2, 0x2000),
    "envfrom": (0x4, 0x4000),
    "envrcpt": (0x8, 0x8000),
    "data": (0x200, 0x10000),
    "unknown": (0x100, 0x20000),
    "header": (0x20, 0x80),
    "eoh": (0x40, 0x40000),
    "body": (0x10, 0x80000),
}

Say = Callable[[str], None]


@dataclass
class Field:
    """The running contenders, and where new ones put their files."""

    programs: Mapping[str, Path]
    scratch: Path
    """For sockets and configurations: its name is short, as a socket's has to be."""
    logs: Path
    """On a disk, as logs are."""
    say: Say
    running: list[Running]
    left_out: list[str]

    def add(self, contender: Contender) -> Running | None:
        """Start a contender; one that cannot start is left out, with a line that says why."""
        contender.stderr.unlink(missing_ok=True)
        try:
            started = Running(contender)
        except CannotStartError as error:
            self.left_out.append(contender.name)
            self.say(f"left out: {contender.name}: {error}")
            return None
        self.running.append(started)
        return started

    def stop(self) -> None:
        """End all of them."""
        while self.running:
            self.running.pop().stop()

    def stderr(self, name: str) -> Path:
        """Return the file of a contender's standard error."""
        return self.logs / f"{name.replace(' ', '-').replace(',', '')}.log"

    def configured(self, source: str, replacements: Mapping[str, str]) -> Path:
        """Copy a configuration, and the lists it includes, with other addresses in it."""
        directory = self.scratch / Path(source).stem
        directory.mkdir()
        (directory / "lists.toml").write_text((HERE / "lists.toml").read_text())
        text = (HERE / source).read_text()
        for old, new in replacements.items():
            assert text.count(f'"{old}"') == 1, f"{source} does not listen on {old} once"
            text = text.replace(f'"{old}"', f'"{new}"')
        path = directory / source
        path.write_text(text)
        return path


def add_policy_servers(field: Field) -> None:
    """Start the null policy servers and policyd with its policy front end."""
    python, here = sys.executable, str(HERE)
    commands = {
        "null C": (str(field.programs["null_policy"]),),
        NULL_POLICY: (python, f"{here}/null_uvloop.py"),
        "null uvloop, parsing": (python, f"{here}/null_uvloop.py", "--parse"),
    }
    for name, command in commands.items():
        address = f"inet:127.0.0.1:{free_port()}"
        field.add(
            Contender(name, (*command, address), address, field.stderr(name), null=NULL_POLICY)
        )
    address = f"inet:127.0.0.1:{free_port()}"
    addresses = {_POLICY_LISTEN: address, _METRICS_LISTEN: f"127.0.0.1:{free_port()}"}
    file = field.configured("policy.toml", addresses)
    field.add(_policyd("policyd", file, address, field, null=NULL_POLICY))


def add_milters(field: Field) -> None:
    """Start the null milters and policyd with its milter front end."""
    address = f"unix:{field.scratch}/null.sock"
    field.add(null_milter(NULL_MILTER, address, field, None))
    for stages, source in (
        ("end-of-data", "milter.toml"),
        ("mail, rcpt, end-of-data", "milter-stages.toml"),
    ):
        name, null = f"policyd, {stages}", f"null pymilter, as policyd, {stages}"
        address = f"unix:{field.scratch}/{Path(source).stem}.sock"
        addresses = {_MILTER_LISTEN: address, _METRICS_LISTEN: f"127.0.0.1:{free_port()}"}
        file = field.configured(source, addresses)
        policyd = field.add(_policyd(name, file, address, field, null=null))
        if policyd is not None:
            steps = negotiated_steps(field.programs["milter_load"], address)
            policyd.take_log()
            address = f"unix:{field.scratch}/null-{Path(source).stem}.sock"
            field.add(null_milter(null, address, field, callbacks_of(steps)))


def null_milter(
    name: str, address: str, field: Field, callbacks: tuple[str, ...] | None
) -> Contender:
    """Describe a null milter with those callbacks; None: with all."""
    asked = () if callbacks is None else ("--callbacks", *callbacks)
    command = (sys.executable, str(HERE / "null_pymilter.py"), address, *asked)
    return Contender(name, command, address, field.stderr(name), null=name)


def negotiated_steps(milter_load: Path, address: str) -> int:
    """Pass one message and return the protocol steps (SMFIP_*) that the milter asked for."""
    steps = load(milter_load, address, at_once=1, seconds=5, options=("-n", "1")).rest["steps"]
    assert isinstance(steps, int)
    return steps


def callbacks_of(steps: int) -> tuple[str, ...]:
    """Turn negotiated steps into null_pymilter.py's words."""
    return tuple(
        f"{name}:noreply" if steps & unanswered else name
        for name, (declined, unanswered) in _STEPS.items()
        if not steps & declined
    )


def _policyd(name: str, file: Path, address: str, field: Field, *, null: str) -> Contender:
    command = (str(POLICYD), "serve", "-c", str(file))
    return Contender(name, command, address, field.stderr(name), null=null, policyd=True)

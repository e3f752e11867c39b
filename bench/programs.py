"""The C programs of the benchmark: building them, and running the load generators."""

import json
import subprocess
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Final

HERE: Final = Path(__file__).parent
BUILD: Final = HERE.parent / "build" / "bench"

SOURCES: Final = {
    "policy_load": ("policy_load.c", "course.c", "measure.c", "net.c", "requests.c"),
    "milter_load": ("milter_load.c", "course.c", "measure.c", "net.c", "milter_mail.c"),
    "null_policy": ("null_policy.c", "net.c"),
}
FLAGS: Final = ("-std=c11", "-D_GNU_SOURCE", "-O2", "-Wall", "-Wextra", "-Werror")

GRACE: Final = 2.0
"""Seconds in which a contender may still answer what it was asked in time."""


class ProgramError(Exception):
    """A program that cannot be built or does not run."""


@dataclass(frozen=True)
class Load:
    """What a load generator printed; latencies in milliseconds."""

    answered: int
    unanswered: int
    rate: float
    latency: dict[str, float]
    answers: dict[str, int]
    errors: dict[str, int]
    rest: dict[str, Any] = field(repr=False)


def build(directory: Path = BUILD) -> dict[str, Path]:
    """Compile the programs and return them by name; ProgramError says what gcc said."""
    directory.mkdir(parents=True, exist_ok=True)
    programs = {}
    for name, sources in SOURCES.items():
        programs[name] = directory / name
        command = ["gcc", *FLAGS, "-o", str(programs[name]), *(str(HERE / s) for s in sources)]
        try:
            done = subprocess.run(command, capture_output=True, text=True, check=False)
        except FileNotFoundError:
            raise ProgramError("gcc is not installed (Debian: build-essential)") from None
        if done.returncode != 0:
            raise ProgramError(f"gcc could not build {name}:\n{done.stderr}")
    return programs


def load(
    program: Path,
    address: str,
    *,
    at_once: int,
    seconds: float,
    options: tuple[str, ...] = (),
    grace: float = GRACE,
) -> Load:
    """Run a load generator against an address; it is bounded in time itself."""
    command = [str(program), "-c", str(at_once), "-t", str(seconds), "-g", str(grace)]
    bound = seconds + 2 * grace + 10
    done = subprocess.run(
        [*command, *options, address], capture_output=True, text=True, timeout=bound, check=False
    )
    if done.returncode != 0:
        raise ProgramError(f"{program.name} ended with {done.returncode}: {done.stderr.strip()}")
    printed = json.loads(done.stdout)
    return Load(
        answered=printed["answered"],
        unanswered=printed["unanswered"],
        rate=printed["rate"],
        latency=printed["latency_ms"],
        answers=printed["answers"],
        errors=printed["error_kinds"],
        rest=printed,
    )

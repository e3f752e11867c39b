"""policyd with every check beside the same policy without, and a resolver some ms away."""

import contextlib
import random
import re
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Final

import msgspec

from bench import programs
from bench.authentication.plan import Plan
from bench.authentication.results import Measured
from bench.authentication.signing import Signed, sign
from bench.authentication.zones import far_away, zones
from bench.contender import Contender, free_port
from bench.field import POLICYD, Field
from bench.programs import HERE
from bench.report import Sample, rows
from bench.run import Cell, measure
from bench.state.plan import Say, circumstances

CONNECTIONS: Final = 100
WITHOUT: Final = "policyd, 20 rules"
KEPT: Final = "with every check, answers kept"
ANEW: Final = "with every check, all asked anew"
_TTL: Final = {KEPT: 3600, ANEW: 0}
_MOST_AT_ONCE: Final = 4096
_SEED: Final = 5321


class Contest(msgspec.Struct, frozen=True):
    """A policy of the benchmark's, the checks to stand behind it, and the load for both."""

    source: str
    checks: str
    program: str
    options: tuple[str, ...]


_POLICY: Final = Contest("policy.toml", "checks.toml", "policy_load", ("-d", "20000"))
_MESSAGES: Final = Contest("milter.toml", "messages.toml", "milter_load", ("-m", "10"))


def policy(plan: Plan, say: Say) -> Measured:
    """Measure the checks of policy delegation."""
    return _run(plan, say, _POLICY, sign())


def messages(plan: Plan, say: Say) -> Measured:
    """Measure the checks of a message, which is signed, of 8 KiB."""
    signed = sign()
    options = (*_MESSAGES.options, "-s", signed.value)
    return _run(plan, say, msgspec.structs.replace(_MESSAGES, options=options), signed)


def _run(plan: Plan, say: Say, contest: Contest, signed: Signed) -> Measured:
    built = programs.build()
    measured = circumstances(plan.rounds, plan.seconds)
    cell = Cell(str(CONNECTIONS), CONNECTIONS, contest.options)
    with _field(built, say, contest, signed) as field:
        samples = _compete(field, cell, built[contest.program], plan)
        return Measured(measured, rows(samples), field.left_out)


@contextlib.contextmanager
def _field(built: dict[str, Path], say: Say, contest: Contest, signed: Signed) -> Iterator[Field]:
    """Start policyd three times, and a name server for each that asks one."""
    with (
        tempfile.TemporaryDirectory(prefix="bench-") as scratch,
        contextlib.ExitStack() as servers,
    ):
        folder = Path(scratch)
        field = Field(built, folder, programs.BUILD, say, [], [])
        try:
            _add(field, WITHOUT, contest.source, "")
            for name, ttl in _TTL.items():
                served = zones(ttl, signed.record)
                address = servers.enter_context(far_away(folder / f"dns-{ttl}", served))
                dns = f'\n[dns]\nservers = ["{address}"]\nmost_at_once = {_MOST_AT_ONCE}\n\n'
                checks = (HERE / "authentication" / contest.checks).read_text()
                _add(field, name, contest.source, dns + checks)
            yield field
        finally:
            field.stop()


def _add(field: Field, name: str, source: str, more: str) -> None:
    """Start policyd with a configuration of the benchmark's, and something behind it."""
    folder = field.scratch / f"{len(field.running)}"
    folder.mkdir()
    address = f"unix:{folder}/socket"
    text = (HERE / source).read_text()
    for listens, there in (("[", f'["{address}"]'), ('"', f'"127.0.0.1:{free_port()}"')):
        text = re.sub(
            rf"^listen = {re.escape(listens)}.*$", f"listen = {there}", text, flags=re.MULTILINE
        )
    (folder / "lists.toml").write_text((HERE / "lists.toml").read_text())
    file = folder / "policyd.toml"
    file.write_text(text + more)
    command = (str(POLICYD), "serve", "-c", str(file))
    stderr = field.stderr(name)
    field.add(Contender(name, command, address, stderr, null=WITHOUT, policyd=True))


def _compete(field: Field, cell: Cell, program: Path, plan: Plan) -> list[Sample]:
    chance = random.Random(_SEED)
    for running in field.running:
        measure(running, cell, program, plan.warm_up)
    samples: list[Sample] = []
    for round_ in range(1, plan.rounds + 1):
        field.say(f"round {round_} of {plan.rounds}")
        turns = chance.sample(field.running, len(field.running))
        samples += [measure(running, cell, program, plan.seconds) for running in turns]
    order = [running.contender.name for running in field.running]
    return sorted(samples, key=lambda sample: order.index(sample.contender))

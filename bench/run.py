"""
Measure policyd beside servers that decide nothing (`make bench`).

Policy delegation and milter are measured one after the other. In each, all contenders are started
and then measured in turn: rounds in which every contender meets every load, in an order shuffled
with a fixed seed, so that whatever else the machine does falls on all of them alike.
"""

import argparse
import datetime as dt
import json
import os
import random
import sys
import tempfile
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Final

ROOT: Final = Path(__file__).resolve().parents[1]
sys.path.insert(0, str(ROOT))  # "python bench/run.py" has bench itself on the path only

from bench import programs, report  # noqa: E402
from bench.contender import Running  # noqa: E402
from bench.field import Field, add_milters, add_policy_servers  # noqa: E402

SEED: Final = 5321


@dataclass(frozen=True)
class Cell:
    """One load: its name in the table and the load generator's arguments."""

    name: str
    at_once: int
    options: tuple[str, ...]


@dataclass(frozen=True)
class Discipline:
    """One of the two protocols: its load generator, its loads, its contenders."""

    name: str
    program: str
    cells: tuple[Cell, ...]
    add: Callable[[Field], None]


POLICY: Final = Discipline(
    name="policy",
    program="policy_load",
    cells=tuple(Cell(str(n), n, ("-d", "20000")) for n in (1, 20, 100)),
    add=add_policy_servers,
)
MILTER: Final = Discipline(
    name="milter",
    program="milter_load",
    cells=tuple(
        Cell(f"{sessions} × {messages}", sessions, ("-m", str(messages)))
        for sessions, messages in ((1, 1), (10, 1), (10, 100))
    ),
    add=add_milters,
)


@dataclass(frozen=True)
class Plan:
    """How long it takes."""

    rounds: int
    seconds: float
    warm_up: float


FULL: Final = Plan(rounds=5, seconds=2.0, warm_up=0.5)
QUICK: Final = Plan(rounds=1, seconds=0.2, warm_up=0.05)


def say(text: str) -> None:
    """Tell what goes on, apart from the results."""
    print(text, file=sys.stderr, flush=True)


@contextmanager
def field_of(discipline: Discipline, built: dict[str, Path]) -> Iterator[Field]:
    """Start the contenders of a discipline, and end them."""
    with tempfile.TemporaryDirectory(prefix="bench-") as scratch:
        field = Field(built, Path(scratch), programs.BUILD, say, [], [])
        try:
            discipline.add(field)
            yield field
        finally:
            field.stop()


def measure(running: Running, cell: Cell, program: Path, seconds: float) -> report.Sample:
    """Run one load against one contender."""
    contender = running.contender
    cpu_before = running.cpu_seconds()
    loaded = programs.load(
        program, contender.address, at_once=cell.at_once, seconds=seconds, options=cell.options
    )
    cpu = running.cpu_seconds() - cpu_before
    logged = running.take_log()
    answered = loaded.answered
    return report.Sample(
        contender=contender.name,
        null=contender.null,
        cell=cell.name,
        rate=loaded.rate,
        p50=loaded.latency["p50"],
        p90=loaded.latency["p90"],
        p99=loaded.latency["p99"],
        max=loaded.latency["max"],
        cpu_per_10k=cpu / answered * 10_000 if answered else None,
        resident_mb=running.resident_mb(),
        unanswered=loaded.unanswered,
        errors=loaded.errors,
        answers=loaded.answers,
        logged=logged / answered if contender.policyd and answered else None,
    )


def compete(field: Field, discipline: Discipline, plan: Plan) -> list[report.Sample]:
    """Measure every contender in every cell, round by round; returns samples in table order."""
    program = field.programs[discipline.program]
    chance = random.Random(SEED)
    nulls_first = sorted(field.running, key=lambda running: running.contender.policyd)
    turns = [(cell, running) for cell in discipline.cells for running in nulls_first]
    for running in field.running:
        measure(running, discipline.cells[1], program, plan.warm_up)
    samples = []
    for round_ in range(1, plan.rounds + 1):
        say(f"{discipline.name}: round {round_} of {plan.rounds}")
        for cell, running in chance.sample(turns, len(turns)):
            samples.append(measure(running, cell, program, plan.seconds))
    order = [(cell.name, running.contender.name) for cell, running in turns]
    return sorted(samples, key=lambda sample: order.index((sample.cell, sample.contender)))


def run(plan: Plan, disciplines: tuple[Discipline, ...], command: str) -> report.Report:
    """Measure and sum up."""
    load_average = os.getloadavg()[0]
    built = programs.build()
    left_out: list[str] = []
    results: dict[str, list[report.Row]] = {}
    for discipline in disciplines:
        with field_of(discipline, built) as field:
            results[discipline.name] = report.rows(compete(field, discipline, plan))
            left_out += field.left_out
    return report.Report(
        date=dt.datetime.now(tz=dt.UTC).date(),
        rounds=plan.rounds,
        seconds=plan.seconds,
        command=command,
        load_average=load_average,
        policy=results.get("policy", []),
        milter=results.get("milter", []),
        left_out=left_out,
    )


def write(done: report.Report) -> None:
    """Write the document and the results into the tree."""
    document = ROOT / "docs" / "benchmarks.md"
    document.parent.mkdir(exist_ok=True)
    document.write_text(done.document())
    results = json.dumps(done.as_json(), indent=1, ensure_ascii=False)
    (ROOT / "bench" / "results.json").write_text(results + "\n")


def main() -> int:
    """Read the command line and measure; the status is 0 however slow anything is."""
    parser = argparse.ArgumentParser(
        description="Measure policyd beside servers that decide nothing.",
        epilog="The table goes to standard output. Slowness is no error.",
    )
    parser.add_argument("--quick", action="store_true", help="a few seconds: to see that it works")
    parser.add_argument("--write", action="store_true", help="write docs/benchmarks.md too")
    parser.add_argument("--json", action="store_true", help="print JSON, not Markdown")
    parser.add_argument("--only", choices=["policy", "milter"], help="measure this alone")
    parser.add_argument("--rounds", type=int, help=f"default: {FULL.rounds}")
    parser.add_argument("--seconds", type=float, help=f"of each run; default: {FULL.seconds:g}")
    parser.add_argument("--strict", action="store_true", help="fail when a contender is left out")
    arguments = parser.parse_args()
    plan = QUICK if arguments.quick else FULL
    plan = Plan(arguments.rounds or plan.rounds, arguments.seconds or plan.seconds, plan.warm_up)
    disciplines = tuple(d for d in (POLICY, MILTER) if arguments.only in (None, d.name))
    command = " ".join(["python", "bench/run.py", *sys.argv[1:]])
    try:
        done = run(plan, disciplines, command)
    except programs.ProgramError as error:
        say(str(error))
        return 1
    print(json.dumps(done.as_json(), indent=1) if arguments.json else done.tables())
    if arguments.write:
        write(done)
    return 1 if arguments.strict and done.left_out else 0


if __name__ == "__main__":
    sys.exit(main())

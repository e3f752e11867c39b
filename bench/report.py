"""What was measured, as medians in a Markdown table and as JSON."""

import datetime as dt
import importlib.metadata
import os
import platform
import subprocess
import sys
from collections.abc import Iterable, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from statistics import median
from typing import Any, Final


@dataclass(frozen=True)
class Sample:
    """One run of a load generator against one contender."""

    contender: str
    null: str
    cell: str
    rate: float
    p50: float
    p90: float
    p99: float
    max: float
    cpu_per_10k: float | None
    resident_mb: float
    unanswered: int
    errors: dict[str, int]
    answers: dict[str, int]
    logged: float | None
    """Lines of its log for each answer; None when it keeps none."""


@dataclass(frozen=True)
class Row:
    """The runs of one contender in one cell: medians; latencies in ms."""

    cell: str
    contender: str
    rate: float
    least: float
    most: float
    ratio: float | None
    p50: float
    p90: float
    p99: float
    max: float
    cpu_per_10k: float | None
    resident_mb: float
    failed: int
    logged: float | None
    answers: dict[str, int]


def rows(samples: Sequence[Sample]) -> list[Row]:
    """Sum up the samples, in the order in which cells and contenders first appear."""
    groups: dict[tuple[str, str], list[Sample]] = {}
    for sample in samples:
        groups.setdefault((sample.cell, sample.contender), []).append(sample)
    rates = {key: median(s.rate for s in group) for key, group in groups.items()}
    return [_row(group, rates) for group in groups.values()]


def _row(group: list[Sample], rates: dict[tuple[str, str], float]) -> Row:
    first = group[0]
    null = rates.get((first.cell, first.null))
    rate = rates[first.cell, first.contender]
    answers: dict[str, int] = {}
    for sample in group:
        for word, count in sample.answers.items():
            answers[word] = answers.get(word, 0) + count
    return Row(
        cell=first.cell,
        contender=first.contender,
        rate=rate,
        least=min(s.rate for s in group),
        most=max(s.rate for s in group),
        ratio=rate / null if null else None,
        p50=median(s.p50 for s in group),
        p90=median(s.p90 for s in group),
        p99=median(s.p99 for s in group),
        max=max(s.max for s in group),
        cpu_per_10k=_median(s.cpu_per_10k for s in group),
        resident_mb=max(s.resident_mb for s in group),
        failed=sum(s.unanswered + sum(s.errors.values()) for s in group),
        logged=_median(s.logged for s in group),
        answers=dict(sorted(answers.items(), key=lambda item: -item[1])),
    )


def _median(values: Iterable[float | None]) -> float | None:
    known = [value for value in values if value is not None]
    return median(known) if known else None


_COLUMNS: Final = (
    "{cell}",
    "contender",
    "{unit}/s",
    "min–max",
    "of its null",
    "p50 ms",
    "p90 ms",
    "p99 ms",
    "max ms",
    "CPU s/10,000",
    "RSS MB",
    "failed",
    "log lines/answer",
    "answers",
)


def table(summed: Sequence[Row], *, cell: str, unit: str) -> str:
    """Return the rows as a Markdown table."""
    head = [column.format(cell=cell, unit=unit) for column in _COLUMNS]
    lines = ["| " + " | ".join(head) + " |", "|" + "---|" * len(head)]
    lines += ["| " + " | ".join(_cells(row)) + " |" for row in summed]
    return "\n".join(lines)


def _cells(row: Row) -> list[str]:
    answered = sum(row.answers.values())
    return [
        row.cell,
        row.contender,
        f"{row.rate:,.0f}",
        f"{row.least:,.0f}–{row.most:,.0f}",
        _number(row.ratio, 2),
        f"{row.p50:.2f}",
        f"{row.p90:.2f}",
        f"{row.p99:.2f}",
        f"{row.max:.1f}",
        _number(row.cpu_per_10k, 2),
        f"{row.resident_mb:.1f}",
        f"{row.failed:,}",
        _number(row.logged, 2),
        ", ".join(f"{word} {count / answered:.1%}" for word, count in row.answers.items()) or "–",
    ]


def _number(value: float | None, digits: int) -> str:
    return "–" if value is None else f"{value:.{digits}f}"


def machine() -> str:
    """Describe the machine: processors, memory, kernel; nothing that names the host."""
    model = "unknown processor"
    for line in Path("/proc/cpuinfo").read_text().splitlines():
        name, _, value = line.partition(":")
        if name.strip() == "model name":
            model = value.strip()
            break
    memory = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES") / 2**30
    kernel = ".".join(platform.release().split("-")[0].split(".")[:2])
    return f"{os.cpu_count()} × {model}, {memory:.0f} GiB, {platform.system()} {kernel}"


def versions() -> dict[str, str]:
    """Return the versions of what the figures depend on."""
    found = {"Python": platform.python_version()}
    for name in ("policyd", "uvloop", "pymilter"):
        try:
            found[name] = importlib.metadata.version(name)
        except importlib.metadata.PackageNotFoundError:
            continue
    command = [sys.executable, "-c", "import milter; print(*milter.getversion(), sep='.')"]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    if done.returncode == 0:
        found["libmilter"] = done.stdout.strip()
    done = subprocess.run(["gcc", "-dumpfullversion"], capture_output=True, text=True, check=False)
    found["gcc"] = done.stdout.strip()
    return found


@dataclass(frozen=True)
class Report:
    """A whole benchmark."""

    date: dt.date
    rounds: int
    seconds: float
    command: str
    load_average: float
    """Of the machine over the minute before the first run."""
    policy: list[Row]
    milter: list[Row]
    left_out: list[str]

    def as_json(self) -> dict[str, Any]:
        """Return everything that the document says, and the versions, for programs."""
        return {
            "date": self.date.isoformat(),
            "machine": machine(),
            "versions": versions(),
            "rounds": self.rounds,
            "seconds": self.seconds,
            "command": self.command,
            "load_average": self.load_average,
            "left_out": self.left_out,
            "policy": [asdict(row) for row in self.policy],
            "milter": [asdict(row) for row in self.milter],
        }

    def tables(self) -> str:
        """Return the tables with their headings."""
        parts = []
        if self.policy:
            parts.append(
                "## Policy delegation, TCP on loopback\n\n"
                + table(self.policy, cell="connections", unit="requests")
            )
        if self.milter:
            parts.append(
                "## Milter, unix socket\n\n"
                + table(self.milter, cell="sessions × messages", unit="messages")
            )
        if self.left_out:
            parts.append(f"Left out, as they did not start: {', '.join(self.left_out)}.")
        return "\n\n".join(parts)

    def document(self) -> str:
        """Return the Markdown document."""
        software = ", ".join(f"{name} {version}" for name, version in versions().items())
        return _DOCUMENT.format(
            tables=self.tables(),
            command=self.command,
            date=self.date.strftime("%-d %B %Y"),
            machine=machine(),
            software=software,
            rounds=self.rounds,
            seconds=f"{self.seconds:g}",
            load_average=f"{self.load_average:.1f}",
        )


_DOCUMENT: Final = """\
# Benchmarks

How fast policyd is, beside servers that decide nothing. `{command}` repeats it and rewrites this
file; `bench/results.json` has the same for programs. The figures are recorded, not asserted: no
test fails for being slow.

- {date}; {machine}; load average before the first run {load_average}
- {software}
- medians of {rounds} rounds; in each round every contender is measured in every cell for
  {seconds} s, in random order; all contenders stay up, idle while others are measured
- the load generator runs on the same machine; compare inside a table only. With one connection
  much hangs on whether the scheduler puts both ends on one processor: see min–max

{tables}

## How to read it

- **Requests** are Postfix 3.7's at RCPT, 20,000 distinct triplets of client, sender and
  recipient; each connection waits for its answer before it asks again, as smtpd(8) does.
- **Messages** have two recipients, 11 headers and 8 KiB of body, sent as Postfix 3.7 does; a
  session is one connection. What a milter negotiates away is not sent. `10 × 100` is 10 sessions
  at once with 100 messages each.
- **null C**, **null uvloop**: they find the end of a request and answer DUNNO; **parsing** also
  makes a dictionary of the attributes. **null pymilter** answers CONTINUE to all callbacks, or
  to those that policyd asks for in the same configuration.
- **policyd**: 20 rules (`bench/policy.toml`, `bench/milter.toml`, `bench/milter-stages.toml`), one
  worker, metrics on, one JSON log line a decision, written to a file on disk.
- **of its null**: the ratio of medians to null uvloop, or to the null pymilter with the same
  callbacks. The goals are 0.25 for policy delegation and 0.80 for milter.
- **CPU** is user and system time of the contender and its children for 10,000 answers; **RSS** is
  summed over them, the most seen. **failed** counts requests without an answer and errors.
  **log lines/answer** would fall below the decisions of an answer if policyd dropped log lines.
"""

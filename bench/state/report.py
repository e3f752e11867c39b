"""What was found about state, as Markdown and as JSON."""

import msgspec

from bench.report import machine, table, versions
from bench.state.asking import Summary
from bench.state.peers import CONNECTIONS, POSTGREY, SQLGREY, TRIPLETS
from bench.state.results import Circumstances, Expiry, Latencies, Peers, Results, Stores

COMMAND = "make bench-state"


def nothing_yet() -> Results:
    """Give results of this machine in which no part has been measured."""
    return Results(machine=machine(), software=versions())


def as_json(results: Results) -> str:
    """Write results for programs."""
    return msgspec.json.format(msgspec.json.encode(results), indent=1).decode() + "\n"


def from_json(text: str) -> Results:
    """Read what as_json() wrote."""
    return msgspec.json.decode(text, type=Results)


def document(results: Results) -> str:
    """Give the Markdown document."""
    return _DOCUMENT.format(
        command=COMMAND,
        machine=results.machine,
        software=", ".join(f"{name} {version}" for name, version in results.software.items()),
        sections="\n\n".join(sections(results)),
    )


def sections(results: Results) -> list[str]:
    """Give a section for each part that was measured."""
    found = []
    if results.sqlite is not None:
        found.append(_stores("Many triplets in SQLite", "sqlite", results.sqlite))
    if results.redis is not None:
        found.append(_stores("Many triplets in Redis", "redis", results.redis))
    if results.expiry is not None:
        found.append(_expiry(results.expiry))
    if results.peers is not None:
        found.append(_peers(results.peers))
    return found


def _stores(title: str, part: str, stores: Stores) -> str:
    lines = [
        _heading(title, part, stores.measured),
        _markdown(
            (
                *("asked", "at once", "triplets", "a second", "min–max", "of empty"),
                *("p50 ms", "p99 ms", "max ms"),
            ),
            [
                (cell.kind, f"{cell.tasks}", count, *_rate(summary), ratio, *_times(summary))
                for cell in stores.cells
                for count, summary, ratio in (
                    ("few", cell.few, ""),
                    (f"{stores.triplets:,}", cell.many, f"{cell.ratio:.2f}"),
                )
            ],
        ),
        _size(part, stores),
    ]
    return "\n\n".join(lines)


def _rate(summary: Summary) -> tuple[str, str]:
    return f"{summary.rate:,.0f}", f"{summary.least:,.0f}–{summary.most:,.0f}"


def _times(summary: Summary) -> tuple[str, str, str]:
    return f"{summary.p50:.3f}", f"{summary.p99:.3f}", f"{summary.max:.1f}"


def _size(part: str, stores: Stores) -> str:
    slowest = min(stores.cells, key=lambda cell: cell.ratio)
    where = "the file has" if part == "sqlite" else "the server's memory grew by"
    goal = " (the goal is less than 200)" if part == "sqlite" else ""
    return (
        f"A triplet takes **{stores.each:.0f} octets**{goal}, {stores.text:.0f} of them its texts:"
        f" {where} {stores.octets / 1e6:,.0f} MB. The process that asks has"
        f" {stores.resident_many / 1e6:.0f} MB resident, with few triplets"
        f" {stores.resident_few / 1e6:.0f} MB. The least of the ratios is"
        f" **{slowest.ratio:.2f}** ({slowest.kind}, {slowest.tasks} at once); the goal is 0.80."
    )


def _expiry(expiry: Expiry) -> str:
    kinds = (
        ("while triplets are dropped", expiry.with_expiry),
        ("while none are", expiry.without),
        ("while none are, again", expiry.control),
    )
    rows = [(name, f"{kind.windows}", f"{kind.asked:,}", *_latencies(kind)) for name, kind in kinds]
    added = _added(expiry.with_expiry, expiry.without)
    noise = _added(expiry.control, expiry.without)
    return "\n\n".join(
        (
            _heading("Expiry of a great many triplets", "expiry", expiry.measured),
            _markdown(
                ("decisions", "windows", "asked", "p50 ms", "p99 ms", "p99.9 ms", "max ms"),
                [*rows, ("dropping adds", "", "", *added), ("noise", "", "", *noise)],
            ),
            _ABOUT_EXPIRY.format(
                dropped=expiry.dropped,
                triplets=expiry.triplets,
                seconds=expiry.dropping,
                tasks=expiry.tasks,
                pause=expiry.pause * 1000,
            ),
        )
    )


def _latencies(found: Latencies) -> tuple[str, ...]:
    return f"{found.p50:.3f}", f"{found.p99:.3f}", f"{found.p999:.3f}", f"{found.max:.2f}"


def _added(found: Latencies, beside: Latencies) -> tuple[str, ...]:
    return (
        f"{found.p50 - beside.p50:+.3f}",
        f"{found.p99 - beside.p99:+.3f}",
        f"{found.p999 - beside.p999:+.3f}",
        f"{found.max - beside.max:+.2f}",
    )


def _peers(peers: Peers) -> str:
    parts = [
        _heading("Beside postgrey and sqlgrey", "peers", peers.measured),
        table(peers.rows, cell="load", unit="requests"),
        _times_as_fast(peers),
    ]
    if peers.left_out:
        parts.append(f"Left out, as they did not start: {', '.join(peers.left_out)}.")
    packages = ", ".join(f"{name} {version}" for name, version in peers.versions.items())
    parts.append(_ABOUT_PEERS.format(connections=CONNECTIONS, triplets=TRIPLETS, packages=packages))
    return "\n\n".join(parts)


def _times_as_fast(peers: Peers) -> str:
    """Tell how many times as many requests policyd answers; the goal is ten."""
    rates = {(row.cell, row.contender): row.rate for row in peers.rows}
    lines = []
    for (cell, contender), rate in rates.items():
        if contender.startswith("policyd"):
            times = [
                f"{rate / rates[cell, peer]:.1f}" if rates.get((cell, peer)) else "–"
                for peer in (POSTGREY, SQLGREY)
            ]
            lines.append((cell, contender, *times))
    return _markdown(("load", "contender", "times postgrey", "times sqlgrey"), lines)


def _heading(title: str, part: str, measured: Circumstances) -> str:
    rounds = f"medians of {measured.rounds} rounds of " if measured.rounds > 1 else "windows of "
    return (
        f"## {title}\n\n`python -m bench.state {part} --write`; {measured.date}; {rounds}"
        f"{measured.seconds:g} s; load average before {measured.load_average:.1f}"
    )


def _markdown(head: tuple[str, ...], rows: list[tuple[str, ...]]) -> str:
    lines = ["| " + " | ".join(head) + " |", "|" + " --- |" * len(head)]
    return "\n".join(lines + ["| " + " | ".join(row) + " |" for row in rows])


_ABOUT_EXPIRY = """\
{dropped:,} triplets that had expired, of {triplets:,} in the file, were dropped within
{seconds:.0f} s while {tasks} tasks asked, each {pause:g} ms after it had been answered (seven of
ten look-ups, the others first attempts). The three kinds of windows took turns in random order on
the same file; what dropping adds is the difference to the second line, and noise is that of the
third, in which nothing was dropped either. The goal is that dropping never adds more than 5 ms."""

_ABOUT_PEERS = """\
{connections} connections ask for {triplets:,} distinct triplets, each request once the one before
it has been answered, and all get the same kind of answer. Delays are four hours everywhere, so
nothing passes. **Retries too early**: each request is a new message's, of a triplet that waits.
**The same message again**: instances repeat, which tells policyd, and nobody else, that it has
answered before. **First attempts**: each request has a recipient of its own. policyd has one rule,
which greylists, metrics, and one JSON log line a decision; the others log too, and have empty
whitelists. sqlgrey has a SQLite file. Redis keeps nothing on disk. The goal is ten times the peers'
throughput. Debian's packages: {packages}."""

_DOCUMENT = """\
# Benchmarks of state

What greylisting costs: in stores that are full beside stores that are empty, while triplets expire,
and beside other greylisting servers. `{command}` repeats it and rewrites this file (a quarter of an
hour; the file of triplets is kept for the next time); `bench/state/results.json` has the same for
programs. The figures are recorded, not asserted: no test fails for being slow.

- {machine}
- {software}
- stores are asked by a process that stands for a worker: one event loop, one connection to the file
  or the server, tasks that ask again at once when they are answered; what is compared takes turns
  in random order, round by round, in one run. **look-up**: a triplet that has passed, any of those
  there are. **new**: a first attempt, which is written. **mixed**: seven of ten are look-ups
- everything runs on the same machine, from the same disk; compare inside a table only

{sections}
"""

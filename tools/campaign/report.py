"""The campaigns' figures as a document and as JSON. Pure, but for `machine` and `software`."""

from collections.abc import Iterator, Sequence
from typing import Final

import msgspec

from bench.report import machine, versions
from tools.campaign import state_report
from tools.campaign.bars import Bar
from tools.campaign.results import (
    LONGER,
    Flat,
    Kills,
    Reload,
    Results,
    Shares,
    SlowDuring,
    Stop,
)
from tools.campaign.tables import judgement, table, told
from tools.campaign.waits import Waits

__all__ = ["as_json", "document", "from_json", "judged", "machine", "sections", "versions"]

_COMMAND: Final = "python -m tools.campaign --write"


def as_json(results: Results) -> str:
    """Write everything that was found, for programs."""
    octets = msgspec.json.format(msgspec.json.encode(results, order="sorted"), indent=1)
    return octets.decode() + "\n"


def from_json(text: str) -> Results:
    """Read what `as_json` wrote; msgspec.ValidationError when it is something else."""
    return msgspec.json.decode(text, type=Results)


def judged(bars: Sequence[Bar]) -> str:
    """List the bars, those that are not held first."""
    ordered = sorted(bars, key=lambda bar: bar.held)
    return "\n".join(f"{'held  ' if bar.held else 'MISSED'}  {told(bar)}" for bar in ordered)


def document(results: Results) -> str:
    """Write docs/campaigns.md."""
    software = ", ".join(f"{name} {version}" for name, version in results.software.items())
    head = _HEAD.format(command=_COMMAND, machine=results.machine, software=software)
    return "\n\n".join([head, *sections(results)]) + "\n"


def sections(results: Results) -> Iterator[str]:
    """Write a section for each campaign that was run."""
    if results.reload:
        yield _reload(results.reload)
    if results.kills is not None:
        yield _kills(results.kills)
    if results.flat is not None:
        yield _flat(results.flat)
    if results.spread is not None:
        yield _spread(results.spread)
    if results.stop is not None:
        yield _stop(results.stop)
    if results.faults is not None:
        yield state_report.faults(results.faults)
    if results.exactness is not None:
        yield state_report.exactness(results.exactness)


_WAIT_HEAD: Final = ("p50 ms", "p99 ms", "p99.9 ms", "longest ms")


def _waits(waits: Waits) -> tuple[float, ...]:
    return waits.p50, waits.p99, waits.p999, waits.longest


# reload


def _reload(results: Sequence[Reload]) -> str:
    rows = []
    for result in results:
        for name, loaded in (("undisturbed", result.undisturbed), ("reloads", result.disturbed)):
            for front, figures in (("policy", loaded.policy), ("milter", loaded.milter)):
                counts = (figures.answered, figures.lost, figures.closed, figures.wrong)
                rows.append((result.rules, name, front, *counts, *_waits(figures.waits)))
            rows.append((result.rules, name, "own timer", "", "", "", "", *_waits(loaded.lag)))
    head = ("rules", "run", "front end", "answers", "lost", "closed", "wrong", *_WAIT_HEAD)
    return "\n\n".join(
        [
            "## Reloads under load\n\n`python -m tools.campaign reload --write`",
            table(head, rows),
            *map(_reload_summary, results),
            _RELOAD_NOTES.format(longer=LONGER),
        ]
    )


def _reload_summary(result: Reload) -> str:
    seconds = result.seconds
    return (
        f"{result.rules:,} rules: {result.reloads} reloads one after another"
        f" ({result.by_command} by `policyd reload`, the others by SIGHUP) with"
        f" {result.connections} policy connections and {result.sessions} milter sessions; a reload"
        f" took {seconds.p50:,.0f} ms (median), {seconds.longest:,.0f} ms at most; longest wait"
        f" {result.longer:+.1f} ms beyond the undisturbed run. {judgement(list(result.bars()))}"
        f" The longest waits: {', '.join(map(_slow, result.slowest))}."
    )


def _slow(slow: SlowDuring) -> str:
    return (
        f"{slow.wait:.1f} ms ({slow.frontend}, own timer {slow.lag:.1f} ms late,"
        f" ended {slow.after_reload_began:,.0f} ms after a reload began)"
    )


# kills


def _kills(result: Kills) -> str:
    mails = [
        (expected, got, count, "as the policy says" if got == expected else "OTHERWISE")
        for expected, outcomes in result.outcomes.items()
        for got, count in outcomes.items()
    ]
    counted = [
        (
            one.frontend,
            one.codes or "none",
            one.received,
            one.uncertain,
            one.counted,
            "yes" if one.agrees else "NO",
        )
        for one in result.counted
    ]
    kill, freeze = result.replaced_after_kill, result.replaced_after_freeze
    summary = (
        f"{result.kills} workers killed (SIGKILL) and {result.freezes} frozen (SIGSTOP) while"
        f" {result.clients} SMTP clients sent mail through Postfix, and other clients asked"
        f" {result.loaded.policy.answered:,} times over policy delegation and told"
        f" {result.loaded.milter.answered:,} messages over milter directly. A killed worker was"
        f" replaced after {kill.p50:,.0f} ms (median), {kill.longest:,.0f} ms at most; a frozen one"
        f" after {freeze.p50:,.0f} ms, {freeze.longest:,.0f} ms at most. A mail waited"
        f" {result.mail_waits.longest:,.0f} ms at most. {result.again} mails met"
        f" milter_default_action, their milter session having been in the worker that ended, and"
        f" were tried again at once. {judgement(list(result.bars()))}"
    )
    return "\n\n".join(
        [
            "## Workers killed and frozen\n\n`python -m tools.campaign kills --write`",
            summary,
            table(("the policy's answer", "the client got", "mails", ""), mails),
            table(
                ("front end", "codes", "received", "uncertain", "policyd_replies_total", "agrees"),
                counted,
            ),
            _KILLS_NOTES,
        ]
    )


# flat


def _flat(result: Flat) -> str:
    rows = [
        (
            level.what,
            level.unit,
            f"{level.first:,.2f}",
            f"{level.last:,.2f}",
            f"{level.most:,.2f}",
            "yes" if level.flat else "NO",
        )
        for level in result.levels
    ]
    return "\n\n".join(
        [
            "## A thousand reloads and restarts\n\n`python -m tools.campaign flat --write`",
            (
                f"{result.reloads} reloads, each with a rule that is new and one that is gone, and"
                f" {result.restarts} workers killed, all one after another under a little load."
                f" Medians of the first and the last {result.sampled}."
                f" {judgement(list(result.bars()))}"
            ),
            table(("what", "unit", "first", "last", "most", "flat"), rows),
        ]
    )


# spread


def _spread(result: Shares) -> str:
    spreads = [(s.workers, s.when, " / ".join(map(str, s.held))) for s in result.spreads]
    one = result.throughput[0].rate
    rates = [
        (t.workers, t.rate, f"{t.least:,}–{t.most:,}", f"{t.rate / one:.2f}", t.p99)
        for t in result.throughput
    ]
    return "\n\n".join(
        [
            "## Connections and work over workers\n\n`python -m tools.campaign spread --write`",
            judgement(list(result.bars())),
            table(("workers", "after", "connections each"), spreads),
            table(("workers", "requests/s", "min–max", "of one worker", "p99 ms"), rates),
            (
                "100 connections that ask again at once; the runs of one and of two workers take"
                " turns. The load generator runs beside them on the same processors."
            ),
        ]
    )


# stop


def _stop(result: Stop) -> str:
    later = ", ".join(f"{got} {count}" for got, count in sorted(result.not_yet_asked.items()))
    return "\n\n".join(
        [
            "## Stops\n\n`python -m tools.campaign stop --write`",
            (
                f"Stops by SIGTERM: {result.stops}, each with {result.sessions // result.stops}"
                " milter sessions from just negotiated to all but ended, as many policy requests on"
                " their way, and mails in progress through Postfix; all go on step by step."
                f" {judgement(list(result.bars()))}"
            ),
            table(
                ("in progress", "count", "broken", "answered otherwise"),
                [
                    ("milter sessions", result.sessions, result.broken, result.wrong),
                    ("policy requests", result.requests, result.unanswered, 0),
                    ("mails past RCPT", result.mails, "", result.mails_otherwise),
                ],
            ),
            (
                f"Mails before their RCPT when the stop began got: {later}. policyd ended"
                f" {result.after_last.longest:,.0f} ms after the last session at the latest. With a"
                f" session that does not end and `drain_timeout` {result.bound:g} s it ended after"
                f" {result.held_open:.1f} s."
            ),
        ]
    )


_HEAD: Final = """\
# Campaigns

What long runs show of `policyd serve` as a black box: reloads, killed workers, stops, and stores
that fail. `{command}` repeats all of it and rewrites this file (an hour);
`docs/campaigns.json` has the same for programs.

- {machine}
- {software}
- 2 workers, metrics on, one JSON log line a decision, written to a file; the clients run on the
  same machine, in a process of their own. **own timer**: how late a timer of theirs fired that
  should every 5 ms; what waits no longer than that may have waited for the machine alone"""

_RELOAD_NOTES: Final = """\
Each policy connection asks 20 times a second, each milter session tells 2 messages a second, 5 a
session. Every policy has its number in its replies' texts; its codes differ from those of the one
before, and some rules come and go. **wrong**: an answer of a policy older than the last one that
was confirmed before the request was sent (for a milter session: before it was begun), or newer than
the newest that was asked for when the answer came. **lost**: no answer. **closed**: connections
that policyd closed. The bar for the longest wait is {longer:g} ms beyond the undisturbed run."""

_KILLS_NOTES: Final = """\
policyd counts an answer, then writes it. So what clients received was counted, and what was counted
beyond that is at most what was asked and not answered when a worker ended (**uncertain**; through
Postfix: a RCPT that took a second, smtpd(8)'s pause before it asks again, or a message whose end
met milter_default_action)."""

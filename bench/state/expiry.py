"""What decisions wait for while a great many triplets are dropped, step by step."""

import random
import tempfile
from collections.abc import Sequence
from pathlib import Path
from typing import Final

from bench.state.asker import Asked, Order
from bench.state.asking import AskerError, AskerProcess, share
from bench.state.fill import copied, kept_file
from bench.state.plan import Plan, Say, circumstances, kept_directory
from bench.state.results import Expiry, Latencies
from bench.state.triplets import ALL_EXPIRED

TASKS: Final = 4
PAUSE: Final = 0.004
"""Seconds between two decisions of a task, on average: a thousand decisions a second or less."""

_EVERY: Final = 2
"""Each second triplet of the file has expired."""
_LONGEST: Final = 200
"""Windows of each kind; a sweep that takes longer is not waited for."""
_SEED: Final = 5321


def run(plan: Plan, say: Say) -> Expiry:
    """
    Decide in windows of three kinds, in turns, until all has been dropped that had expired.

    In one of them upkeep goes on as in a worker, in the other two nothing is dropped.
    """
    kept = kept_directory()
    count = plan.expiring * _EVERY
    source = kept_file(kept, count, _EVERY, say)
    measured = circumstances(1, plan.window)
    chance = random.Random(_SEED)
    kinds = ("with", "without", "control")
    runs: dict[str, list[Asked]] = {kind: [] for kind in kinds}
    dropped = 0
    with tempfile.TemporaryDirectory(prefix="expiry-", dir=kept) as scratch:
        file = copied(source, Path(scratch, "state"))
        with AskerProcess(f"sqlite:{file}", count, _EVERY) as asker:
            asker.ask(_order(plan.window, 0, upkeep=False))
            while dropped < plan.expiring and len(runs["with"]) < _LONGEST:
                for kind in chance.sample(kinds, len(kinds)):
                    seed = 1 + len(runs[kind])
                    runs[kind].append(asker.ask(_order(plan.window, seed, upkeep=kind == "with")))
                before, dropped = dropped, dropped + runs["with"][-1].expired
                say(f"expiry: {dropped:,} of {plan.expiring:,}")
                if dropped == before:
                    raise AskerError("nothing is dropped any more")
    return Expiry(
        measured=measured,
        triplets=count,
        dropped=dropped,
        dropping=sum(asked.seconds for asked in runs["with"]),
        tasks=TASKS,
        pause=PAUSE,
        with_expiry=together(runs["with"]),
        without=together(runs["without"]),
        control=together(runs["control"]),
    )


def together(runs: Sequence[Asked]) -> Latencies:
    """Take the decisions of several windows as one."""
    ordered = sorted(latency for run in runs for latency in run.latencies)
    return Latencies(
        windows=len(runs),
        asked=len(ordered),
        p50=share(ordered, 0.5),
        p99=share(ordered, 0.99),
        p999=share(ordered, 0.999),
        max=ordered[-1] / 1e6,
    )


def _order(seconds: float, seed: int, *, upkeep: bool) -> Order:
    return Order("mixed", TASKS, seconds, seed, pause=PAUSE, ahead=ALL_EXPIRED, upkeep=upkeep)

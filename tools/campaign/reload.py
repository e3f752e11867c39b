"""Reloads under load: no answer lost or wrong, no connection closed, nobody waits much longer."""

import time
from dataclasses import dataclass
from typing import Final

from tools.campaign.course import Plan
from tools.campaign.load import Load
from tools.campaign.results import Reload, SlowDuring
from tools.campaign.site import Site, scratch
from tools.campaign.tally import Loaded
from tools.campaign.waits import Waits

_SETTLED: Final = 0.2
"""Seconds of load before the first reload and after the last."""


@dataclass(frozen=True)
class Size:
    """How long it takes."""

    rules: tuple[int, ...] = (10, 1000)
    reloads: int = 200
    trials: int = 10
    """Reloads before all others, by which the length of the undisturbed run is chosen."""
    connections: int = 100
    sessions: int = 20


FULL: Final = Size()
QUICK: Final = Size(rules=(200,), reloads=4, trials=1)


def run(size: Size) -> tuple[Reload, ...]:
    """Run it with each number of rules."""
    return tuple(_run(size, rules) for rules in size.rules)


def _run(size: Size, rules: int) -> Reload:
    with scratch() as directory:
        site = Site(directory, rules=rules)
        with site.policyd:
            plan = Plan(
                policy=site.policy_address,
                milter=site.milter_path,
                askers=size.connections,
                tellers=size.sessions,
            )
            trial, _, _ = _disturbed(plan, site, size.trials)
            each = (trial.seconds - 2 * _SETTLED) / size.trials
            undisturbed = _undisturbed(plan, site, each * size.reloads + 2 * _SETTLED)
            disturbed, begun, seconds = _disturbed(plan, site, size.reloads)
    return Reload(
        rules=rules,
        connections=size.connections,
        sessions=size.sessions,
        reloads=size.reloads,
        by_command=(size.reloads + 1) // 2,
        seconds=Waits.of(seconds),
        undisturbed=undisturbed,
        disturbed=disturbed,
        slowest=during(disturbed, begun),
    )


def _undisturbed(plan: Plan, site: Site, seconds: float) -> Loaded:
    with Load(plan, site.generation) as load:
        time.sleep(seconds)
        return load.finish()


def _disturbed(plan: Plan, site: Site, reloads: int) -> tuple[Loaded, list[float], list[float]]:
    """Give what the load came to, when each reload began, and how long it took."""
    begun, seconds = [], []
    with Load(plan, site.generation) as load:

        def begins(generation: int) -> None:
            load.control.begun = generation
            begun.append(time.monotonic())

        time.sleep(_SETTLED)
        for number in range(reloads):
            seconds.append(site.reload(by_command=number % 2 == 0, begun=begins))
            load.control.confirmed = site.generation
        time.sleep(_SETTLED)
        return load.finish(), begun, seconds


def during(loaded: Loaded, begun: list[float]) -> tuple[SlowDuring, ...]:
    """Say of each long wait how many milliseconds before its end a reload had last begun."""
    return tuple(
        SlowDuring(slow.frontend, slow.wait, slow.lag, _since(slow.at + slow.wait / 1000, begun))
        for slow in loaded.slowest
    )


def _since(moment: float, begun: list[float]) -> float:
    earlier = [start for start in begun if start <= moment]
    return round((moment - earlier[-1]) * 1000) if earlier else -1.0

"""Reloads and restarts by the thousand: metrics, descriptors, memory and scrapes stay as small."""

import signal
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from statistics import median
from typing import Final

from tools.campaign import processes
from tools.campaign.course import Plan
from tools.campaign.load import Load
from tools.campaign.results import Flat, Level
from tools.campaign.site import Site, scratch

RESTART_EVERY: Final = 5
"""One in so many is a restart, the others are reloads."""
_SCRAPES: Final = 3


@dataclass(frozen=True)
class Size:
    """How long it takes; `sampled` of the first and of the last are compared."""

    changes: int = 1000
    sampled: int = 100
    rules: int = 100


FULL: Final = Size()
QUICK: Final = Size(changes=6, sampled=3)


@dataclass(frozen=True)
class Sample:
    """The sizes after one change: memory in MB of 10^6 octets, descriptors but connections."""

    series: int
    octets: int
    scrape_ms: float
    supervisor_mb: float
    supervisor_descriptors: int
    staying_mb: float
    staying_descriptors: int
    restarted_mb: float
    restarted_descriptors: int


_LEVELS: Final[tuple[tuple[str, str, Callable[[Sample], float], bool], ...]] = (
    ("series of /metrics", "", lambda sample: sample.series, False),
    ("size of /metrics", "octets", lambda sample: sample.octets, False),
    ("time of a scrape", "ms", lambda sample: sample.scrape_ms, True),
    ("supervisor's resident memory", "MB", lambda sample: sample.supervisor_mb, True),
    ("supervisor's descriptors", "", lambda sample: sample.supervisor_descriptors, False),
    ("resident memory, worker that stays", "MB", lambda sample: sample.staying_mb, True),
    ("descriptors, worker that stays", "", lambda sample: sample.staying_descriptors, False),
    ("resident memory, worker that is restarted", "MB", lambda s: s.restarted_mb, True),
    ("descriptors, worker that is restarted", "", lambda s: s.restarted_descriptors, False),
)


def run(size: Size) -> Flat:
    """Change the policy and kill the younger worker, again and again, and look each time."""
    with scratch() as directory:
        site = Site(directory, rules=size.rules)
        plan = Plan(
            policy=site.policy_address,
            milter=site.milter_path,
            askers=10,
            between_requests=0.2,
            tellers=4,
            between_messages=1.0,
            tolerant=True,
        )
        with site.policyd, Load(plan, site.generation) as load:
            samples = [_change(site, number, load) for number in range(size.changes)]
            load.finish()
    restarts = sum(map(_restarts, range(size.changes)))
    return Flat(size.changes - restarts, restarts, size.sampled, levels(samples, size.sampled))


def _restarts(number: int) -> bool:
    return number % RESTART_EVERY == RESTART_EVERY - 1


def _change(site: Site, number: int, load: Load) -> Sample:
    if _restarts(number):
        site.end_worker(site.workers()[-1], signal.SIGKILL)
    else:
        site.reload(by_command=number % 2 == 0, begun=lambda n: setattr(load.control, "begun", n))
        load.control.confirmed = site.generation
    return _sample(site)


def _sample(site: Site) -> Sample:
    scrapes = []
    for _ in range(_SCRAPES):
        start = time.monotonic()
        text = site.policyd.get("/metrics")
        scrapes.append(time.monotonic() - start)
    supervisor, workers = site.policyd.pid, site.workers()
    staying, restarted = workers[0], workers[-1]
    listening = (site.policy_address[1], site.milter_path)
    return Sample(
        series=sum(not line.startswith("#") for line in text.splitlines()),
        octets=len(text),
        scrape_ms=min(scrapes) * 1000,
        supervisor_mb=processes.resident_mb(supervisor),
        supervisor_descriptors=processes.descriptors(supervisor, *listening),
        staying_mb=processes.resident_mb(staying),
        staying_descriptors=processes.descriptors(staying, *listening),
        restarted_mb=processes.resident_mb(restarted),
        restarted_descriptors=processes.descriptors(restarted, *listening),
    )


def levels(samples: Sequence[Sample], sampled: int) -> tuple[Level, ...]:
    """Compare the medians of the first samples and of the last, figure by figure."""

    def level(what: str, unit: str, figure: Callable[[Sample], float], timed: bool) -> Level:
        figures = list(map(figure, samples))
        first, last = median(figures[:sampled]), median(figures[-sampled:])
        return Level(what, unit, round(first, 2), round(last, 2), round(max(figures), 2), timed)

    return tuple(level(*parts) for parts in _LEVELS)

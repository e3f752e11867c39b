"""What befalls the store under load: every mail is answered, and by what `on_error` names."""

import threading
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from contextlib import AbstractContextManager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Final, Self

from tools.campaign import stores
from tools.campaign.keeping import WORKERS, Keeping
from tools.campaign.newcomers import Newcomers, Pace
from tools.campaign.site import scratch
from tools.campaign.state_results import Faults, Suffered
from tools.campaign.stores import Fault, Troubled
from tools.campaign.verdicts import BODY, Asked, Verdict

_SETTLED: Final = 1.0
"""Seconds after the first requests in which the store has to be known to answer."""
_LOOK: Final = 0.1
_NEVER: Final = -1.0

Store = Callable[[Path], AbstractContextManager[Troubled]]


@dataclass(frozen=True)
class Size:
    """How long it takes, in seconds: what is held lasts, and is watched after it is over."""

    rounds: int = 3
    together: int = 1
    """Stores that have their faults at once."""
    lasts: float = 8.0
    watched: float = 8.0
    pace: Pace = field(default_factory=Pace)
    stores: tuple[Store, ...] = (
        stores.redis,
        stores.sentinel,
        stores.cluster,
        stores.sqlite,
        stores.small_disk,
    )


FULL: Final = Size()
QUICK: Final = Size(rounds=1, together=5, lasts=1.3, watched=0.8, pace=Pace(between=0.8))


@dataclass(frozen=True)
class _Course:
    """A fault that is over: moments (CLOCK_MONOTONIC), and what policyd said from first to last."""

    fault: Fault
    begun: float
    returned: float
    ended: float
    noticed: float
    counted: int
    logged: int
    up: bool


def run(size: Size) -> Faults:
    """Have every fault of every store in turn, again and again."""
    found: dict[tuple[str, str], Suffered] = {}
    with ThreadPoolExecutor(size.together) as pool:
        for of_store in pool.map(lambda store: _suffer(store, size), size.stores * size.rounds):
            for one in of_store:
                before = found.get((one.store, one.fault))
                found[one.store, one.fault] = one if before is None else before.joined(one)
    pace = size.pace
    return Faults(
        pace.connections, round(pace.connections / pace.between), WORKERS, tuple(found.values())
    )


def _suffer(store: Store, size: Size) -> list[Suffered]:
    with scratch() as directory, store(directory) as troubled:
        if not troubled.faults:
            return []
        policyd = Keeping(directory, troubled.url, BODY)
        with policyd, Newcomers(policyd.address, size.pace) as load:
            time.sleep(_SETTLED)
            courses = [_undergo(policyd, fault, size) for fault in troubled.faults]
            asked = load.finish()
    return [_suffered(troubled.name, course, asked) for course in courses]


def _undergo(policyd: Keeping, fault: Fault, size: Size) -> _Course:
    """Let it happen, and watch until service is normal, and for a while longer."""
    counted, log = policyd.fallbacks, policyd.log_size()
    with _Watch(policyd) as watch:
        begun = time.monotonic()
        fault.begin()
        if fault.held:
            time.sleep(size.lasts)
        fault.end()
        returned = time.monotonic()
        time.sleep(size.watched)
    ended = time.monotonic()
    course = _Course(
        fault,
        begun,
        returned,
        ended,
        watch.down - begun if watch.down else _NEVER,
        policyd.fallbacks - counted,
        max(policyd.told("check.failed", "rule", log, policyd.log_size()).values(), default=0),
        policyd.store_up,
    )
    fault.after()
    return course


class _Watch:
    """Looks whether policyd says that its store is down; `down` is when it first did, 0 if not."""

    def __init__(self, policyd: Keeping) -> None:
        self.down = 0.0
        self._policyd = policyd
        self._ended = threading.Event()
        self._thread = threading.Thread(target=self._run)

    def __enter__(self) -> Self:
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._ended.set()
        self._thread.join()

    def _run(self) -> None:
        while not self._ended.wait(_LOOK):
            if not self._policyd.store_up:
                self.down = time.monotonic()
                break


def _suffered(store: str, course: _Course, asked: Asked) -> Suffered:
    span = asked.between(course.begun, course.ended)
    fault = course.fault
    return Suffered(
        store=store,
        fault=fault.name,
        times=1,
        asked=span.asked,
        lost=span.verdicts[Verdict.LOST],
        otherwise=span.verdicts[Verdict.OTHERWISE],
        fallbacks=span.verdicts[Verdict.FALLBACK],
        counted=course.counted,
        examples=tuple(span.examples),
        longest=span.longest,
        lag=span.lag,
        noticed=round(course.noticed, 2),
        missed=int(fault.down and course.noticed == _NEVER),
        back=round(max(0.0, span.last_fallback - course.returned), 2),
        still_down=int(not course.up),
        logged=course.logged,
        seconds=round(course.ended - course.begun, 1),
    )

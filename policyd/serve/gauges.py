"""What the workers hold and use, for Prometheus: read from their pulses and from /proc."""

import os
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path
from typing import Final

from prometheus_client.metrics_core import CounterMetricFamily, GaugeMetricFamily, Metric
from prometheus_client.registry import Collector

from policyd.observe.families import (
    CONNECTIONS,
    WORKER_CONNECTIONS,
    WORKER_CPU,
    WORKER_MEMORY,
    WORKER_UP,
)
from policyd.serve.crew import Crew, State, Worker
from policyd.smtp.stage import FrontEnd

_PAGE: Final = os.sysconf("SC_PAGE_SIZE")
_TICKS: Final = os.sysconf("SC_CLK_TCK")


class Gauges(Collector):
    """Exposes a crew of so many workers; every worker's series stand while it is restarted too."""

    def __init__(
        self, crew: Crew, workers: int, front_ends: Callable[[], Iterable[FrontEnd]]
    ) -> None:
        """Take the crew, and what gives the front ends that are served."""
        self._crew = crew
        self._numbers = range(1, workers + 1)
        self._front_ends = front_ends

    def collect(self) -> Iterator[Metric]:
        """Give each family; called on a thread of the HTTP listener's."""
        here = {worker.number: worker for worker in self._crew}
        total = GaugeMetricFamily(CONNECTIONS.name, CONNECTIONS.help, labels=CONNECTIONS.labels)
        each = GaugeMetricFamily(
            WORKER_CONNECTIONS.name, WORKER_CONNECTIONS.help, labels=WORKER_CONNECTIONS.labels
        )
        for front_end in self._front_ends():
            held = {number: _held(here.get(number), front_end) for number in self._numbers}
            total.add_metric([front_end], sum(held.values()))
            for number, count in held.items():
                each.add_metric([str(number), front_end], count)
        yield total
        yield each
        yield from self._states(here)

    def _states(self, here: dict[int, Worker]) -> Iterator[Metric]:
        up = GaugeMetricFamily(WORKER_UP.name, WORKER_UP.help, labels=WORKER_UP.labels)
        memory = GaugeMetricFamily(
            WORKER_MEMORY.name, WORKER_MEMORY.help, labels=WORKER_MEMORY.labels
        )
        cpu = CounterMetricFamily(WORKER_CPU.name, WORKER_CPU.help, labels=WORKER_CPU.labels)
        for number in self._numbers:
            worker = here.get(number)
            up.add_metric([str(number)], worker is not None and worker.state is State.SERVING)
            octets, seconds = (0.0, 0.0) if worker is None else _used(worker.pid)
            memory.add_metric([str(number)], octets)
            cpu.add_metric([str(number)], seconds)
        yield from (up, memory, cpu)


def _held(worker: Worker | None, front_end: FrontEnd) -> int:
    try:
        return 0 if worker is None else worker.held(front_end)
    except ValueError:  # it ended this moment, and its pulse is unmapped
        return 0


def _used(pid: int) -> tuple[float, float]:
    """Give a process's resident memory in octets, and its CPU time in seconds (proc(5), stat)."""
    try:
        fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    except OSError:
        return 0.0, 0.0
    return int(fields[21]) * _PAGE, (int(fields[11]) + int(fields[12])) / _TICKS

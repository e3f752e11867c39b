"""Askers as processes (see asker), and what they found summed up."""

import select
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path
from statistics import median
from types import TracebackType
from typing import Final, Self

import msgspec

from bench.state.asker import Asked, Order

ROOT: Final = Path(__file__).resolve().parents[2]

PATIENCE: Final = 60.0
"""Seconds beyond those of its order in which an asker answers, or it is killed."""


class AskerError(Exception):
    """An asker that ended, or was given wrong answers."""


class AskerProcess:
    """An asker of a store with so many known triplets; used as a context manager it runs within."""

    def __init__(self, url: str, known: int, every: int = 0) -> None:
        self._command = [sys.executable, "-m", "bench.state.asker", url, f"{known}", f"{every}"]
        self.url = url

    def __enter__(self) -> Self:
        """Start it."""
        self._process = subprocess.Popen(
            self._command, cwd=ROOT, stdin=subprocess.PIPE, stdout=subprocess.PIPE
        )
        return self

    def __exit__(
        self,
        exception: type[BaseException] | None,
        value: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        """End it."""
        assert self._process.stdin is not None
        assert self._process.stdout is not None
        self._process.stdin.close()
        self._process.stdout.close()
        try:
            self._process.wait(20)
        except subprocess.TimeoutExpired:
            self._process.kill()
            self._process.wait()

    def ask(self, order: Order) -> Asked:
        """Give it an order and wait for what it found; AskerError if it did not go as it should."""
        assert self._process.stdin is not None
        assert self._process.stdout is not None
        self._process.stdin.write(msgspec.json.encode(order) + b"\n")
        self._process.stdin.flush()
        ready, _, _ = select.select([self._process.stdout], [], [], order.seconds + PATIENCE)
        line = self._process.stdout.readline() if ready else b""
        if not line:
            self._process.kill()
            raise AskerError(f"the asker of {self.url} ended with {self._process.wait()}")
        asked = msgspec.json.decode(line, type=Asked)
        if asked.wrong or not asked.latencies:
            raise AskerError(f"{asked.wrong} of {len(asked.latencies)} answers are wrong")
        return asked


class Summary(msgspec.Struct, frozen=True):
    """Runs of one kind: medians of them, latencies in milliseconds."""

    rate: float
    least: float
    most: float
    p50: float
    p99: float
    max: float
    """Of all runs."""
    asked: int


def share(latencies: Sequence[int], part: float) -> float:
    """Give the latency in ms below which that part of them lies; they are in ns, in order."""
    return latencies[min(len(latencies) - 1, int(part * len(latencies)))] / 1e6


def summed(runs: Sequence[Asked]) -> Summary:
    """Sum runs up."""
    rates = [len(run.latencies) / run.seconds for run in runs]
    ordered = [sorted(run.latencies) for run in runs]
    return Summary(
        rate=median(rates),
        least=min(rates),
        most=max(rates),
        p50=median(share(run, 0.5) for run in ordered),
        p99=median(share(run, 0.99) for run in ordered),
        max=max(run[-1] for run in ordered) / 1e6,
        asked=sum(map(len, ordered)),
    )

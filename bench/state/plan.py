"""How much is measured, and for how long."""

import datetime as dt
import os
from collections.abc import Callable
from pathlib import Path
from typing import Final

import msgspec

from bench.programs import BUILD
from bench.state.results import Circumstances

KEPT: Final = BUILD / "state"
"""Where filled files are kept, and the state of the servers that are measured: on a disk."""

Say = Callable[[str], None]


class Plan(msgspec.Struct, frozen=True):
    """Sizes, and lengths in seconds."""

    few: int
    sqlite: int
    redis: int
    expiring: int
    rounds: int
    seconds: float
    window: float
    """Of expiry."""
    peer_rounds: int
    peer_seconds: float


FULL: Final = Plan(
    few=2_000,
    sqlite=10_000_000,
    redis=1_000_000,
    expiring=1_000_000,
    rounds=7,
    seconds=1.5,
    window=2.0,
    peer_rounds=5,
    peer_seconds=2.0,
)
QUICK: Final = Plan(
    few=500,
    sqlite=20_000,
    redis=5_000,
    expiring=5_000,
    rounds=1,
    seconds=0.1,
    window=0.2,
    peer_rounds=1,
    peer_seconds=0.2,
)


def circumstances(rounds: int, seconds: float) -> Circumstances:
    """Say when this is measured, just before it is."""
    today = dt.datetime.now(tz=dt.UTC).date().isoformat()
    return Circumstances(today, os.getloadavg()[0], rounds, seconds)


def kept_directory() -> Path:
    """Make the directory for files that are kept."""
    KEPT.mkdir(parents=True, exist_ok=True)
    return KEPT

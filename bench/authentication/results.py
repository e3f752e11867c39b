"""What the benchmark of authentication found, to be kept as JSON and told in tables."""

import msgspec

from bench.report import Row
from bench.state.results import Circumstances


class Measured(msgspec.Struct, frozen=True):
    """One part: its rows, and who did not start."""

    measured: Circumstances
    rows: list[Row]
    left_out: list[str] = []


class Results(msgspec.Struct, frozen=True):
    """All parts; None for one that has not been measured."""

    machine: str
    software: dict[str, str]
    policy: Measured | None = None
    messages: Measured | None = None
    spf: Measured | None = None

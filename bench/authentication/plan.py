"""How long it takes."""

from typing import Final

import msgspec


class Plan(msgspec.Struct, frozen=True):
    """Rounds, and seconds of each run in them and of the one before."""

    rounds: int
    seconds: float
    warm_up: float


FULL: Final = Plan(rounds=5, seconds=2.0, warm_up=3.0)
QUICK: Final = Plan(rounds=1, seconds=0.5, warm_up=0.5)

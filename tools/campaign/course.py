"""The course of a load: its plan, what the policy may be at each moment, and what it came to."""

import ctypes
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Final

from tools.campaign.tally import Tally

AGAIN: Final = 0.05
"""Seconds after which a connection that could not be made is tried again."""


@dataclass(frozen=True)
class Plan:
    """A load: so many connections and sessions, each at its pace. Times are in seconds."""

    policy: tuple[str, int]
    """Where the policy service listens: TCP host and port."""
    milter: str
    """Where the milter listens: the path of its socket."""
    askers: int = 100
    between_requests: float = 0.05
    tellers: int = 20
    between_messages: float = 0.5
    messages: int = 5
    """Messages of one milter session, before it ends and another begins."""
    tolerant: bool = False
    """Connect anew when the server closes a connection, and go on."""
    patience: float = 20.0
    """After which an answer that has not come is lost."""


class Control(ctypes.Structure):
    """What the campaign tells its load, in memory that both share.

    `begun` is the newest generation whose reload was asked for: no later one can answer yet.
    `confirmed` is the newest one of which policyd said that it is in force: whatever is asked from
    then on, none before it may answer.
    """

    _fields_ = (
        ("begun", ctypes.c_int64),
        ("confirmed", ctypes.c_int64),
        ("ended", ctypes.c_int64),
    )


class Course:
    """A load under way."""

    def __init__(self, plan: Plan, control: Any, again: Callable[[Any], None]) -> None:
        """Take a plan, the shared `Control`, and what connects a lost connection anew."""
        self.plan = plan
        self.policy = Tally("policy")
        self.milter = Tally("milter")
        self.again = again
        self._control = control

    @property
    def oldest(self) -> int:
        """The oldest generation that may answer what is asked now."""
        return int(self._control.confirmed)

    @property
    def newest(self) -> int:
        """The newest generation that may have answered by now."""
        return int(self._control.begun)

    @property
    def ended(self) -> bool:
        """Whether nothing more is to be asked."""
        return bool(self._control.ended)

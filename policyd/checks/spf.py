"""Checks of SPF."""

from policyd.checks.interface import Check
from policyd.processes.work import Runner


class SenderPolicy:
    """Evaluates SPF, once for the same question within the time its records may be kept."""

    def __init__(self, runner: Runner | None) -> None:
        """Have the work done by a runner."""


def checks(_sender: SenderPolicy) -> tuple[Check, ...]:
    """Give the checks."""
    return ()

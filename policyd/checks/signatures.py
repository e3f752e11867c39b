"""Checks of signatures: DKIM and ARC."""

from policyd.checks.interface import Check
from policyd.processes.work import Runner


class Signatures:
    """Verifies the signatures of a message, once."""

    def __init__(self, runner: Runner | None) -> None:
        """Have the work done by a runner."""


def checks(_signatures: Signatures) -> tuple[Check, ...]:
    """Give the checks."""
    return ()

"""Checks of a message's content."""

from policyd.checks.interface import Check
from policyd.processes.work import Runner


def checks(_runner: Runner | None) -> tuple[Check, ...]:
    """Give the checks."""
    return ()

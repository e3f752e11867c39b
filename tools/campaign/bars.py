"""The bars that figures are held against. Pure."""

from dataclasses import dataclass


@dataclass(frozen=True)
class Bar:
    """One thing that has to be so. What is `timed` hangs on the machine: no short run proves it."""

    what: str
    held: bool
    figure: str
    timed: bool = False


def none(what: str, count: int) -> Bar:
    """Hold a count against zero."""
    return Bar(what, count == 0, f"{count}")

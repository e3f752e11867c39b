"""DNS lists."""

from collections.abc import Mapping

from policyd.checks.interface import Check
from policyd.checks.zone import Zone
from policyd.dns.answer import Resolver


class Zones:
    """How the DNS lists that a policy asks fare."""

    def __init__(self, resolver: Resolver) -> None:
        """Begin with none."""


def checks(_zones: Zones | None, _configured: Mapping[str, Zone]) -> tuple[Check, ...]:
    """Give the checks."""
    return ()

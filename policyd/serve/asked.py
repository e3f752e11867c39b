"""What checks ask beside state: remote lists, the DNS, DNS lists, and processes that work."""

import asyncio
import random
import time
from collections.abc import Callable
from typing import Final

from policyd.checks.builtin import Live
from policyd.checks.zone_health import Zones
from policyd.dns.questions import answering
from policyd.dns.resolver import CaresResolver
from policyd.dns.settings import DnsSettings
from policyd.lists.remote.lookups import Lookups
from policyd.processes.pool import Pool
from policyd.store.interface import Store

_BRIEF: Final = 64
"""Pieces of brief work in one process at once; nearly all of their time they wait for the DNS."""
_HEAVY: Final = 2
"""Processes that read messages, one each at a time."""


def _nobody(_dependency: str, _up: bool, _why: str) -> None:
    """Stand for whoever might want to know how these fare."""


class Asked:
    """All of it; nothing is opened or started before it is asked. Everything is on one loop."""

    def __init__(self, changed: Callable[[str, bool, str], object] = _nobody) -> None:
        """`changed(dependency, up, why)` is told whenever that changes, and when first known."""
        self.lookups = Lookups(time.monotonic, changed)
        self.resolver = CaresResolver(DnsSettings(), changed)
        self.zones = Zones(self.resolver, changed, random.random)
        answer = answering(self.resolver)
        self.brief = Pool(processes=1, at_once=_BRIEF, answer=answer)
        self.heavy = Pool(processes=_HEAVY, at_once=1, answer=answer)
        self.foreign = Pool(processes=_HEAVY, at_once=1)

    def live(self, store: Store) -> Live:
        """Give what policyd's own checks are asked with."""
        return Live(
            store,
            self.lookups,
            time.time,
            self.resolver,
            self.zones,
            self.brief,
            self.heavy,
            self.foreign,
        )

    async def close(self) -> None:
        """Let go of everything."""
        await self.zones.close()
        await asyncio.gather(
            self.lookups.close(),
            self.resolver.close(),
            self.brief.close(),
            self.heavy.close(),
            self.foreign.close(),
        )

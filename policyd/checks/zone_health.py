"""
Asking DNS lists, and testing them by RFC 5782, so that one that is broken lists nobody.

A zone has to list what it is tested with and must not list what nobody may. One that fails is
suspended until it passes again: asking it fails at once. Everything is on one event loop.
"""

import asyncio
from collections.abc import Callable, Iterable
from typing import Final

import msgspec

from policyd.checks.zone import Zone, points
from policyd.checks.zone_answer import Listing, ZoneError, read_answer
from policyd.dns.answer import DnsError, Found, Kind, Resolver

LONGEST_TEXT: Final = 200
"""Characters of a zone's text that are kept."""
TEXT_WITHIN: Final = 1.0
"""Seconds that the text of a listing is waited for; a listing without it is one."""
SOONER: Final = 60
"""How many times as often a zone is tested while it is suspended."""
LONGEST_SUSPENSION: Final = 60.0
"""Seconds after which a suspended zone is tested again, however long its interval is."""

Changed = Callable[[str, bool, str], object]


class Zones:
    """
    The DNS lists that a policy asks: how they fare, and what they answer.

    Zones of a policy in force are tested when it is taken and then on their interval, others when
    they are asked. `changed(dependency, up, why)` is told of the former, when it is first known and
    whenever it changes. `draw` gives random numbers from 0 to 1.
    """

    def __init__(self, resolver: Resolver, changed: Changed, draw: Callable[[], float]) -> None:
        """Begin with none."""
        self._resolver = resolver
        self._changed = changed
        self._draw = draw
        self._served: frozenset[Zone] = frozenset()
        self._watched: dict[Zone, _Watched] = {}

    def watch(self, zones: Iterable[Zone]) -> None:
        """Watch these zones, those of the policy in force, and no others."""
        before, self._served = self._served, frozenset(zones)
        for zone, watched in list(self._watched.items()):
            if zone in self._served - before and watched.test is None:
                self._test(watched)
            elif zone not in self._served and watched.test is None:
                self._forget(watched)
        for zone in self._served - self._watched.keys():
            self._begin(zone)

    async def ask(self, zone: Zone, name: str) -> Listing | None:
        """
        Ask a zone for a name (zone.question); None: not listed.

        Waits for the zone's first test. ZoneError if the zone is suspended, does not answer, or
        answers what can be no listing.
        """
        watched = self._watched.get(zone) or self._begin(zone)
        await watched.known.wait()
        if watched.fault:
            raise ZoneError(f"suspended: {watched.fault}", suspended=True)
        try:
            listing = read_answer(zone, await self._addresses(name))
        except ZoneError:
            self._suspect(watched)
            raise
        if listing is not None and zone.text:
            return msgspec.structs.replace(listing, text=await self._text(name))
        return listing

    async def close(self) -> None:
        """Test no more."""
        tests = [watched.test for watched in self._watched.values() if watched.test is not None]
        for watched in list(self._watched.values()):
            self._forget(watched)
        for test in tests:
            test.cancel()
        await asyncio.gather(*tests, return_exceptions=True)

    async def _addresses(self, name: str) -> tuple[str, ...]:
        try:
            found = await self._resolver.ask(name, Kind.A)
        except DnsError as error:
            raise ZoneError(str(error)) from error
        return tuple(found.values(Kind.A))

    async def _text(self, name: str) -> str:
        """Give the reason that a zone publishes; empty if there is none, or none in time."""
        try:
            async with asyncio.timeout(TEXT_WITHIN):
                found = await self._resolver.ask(name, Kind.TXT)
        except (DnsError, TimeoutError):
            return ""
        return _first_text(found)

    # testing

    def _begin(self, zone: Zone) -> "_Watched":
        watched = self._watched[zone] = _Watched(zone)
        self._test(watched)
        return watched

    def _test(self, watched: "_Watched") -> None:
        watched.stop_waiting()
        watched.test = asyncio.get_running_loop().create_task(self._tested(watched))

    async def _tested(self, watched: "_Watched") -> None:
        """Test a zone, and have it tested again; or forgotten, if no policy in force asks it."""
        zone = watched.zone
        try:
            watched.fault = await self._fault(zone)
        except Exception as error:  # noqa: BLE001 -- a zone that cannot be tested lists nobody
            watched.fault = f"{type(error).__name__}: {error}"
        finally:
            watched.known.set()
        self._tell(watched)
        loop = asyncio.get_running_loop()
        watched.test, watched.tested = None, loop.time()
        if zone in self._served:
            seconds = _soon(zone) if watched.fault else zone.interval
            seconds *= 0.9 + self._draw() / 5  # not all workers and zones at the same time
            watched.timer = loop.call_later(seconds, self._test, watched)
        else:
            watched.timer = loop.call_later(zone.interval, self._forget, watched)

    async def _fault(self, zone: Zone) -> str:
        """Say what is wrong with a zone; empty if it is sound (RFC 5782 section 5)."""
        listed, unlisted = points(zone)
        asked = await asyncio.gather(
            self._addresses(listed), self._addresses(unlisted), return_exceptions=True
        )
        for name, found in zip((listed, unlisted), asked, strict=True):
            if isinstance(found, BaseException):
                if not isinstance(found, ZoneError):
                    raise found
                return str(found)
            try:
                read_answer(zone, found)
            except ZoneError as error:
                return f"{name}: {error}"
            if name == unlisted and found:
                return f"it lists {name}, as if it listed everything"
            if name == listed and not found:
                return f"it does not list {name}, as if it listed nothing"
        return ""

    def _suspect(self, watched: "_Watched") -> None:
        """Test a zone now that has failed a question, unless it has just been tested."""
        if watched.test is not None or watched.fault or watched.zone not in self._served:
            return
        if asyncio.get_running_loop().time() - watched.tested >= _soon(watched.zone):
            self._test(watched)

    def _forget(self, watched: "_Watched") -> None:
        watched.stop_waiting()
        self._watched.pop(watched.zone, None)

    def _tell(self, watched: "_Watched") -> None:
        up = not watched.fault
        if watched.zone in self._served and watched.told is not up:
            watched.told = up
            self._changed(watched.zone.dependency, up, watched.fault)


class _Watched:
    """A zone: what is wrong with it, once that is known, and its test under way or to come."""

    def __init__(self, zone: Zone) -> None:
        self.zone = zone
        self.known = asyncio.Event()
        self.fault = ""
        self.told: bool | None = None
        self.tested = 0.0
        self.test: asyncio.Task[None] | None = None
        self.timer: asyncio.TimerHandle | None = None

    def stop_waiting(self) -> None:
        """Let go of the test to come."""
        if self.timer is not None:
            self.timer.cancel()
            self.timer = None


def _soon(zone: Zone) -> float:
    """Give the seconds until a zone that has failed is tested again."""
    return min(zone.interval / SOONER, LONGEST_SUSPENSION)


def _first_text(found: Found) -> str:
    text = next(found.values(Kind.TXT), "")
    octets = text.encode("utf-8", "surrogateescape")
    return octets.decode("utf-8", "replace")[:LONGEST_TEXT]

"""
The checks `listed('NAME', ...)` and `dnsbl_score('NAME', ...)`: what DNS lists say (RFC 5782).

All zones of a call are asked at once. What a zone does not answer is told beside what the others
do; a call fails only if that leaves nothing to answer with.
"""

import asyncio
import math
from collections.abc import Iterator, Mapping, Sequence
from functools import partial
from typing import Final

import msgspec

from policyd.checks.interface import Answer, Check, CheckFailedError, Count, Counting, Definition
from policyd.checks.zone import LONGEST_ZONE, Zone, is_domain, question
from policyd.checks.zone_answer import Listing, ZoneError
from policyd.checks.zone_health import Zones
from policyd.facts import read
from policyd.facts.table import Attributes, FactType

LISTED: Final = "listed"
SCORE: Final = "dnsbl_score"

RESULTS: Final = ("listed", "unlisted", "failed", "suspended")
"""What a zone says: of it, each is counted."""

_VALUES: Final = {
    "dnsbl_zone": "the zone that lists it, of several that whose listing weighs most",
    "dnsbl_code": "what the zone answers, such as 127.0.0.2",
    "dnsbl_text": "the reason that the zone publishes; may be empty",
}
_DIGITS: Final = 6
"""Decimal places of a score, so that 0.1 + 0.2 is 0.3."""


class Definitions(Mapping[str, Definition]):
    """The zones of the configuration by name; one with a dot in its name needs no table."""

    def __init__(self, zones: Mapping[str, Zone]) -> None:
        """Take the zones."""
        self._known = {name: _definition(zone, f"[dnsbl.{name}]") for name, zone in zones.items()}

    def __getitem__(self, name: str) -> Definition:
        """Give the definition of a name, or of a zone itself; KeyError if it is neither."""
        if name in self._known:
            return self._known[name]
        zone = read.domain(name)
        if "." not in zone or len(zone) > LONGEST_ZONE or not is_domain(zone):
            raise KeyError(name)
        return _definition(Zone(zone, zone, in_table=False), zone)

    def __iter__(self) -> Iterator[str]:
        """Give the names that have tables."""
        return iter(self._known)

    def __len__(self) -> int:
        """Count the tables."""
        return len(self._known)


def _definition(zone: Zone, place: str) -> Definition:
    return Definition(zone, (zone.kind,), place, dependency=zone.dependency)


def answers(names: Sequence[str]) -> Counting:
    """Give the metric of what zones of these names say."""
    return Counting(
        "policyd_dnsbl_answers_total",
        "Questions to DNS lists that have a table: listed, unlisted, failed, or suspended: not "
        "asked because the zone failed its test.",
        ("zone", "result"),
        tuple((name, result) for name in names for result in RESULTS),
    )


_ANSWERS: Final = answers(())


def checks(zones: Zones | None, configured: Mapping[str, Zone]) -> tuple[Check, ...]:
    """Give the checks; without zones they are for loading only, and asking them fails."""
    definitions = Definitions(configured)
    counting = answers(tuple(configured))
    return (
        Check(
            name=LISTED,
            ask=partial(_listed, zones),
            remote=True,
            values=_VALUES,
            says="listed('NAME', ...): one of these DNS lists has it, by a table or by its zone",
            countings=(counting,),
            definitions=definitions,
        ),
        Check(
            name=SCORE,
            ask=partial(_score, zones),
            result=FactType.NUMBER,
            results=("listed", "unlisted"),
            remote=True,
            values=_VALUES,
            says="dnsbl_score('NAME', ...): the weights of these DNS lists' listings together; "
            "dnsbl_score(): of all that have a table and can be asked at the stage",
            countings=(counting,),
            definitions=definitions,
            every=True,
        ),
    )


class _Said(msgspec.Struct, frozen=True):
    """What a zone said: a listing, none, or why it did not say."""

    zone: Zone
    listing: Listing | None = None
    error: ZoneError | None = None

    @property
    def result(self) -> str:
        """One of RESULTS."""
        if self.error is not None:
            return "suspended" if self.error.suspended else "failed"
        return "unlisted" if self.listing is None else "listed"


class _Heard(msgspec.Struct, frozen=True):
    """What all zones of a call said; `untouched`: some could not list it and were not asked."""

    said: tuple[_Said, ...]
    untouched: bool

    @property
    def listings(self) -> tuple[Listing, ...]:
        """The listings, that which weighs most first."""
        found = [each.listing for each in self.said if each.listing is not None]
        return tuple(sorted(found, key=lambda listing: -listing.weight))

    @property
    def failures(self) -> tuple[CheckFailedError, ...]:
        """What did not answer."""
        return tuple(
            CheckFailedError(f"{each.zone.dependency}: {each.error}", each.zone.dependency)
            for each in self.said
            if each.error is not None
        )

    @property
    def counts(self) -> tuple[Count, ...]:
        """What is counted, of zones that have a table."""
        return tuple(
            (_ANSWERS, (each.zone.name, each.result), 1.0)
            for each in self.said
            if each.zone.in_table
        )

    def failed(self) -> CheckFailedError:
        """Give the failure of the call: the first zone's, with what the others have to say."""
        failures = self.failures
        why = "; ".join(map(str, failures))
        return CheckFailedError(why, failures[0].dependency, self.counts)

    def values(self) -> dict[str, str]:
        """Give what texts may show."""
        if not self.listings:
            return {}
        first = self.listings[0]
        return {
            "dnsbl_zone": first.zone.zone,
            "dnsbl_code": first.code,
            "dnsbl_text": first.text,
        }


async def _listed(zones: Zones | None, _attributes: Attributes, *named: tuple[Zone, str]) -> Answer:
    """Tell whether one of the zones lists its key; a failure if none does and one failed."""
    heard = await _hear(zones, named)
    if heard.failures and not heard.listings:
        raise heard.failed()
    found = bool(heard.listings)
    return Answer(
        found,
        "true" if found else "false",
        heard.values(),
        heard.counts,
        without=heard.failures,
    )


async def _score(zones: Zones | None, _attributes: Attributes, *named: tuple[Zone, str]) -> Answer:
    """Add up what the zones say; a failure if one failed and no other answered."""
    heard = await _hear(zones, named)
    if heard.failures and not heard.untouched and len(heard.failures) == len(heard.said):
        raise heard.failed()
    score = round(math.fsum(listing.weight for listing in heard.listings), _DIGITS)
    return Answer(
        score,
        "listed" if heard.listings else "unlisted",
        heard.values(),
        heard.counts,
        without=heard.failures,
    )


async def _hear(zones: Zones | None, named: Sequence[tuple[Zone, str]]) -> _Heard:
    """Ask all zones at once; CheckFailedError where a configuration is only loaded."""
    if zones is None:
        raise CheckFailedError("DNS lists are not asked where a configuration is only loaded")
    asked = [(zone, name) for zone, value in named if (name := question(zone, value))]
    said = await asyncio.gather(*(_ask(zones, zone, name) for zone, name in asked))
    return _Heard(tuple(said), len(asked) < len(named))


async def _ask(zones: Zones, zone: Zone, name: str) -> _Said:
    try:
        return _Said(zone, await zones.ask(zone, name))
    except ZoneError as error:
        return _Said(zone, error=error)

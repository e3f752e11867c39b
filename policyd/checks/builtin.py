"""The checks that policyd has of its own: as a configuration is loaded, and as they are asked."""

from collections.abc import Callable, Mapping
from typing import Final

import msgspec

from policyd.checks import content, dmarc, dnsbl, domains, signatures, spf
from policyd.checks.authentication import Authentication
from policyd.checks.greylist import DEPENDENCY, GreylistSettings, greylisted
from policyd.checks.interface import Check, CheckFailedError
from policyd.checks.limits import Limit, definitions, exceeds
from policyd.checks.listed import listed
from policyd.checks.zone import Zone
from policyd.checks.zone_health import Zones
from policyd.dns.answer import Resolver
from policyd.lists.remote.lookups import Lookups
from policyd.processes.work import Runner
from policyd.store.interface import Store

STORE: Final = DEPENDENCY
"""The dependency that stands for state."""


class Configured(msgspec.Struct, frozen=True):
    """What the configuration defines for checks."""

    greylist: GreylistSettings = GreylistSettings()
    limits: Mapping[str, Limit] = {}
    zones: Mapping[str, Zone] = {}


class Live(msgspec.Struct, frozen=True):
    """
    What checks are asked with: state, remote lists, the DNS, and seconds since the epoch.

    `brief` does work of milliseconds, much of it at once; `heavy` reads whole messages; `foreign`
    asks checks of other packages.
    """

    store: Store
    lookups: Lookups
    clock: Callable[[], float]
    resolver: Resolver
    zones: Zones
    brief: Runner
    heavy: Runner
    foreign: Runner


def declared(
    configured: Configured,
    live: Live | None = None,
    authentication: Authentication | None = None,
) -> Mapping[str, Check]:
    """
    Give the checks for conditions to name; asked without `live`, they fail.

    `authentication` is what they share with others who ask who a message is from.
    """
    clock = _no_time if live is None else live.clock
    store = None if live is None else live.store
    resolver = None if live is None else live.resolver
    brief = None if live is None else live.brief
    heavy = None if live is None else live.heavy
    found = authentication or Authentication(resolver, brief, heavy)
    return _named(
        greylisted(store, clock, configured.greylist),
        exceeds(store, clock, definitions(configured.limits)),
        listed(None if live is None else live.lookups),
        *dnsbl.checks(None if live is None else live.zones, configured.zones),
        *domains.checks(resolver),
        *spf.checks(found.sender),
        *signatures.checks(found.signed),
        *dmarc.checks(resolver, found.sender, found.signed),
        *content.checks(heavy),
    )


def serving(live: Live, authentication: Authentication) -> Mapping[str, Check]:
    """Give the checks for a policy to ask, which brings along what it has configured."""
    return declared(Configured(), live, authentication)


def _no_time() -> float:
    raise CheckFailedError("nothing is asked where a configuration is only loaded")


def _named(*checks: Check) -> Mapping[str, Check]:
    return {check.name: check for check in checks}

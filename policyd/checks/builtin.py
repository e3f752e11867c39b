"""The checks that policyd has of its own: as a configuration is loaded, and as they are asked."""

from collections.abc import Callable, Mapping
from typing import Final

import msgspec

from policyd.checks.greylist import DEPENDENCY, GreylistSettings, greylisted
from policyd.checks.interface import Check, CheckFailedError
from policyd.checks.limits import Limit, definitions, exceeds
from policyd.checks.listed import listed
from policyd.lists.remote.lookups import Lookups
from policyd.store.interface import Store

STORE: Final = DEPENDENCY
"""The dependency that stands for state."""


class Live(msgspec.Struct, frozen=True):
    """What checks are asked with: state, remote lists, and seconds since the epoch."""

    store: Store
    lookups: Lookups
    clock: Callable[[], float]


def declared(
    greylist: GreylistSettings, limits: Mapping[str, Limit], live: Live | None = None
) -> Mapping[str, Check]:
    """Give the checks for conditions to name; asked without `live`, they fail."""
    store = None if live is None else live.store
    clock = _no_time if live is None else live.clock
    return _named(
        greylisted(store, clock, greylist),
        exceeds(store, clock, definitions(limits)),
        listed(None if live is None else live.lookups),
    )


def serving(live: Live) -> Mapping[str, Check]:
    """Give the checks for a policy to ask, which brings along what it has configured."""
    return declared(GreylistSettings(), {}, live)


def _no_time() -> float:
    raise CheckFailedError("nothing is asked where a configuration is only loaded")


def _named(*checks: Check) -> Mapping[str, Check]:
    return {check.name: check for check in checks}

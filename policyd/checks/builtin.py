"""The checks that policyd has of its own: as a configuration is loaded, and as they are asked."""

from collections.abc import Callable, Mapping
from typing import Final

from policyd.checks.greylist import DEPENDENCY, GreylistSettings, greylisted
from policyd.checks.interface import Check, CheckFailedError
from policyd.checks.limits import Limit, definitions, exceeds
from policyd.checks.listed import listed
from policyd.lists.remote.lookups import Lookups
from policyd.store.interface import Store

STORE: Final = DEPENDENCY
"""The dependency that stands for state."""


def declared(greylist: GreylistSettings, limits: Mapping[str, Limit]) -> Mapping[str, Check]:
    """Give the checks for conditions to name; asked, they fail."""
    return _named(
        greylisted(None, _no_time, greylist),
        exceeds(None, _no_time, definitions(limits)),
        listed(None),
    )


def live(
    store: Store | None, lookups: Lookups | None, clock: Callable[[], float]
) -> Mapping[str, Check]:
    """Give the checks for a policy to ask, which brings along what it has configured."""
    return _named(greylisted(store, clock), exceeds(store, clock), listed(lookups))


def _no_time() -> float:
    raise CheckFailedError("nothing is asked where a configuration is only loaded")


def _named(*checks: Check) -> Mapping[str, Check]:
    return {check.name: check for check in checks}

"""
The check `exceeds('NAME', ...)`: whether a message is more than its limits still admit.

All limits of one call are charged together or not at all, and each once a message: its requests are
joined by `instance` (SMTPD_POLICY_README), and of a limit in recipients each recipient is charged
once. What is charged is reserved until the message ends, if end-of-data is decided; else it is
spent at once.
"""

from collections.abc import Callable, Iterable, Mapping
from functools import partial
from typing import Any, Final

import msgspec

from policyd.checks.interface import (
    SKIP,
    Answer,
    Check,
    CheckFailedError,
    Counting,
    Definition,
    Site,
)
from policyd.checks.keys import key_part
from policyd.checks.message import SEPARATOR, message_of
from policyd.checks.rate import Rate, Unit, spent_text
from policyd.checks.wording import duration_text
from policyd.facts import read
from policyd.facts.table import Attributes
from policyd.smtp.stage import Stage
from policyd.store.interface import Store
from policyd.store.model import Charge, Standing, StoreError, account_name

NAME: Final = "exceeds"
DEPENDENCY: Final = "store"

_STAGES: Final[Mapping[Unit, frozenset[Stage]]] = {
    Unit.MESSAGES: frozenset({Stage.MAIL, Stage.RCPT, Stage.DATA, Stage.END_OF_DATA}),
    Unit.RECIPIENTS: frozenset({Stage.RCPT, Stage.DATA, Stage.END_OF_DATA}),
    Unit.BYTES: frozenset({Stage.END_OF_DATA}),
}
"""Where there is something of the unit to be counted."""
_CONNECTION: Final = ("server_address", "client_address", "client_port")
_VALUES: Final = {
    "retry_after": "how long until the limit admits it, if nothing else comes; or `never`",
    "limit": "the rate that was exceeded, as in `500 recipients per 1h`",
    "used": "how much of it is used up",
}


class Override(msgspec.Struct, frozen=True):
    """What one key may have instead; `most` 0 is without limit, `burst` None is the limit's own."""

    most: int = 0
    burst: int | None = None


class Limit(msgspec.Struct, frozen=True):
    """
    A `[limits.NAME]`: at most `most` of the unit in any `window` of milliseconds.

    At most `burst` at once, 0 for no such bound. `overrides` are by key, as key_of() gives it.
    `key` are the expressions of the parts of a key, and `place` is where they stand.
    """

    name: str
    unit: Unit
    most: int
    window: int
    burst: int = 0
    overrides: Mapping[str, Override] = {}
    key: tuple[str, ...] = ()
    place: str = ""


def key_of(parts: Iterable[object]) -> str:
    """
    Give the key of a limit: its parts without case, joined by U+001F.

    No part can hold what joins them, whatever a sender put in.
    """
    return SEPARATOR.join(key_part(str(part).lower()) for part in parts)


def unsettled(names: Iterable[str]) -> Counting:
    """Give the metric of what was reserved under limits of these names and never settled."""
    return Counting(
        "policyd_limit_unsettled_total",
        "Messages of which a limit's reservation was never settled and counts as spent.",
        ("limit",),
        tuple((name,) for name in names),
    )


def objection(limit: Limit, stage: Stage) -> tuple[str, str] | None:
    """Tell why a limit cannot be asked at a stage, and the mend; None if it can."""
    where = _STAGES[limit.unit]
    if stage in where:
        return None
    known = ", ".join(each for each in Stage if each in where)
    return (
        f"the limit {limit.name!r} counts {limit.unit}, which are not known at {stage}",
        f"ask it at {known}",
    )


def definitions(limits: Mapping[str, Limit]) -> Mapping[str, Definition]:
    """Give limits as exceeds() names them."""
    return {
        name: Definition(limit, limit.key, limit.place, partial(objection, limit))
        for name, limit in limits.items()
    }


def exceeds(
    store: Store | None,
    clock: Callable[[], float] | None,
    defined: Mapping[str, Definition] | None = None,
) -> Check:
    """
    Give the check on a store; `clock` is in seconds since the epoch.

    Without them it is for loading only, and asking it fails.
    """
    return Check(
        name=NAME,
        ask=partial(_ask, store, clock),
        needs=_CONNECTION,
        needs_at={
            Stage.RCPT: ("recipient",),
            Stage.DATA: ("recipient_count",),
            Stage.END_OF_DATA: ("recipient_count", "size"),
        },
        results=("true", "false", "exempt"),
        remote=True,
        asks_once=True,
        on_error=SKIP,
        values=_VALUES,
        says="exceeds('NAME', ...): the message is more than one of these limits still admits",
        dependency=DEPENDENCY,
        sited=True,
        stages=_STAGES[Unit.MESSAGES],
        definitions={} if defined is None else defined,
    )


class _Asked(msgspec.Struct, frozen=True):
    """A charge, and the rate of which it is."""

    charge: Charge
    rate: Rate


async def _ask(
    store: Store | None,
    clock: Callable[[], float] | None,
    attributes: Attributes,
    site: Site,
    *named: tuple[Any, ...],
) -> Answer:
    """Charge the limits, each with the parts of its key; CheckFailedError without the store."""
    if store is None or clock is None:
        raise CheckFailedError("limits are not kept where a configuration is only loaded")
    found = [_asked(limit, key, attributes, site) for limit, *key in named]
    # the same limit twice is charged once
    asked = list({each.charge.account: each for each in found if each is not None}.values())
    if not asked:
        return Answer(False, "exempt", dict.fromkeys(_VALUES, "0"))
    charges = [each.charge for each in asked]
    message = message_of(attributes)
    now = round(clock() * 1000)
    try:
        standings = await store.reserve(charges, message, now)
    except StoreError as error:
        raise CheckFailedError(f"limits cannot be asked: {error}", DEPENDENCY) from error
    exceeded = any(each.exceeded for each in standings)
    taken = [each for each, standing in zip(charges, standings, strict=True) if standing.taken]
    return Answer(
        exceeded,
        "true" if exceeded else "false",
        _shown(max(zip(asked, standings, strict=True), key=_weight)),
        # at the moment of asking, so that it leaves the part of the window that it went into
        give_back=partial(store.give_back, taken, message, now) if taken else None,
    )


def _asked(
    limit: Limit, parts: Iterable[object], attributes: Attributes, site: Site
) -> _Asked | None:
    """Give the charge that a request means to a limit; None if the limit says nothing of it."""
    key = key_of(parts)
    if not key.strip(SEPARATOR):
        return None
    most, burst = limit.most, limit.burst
    override = limit.overrides.get(key)
    if override is not None:
        most, burst = override.most, limit.burst if override.burst is None else override.burst
    if not most:
        return None
    amount, mark = _amount(limit.unit, site.stage, attributes)
    charge = Charge(
        limit=limit.name,
        account=account_name(limit.name, key, shadow=site.shadow),
        amount=amount,
        most=most,
        window=limit.window,
        burst=burst,
        mark=mark,
        settles=site.settles,
    )
    return _Asked(charge, Rate(most, limit.unit, limit.window))


def _amount(unit: Unit, stage: Stage, attributes: Attributes) -> tuple[int, str]:
    """Tell how much a request is, and by what it is told from others of its message."""
    if unit is Unit.MESSAGES:
        return 1, ""
    if unit is Unit.BYTES:
        return read.number(attributes.get("size")), ""
    if stage is Stage.RCPT:
        return 1, key_part(read.mail(attributes.get("recipient")))
    return max(1, read.number(attributes.get("recipient_count"))), ""


def _weight(pair: tuple[_Asked, Standing]) -> tuple[bool, bool, int, float]:
    """Rank what a reply shows: what waits longest, or, if nothing does, what is fullest."""
    asked, standing = pair
    used = standing.used / asked.charge.most
    return standing.exceeded, standing.waits < 0, standing.waits, used


def _shown(pair: tuple[_Asked, Standing]) -> dict[str, str]:
    asked, standing = pair
    return {
        "retry_after": duration_text(standing.waits) if standing.waits >= 0 else "never",
        "limit": str(asked.rate),
        "used": spent_text(standing.used, asked.rate.unit),
    }

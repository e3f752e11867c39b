"""
What a limit admits: the arithmetic of one account, without a store.

A window is counted in STEPS parts. What was admitted in a part counts until the whole part has
left the window, so in no window is more admitted than the rate, and capacity comes back in steps of
a sixtieth. The burst is a bucket beside it that leaks at the rate.
"""

from typing import Final

import msgspec

from policyd.store.model import STEPS, Account, Charge

_GRAIN: Final = 1e-6
"""What a sum of fractions may be off; amounts are whole."""


class Fit(msgspec.Struct, frozen=True):
    """Whether a charge fits; see model.Standing."""

    exceeded: bool
    used: int
    waits: int


def part_of(now: int, window: int) -> int:
    """Give the number of the part of a window in which a moment lies."""
    return now * STEPS // window


def leaves(part: int, window: int) -> int:
    """Give the moment at which a part has left the window."""
    return -(-(part + STEPS + 1) * window // STEPS)


def fit(account: Account | None, charge: Charge, now: int) -> Fit:
    """Tell whether a charge fits into its account, which may be of another window or expired."""
    parts = _live(account, charge, now)
    used = sum(parts.values())
    if charge.amount > charge.most or 0 < charge.burst < charge.amount:
        return Fit(exceeded=True, used=used, waits=-1)
    waits = max(_until_window(parts, charge, used, now), _until_burst(account, charge, now))
    return Fit(exceeded=waits > 0, used=used, waits=waits)


def charged(account: Account | None, charge: Charge, now: int) -> Account:
    """Give the account with the charge in it, whether it fits or not."""
    parts = _live(account, charge, now)
    part = part_of(now, charge.window)
    parts[part] = parts.get(part, 0) + charge.amount
    return Account(
        name=charge.account,
        window=charge.window,
        parts=parts,
        level=_level(account, charge, now) + charge.amount if charge.burst else 0.0,
        at=now,
        expires=leaves(max(parts), charge.window),
    )


def given_back(account: Account, at: int, amount: int, most: int) -> Account:
    """
    Give the account without an amount that was admitted at a moment under a rate of `most`.

    What has left the window stays so. Of the burst comes back what cannot have leaked by the
    account's last charge: that charge was admitted into the place of the rest.
    """
    part = part_of(at, account.window)
    parts = dict(account.parts)
    left = parts.get(part, 0) - amount
    if left > 0:
        parts[part] = left
    else:
        parts.pop(part, None)
    held = max(0.0, amount - max(0, account.at - at) * most / account.window)
    return msgspec.structs.replace(account, parts=parts, level=max(0.0, account.level - held))


def live(account: Account | None, now: int) -> Account | None:
    """Give the account with what has not left its window; None if that is nothing."""
    if account is None or now >= account.expires:
        return None
    oldest = part_of(now, account.window) - STEPS
    parts = {part: amount for part, amount in account.parts.items() if part >= oldest}
    if not parts and not account.level:
        return None
    return msgspec.structs.replace(account, parts=parts)


def joined(one: Account, other: Account) -> Account:
    """Make one account of what two stores know of it; of different windows, that of `other`."""
    if one.window != other.window:
        return other
    parts = {
        part: max(one.parts.get(part, 0), other.parts.get(part, 0))
        for part in sorted({*one.parts, *other.parts})
    }
    latest = max(one, other, key=lambda each: each.at)
    return msgspec.structs.replace(latest, parts=parts, expires=max(one.expires, other.expires))


def _live(account: Account | None, charge: Charge, now: int) -> dict[int, int]:
    if account is None or account.window != charge.window:
        return {}
    oldest = part_of(now, charge.window) - STEPS
    return {part: amount for part, amount in account.parts.items() if part >= oldest}


def _level(account: Account | None, charge: Charge, now: int) -> float:
    # what has expired counts for nothing, whether it has been dropped yet or not
    if account is None or account.window != charge.window or now >= account.expires:
        return 0.0
    return max(0.0, account.level - (now - account.at) * charge.most / charge.window)


def _until_window(parts: dict[int, int], charge: Charge, used: int, now: int) -> int:
    over = used + charge.amount - charge.most
    for part in sorted(parts):
        if over <= 0:
            break
        over -= parts[part]
        if over <= 0:
            return max(1, leaves(part, charge.window) - now)
    return 0


def _until_burst(account: Account | None, charge: Charge, now: int) -> int:
    if not charge.burst:
        return 0
    over = _level(account, charge, now) + charge.amount - charge.burst
    if over <= _GRAIN:
        return 0
    return max(1, -int(-(over - _GRAIN) * charge.window // charge.most))

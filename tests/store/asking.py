"""Short words for what tests ask a store."""

import asyncio
from collections.abc import Awaitable, Callable
from pathlib import Path

import msgspec
import pytest

from policyd.store.interface import Store
from policyd.store.model import (
    Charge,
    Entry,
    GreylistAsk,
    GreylistFound,
    Message,
    Outcome,
    Terms,
    account_name,
)
from tests.store.stores import STORES, Fresh

T = 1_700_000_040_000
"""The moment at which tests begin: that of a part of any window of minutes."""
SECOND = 1000
MINUTE = 60 * SECOND
HOUR = 60 * MINUTE
DAY = 24 * HOUR

TERMS = Terms()

CONNECTION = "192.0.2.1\x1f198.51.100.7\x1f40123"


def contract(
    test: Callable[[Fresh], Awaitable[None]], kinds: frozenset[str] = frozenset(STORES)
) -> Callable[[str, Path], None]:
    """Make a test of every store; it is given what makes Store objects on one state."""

    @pytest.mark.parametrize("kind", [kind for kind in STORES if kind in kinds])
    def on_store(kind: str, tmp_path: Path) -> None:
        asyncio.run(on(kind, tmp_path, test))

    on_store.__name__ = test.__name__
    return on_store


async def on(kind: str, directory: Path, test: Callable[[Fresh], Awaitable[None]]) -> None:
    """Run a test on a store; it is given a minute."""
    async with asyncio.timeout(60), STORES[kind](directory) as fresh:
        await test(fresh)


def message(number: int | str, connection: str = "") -> Message:
    return Message(f"instance.{number}", connection)


def about(
    instance: int | str = "",
    *,
    client: str = "example.net",
    sender: str = "jo@example.net",
    recipient: str = "al@example.org",
    terms: Terms = TERMS,
    settles: bool = False,
    connection: str = "",
) -> GreylistAsk:
    """Ask about a triplet, in a message if an instance is given."""
    joined = Message(connection=connection) if instance == "" else message(instance, connection)
    return GreylistAsk(client, sender, recipient, joined, terms, settles)


def charge(
    amount: int = 1,
    most: int = 10,
    window: int = HOUR,
    *,
    limit: str = "login",
    key: str = "jo",
    shadow: bool = False,
    burst: int = 0,
    mark: str = "",
    settles: bool = True,
) -> Charge:
    name = account_name(limit, key, shadow=shadow)
    return Charge(limit, name, amount, most, window, burst, mark, settles)


async def admitted(store: Store, one: Charge, of: Message, now: int) -> bool:
    """Ask for one charge; it is admitted and taken, or neither."""
    (standing,) = await store.reserve([one], of, now)
    assert standing.taken == (not standing.exceeded)
    return standing.taken


async def used(store: Store, now: int, one: Charge | None = None) -> int:
    """Give what an account holds."""
    account = await store.account((one or charge()).account, now)
    return sum(account.parts.values()) if account else 0


async def pass_by(store: Store, ask: GreylistAsk, now: int) -> GreylistFound:
    """Attempt and come again in time; `now` is the second moment."""
    before = msgspec.structs.replace(ask, message=Message())
    await store.greylist(before, now - ask.terms.delay)
    found = await store.greylist(ask, now)
    assert found.outcome is Outcome.PASSED
    return found


async def all_entries(store: Store, now: int) -> list[Entry]:
    """Give what is there, in an order of its own: stores have none."""
    return sorted([entry async for entry in store.entries(now)], key=repr)

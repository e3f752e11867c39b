"""
The end of messages, for what greylisting and limits reserved when they were asked.

The policy protocol names a message by its instance. A milter is not told it, and finds the message
as the newest that was reserved on its connection; for what it reserved itself it has made an
instance of its own.
"""

from collections.abc import Callable
from typing import Protocol

import msgspec

from policyd.checks.message import message_of
from policyd.facts.table import Attributes
from policyd.store.interface import Store
from policyd.store.model import Message


class Ends(msgspec.Struct, frozen=True):
    """By what a front end knows the message: its instance, its connection, or both."""

    by_instance: bool
    by_connection: bool


class Settles(Protocol):
    """What ends messages; StoreError when the store does not answer."""

    async def settle(self, attributes: Attributes, ends: Ends, *, accepted: bool) -> None:
        """Spend what a message reserved, or give it back."""
        ...

    async def abandon(self, attributes: Attributes, ends: Ends, at: float) -> None:
        """Give back what a message reserved that ended early, at `at` seconds since the epoch."""
        ...


class Settlement:
    """Ends messages in a store; `clock` gives seconds since the epoch."""

    def __init__(self, store: Store, clock: Callable[[], float]) -> None:
        """Take the store that the checks reserve in."""
        self._store = store
        self._clock = clock

    async def settle(self, attributes: Attributes, ends: Ends, *, accepted: bool) -> None:
        """Spend what a message reserved, or give it back."""
        now = round(self._clock() * 1000)
        recipients = _count(attributes)
        for message in _messages(attributes, ends):
            await self._store.settle(message, now, accepted=accepted, recipients=recipients)

    async def abandon(self, attributes: Attributes, ends: Ends, at: float) -> None:
        """Give back what a message reserved that ended early, at `at` seconds since the epoch."""
        for message in _messages(attributes, ends):
            await self._store.abandon(message, round(at * 1000))


def _messages(attributes: Attributes, ends: Ends) -> list[Message]:
    message = message_of(attributes)
    found = []
    if ends.by_instance and message.instance:
        found.append(Message(message.instance))
    if ends.by_connection and message.connection:
        found.append(Message("", message.connection))
    return found


def _count(attributes: Attributes) -> int:
    """Give how many recipients the message has; -1 where that is not known."""
    try:
        return int(str(attributes.get("recipient_count", "")))
    except ValueError:
        return -1

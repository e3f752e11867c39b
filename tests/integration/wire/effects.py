"""What became of the messages of the matrix: delivered, held or gone."""

import re
import time
from collections.abc import Iterator, Mapping, Sequence

from tests.integration.wire.cells import DOMAIN, Cell
from tests.integration.wire.dialogue import Talk
from tools.postfix_instance import PostfixInstance

_DELIVERED_TO = re.compile(rb"^Delivered-To: (\S+)", re.MULTILINE)
_SETTLE_WITHIN = 30.0  # seconds


DELIVERED = "delivered"


def effects(mta: PostfixInstance, talks: Sequence[Talk]) -> dict[Cell, str]:
    """Find out what became of each accepted message, in the words of a prediction."""
    held = _settled(mta)
    delivered = _delivered(mta)
    became = {}
    for talk in talks:
        if talk.queued_as:
            found = ["message held"] * (talk.queued_as in held)
            found += [DELIVERED] * (talk.cell.recipient in delivered)
            became[talk.cell] = " and ".join(found) or "message discarded"
    return became


def wrong_effects(became: Mapping[Cell, str]) -> Iterator[str]:
    """Say of each message that met another end than predicted what happened to it."""
    for cell, effect in became.items():
        predicted = cell.prediction().effect or DELIVERED
        if effect != predicted:
            yield f"{cell}: predicted {predicted!r}, seen {effect!r}"


def _settled(mta: PostfixInstance) -> set[str]:
    """Wait until nothing but held mail is in the queue, and give the queue ids of that."""
    deadline = time.monotonic() + _SETTLE_WITHIN
    while True:
        queue = mta.queue()
        if all(message["queue_name"] == "hold" for message in queue):
            return {message["queue_id"] for message in queue}
        if time.monotonic() > deadline:
            raise TimeoutError(f"still in the queue: {queue}")
        time.sleep(0.1)


def _delivered(mta: PostfixInstance) -> set[str]:
    messages = mta.delivered(f"@{DOMAIN}")
    return {found[1].decode() for message in messages if (found := _DELIVERED_TO.search(message))}

"""What became of the messages of the matrix: delivered, held or gone."""

import re
import time
from collections.abc import Iterable, Iterator, Sequence

from tests.integration.wire.cells import DOMAIN, Cell
from tests.integration.wire.dialogue import Said, queue_id
from tools.postfix_instance import PostfixInstance

_DELIVERED_TO = re.compile(rb"^Delivered-To: (\S+)", re.MULTILINE)
_SETTLE_WITHIN = 30.0  # seconds


def wrong_effects(
    mta: PostfixInstance, talked: Sequence[tuple[Cell, Sequence[Said]]]
) -> Iterator[str]:
    """Say of each accepted message that met another end than predicted what happened to it."""
    accepted = {cell: queue_id(said) for cell, said in talked if queue_id(said)}
    held = _settled(mta)
    delivered = _delivered(mta)
    for cell, queued_as in accepted.items():
        became = []
        if queued_as in held:
            became.append("message held")
        if cell.recipient in delivered:
            became.append("delivered")
        predicted = cell.prediction().effect or "delivered"
        if (became or ["message discarded"]) != [predicted]:
            yield f"{cell}: predicted {predicted!r}, but it was {' and '.join(became) or 'gone'}"


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


def _delivered(mta: PostfixInstance) -> Iterable[str]:
    messages = mta.delivered(f"@{DOMAIN}")
    return {found[1].decode() for message in messages if (found := _DELIVERED_TO.search(message))}

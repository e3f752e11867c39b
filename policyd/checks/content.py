"""
Checks of a message's content: the types of its parts, the names in its archives, what is wrong.

All three are found out together, once a message. A message that cannot be parsed has a defect; the
checks fail only if it cannot be read, or the process that looks at it is killed.
"""

from collections.abc import Callable, Iterable
from typing import Final, cast

import msgspec

from policyd.checks.interface import Answer, Check, CheckFailedError
from policyd.facts.table import Attributes, FactType
from policyd.mail.arrived import Arrived, UnreadableError
from policyd.mail.content import Content
from policyd.processes.work import Runner, WorkError

LIMIT: Final = 5.0
"""Seconds for one message; the work itself gives up what is left after three."""
LONGEST_VALUE: Final = 200
"""Characters that a text may show of what was found."""

_WORK: Final = "policyd.mail.content_work:work"
_NONE, _SOME = "none", "some"


def checks(runner: Runner | None) -> tuple[Check, ...]:
    """Make the checks; without a runner for loading only, and asking fails."""

    async def examined(attributes: Attributes) -> Content:
        message = cast("Arrived | None", attributes.get("message"))
        if runner is None or message is None:
            raise CheckFailedError("there is no message to look at here")

        async def make() -> Content:
            assert runner is not None  # told above
            assert message is not None
            descriptors = (message.descriptor(),)
            found = await runner.run(_WORK, b"", limit=LIMIT, descriptors=descriptors)
            return msgspec.msgpack.decode(found, type=Content)

        try:
            return await message.once("content", make)
        except (WorkError, UnreadableError) as error:
            raise CheckFailedError(f"the content was not looked at: {error}") from error

    def check(name: str, says: str, of: Callable[[Content], Iterable[str]]) -> Check:
        async def ask(attributes: Attributes) -> Answer:
            found = tuple(map(str, of(await examined(attributes))))
            shown = ", ".join(found)[:LONGEST_VALUE]
            return Answer(found, _SOME if found else _NONE, {name: shown})

        return Check(
            name,
            ask,
            needs=("message",),
            result=FactType.TEXTS,
            results=(_NONE, _SOME),
            remote=True,
            values={name: says},
            says=says,
            limit=LIMIT,
        )

    return (
        check("file_types", "the types of the parts, by their octets", lambda each: each.types),
        check("archived", "the names of files in archives", lambda each: each.archived),
        check("mime_defects", "what is wrong with the message", lambda each: each.defects),
    )

"""
The check behind `in` with a remote list, and behind any_in() and all_in().

No condition can call it by its name: the parser makes the call of `FACT in LIST`. It changes
nothing, so later stages ask again and are mostly answered from what is kept.
"""

import asyncio
from typing import Final

from policyd.checks.interface import Answer, Check, CheckFailedError
from policyd.facts.table import Attributes
from policyd.lists.remote.keys import keys_of
from policyd.lists.remote.lookups import Lookups
from policyd.lists.remote.membership import Membership, Word
from policyd.lists.remote.source import SourceError

NAME: Final = "remote-list"
_AT_A_TIME: Final = 5
"""Of several values, so many are looked up at the same time: as many as a place has connections."""


def listed(lookups: Lookups | None) -> Check:
    """Make the check; without lookups one for loading only, which fails when it is asked."""

    async def ask(
        _attributes: Attributes, membership: Membership, value: str | tuple[str, ...]
    ) -> Answer:
        wanted = membership.list
        if lookups is None:
            raise CheckFailedError(f"{wanted.dependency} is not looked up here", wanted.dependency)
        try:
            found = await _found(lookups, membership, value)
        except SourceError as error:
            raise CheckFailedError(f"{wanted.dependency}: {error}", wanted.dependency) from error
        return Answer(found, "true" if found else "false")

    return Check(NAME, ask, remote=True, says="a list that is looked up where it is has a value")


async def _found(lookups: Lookups, membership: Membership, value: str | tuple[str, ...]) -> bool:
    """Look one value up, or several until the answer is certain; none of several: false."""
    wanted = membership.list

    async def holds(one: str) -> bool:
        keys = keys_of(one, membership.asked, wanted.recipient_delimiter)
        return await lookups.holds(wanted, keys)

    if isinstance(value, str):
        return await holds(value)
    certain = membership.word is Word.ANY_IN
    values = tuple(dict.fromkeys(value))
    for start in range(0, len(values), _AT_A_TIME):
        some = values[start : start + _AT_A_TIME]
        if certain in await asyncio.gather(*map(holds, some)):
            return certain
    return bool(values) and not certain

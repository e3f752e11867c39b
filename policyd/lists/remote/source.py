"""What the places of remote lists have in common: how they are asked, and how they fail."""

from collections.abc import Sequence
from typing import Protocol

from policyd.lists.remote.settings import LdapQuestion, RedisQuestion, SqlQuestion

Question = SqlQuestion | RedisQuestion | LdapQuestion


class SourceError(Exception):
    """
    A place did not say whether a list has a key: says why.

    `down`: it could not be reached or did not answer, so that the next look-up would fail too. If
    not, it answered, with an error.
    """

    def __init__(self, why: str, *, down: bool) -> None:
        """Keep beside the reason what it tells about the place."""
        super().__init__(why)
        self.down = down


class Source(Protocol):
    """
    A place with its connections, which are made when it is first asked.

    Who asks bounds the time and cancels what takes longer.
    """

    async def ask(self, question: Question, keys: Sequence[str]) -> bool:
        """Tell whether a list has any of the keys; there is at least one. SourceError."""
        ...

    async def close(self) -> None:
        """Close the connections."""
        ...

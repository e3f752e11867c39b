"""Work that is done in a process of its own: how it is asked for, and what it is called with."""

from collections.abc import Callable, Sequence
from typing import Protocol

Ask = Callable[[bytes], bytes]
"""What work has to ask its worker with, such as the DNS; it blocks. WorkError if none answers."""

Work = Callable[[bytes, Sequence[int], Ask], bytes]
"""
Work: given what it is about, descriptors, and what to ask with; gives its result.

The descriptors are open while it runs and closed behind it. What it raises becomes a WorkError.
"""


class WorkError(Exception):
    """Work gave no result: it took too long and was killed, its process ended, or it raised."""


class Runner(Protocol):
    """What has work done."""

    async def run(
        self, work: str, payload: bytes, *, limit: float, descriptors: Sequence[int] = ()
    ) -> bytes:
        """
        Have `module:function`, which is a Work, done within `limit` seconds, and give its result.

        The seconds begin when the work does. WorkError if there is no result. The descriptors
        stay the caller's, who keeps them open until this returns.
        """
        ...

"""ARC (RFC 8617): what the chain of those who have handled a message comes to."""

from typing import Final

import msgspec

RESULTS: Final = ("pass", "fail", "none", "temperror")
MOST_INSTANCES: Final = 50
"""RFC 8617 section 4.2.1."""


class ArcAnswer(msgspec.Struct, frozen=True):
    """
    The chain: its result, why, and how many sets it has.

    `sealer` is the domain of the newest seal, if the chain passes.
    """

    result: str
    reason: str = ""
    sealer: str = ""
    instances: int = 0

"""What a message consists of, by its octets rather than by what it declares."""

from typing import Final

import msgspec

from policyd.protocol.mime.defects import Defect

LARGEST: Final = 64 * 1024 * 1024
"""Octets of a message that are looked at."""
LONGEST_NAME: Final = 300
"""Characters of a name within an archive; of a longer one the end is kept."""


class Content(msgspec.Struct, frozen=True):
    """
    The types that parts are of, the names of files within archives, and what is wrong.

    Each stands once, in the order in which it was found; defects are in the order of the table.
    """

    types: tuple[str, ...] = ()
    archived: tuple[str, ...] = ()
    defects: tuple[Defect, ...] = ()

"""By what a changed file is told from an unchanged one: stat(2), without reading it."""

import os
from collections.abc import Mapping
from pathlib import Path
from typing import NamedTuple


class Signature(NamedTuple):
    """
    What stat(2) says of a version of a file.

    The time of its status changes with each write, also where the writer sets the time of the
    contents back, and with each chmod(2), which may make a file readable.
    """

    device: int
    inode: int
    size: int
    mtime_ns: int
    ctime_ns: int


Signatures = Mapping[Path, Signature | None]
"""Those of a list's files; None for a file that is not there or cannot be looked at."""


def signature_of(status: os.stat_result) -> Signature:
    """Take from stat(2) what tells versions apart."""
    return Signature(
        status.st_dev, status.st_ino, status.st_size, status.st_mtime_ns, status.st_ctime_ns
    )


def sign(path: Path) -> Signature | None:
    """Look at a file; None if it is not there or cannot be looked at."""
    try:
        return signature_of(path.stat())
    except OSError:
        return None

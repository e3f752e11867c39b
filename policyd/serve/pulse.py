"""
A worker's pulse: a few numbers in memory that it shares with the supervisor.

The worker alone writes them, so a worker that hangs or is killed leaves them true. A new process
gets a new pulse.
"""

import mmap
import os
from typing import Final

_BEAT: Final = 0
_TAKEN: Final = 1
_CLOSED: Final = 2
_SESSIONS: Final = 3
_OCTETS: Final = 4 * 8

INTERVAL: Final = 0.25
"""Seconds between beats."""


class Pulse:
    """The numbers, read or written; `descriptor` is the memory's, given to the other process."""

    def __init__(self, descriptor: int) -> None:
        """Map memory of new_memory(); the descriptor stays the caller's."""
        self._memory = mmap.mmap(descriptor, _OCTETS)
        self._cells = memoryview(self._memory).cast("d")

    @property
    def beat(self) -> float:
        """When its loop last turned, in seconds of the monotonic clock; 0 before the first."""
        return self._cells[_BEAT]

    @beat.setter
    def beat(self, now: float) -> None:
        self._cells[_BEAT] = now

    @property
    def taken(self) -> int:
        """How many of the policy connections that it was given it has received."""
        return int(self._cells[_TAKEN])

    def count_taken(self) -> None:
        """Count a policy connection that was received; called before anything is read of it."""
        self._cells[_TAKEN] += 1

    @property
    def closed(self) -> int:
        """How many of those have ended."""
        return int(self._cells[_CLOSED])

    def count_closed(self) -> None:
        """Count the end of a policy connection."""
        self._cells[_CLOSED] += 1

    @property
    def sessions(self) -> int:
        """How many milter sessions are open."""
        return int(self._cells[_SESSIONS])

    @sessions.setter
    def sessions(self, count: int) -> None:
        self._cells[_SESSIONS] = count

    def close(self) -> None:
        """Unmap it."""
        self._cells.release()
        self._memory.close()


def new_memory() -> int:
    """Make the memory of a pulse; a descriptor."""
    descriptor = os.memfd_create("policyd-pulse", os.MFD_CLOEXEC)
    os.ftruncate(descriptor, _OCTETS)
    return descriptor

"""A message as it arrived at the milter, for checks that read it whole."""

from collections.abc import Awaitable, Callable
from typing import Protocol, TypeVar, runtime_checkable

T = TypeVar("T")


class UnreadableError(Exception):
    """There was no room to keep a message that was to be read; says what was missing."""


@runtime_checkable
class Arrived(Protocol):
    """
    The message that a milter's end-of-data is about: the fact `message`.

    It may be read until the stage is answered.
    """

    @property
    def size(self) -> int:
        """Give the octets of headers and body."""
        ...

    def descriptor(self) -> int:
        """
        Give a descriptor of a file with the whole message, for another process to read.

        Lines end in CR LF as SMTP has them. The descriptor stays the message's; whoever reads it
        seeks for itself (pread(2), mmap(2)). UnreadableError if there was no room for the message,
        by which a check that reads it fails.
        """
        ...

    async def once(self, key: str, make: Callable[[], Awaitable[T]]) -> T:
        """
        Make something of the message, the first time it is asked for; later give the same.

        Called on the worker's loop. An exception of `make` is given to all who asked, and the
        next who asks makes it anew.
        """
        ...

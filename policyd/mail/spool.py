"""
The message as it arrives at the milter: octet for octet what signatures were made over.

A header is its name, a colon, and what follows as the client wrote it, folding and all; lines end
in CR LF (RFC 5322 section 2.1). Small messages are kept in memory, others in a temporary file
without a name. A message for which there is no room is unreadable, which is no fault of the session
that it belongs to: checks that read it fail, and the rest goes on.
"""

import asyncio
import os
import re
import tempfile
from collections.abc import Awaitable, Callable
from typing import Any, Final, TypeVar

from policyd.mail.arrived import UnreadableError

T = TypeVar("T")

IN_MEMORY: Final = 2**20
"""Octets up to which a message stays in memory."""
_AT_ONCE: Final = 2**16
"""Octets that are written together; a smaller message that nobody reads is never written."""
_END_OF_HEADERS: Final = b"\r\n"
_LINE_END: Final = re.compile(rb"\r?\n")


def taken_apart(octets: bytes) -> tuple[tuple[tuple[str, bytes], ...], bytes]:
    """Give the headers of a message as Spool takes them, and its body; lines may end in LF."""
    header, _, body = _LINE_END.sub(b"\r\n", octets).partition(b"\r\n\r\n")
    lines = re.split(rb"\r\n(?![ \t])", header.removesuffix(b"\r\n"))
    named = (line.partition(b":") for line in lines)
    return tuple((name.decode("utf-8", "replace"), value) for name, _, value in named), body


class Spool:
    """
    Takes a message part by part, and is a mail.arrived.Arrived.

    The parts come on one thread after the other; what reads the message does so on one event loop,
    when all of it is there. drop() ends it.
    """

    def __init__(self, *, in_memory: int = IN_MEMORY) -> None:
        """Keep up to `in_memory` octets in memory, and more in the directory that TMPDIR names."""
        self._size = 0
        self._in_memory = in_memory
        self._waiting: list[bytes] = []
        self._waiting_size = 0
        self._descriptor: int | None = None
        self._on_disk = False
        self._headers_ended = False
        self._why_not = ""
        self._made: dict[str, asyncio.Task[Any]] = {}
        self._loop: asyncio.AbstractEventLoop | None = None

    @property
    def size(self) -> int:
        """Give the octets of headers and body."""
        return self._size if self._headers_ended else self._size + len(_END_OF_HEADERS)

    def header(self, name: str, value: bytes) -> None:
        """Take a header: what follows its colon, lines ended by LF or CR LF."""
        if b"\n" in value:
            value = _LINE_END.sub(b"\r\n", value)
        self._take(b"%b:%b\r\n" % (name.encode("utf-8", "surrogateescape"), value))

    def body(self, chunk: bytes) -> None:
        """Take a part of the body."""
        self._end_headers()
        self._take(chunk)

    def descriptor(self) -> int:
        """
        Give a descriptor of the whole message; see Arrived.

        UnreadableError if there was no room for it.
        """
        self._end_headers()
        self._write()
        if self._why_not or self._descriptor is None:
            raise UnreadableError(f"the message cannot be read: {self._why_not or 'it has ended'}")
        return self._descriptor

    async def once(self, key: str, make: Callable[[], Awaitable[T]]) -> T:
        """
        Make something of the message once; see Arrived.

        It goes on when those who asked do not wait any longer, for whoever asks next.
        """
        making = self._made.get(key)
        if making is None:
            self._loop = asyncio.get_running_loop()
            making = self._made[key] = self._loop.create_task(_awaited(make))
            making.add_done_callback(lambda done: self._over(key, done))
        found: T = await asyncio.shield(making)
        return found

    def drop(self) -> None:
        """Let go of the message, once what is still being made of it has ended; on any thread."""
        self._waiting.clear()
        self._why_not = "it has ended"
        if self._loop is None or self._loop.is_closed():
            self._close()
        else:
            self._loop.call_soon_threadsafe(self._give_up)

    def _end_headers(self) -> None:
        if not self._headers_ended:
            self._headers_ended = True
            self._take(_END_OF_HEADERS)

    def _take(self, part: bytes) -> None:
        self._size += len(part)
        if self._why_not:
            return
        self._waiting.append(part)
        self._waiting_size += len(part)
        if self._waiting_size >= _AT_ONCE:
            self._write()

    def _write(self) -> None:
        """Write what waits; where that cannot be done, the message is unreadable from now on."""
        if self._why_not or not self._waiting:
            return
        try:
            if not self._on_disk and self._size > self._in_memory:
                self._move_to_disk()
            elif self._descriptor is None:
                self._descriptor = os.memfd_create("policyd-message", os.MFD_CLOEXEC)
            for part in self._waiting:
                self._write_all(part)
        except (OSError, MemoryError) as error:
            reason = error.strerror if isinstance(error, OSError) else None
            self._why_not = reason or "no memory"
            self._close()
        self._waiting.clear()
        self._waiting_size = 0

    def _write_all(self, part: bytes) -> None:
        assert self._descriptor is not None
        rest = memoryview(part)
        while rest:
            rest = rest[os.write(self._descriptor, rest) :]

    def _move_to_disk(self) -> None:
        """Go on in a file without a name, which is gone with its last descriptor."""
        with tempfile.TemporaryFile(prefix="policyd-", buffering=0) as file:
            memory, self._descriptor = self._descriptor, os.dup(file.fileno())
        self._on_disk = True
        if memory is not None:
            try:
                self._write_all(os.pread(memory, os.fstat(memory).st_size, 0))
            finally:
                os.close(memory)

    def _over(self, key: str, done: asyncio.Task[Any]) -> None:
        """Forget what could not be made; its error has gone to those who waited."""
        if done.cancelled() or done.exception() is not None:
            self._made.pop(key, None)

    def _give_up(self) -> None:
        """Stop what is being made, and close behind it: a helper may be reading the file."""
        making = [task for task in self._made.values() if not task.done()]
        for task in making:
            task.cancel()
        if making:
            making[-1].add_done_callback(lambda _: self._give_up())
        else:
            self._close()

    def _close(self) -> None:
        if self._descriptor is not None:
            os.close(self._descriptor)
            self._descriptor = None


async def _awaited(make: Callable[[], Awaitable[T]]) -> T:
    return await make()

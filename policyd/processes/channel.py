"""
One end of a control socket between the supervisor and a process of its own.

Messages arrive whole, in order, with the descriptors that belong to them (unix(7): SOCK_SEQPACKET,
SCM_RIGHTS). Large things are no messages: they go as descriptors of anonymous files (see memory).
"""

import array
import asyncio
import errno
import os
import socket
from collections import deque
from collections.abc import Callable, Sequence
from typing import Any, Final, Generic, TypeVar

import msgspec

from policyd.processes.memory import let_go

MOST_DESCRIPTORS: Final = 250
"""In one packet; SCM_MAX_FD is 253. What has more sends the first of them ahead."""
_LARGEST: Final = 200_000
"""Octets of a message; the kernel takes no more in one packet (net.core.wmem_default)."""
_FORERUNNER: Final = b"\0"
"""A packet that brings descriptors of the message behind it; no message is this octet."""

_SHORT: Final = frozenset({errno.EAGAIN, errno.ENOBUFS, errno.ENOMEM, errno.ETOOMANYREFS})
_AGAIN: Final = 0.01
"""Seconds until a message is sent again for which there was no room."""

T = TypeVar("T")


class NonsenseError(Exception):
    """What came is no message of the type that is received here, or brings too many descriptors."""


class Channel(Generic[T]):
    """Sends any message, receives those of one type; used on one thread."""

    def __init__(self, end: socket.socket, receives: Any, most_descriptors: int = 10_000) -> None:
        """
        Take a connected socket; `receives` is a type of messages, or a union of such.

        A message may bring as many as `most_descriptors`.
        """
        self._most_descriptors = most_descriptors
        end.setblocking(False)
        self._socket = end
        self._encoder = msgspec.msgpack.Encoder()
        self._decoder: msgspec.msgpack.Decoder[T] = msgspec.msgpack.Decoder(receives)
        self._waiting: deque[tuple[bytes, tuple[int, ...]]] = deque()
        self._ahead: list[int] = []
        self._buffer = bytearray(_LARGEST)
        self._loop: asyncio.AbstractEventLoop | None = None
        self.closed = False

    def fileno(self) -> int:
        """Give the socket's descriptor."""
        return self._socket.fileno()

    # sending

    def offer(self, message: msgspec.Struct, descriptors: Sequence[int]) -> bool:
        """Send at once, or not at all if there is no room now, or nobody at the other end."""
        if self.closed or self._waiting:
            return False
        try:
            self._send(self._encoder.encode(message), descriptors)
        except OSError:
            return False
        return True

    def post(self, message: msgspec.Struct, descriptors: Sequence[int] = ()) -> None:
        """
        Send as soon as there is room; the descriptors stay the caller's.

        OSError for a message of more than the kernel takes.
        """
        if self.closed:
            return
        for first in range(0, max(len(descriptors) - MOST_DESCRIPTORS, 0), MOST_DESCRIPTORS):
            self._queue(_FORERUNNER, descriptors[first : first + MOST_DESCRIPTORS])
        ahead = -(-max(len(descriptors) - MOST_DESCRIPTORS, 0) // MOST_DESCRIPTORS)
        self._queue(self._encoder.encode(message), descriptors[ahead * MOST_DESCRIPTORS :])

    def _queue(self, octets: bytes, descriptors: Sequence[int]) -> None:
        if not self._waiting and self._sent(octets, descriptors):
            return
        if not self._waiting:
            self._go_on_later()
        self._waiting.append((octets, tuple(map(os.dup, descriptors))))

    def _go_on_later(self) -> None:
        # not when there is room: what is short may be another thing
        asyncio.get_running_loop().call_later(_AGAIN, self._go_on)

    def _go_on(self) -> None:
        while self._waiting and not self.closed:
            octets, descriptors = self._waiting[0]
            if not self._sent(octets, descriptors):
                self._go_on_later()
                return
            self._waiting.popleft()
            let_go(descriptors)

    def _sent(self, octets: bytes, descriptors: Sequence[int]) -> bool:
        try:
            self._send(octets, descriptors)
        except OSError as error:
            if error.errno == errno.EMSGSIZE:
                raise
            # short are room, memory, and how many descriptors may be on their way (unix(7))
            return error.errno not in _SHORT  # else the other end is gone, which listen() tells
        return True

    def _send(self, octets: bytes, descriptors: Sequence[int]) -> None:
        if descriptors:
            socket.send_fds(self._socket, [octets], list(descriptors), socket.MSG_NOSIGNAL)
        else:
            self._socket.send(octets, socket.MSG_NOSIGNAL)

    # receiving

    def listen(self, take: Callable[[T, list[int]], None], ended: Callable[[], None]) -> None:
        """Call `take` with each message and its descriptors, `ended` when no more will come."""
        self._loop = asyncio.get_running_loop()
        self._loop.add_reader(self._socket.fileno(), self._readable, take, ended)

    def _readable(self, take: Callable[[T, list[int]], None], ended: Callable[[], None]) -> None:
        while not self.closed:
            try:
                received = self.receive()
            except BlockingIOError:
                return
            if received is None:
                self.close()
                ended()
                return
            take(*received)

    def receive(self) -> tuple[T, list[int]] | None:
        """
        Take the next message; None at the end, BlockingIOError when there is none yet.

        NonsenseError when the other end does not send what it should.
        """
        while True:
            try:
                octets, descriptors = self._packet()
            except BlockingIOError:
                raise
            except OSError:
                return None
            self._ahead += descriptors
            if not octets:
                return None
            if octets == _FORERUNNER and len(self._ahead) <= self._most_descriptors:
                continue
            every, self._ahead = self._ahead, []
            return self._decoded(octets, every), every

    def _decoded(self, octets: bytes, descriptors: list[int]) -> T:
        why = f"{len(descriptors)} descriptors"
        if len(descriptors) <= self._most_descriptors:
            try:
                return self._decoder.decode(octets)
            except msgspec.MsgspecError as error:
                why = str(error)
        let_go(descriptors)
        raise NonsenseError(why)

    def _packet(self) -> tuple[bytes, list[int]]:
        # socket.recv_fds() would leave descriptors open to programs that we start
        size = array.array("i").itemsize
        length, ancillary, _flags, _address = self._socket.recvmsg_into(
            [self._buffer], socket.CMSG_SPACE(MOST_DESCRIPTORS * size), socket.MSG_CMSG_CLOEXEC
        )
        found = array.array("i")
        for level, kind, data in ancillary:
            if level == socket.SOL_SOCKET and kind == socket.SCM_RIGHTS:
                found.frombytes(data[: len(data) - len(data) % size])
        return bytes(self._buffer[:length]), found.tolist()

    # the end

    def close(self) -> None:
        """Close this end; what was not sent is forgotten."""
        if self.closed:
            return
        self.closed = True
        if self._loop is not None:
            self._loop.remove_reader(self._socket.fileno())
        let_go([each for _, descriptors in self._waiting for each in descriptors] + self._ahead)
        self._waiting.clear()
        self._ahead.clear()
        self._socket.close()


def pair() -> tuple[socket.socket, socket.socket]:
    """Make the two ends of a control socket."""
    return socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)

"""
Writing to a descriptor that others share, without ever waiting for it.

O_NONBLOCK belongs to the open file description, which standard error shares with whoever started
us (the shell, a supervisor, other workers): setting it there would change theirs. So the file is
opened a second time where that is possible, and each kind has its own way where it is not.
"""

import contextlib
import os
import select
import socket
import stat
from typing import Final, Protocol

MOST_OCTETS: Final = select.PIPE_BUF
"""A pipe takes this much whole or not at all (pipe(7)): writers do not tear each other's lines."""


class Output(Protocol):
    """Where bytes go."""

    def fileno(self) -> int:
        """Give the descriptor that says when there is room."""

    def write(self, data: bytes, /) -> int:
        """Write at most MOST_OCTETS and give how many; BlockingIOError when there is no room."""

    def close(self) -> None:
        """Give up the descriptor."""


def open_output(descriptor: int) -> Output:
    """Open a way of our own to a descriptor; OSError when it is closed."""
    mode = os.fstat(descriptor).st_mode
    if stat.S_ISSOCK(mode):
        return _Socket(descriptor)
    if stat.S_ISFIFO(mode) or os.isatty(descriptor):
        # Refused to another user, or without a reader (ENXIO): then the shared one has to do.
        with contextlib.suppress(OSError):
            return _Plain(
                os.open(
                    f"/proc/self/fd/{descriptor}",
                    os.O_WRONLY | os.O_NONBLOCK | os.O_NOCTTY | os.O_CLOEXEC,
                )
            )
        return (_Spliced if stat.S_ISFIFO(mode) else _Polled)(os.dup(descriptor))
    # A regular file has no O_NONBLOCK, and its offset has to stay shared, or two writers of
    # `2>file` overwrite each other.
    return _Plain(os.dup(descriptor))


class _Plain:
    """A descriptor of our own: non-blocking, or of a kind that never is."""

    def __init__(self, descriptor: int) -> None:
        self._descriptor = descriptor

    def fileno(self) -> int:
        return self._descriptor

    def write(self, data: bytes, /) -> int:
        return os.write(self._descriptor, data[:MOST_OCTETS])

    def close(self) -> None:
        os.close(self._descriptor)


class _Spliced(_Plain):
    """
    A blocking pipe: what is written is moved there from a pipe of our own.

    splice(2) can be told not to wait, where write(2) on a pipe that had room a moment ago waits
    if another process has taken it meanwhile. One page is moved whole or not at all.
    """

    def __init__(self, descriptor: int) -> None:
        super().__init__(descriptor)
        self._taken, self._given = os.pipe2(os.O_CLOEXEC | os.O_NONBLOCK)

    def write(self, data: bytes, /) -> int:
        written = os.write(self._given, data[:MOST_OCTETS])
        try:
            return os.splice(self._taken, self.fileno(), written, flags=os.SPLICE_F_NONBLOCK)
        except OSError:
            os.read(self._taken, written)
            raise

    def close(self) -> None:
        super().close()
        os.close(self._taken)
        os.close(self._given)


class _Polled(_Plain):
    """Another user's terminal, written when it has some room: stopped (^S) it can be waited for."""

    def __init__(self, descriptor: int) -> None:
        super().__init__(descriptor)
        self._poll = select.poll()
        self._poll.register(descriptor, select.POLLOUT)

    def write(self, data: bytes, /) -> int:
        if not self._poll.poll(0):
            raise BlockingIOError
        return super().write(data)


class _Socket:
    """A socket, such as the journal's: each call says for itself that it does not wait."""

    def __init__(self, descriptor: int) -> None:
        self._socket = socket.socket(fileno=os.dup(descriptor))

    def fileno(self) -> int:
        return self._socket.fileno()

    def write(self, data: bytes, /) -> int:
        return self._socket.send(data[:MOST_OCTETS], socket.MSG_DONTWAIT)

    def close(self) -> None:
        self._socket.close()

"""
Where log lines go without anyone waiting for them.

Lines are kept in a bounded buffer and written by the event loop, whole lines in writes of at most
4 KiB. When nobody reads, lines are dropped and counted. Before the loop runs, and in `close`, they
are written at once, with a bounded wait.
"""

import asyncio
import contextlib
import errno
import select
import threading
import time
from collections import deque
from collections.abc import Callable
from typing import Final

from policyd.observe.output import MOST_OCTETS, Output, open_output

MOST_LINES: Final = 16_384
MOST_BUFFERED: Final = 4 * 1024 * 1024
"""Octets that wait at most: some ten thousand decisions, seconds of a burst."""

_WRITES_A_TURN: Final = 16
"""As much as a pipe holds by default (64 KiB): a turn that answers many writes as many lines."""
_FULL: Final = frozenset({errno.ENOSPC, errno.EDQUOT, errno.EFBIG})
_START_UP_WAIT: Final = 0.1
"""Seconds that a line waits for room before the loop runs."""


class Sink:
    """
    Takes lines from any thread and writes them to a descriptor.

    `dropped` is called with the number of lines lost, outside of any lock of ours, once the loop
    runs always on its thread.
    """

    def __init__(
        self,
        descriptor: int | None,
        dropped: Callable[[int], None],
        *,
        most_lines: int = MOST_LINES,
        most_octets: int = MOST_BUFFERED,
    ) -> None:
        """Open the descriptor a second time; None, or a closed one, drops every line."""
        self._output: Output | None = None
        if descriptor is not None:
            with contextlib.suppress(OSError):
                self._output = open_output(descriptor)
        self._dropped = dropped
        self._most_lines = most_lines
        self._most_octets = most_octets
        self._lock = threading.Lock()
        self._lines: deque[bytes] = deque()
        self._octets = 0
        self._lost = 0
        self._closed = self._output is None
        self._busy = False  # somebody writes or has been told to
        self._telling = False
        self._loop: asyncio.AbstractEventLoop | None = None
        self._thread = 0
        # Of the writer alone: what is being written, and whether a line was left torn.
        self._pending = b""
        self._torn = False
        self._choked = False

    def start(self, loop: asyncio.AbstractEventLoop) -> None:
        """Leave the writing to the loop from now on; call it on the loop's thread."""
        self._loop = loop
        self._thread = threading.get_ident()
        with self._lock:
            self._busy = True
        loop.call_soon(self._turn)

    def write(self, line: bytes) -> None:
        """Take a line, its newline included, of at most MOST_OCTETS; never waits, never raises."""
        wake = tell = False
        with self._lock:
            if (
                self._closed
                or len(self._lines) >= self._most_lines
                or self._octets + len(line) > self._most_octets
            ):
                self._lost += 1
                tell = not self._telling
                self._telling = True
            else:
                self._lines.append(line)
                self._octets += len(line)
                wake = not self._busy
                self._busy = True
        if wake:
            self._begin()
        if tell and not self._call(self._tell):
            self._tell()

    def close(self, seconds: float) -> None:
        """Write what is left, for at most `seconds`; what comes later is dropped."""
        loop, self._loop = self._loop, None
        if loop is not None and self._output is not None and not loop.is_closed():
            loop.remove_writer(self._output.fileno())
        with self._lock:
            self._closed = True
        self._drain(time.monotonic() + seconds)
        with self._lock:
            self._lost += len(self._lines) + self._unwritten()
            self._lines.clear()
            self._octets = 0
        if self._output is not None:
            self._output.close()
            self._output = None
        self._tell()

    def _call(self, callback: Callable[[], None]) -> bool:
        """Have the loop call back soon; false when there is none."""
        loop = self._loop
        if loop is None:
            return False
        try:
            if threading.get_ident() == self._thread:
                loop.call_soon(callback)
            else:
                loop.call_soon_threadsafe(callback)
        except RuntimeError:  # it is closed
            return False
        return True

    def _begin(self) -> None:
        """
        See to it that what waits is written.

        Another thread than the loop's, a milter callback, writes itself as long as there is room:
        to wake the loop for each line would cost it more than the line.
        """
        if self._loop is not None and threading.get_ident() != self._thread:
            if self._some() and not self._call(self._turn):
                self._write_now()
        elif not self._call(self._turn):
            self._write_now()

    def _turn(self) -> None:
        """Write what fits into one turn of the loop, then wait for room or for the next turn."""
        loop, output = self._loop, self._output
        if loop is None or output is None or not self._some():
            return
        if self._choked:
            loop.add_writer(output.fileno(), self._there_is_room, loop, output)
        else:
            loop.call_soon(self._turn)

    def _some(self) -> bool:
        """Write what fits into a turn; true if some is left, `_choked` if for want of room."""
        output = self._output
        self._choked = False
        for _ in range(_WRITES_A_TURN):
            if output is None or not self._take():
                return False
            if not self._put(output):
                self._choked = True
                return True
        return True

    def _there_is_room(self, loop: asyncio.AbstractEventLoop, output: Output) -> None:
        loop.remove_writer(output.fileno())
        self._turn()

    def _write_now(self) -> None:
        self._drain(time.monotonic() + _START_UP_WAIT)
        with self._lock:
            self._busy = False

    def _drain(self, until: float) -> None:
        """Write until the buffer is empty or the time has come."""
        output = self._output
        if output is None:
            return
        room = select.poll()
        room.register(output.fileno(), select.POLLOUT)
        while self._take():
            if not self._put(output):
                left = until - time.monotonic()
                if left <= 0 or not room.poll(left * 1000):
                    return

    def _take(self) -> bool:
        """Fill `_pending` with whole lines; false, and nobody busy, when there are none."""
        if self._pending:
            return True
        with self._lock:
            lines = self._lines
            if not lines:
                self._busy = False
                return False
            chunk = [b"\n"] if self._torn else []
            size = len(chunk)
            while lines and (size + len(lines[0]) <= MOST_OCTETS or size <= 1):
                size += len(lines[0])
                chunk.append(lines.popleft())
            self._octets -= size - self._torn
        self._pending = b"".join(chunk)
        return True

    def _put(self, output: Output) -> bool:
        """Write some of `_pending`; false when there is no room."""
        try:
            written = output.write(self._pending)
        except BlockingIOError:
            return False
        except OSError as error:  # the disk is full, or nobody can read any more
            # When it is full, it may be another process's line that was cut short.
            self._torn |= error.errno in _FULL
            lost = self._unwritten()
            with self._lock:
                self._lost += lost
                tell = not self._telling
                self._telling = True
            if tell and not self._call(self._tell):
                self._tell()
            return True
        self._torn = self._pending[written - 1 : written] != b"\n"
        self._pending = self._pending[written:]
        return True

    def _unwritten(self) -> int:
        """Give up `_pending` and say how many lines it had."""
        pending, self._pending = self._pending, b""
        return pending.removeprefix(b"\n").count(b"\n")

    def _tell(self) -> None:
        with self._lock:
            lost, self._lost = self._lost, 0
            self._telling = False
        if lost:
            self._dropped(lost)

"""
Processes that do work for a worker: one that takes too long is killed, and another begins.

Work is imported by its name in a helper process (see helper) and called on one of its threads. What
was under way in a process that ends is done anew in another, once. If it is not known which piece
ended it, at most one of them is in a process at a time from then on, so that the one to blame does
not take the others with it twice. Everything here is on one loop, in a thread with which the
processes end (prctl(2): PR_SET_PDEATHSIG).
"""

import asyncio
import contextlib
from collections import deque
from collections.abc import Awaitable, Callable, Sequence
from typing import Final

from policyd.processes.messages import Begin
from policyd.processes.running import Piece, Process
from policyd.processes.work import WorkError

MEMORY: Final = 2**30
"""Octets that a process may have (setrlimit(2): RLIMIT_DATA; reserved addresses do not count)."""
MOST_WAITING: Final = 500
"""Pieces of work that may wait for a process."""
_FIRST_DELAY: Final = 0.1
_LONGEST_DELAY: Final = 10.0
_DOUBLINGS: Final = 10
"""As many as count."""
_BURIED_WITHIN: Final = 1.0
"""Seconds that the end may take; a process that the kernel holds up is not waited for."""


class Pool:
    """Does work in processes of its own (work.Runner); the first is started by the first work."""

    def __init__(
        self,
        *,
        processes: int,
        at_once: int,
        answer: Callable[[bytes], Awaitable[bytes]] | None = None,
        memory: int = MEMORY,
        most_waiting: int = MOST_WAITING,
    ) -> None:
        """
        Begin with no process, and have at most `processes`, each doing `at_once` pieces of work.

        `answer` answers what work asks: WorkError there is one in the work. `memory` is in octets,
        a process's. Beyond `most_waiting`, work is refused.
        """
        self._most = processes
        self._at_once = at_once
        self._answer = answer
        self._memory = memory
        self._most_waiting = most_waiting
        self._modules: tuple[str, ...] = ()
        self._processes: list[Process] = []
        self._unburied: set[Process] = set()
        self._waiting: deque[Piece] = deque()
        self._again: deque[Piece] = deque()
        self._keep = 0
        self._vain = 0
        self._why_not = ""
        self._not_before = 0.0
        self._retry: asyncio.TimerHandle | None = None
        self._closed = False
        self._all_buried = asyncio.Event()

    def start(self, *modules: str) -> None:
        """Start all processes ahead of work, which import these modules before it comes."""
        new = tuple(module for module in modules if module not in self._modules)
        self._modules += new
        for process in self._processes if new else ():
            process.prepare(new)
        self._keep = self._most
        self._hire()

    async def run(
        self, work: str, payload: bytes, *, limit: float, descriptors: Sequence[int] = ()
    ) -> bytes:
        """
        Have work done (work.Runner.run()); refused at once when too much waits, or none can start.

        Work that nobody waits for any more is not begun; once begun, it has its seconds.
        """
        if self._closed:
            raise WorkError("no more work is done here")
        if len(self._waiting) >= self._most_waiting:
            raise WorkError(f"{len(self._waiting)} pieces of work wait already")
        if not self._processes and asyncio.get_running_loop().time() < self._not_before:
            raise WorkError(f"there is no process for it: {self._why_not}")
        piece = Piece(work, payload, limit, descriptors)
        self._waiting.append(piece)
        self._assign()
        try:
            return await piece.result
        except asyncio.CancelledError:
            with contextlib.suppress(ValueError):  # it is begun already
                self._waiting.remove(piece)
            raise

    async def close(self) -> None:
        """End all processes; what waits for work gets a WorkError."""
        self._closed = True
        if self._retry is not None:
            self._retry.cancel()
        self._fail_all("its processes are ended")
        for process in tuple(self._processes):
            process.kill("its processes are ended")
        if self._unburied:
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(_BURIED_WITHIN):
                    await self._all_buried.wait()

    # what work goes where

    def _assign(self) -> None:
        for piece in tuple(self._again):
            process = self._free(piece)
            if process is not None or piece.result.done():
                self._again.remove(piece)
            if process is not None and not piece.result.done():
                process.do(piece)
        while self._waiting and (process := self._free(self._waiting[0])) is not None:
            process.do(self._waiting.popleft())
        self._hire()

    def _free(self, piece: Piece) -> Process | None:
        """Give the process that has least to do and can do a piece of work, if there is one."""
        free = [
            process
            for process in self._processes
            if process.ready
            and len(process.pieces) < self._at_once
            and not (piece.suspect and any(other.suspect for other in process.pieces.values()))
        ]
        return min(free, key=lambda process: len(process.pieces), default=None)

    # which processes there are

    def _hire(self) -> None:
        """Start as many processes as work waits for, or as are to be kept."""
        while not self._closed and len(self._processes) < self._most and self._is_short():
            loop = asyncio.get_running_loop()
            wait = self._not_before - loop.time()
            if wait > 0:
                if self._retry is None:
                    self._retry = loop.call_later(wait, self._try_again)
                return
            try:
                process = Process(
                    Begin(self._at_once, self._memory, self._modules), self, self._answer
                )
            except OSError as error:
                self._slow_down(str(error.strerror))
                continue
            self._processes.append(process)
            self._unburied.add(process)
            self._all_buried.clear()

    def _is_short(self) -> bool:
        starting = sum(not process.ready for process in self._processes)
        waiting = len(self._waiting) + len(self._again)
        return len(self._processes) < self._keep or waiting > starting * self._at_once

    def _try_again(self) -> None:
        self._retry = None
        self._assign()

    def _slow_down(self, why: str) -> None:
        """Start the next process later, the more processes before it were started in vain."""
        if self._vain:
            delay = min(_FIRST_DELAY * 2 ** min(self._vain, _DOUBLINGS), _LONGEST_DELAY)
            self._not_before = asyncio.get_running_loop().time() + delay
        self._vain += 1
        self._why_not = why
        if not self._processes:
            self._fail_all(f"no process for it can be started: {why}")

    def _fail_all(self, why: str) -> None:
        for queue in (self._again, self._waiting):
            while queue:
                queue.popleft().failed(why)

    # running.Owner

    def is_ready(self, _process: Process) -> None:
        """Give it work."""
        self._assign()

    def is_free(self, _process: Process) -> None:
        """Give it more work."""
        self._vain = 0
        self._assign()

    def is_gone(self, process: Process, left: Sequence[Piece], why: str, *, suspect: bool) -> None:
        """Have done anew what need not be to blame, and another process if one is needed."""
        self._processes.remove(process)
        blamed = suspect and len(left) == 1
        for piece in left:
            if blamed or piece.begun_anew or self._closed:
                piece.failed(f"{piece.work}: {why}")
            else:
                piece.begun_anew = True
                piece.suspect = suspect
                self._again.append(piece)
        if not process.worked:
            self._slow_down(why)
        if not self._closed:
            self._assign()

    def is_buried(self, process: Process) -> None:
        """Take note of it, for close()."""
        self._unburied.discard(process)
        if not self._unburied:
            self._all_buried.set()

"""One helper process as its pool sees it: started, given work, watched, killed, buried."""

import asyncio
import contextlib
import os
import signal
from collections.abc import Awaitable, Callable, Sequence
from typing import Final, Protocol

from policyd.processes.channel import Channel, NonsenseError, pair
from policyd.processes.memory import let_go
from policyd.processes.messages import (
    Asked,
    Begin,
    Do,
    Done,
    Failed,
    FromHelper,
    Import,
    Ready,
    ToHelper,
    Told,
    parcel,
    reason,
    unparcel,
)
from policyd.processes.spawn import start_module
from policyd.processes.work import WorkError

START_WITHIN: Final = 30.0
"""Seconds from a process's start until it can work: the imports of what it was told to import."""
_AT_A_TURN: Final = 64
"""Messages that are taken in one turn of the loop, which others wait for."""


class Piece:
    """A piece of work: what is to be done, and who waits for it while somebody does."""

    def __init__(self, work: str, payload: bytes, limit: float, descriptors: Sequence[int]) -> None:
        """Take what Runner.run() was given."""
        self.work = work
        self.payload = payload
        self.limit = limit
        self.descriptors = descriptors
        self.result: asyncio.Future[bytes] = asyncio.get_running_loop().create_future()
        self.begun_anew = False
        """Its process ended under it once."""
        self.suspect = False
        """That may have been its fault."""
        self.timer: asyncio.TimerHandle | None = None
        self.asking: asyncio.Task[None] | None = None

    def done(self, octets: bytes) -> None:
        """Give the result to whoever still waits."""
        self.stop()
        if not self.result.done():
            self.result.set_result(octets)

    def failed(self, why: str) -> None:
        """Tell whoever still waits that there is no result."""
        self.stop()
        if not self.result.done():
            self.result.set_exception(WorkError(why))

    def stop(self) -> None:
        """Be worked at no longer."""
        if self.timer is not None:
            self.timer.cancel()
            self.timer = None
        if self.asking is not None:
            self.asking.cancel()
            self.asking = None


class Owner(Protocol):
    """What a process tells; its pool."""

    def is_ready(self, process: "Process") -> None:
        """Take note that a process can work."""
        ...

    def is_free(self, process: "Process") -> None:
        """Take note that a process has done a piece of work."""
        ...

    def is_gone(
        self, process: "Process", left: Sequence[Piece], why: str, *, suspect: bool
    ) -> None:
        """
        Take note that a process does no more work, and what is left of what it did.

        With `suspect`, one of these may be to blame; else none of them is.
        """
        ...

    def is_buried(self, process: "Process") -> None:
        """Take note that nothing is left of a process."""
        ...


class Process:
    """
    One process. After is_gone() it has no work; after is_buried() nothing is left of it.

    Whatever it sends that it should not is its end.
    """

    def __init__(
        self, begin: Begin, owner: Owner, answer: Callable[[bytes], Awaitable[bytes]] | None
    ) -> None:
        """Start; OSError if that cannot be done. `answer` is for what work asks."""
        self.ready = False
        self.worked = False
        self.pieces: dict[int, Piece] = {}
        self._owner = owner
        self._answer = answer
        self._number = 0
        self._gone = False
        self._loop = asyncio.get_running_loop()
        ours, theirs = pair()
        with contextlib.ExitStack() as undo:
            undo.callback(ours.close)
            with theirs:
                self._process = start_module("policyd.processes.helper", theirs.fileno())
            undo.callback(self._process.wait)
            undo.callback(self._process.kill)
            self._pid = os.pidfd_open(self._process.pid)
            undo.pop_all()
        self._channel: Channel[FromHelper] = Channel(ours, FromHelper, most_descriptors=1)
        self._loop.add_reader(self._pid, self._ended)
        self._loop.add_reader(self._channel.fileno(), self._read)
        self._starting = self._loop.call_later(
            START_WITHIN, self.kill, f"it was not ready within {START_WITHIN:g} s"
        )
        self._channel.post(begin)

    def prepare(self, modules: Sequence[str]) -> None:
        """Have modules imported that work is going to need."""
        self._channel.post(Import(tuple(modules)))

    def do(self, piece: Piece) -> None:
        """Have a piece of work done; its seconds begin."""
        self.worked = True
        self._number += 1
        number = self._number
        try:
            octets, extra = parcel(piece.payload)
        except OSError as error:
            piece.failed(f"its payload cannot be handed over: {error.strerror}")
            return
        self.pieces[number] = piece
        piece.timer = self._loop.call_later(piece.limit, self._late, number)
        try:
            self._post(Do(number, piece.work, octets), (*extra, *piece.descriptors))
        except OSError as error:
            del self.pieces[number]
            piece.failed(f"its descriptors cannot be handed over: {error.strerror}")
        finally:
            let_go(extra)

    def _post(self, message: ToHelper, descriptors: Sequence[int] = ()) -> None:
        self._channel.post(message, descriptors)

    # what it says

    def _read(self) -> None:
        for _ in range(_AT_A_TURN):
            if self._channel.closed:
                return
            try:
                received = self._channel.receive()
            except BlockingIOError:
                return
            except NonsenseError as error:
                self._nonsense(error)
                return
            if received is None:  # it ends, or will now; how, its status tells
                self._stop_reading()
                self._kill()
                return
            message, descriptors = received
            try:
                self._take(message, descriptors)
            except (KeyError, ValueError) as error:
                self._nonsense(error)
            finally:
                let_go(descriptors)

    def _nonsense(self, error: Exception) -> None:
        self.kill(f"the process sent nonsense: {reason(error)}", suspect=True)

    def _take(self, message: FromHelper, descriptors: list[int]) -> None:
        """Take a message; KeyError or ValueError if it is none that can come now."""
        match message:
            case Ready():
                if self.ready:
                    raise ValueError("ready twice")
                self.ready = True
                self._starting.cancel()
                self._owner.is_ready(self)
            case Asked(number, octets):
                piece = self.pieces[number]
                if piece.asking is not None:
                    raise ValueError("a piece of work asks twice at once")
                asked = unparcel(octets, descriptors)
                piece.asking = self._loop.create_task(self._tell(number, piece, asked))
            case Done(number, octets):
                result = unparcel(octets, descriptors)
                self.pieces.pop(number).done(result)
                self._owner.is_free(self)
            case Failed(number, why, spent):
                self.pieces.pop(number).failed(why)
                if spent:
                    self.kill(f"the process was ended, since other work failed: {why}")
                else:
                    self._owner.is_free(self)

    async def _tell(self, number: int, piece: Piece, asked: bytes) -> None:
        extra: list[int] = []
        try:
            if self._answer is None:
                raise WorkError("nobody answers what is asked here")  # noqa: TRY301 -- as others
            octets, extra = parcel(await self._answer(asked))
            told = Told(number, octets)
        except Exception as error:  # noqa: BLE001 -- it is the work's business
            told = Told(number, why=reason(error) or type(error).__name__)
        piece.asking = None
        try:
            self._post(told, extra)
        finally:
            let_go(extra)

    # the end

    def _late(self, number: int) -> None:
        self._read()  # the loop may have been the one that was late
        piece = self.pieces.pop(number, None)
        if piece is not None:
            piece.failed(f"{piece.work} took longer than {piece.limit:g} s")
            self.kill(f"the process was killed, since {piece.work} took too long in it")

    def kill(self, why: str, *, suspect: bool = False) -> None:
        """End it now, and say why to whoever has work in it; `suspect` as in Owner.is_gone()."""
        self._kill()
        self._leave(why, suspect=suspect)

    def _kill(self) -> None:
        if self._process.returncode is None:
            with contextlib.suppress(OSError):  # it is not yet a group's leader
                os.killpg(self._process.pid, signal.SIGKILL)
            self._process.kill()

    def _stop_reading(self) -> None:
        if not self._channel.closed:
            self._loop.remove_reader(self._channel.fileno())
            self._channel.close()

    def _leave(self, why: str, *, suspect: bool) -> None:
        if self._gone:
            return
        self._gone = True
        self._starting.cancel()
        self._stop_reading()
        left = tuple(self.pieces.values())
        self.pieces.clear()
        for piece in left:
            piece.stop()
        self._owner.is_gone(self, left, why, suspect=suspect)

    def _ended(self) -> None:
        """Take note of the end; what it said last counts."""
        self._loop.remove_reader(self._pid)
        os.close(self._pid)
        self._kill()  # what it has started; it is not waited for yet, so the number is its own
        status = self._process.wait()
        self._read()
        self._leave(f"the process {_how(status)}", suspect=True)
        self._owner.is_buried(self)


def _how(status: int) -> str:
    """Say how a process ended (subprocess.Popen.returncode)."""
    if status >= 0:
        return f"ended with status {status}"
    try:
        return f"was ended by {signal.Signals(-status).name}"
    except ValueError:
        return f"was ended by signal {-status}"

"""
A helper: a process that does work for a worker (see work and pool), a few pieces at once.

The main thread talks with the worker, other threads work. What reads hostile mail here has nothing
of the worker's, little memory, and no say: it ends when the worker kills it or is gone.
"""

import contextlib
import ctypes
import importlib
import os
import queue
import resource
import select
import signal
import socket
import sys
import threading
import time
import traceback
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from functools import lru_cache
from pathlib import Path
from typing import Final, cast

from policyd.processes.channel import Channel
from policyd.processes.memory import let_go
from policyd.processes.messages import (
    LONGEST_REASON,
    MOST_OCTETS,
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
from policyd.processes.spawn import ignore_signals
from policyd.processes.work import Work, WorkError

_NICER: Final = 5
"""Steps of nice(2) behind the worker, which answers everyone."""
_KILLED_FIRST: Final = 500
"""Points of proc(5)'s oom_score_adj: memory is taken from a helper before its worker."""
_STACK: Final = 4 * 2**20
"""Octets of a thread's stack, which count as its process's memory."""
_AGAIN: Final = 0.002
"""Seconds until a message is sent again for which there was no room."""
_PR_SET_PDEATHSIG: Final = 1


class Helper:
    """What one process has."""

    def __init__(self, end: socket.socket) -> None:
        """Take the helper's end of its control socket."""
        self._channel: Channel[ToHelper] = Channel(end, ToHelper)
        self._sending = threading.Lock()
        self._readable = select.poll()
        self._readable.register(self._channel.fileno(), select.POLLIN)
        self._answers: dict[int, queue.SimpleQueue[Told | bytes]] = {}
        self._threads = ThreadPoolExecutor(1)

    def run(self) -> None:
        """Obey until the worker is gone."""
        while True:
            try:
                received = self._channel.receive()
            except BlockingIOError:
                self._readable.poll()
                continue
            if received is None:
                return
            self._obey(*received)

    def _obey(self, message: ToHelper, descriptors: list[int]) -> None:
        match message:
            case Do():
                self._threads.submit(self._do, message, descriptors)
            case Told():
                self._hand_over(message, descriptors)
            case Begin():
                resource.setrlimit(resource.RLIMIT_DATA, (message.memory, message.memory))
                threading.stack_size(_STACK)
                self._threads = ThreadPoolExecutor(message.at_once)
                _import(message.modules)
                self._say(Ready())
            case Import():
                self._threads.submit(_import, message.modules)

    def _hand_over(self, told: Told, descriptors: list[int]) -> None:
        try:
            answer: Told | bytes = told if told.why else unparcel(told.octets, descriptors)
        finally:
            let_go(descriptors)
        waiting = self._answers.get(told.piece)
        if waiting is not None:
            waiting.put(answer)

    # on the threads that work

    def _do(self, do: Do, descriptors: list[int]) -> None:
        try:
            octets, extra = parcel(self._result(do, descriptors))
        except MemoryError:
            self._say(Failed(do.piece, "there is not enough memory for it", spent=True))
        except BaseException as error:  # noqa: BLE001 -- whatever it raises is the work's failure
            self._say(Failed(do.piece, _why(error)))
        else:
            self._say(Done(do.piece, octets), extra)

    def _result(self, do: Do, descriptors: list[int]) -> bytes:
        try:
            payload = unparcel(do.octets, descriptors)
            given = tuple(descriptors if do.octets is not None else descriptors[1:])
            result = _work(do.work)(payload, given, lambda asked: self._ask(do, asked))
        finally:
            self._answers.pop(do.piece, None)
            let_go(descriptors)
        if not isinstance(result, bytes):
            raise WorkError(f"{do.work} gave {type(result).__name__}, not bytes")
        if len(result) > MOST_OCTETS:
            raise WorkError(f"{do.work} gave {len(result)} octets, more than {MOST_OCTETS}")
        return result

    def _ask(self, do: Do, asked: bytes) -> bytes:
        """Ask the worker; WorkError if it has no answer."""
        answers = self._answers.setdefault(do.piece, queue.SimpleQueue())
        octets, extra = parcel(asked)
        self._say(Asked(do.piece, octets), extra)
        answer = answers.get()
        if isinstance(answer, Told):
            raise WorkError(answer.why)
        return answer

    def _say(self, message: FromHelper, descriptors: Sequence[int] = ()) -> None:
        with self._sending:
            while not self._channel.offer(message, descriptors):
                time.sleep(_AGAIN)  # until there is room, or the main thread finds nobody there
        let_go(tuple(descriptors))


@lru_cache(maxsize=256)
def _work(name: str) -> Work:
    module, _, function = name.partition(":")
    return cast("Work", getattr(importlib.import_module(module), function))


def _import(modules: Sequence[str]) -> None:
    importlib.invalidate_caches()  # one may have been installed since this process began
    for module in modules:
        with contextlib.suppress(Exception):  # the work that needs it will say what is wrong
            importlib.import_module(module)


def _why(error: BaseException) -> str:
    """Say what went wrong, and where if it was not foreseen."""
    if isinstance(error, WorkError):
        return reason(error)
    where = traceback.extract_tb(error.__traceback__)[-1]
    place = f" ({Path(where.filename).name}:{where.lineno})"[:LONGEST_REASON]
    return f"{type(error).__name__}: {reason(error)}"[: LONGEST_REASON - len(place)] + place


def _confine() -> None:
    """Be a process that its worker's end ends, that is no trouble for others, and that is alone."""
    os.setsid()  # what work starts is in its group and killed with it
    ctypes.CDLL(None, use_errno=True).prctl(_PR_SET_PDEATHSIG, signal.SIGKILL)
    os.dup2(2, 1)  # what work prints is not the output of the command that uses it
    os.nice(_NICER)
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
    with contextlib.suppress(OSError):  # proc(5) may not be there
        Path("/proc/self/oom_score_adj").write_text(str(_KILLED_FIRST))


def main() -> None:
    """Work for whoever has the other end of the socket whose number is the first argument."""
    ignore_signals()
    _confine()
    try:
        end = socket.socket(fileno=int(sys.argv[1]))
        end.set_inheritable(False)  # not for programs that work starts
        Helper(end).run()
    except BaseException:  # noqa: BLE001 -- threads may be at work and are not waited for
        traceback.print_exc()
    finally:
        os.killpg(0, signal.SIGKILL)


if __name__ == "__main__":
    main()

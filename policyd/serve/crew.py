"""
The workers, as the supervisor sees them: started, told, watched, and replaced.

A worker that dies or hangs is replaced in its place (its number stays), so its row of the metrics
goes on. One that dies right after it began to serve, or before, is replaced more and more slowly.
"""

import asyncio
import socket
import subprocess
import time
from collections import deque
from collections.abc import Callable, Coroutine, Iterator, Sequence
from enum import StrEnum
from typing import Final

from policyd.processes.channel import Channel, pair
from policyd.processes.memory import let_go
from policyd.processes.spawn import start_module
from policyd.serve.messages import (
    Begin,
    Connection,
    Drain,
    Drained,
    Finish,
    FromWorker,
    Ready,
    Take,
    TakeList,
    Uses,
)
from policyd.serve.pulse import INTERVAL, Pulse, new_memory
from policyd.smtp.stage import FrontEnd

HUNG_AFTER: Final = 5.0
"""
Seconds without a beat after which a worker is replaced; Postfix waits 100 for a policy answer and
30 for a milter's (smtpd_policy_service_timeout, milter_command_timeout).
"""
START_WITHIN: Final = 60.0
"""Seconds from start to serving."""
LOOK_EVERY: Final = 0.5
"""Seconds between looks at the pulses."""
_FRESH: Final = 3 * INTERVAL
"""Seconds since the last beat within which a worker is given connections."""
_TIDY_AFTER: Final = 0.02
"""Seconds after which a worker has received what it was given, if it turns."""
_SHORT_LIFE: Final = 1.0
"""Seconds of serving; who dies earlier is replaced more slowly each time."""
_FIRST_DELAY: Final = 0.1
_LONGEST_DELAY: Final = 10.0
_DOUBLINGS: Final = 10
"""As many as count; a power of more than a day's short lives is no number any more."""


class State(StrEnum):
    """What a worker is doing."""

    STARTING = "starting"
    SERVING = "serving"
    ENDED = "ended"


class Why(StrEnum):
    """Why a worker was replaced (observe.known.RESTARTS)."""

    EXIT = "exit"
    SIGNAL = "signal"
    HUNG = "hung"
    START = "start"


class Worker:
    """One worker process: its control socket, its pulse, and what is known of it."""

    def __init__(self, number: int, begin: Begin, milter: socket.socket | None) -> None:
        """Start a process; OSError if that cannot be done."""
        self.number = number
        self.state = State.STARTING
        self.newest = self.oldest = 0
        self.drained = False
        self.why_killed: Why | None = None
        self.since = time.monotonic()
        self._given = 0
        self._untaken: deque[socket.socket] = deque()
        ours, theirs = pair()
        memory = new_memory()
        try:
            with theirs:
                self._process: subprocess.Popen[bytes] = start_module(
                    "policyd.serve.worker", theirs.fileno()
                )
            self.pulse = Pulse(memory)
            self.channel: Channel[FromWorker] = Channel(ours, FromWorker)
            shared = [memory] if milter is None else [memory, milter.fileno()]
            self.channel.post(begin, shared)
        except BaseException:
            ours.close()
            raise
        finally:
            let_go([memory])

    @property
    def pid(self) -> int:
        """Its process id."""
        return self._process.pid

    @property
    def connections(self) -> int:
        """Policy connections that it holds, or that are on their way to it."""
        return self._given - self.pulse.closed

    @property
    def sessions(self) -> int:
        """Milter sessions that are open."""
        return self.pulse.sessions

    def held(self, front_end: FrontEnd) -> int:
        """How many connections of a front end it holds."""
        return self.connections if front_end is FrontEnd.POLICY else self.sessions

    def give(self, connection: socket.socket) -> bool:
        """
        Pass a connection on, which is the worker's then; false if its control socket has no room.

        It is kept here until the worker has received it: who is lost before that has read nothing
        of it, so another can have it.
        """
        if not self.channel.offer(Connection(), [connection.fileno()]):
            return False
        if not self._untaken:
            asyncio.get_running_loop().call_later(_TIDY_AFTER, self._tidy)
        self._given += 1
        self._untaken.append(connection)
        return True

    def _tidy(self) -> None:
        """Let go what the worker has received by now."""
        if self.state is State.ENDED:
            return
        while len(self._untaken) > self._given - self.pulse.taken:
            self._untaken.popleft().close()
        if self._untaken:
            asyncio.get_running_loop().call_later(_TIDY_AFTER, self._tidy)

    def untaken(self) -> list[socket.socket]:
        """Give back what a worker that is lost has not received."""
        self._tidy()
        found = list(self._untaken)
        self._untaken.clear()
        return found

    def silent(self, now: float) -> float:
        """Seconds since its last beat; while it starts, since the start."""
        return now - (self.pulse.beat if self.state is State.SERVING else self.since)

    def kill(self, why: Why) -> None:
        """End it at once; what is told of its end comes over the control socket."""
        self.why_killed = self.why_killed or why
        self._process.kill()

    async def ended(self) -> int:
        """Wait for the end of a process whose control socket has ended; its status."""
        self._process.kill()  # if it goes on without a control socket
        return await asyncio.to_thread(self._process.wait)


Supplies = Callable[[int], tuple[Take, Sequence[int]]]
"""Gives what a worker of that number begins to decide by, and the descriptors of it."""


def delay_after(short_lives: int) -> float:
    """Give the seconds to wait after so many short lives in succession, one at least."""
    return min(_FIRST_DELAY * 2.0 ** min(short_lives - 1, _DOUBLINGS), _LONGEST_DELAY)


class Crew:
    """
    All workers.

    `supplies` is asked when a worker starts; `tell` logs an event; `restarted` counts a restart;
    `changed` is called when a worker has begun or ceased to serve or to use a policy; `give_back`
    gets the connections that a worker was given and has not received when it was lost.
    """

    def __init__(
        self,
        begins: Sequence[tuple[Begin, socket.socket | None]],
        supplies: Supplies,
        *,
        tell: Callable[..., object],
        restarted: Callable[[int, Why], object],
        changed: Callable[[], object],
        give_back: Callable[[list[socket.socket]], object],
    ) -> None:
        """Prepare workers, one for each of `begins`, numbered from 1 as they say."""
        self._begins = begins
        self._supplies = supplies
        self._tell = tell
        self._restarted = restarted
        self._changed = changed
        self._give_back = give_back
        self._workers: dict[int, Worker] = {}
        self._short_lives: dict[int, int] = {}
        self._tasks: set[asyncio.Task[None]] = set()
        self._stopping = False
        self._news = asyncio.Event()
        self._looked = time.monotonic()
        self._spared_until = 0.0

    def __iter__(self) -> Iterator[Worker]:
        """Give the workers that run."""
        return iter(tuple(self._workers.values()))

    @property
    def serving(self) -> list[Worker]:
        """The workers that decide."""
        return [worker for worker in self if worker.state is State.SERVING]

    def start(self) -> None:
        """Start all, and watch them."""
        for begin, _ in self._begins:
            self._start(begin.worker)
        self._task(self._watch())

    def least_busy(self) -> list[Worker]:
        """Give the workers that can take a connection, who holds fewest first."""
        now = time.monotonic()
        serving = self.serving
        lively = [worker for worker in serving if worker.silent(now) < _FRESH]
        return sorted(lively or serving, key=lambda worker: worker.connections)

    def take(self) -> None:
        """Have all decide by what `supplies` gives now."""
        for worker in self:
            self._supply(worker)

    def take_list(self, name: str, descriptors: Sequence[int]) -> None:
        """Have all use a list that was read again."""
        for worker in self:
            worker.channel.post(TakeList(name), descriptors)

    def drain(self) -> None:
        """Have no more milter sessions taken; who is lost from now on is not replaced."""
        self._stopping = True
        for worker in self:
            worker.channel.post(Drain())

    def finish(self) -> None:
        """After drain(), have all finish the answers under way, and end."""
        for worker in self:
            worker.channel.post(Finish())

    @property
    def ended(self) -> bool:
        """Whether no worker is left."""
        return not self._workers

    async def end(self) -> None:
        """After finish(), kill those that have not ended."""
        for worker in self:
            self._tell("error", "worker.killed", worker=worker.number, reason="it did not end")
            worker.kill(Why.HUNG)
        await self.until(lambda: self.ended)
        for task in self._tasks:
            task.cancel()

    async def until(self, condition: Callable[[], bool]) -> None:
        """Wait for something that is true of workers."""
        while not condition():
            self._news.clear()
            await self._news.wait()

    # one worker's life

    def _start(self, number: int) -> None:
        begin, milter = self._begins[number - 1]
        try:
            worker = Worker(number, begin, milter)
        except OSError as error:
            self._tell("error", "worker.failed", worker=number, reason=str(error))
            self._start_later(number)
            return
        self._workers[number] = worker
        self._tell("info", "worker.started", worker=number, pid=worker.pid)
        worker.channel.listen(
            lambda message, _descriptors: self._told(worker, message),
            lambda: self._task(self._lost(worker)),
        )
        self._supply(worker)

    def _supply(self, worker: Worker) -> None:
        take, descriptors = self._supplies(worker.number)
        worker.channel.post(take, descriptors)

    def _told(self, worker: Worker, message: FromWorker) -> None:
        if isinstance(message, Ready):
            worker.state = State.SERVING
            worker.since = time.monotonic()
            self._tell("info", "worker.serves", worker=worker.number, pid=worker.pid)
        elif isinstance(message, Uses):
            worker.newest, worker.oldest = message.newest, message.oldest
        elif isinstance(message, Drained):
            worker.drained = True
        self._news.set()
        self._changed()

    async def _lost(self, worker: Worker) -> None:
        served = time.monotonic() - worker.since if worker.state is State.SERVING else 0.0
        untaken = worker.untaken()
        worker.state = State.ENDED
        self._give_back(untaken)
        status = await worker.ended()
        worker.pulse.close()
        del self._workers[worker.number]
        if not self._stopping or status:
            self._mourn(worker, status)
        if not self._stopping:
            self._replace(worker.number, served)
        self._news.set()
        self._changed()

    def _mourn(self, worker: Worker, status: int) -> None:
        why = worker.why_killed or (Why.SIGNAL if status < 0 else Why.EXIT)
        self._tell(
            "error",
            "worker.ended",
            worker=worker.number,
            pid=worker.pid,
            reason=why,
            status=status,
        )
        self._restarted(worker.number, why)

    def _replace(self, number: int, served: float) -> None:
        if served >= _SHORT_LIFE:
            self._short_lives[number] = 0
            self._start(number)
        else:
            self._start_later(number)

    def _start_later(self, number: int) -> None:
        lives = self._short_lives[number] = self._short_lives.get(number, 0) + 1
        self._task(self._start_after(number, delay_after(lives)))

    async def _start_after(self, number: int, delay: float) -> None:
        await asyncio.sleep(delay)
        if not self._stopping:
            self._start(number)

    # all of them

    async def _watch(self) -> None:
        while True:
            await asyncio.sleep(LOOK_EVERY)
            self._look(time.monotonic())

    def _look(self, now: float) -> None:
        """Replace who hangs; nobody is blamed for a time in which this process stood still too."""
        if now - self._looked > 2 * LOOK_EVERY:
            self._spared_until = now + HUNG_AFTER
        self._looked = now
        if now < self._spared_until:
            return
        for worker in self:
            starting = worker.state is State.STARTING
            limit = START_WITHIN if starting else HUNG_AFTER
            if worker.state is not State.ENDED and worker.silent(now) > limit:
                why = Why.START if starting else Why.HUNG
                self._tell(
                    "error",
                    "worker.hangs",
                    worker=worker.number,
                    pid=worker.pid,
                    seconds=round(worker.silent(now), 1),
                )
                worker.kill(why)

    def _task(self, work: Coroutine[object, object, None]) -> None:
        task = asyncio.get_running_loop().create_task(work)
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)

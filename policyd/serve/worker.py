"""
A worker: a process that decides what Postfix asks, told what to do over its control socket.

One event loop in the main thread answers the policy connections that the supervisor passes on; the
milter is on libmilter's threads. Signals are the supervisor's business and ignored here, before a
thread of libmilter's could wait for them (libmilter/signal.c). A worker whose control socket ends
sees its milter sessions to their end and exits.
"""

import asyncio
import contextlib
import gc
import importlib
import os
import pickle
import random
import socket
import sys
import time
import traceback
from pathlib import Path
from typing import Final, cast

import uvloop

from policyd.lists.load import Reading
from policyd.lists.named import NamedList
from policyd.lists.parcel import unpack as unpack_list
from policyd.observe.log import Format, Log, capture_logging, open_log
from policyd.observe.metrics import Metrics
from policyd.observe.series import map_row
from policyd.processes.channel import Channel
from policyd.processes.memory import let_go, octets_of
from policyd.processes.spawn import ignore_signals
from policyd.protocol.delegation import Reason
from policyd.rules.parcel import unpack as unpack_policy
from policyd.rules.policy import Policy
from policyd.serve.delegation import DelegationServer
from policyd.serve.messages import (
    Begin,
    Connection,
    Drain,
    Drained,
    Finish,
    Ready,
    Take,
    TakeList,
    ToWorker,
    Uses,
)
from policyd.serve.milter import MilterServer
from policyd.serve.pulse import INTERVAL, Pulse
from policyd.serve.state import State
from policyd.service import Answer, Ids, Service
from policyd.smtp.stage import FrontEnd

LAST_LINES: Final = 2.0
"""Seconds that the log's last lines may take."""


class Worker:
    """
    What one worker process has; run() is its life.

    Messages: Begin, then Take, then whatever comes. Everything here runs on the loop, but for
    the callables that are given to the milter.
    """

    def __init__(self, control: Channel[ToWorker]) -> None:
        """Take the worker's end of its control socket."""
        self._control = control
        self._loop = asyncio.get_running_loop()
        self._finish = asyncio.Event()
        self._idle = asyncio.Event()
        self._draining = False
        self._lists: dict[str, NamedList] = {}
        self._generation = 0
        self._oldest = 0
        # what may be in use of older policies, by generation, the oldest first
        self._policies: dict[int, Policy] = {}
        self._older_tasks: dict[asyncio.Task[Answer], int] = {}
        self._told = (0, 0)
        self._drain_seconds = 0.0
        self._milter: MilterServer | None = None
        self._service: Service | None = None
        self._log: Log | None = None

    async def run(self) -> None:
        """Serve until told to finish, or until the supervisor is gone."""
        self._control.listen(self._take_message, self._orphaned)
        await self._finish.wait()
        if self._service is not None:
            await self._delegation.close()
            await self._state.close()
        if self._log is not None:
            self._log.sink.close(LAST_LINES)

    def _take_message(self, message: ToWorker, descriptors: list[int]) -> None:
        try:
            self._obey(message, descriptors)
        except Exception as error:  # noqa: BLE001 -- a new worker may do what this one cannot
            if self._log is not None:
                self._log.event("error", "worker.failed", exception=error)
            else:
                traceback.print_exception(error)
            self._finish.set()
        finally:
            let_go(descriptors)

    def _obey(self, message: ToWorker, descriptors: list[int]) -> None:
        match message:
            case Connection():
                self._pulse.count_taken()
                self._adopt(descriptors)
            case Begin():
                self._begin(message, descriptors)
            case Take():
                self._take(message, descriptors)
            case TakeList():
                self._lists[message.name].snapshot = _unpacked(descriptors).snapshot
            case Drain():
                self._drain()
            case Finish():
                self._finish.set()

    def _adopt(self, descriptors: list[int]) -> None:
        if descriptors:
            self._delegation.adopt(socket.socket(fileno=descriptors.pop()))
        else:  # the kernel closed it: as many are open here as may be (unix(7), MSG_CTRUNC)
            self._pulse.count_closed()
            assert self._service is not None
            self._service.protocol_error(
                FrontEnd.POLICY, Reason.TOO_MANY, detail="no descriptor is left"
            )

    # the beginning

    def _begin(self, begin: Begin, descriptors: list[int]) -> None:
        self._who = begin
        self._log = open_log(
            cast("Format", begin.log_format), self._dropped, worker=str(begin.worker)
        )
        self._log.sink.start(self._loop)
        capture_logging(self._log)
        self._state = State(begin.state, Path(begin.configuration), upkeep=begin.worker == 1)
        self._pulse = Pulse(descriptors[0])
        self._beat()
        # whoever serves the milter keeps the socket, which libmilter closes
        self._listener = socket.socket(fileno=descriptors.pop()) if len(descriptors) > 1 else None

    def _beat(self) -> None:
        self._pulse.beat = time.monotonic()
        self._loop.call_later(INTERVAL, self._beat)

    def _dropped(self, count: int) -> None:
        if self._service is not None:
            self._service.dropped("log", count)

    def _start(self, take: Take, policy: Policy, metrics: Metrics) -> Service:
        assert self._log is not None
        service = Service(
            policy,
            metrics,
            self._log,
            Ids(random.getrandbits),
            take.settings,
            connections=self._connections,
        )
        service.loop = self._loop
        self._delegation = DelegationServer(service)
        if self._who.milter:
            self._milter = MilterServer(
                service,
                listener=self._listener,
                endpoint=self._who.milter_endpoint,
                socket_mode=self._who.milter_mode,
                socket_group=self._who.milter_group,
                most_sessions=take.most_milter_sessions,
                sessions=self._sessions,
                ended=lambda: self._loop.call_soon_threadsafe(self._milter_ended),
            )
            self._milter.start()
        return service

    # while it serves

    def _take(self, take: Take, descriptors: list[int]) -> None:
        """Decide by another policy from the next request on; milter sessions keep theirs."""
        policy_octets, layout_octets, row, *parts = descriptors
        lists = {}
        for name, count in take.lists:
            lists[name], parts = _unpacked(parts[:count]), parts[count:]
        policy = self._policy(octets_of(policy_octets), lists)
        layout = pickle.loads(octets_of(layout_octets))  # noqa: S301 -- our own supervisor's
        cells = map_row(row, layout)
        self._lists = lists
        self._drain_seconds = take.drain
        self._state.asked.resolver.configure(take.dns)
        before, self._generation = self._generation, take.generation
        self._policies[take.generation] = policy
        if self._service is None:
            self._service = self._start(take, policy, Metrics(layout, cells))
            self._state.serve(self._service, policy)
            gc.collect()
            self._control.post(Ready())
        else:
            self._service.take(policy, take.settings, layout, cells)
            self._state.serve(self._service, policy)
            for task in self._delegation.tasks - self._older_tasks.keys():
                self._older_tasks[task] = before
                task.add_done_callback(self._older_task_ended)
            if self._milter is not None:
                self._milter.most_sessions = take.most_milter_sessions
        gc.freeze()  # what a policy and its lists are made of stays until it is let go whole
        self._tell_use()

    def _policy(self, octets: bytes, lists: dict[str, NamedList]) -> Policy:
        try:
            return unpack_policy(octets, lists, self._state.checks)
        except LookupError:  # it asks a check that was installed after this process began
            importlib.invalidate_caches()
            return unpack_policy(octets, lists, self._state.find_checks())

    def _tell_use(self) -> None:
        """Say which policies are in use; again when the last use of an older one has ended."""
        sessions = self._milter.policies if self._milter is not None else frozenset()
        tasks = set(self._older_tasks.values())
        self._policies = {
            generation: policy
            for generation, policy in self._policies.items()
            if generation == self._generation or generation in tasks or policy in sessions
        }
        self._oldest = next(iter(self._policies))
        if self._told != (self._generation, self._oldest):
            self._told = (self._generation, self._oldest)
            self._control.post(Uses(self._generation, self._oldest))

    def _older_task_ended(self, task: asyncio.Task[Answer]) -> None:
        del self._older_tasks[task]
        self._tell_use()

    def _connections(self, front_end: FrontEnd, delta: int) -> None:
        if front_end is FrontEnd.POLICY and delta < 0:
            self._pulse.count_closed()

    def _sessions(self, count: int) -> None:
        """Take note of the number of milter sessions; called on any thread."""
        self._pulse.sessions = count
        if self._oldest != self._generation:
            self._loop.call_soon_threadsafe(self._tell_use)

    def _milter_ended(self) -> None:
        """End when libmilter has by itself; the supervisor starts another worker."""
        if self._log is not None:
            self._log.event("error", "milter.ended", reason="libmilter stopped by itself")
        self._finish.set()

    # the end

    def _drain(self) -> None:
        if self._milter is None:
            self._drained()
        elif not self._draining:
            self._draining = True
            self._milter.drain(lambda: self._loop.call_soon_threadsafe(self._drained))

    def _drained(self) -> None:
        self._idle.set()
        self._control.post(Drained())

    def _orphaned(self) -> None:
        """Go on for those whose mail is under way: the supervisor is gone."""
        self._drain()
        self._waiting = self._loop.create_task(self._finish_when_idle())

    async def _finish_when_idle(self) -> None:
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(self._drain_seconds):
                await self._idle.wait()
        self._finish.set()


def _unpacked(descriptors: list[int]) -> NamedList:
    octets, *parts = descriptors
    source, snapshot = pickle.loads(octets_of(octets))  # noqa: S301 -- our own builder's
    return NamedList(source, Reading(unpack_list(snapshot, parts), (), {}))


async def _work(end: socket.socket) -> None:
    await Worker(Channel(end, ToWorker)).run()


def main() -> None:
    """Work on the control socket whose number is the first argument."""
    ignore_signals()
    end = socket.socket(fileno=int(sys.argv[1]))
    with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
        runner.run(_work(end))
    sys.stderr.flush()
    os._exit(0)  # libmilter's threads outlive its main loop; the interpreter would wait for them


if __name__ == "__main__":
    main()

"""
A worker: one event loop in the main thread with all that serves, from start to stop.

Policy delegation and HTTP live on the loop, the milter on libmilter's threads. SIGTERM and SIGINT
stop it: no more is accepted, answers under way are finished. SIGHUP changes nothing: a changed
configuration takes effect at a restart, lists are read again by themselves.
"""

import asyncio
import contextlib
import gc
import random
import signal
import time
from collections.abc import AsyncIterator, Callable
from typing import Final

import uvloop

from policyd import __version__
from policyd.config.policy import Loaded
from policyd.lists.watch import Change, Watcher
from policyd.observe.log import Log, capture_logging, open_log
from policyd.serve.delegation import listen
from policyd.serve.http import HttpListener
from policyd.serve.milter import MilterServer
from policyd.service import Ids, Service, Settings, metrics_of

LOOK_AT_FILES: Final = 1.0
"""Seconds between looks at the files of lists."""
LAST_LINES: Final = 2.0
"""Seconds that the log's last lines may take."""
SOFTWARE: Final = 70
"""EX_SOFTWARE of sysexits(3): the service manager is to start us again."""
UNASKED_AFTER: Final = 900.0
"""Seconds after which a stage that has rules and was never asked is told in the log."""


def serve(loaded: Loaded) -> int:
    """
    Serve until a signal, and give the exit status: 0, or 70 when libmilter stopped by itself.

    OSError and LookupError name what cannot be listened on.
    """
    with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
        return runner.run(Worker(loaded).run())


class Worker:
    """Builds what serves from a loaded configuration, runs it, and takes it down in order."""

    def __init__(self, loaded: Loaded) -> None:
        """Take a configuration without errors."""
        self._config = loaded.config
        self._policy = loaded.policy_in_force
        self._watcher = Watcher(loaded.lists.values())
        self._checks = loaded.checks
        self._warnings = loaded.problems
        self._stop = asyncio.Event()
        self._ready = "starting"
        self._status = 0

    async def run(self) -> int:
        """Serve until stopped; give the exit status."""
        log = open_log(self._config.log.format, self._dropped)
        self._metrics = metrics_of(self._policy, self._checks)
        log.sink.start(asyncio.get_running_loop())
        capture_logging(log)
        service = Service(
            self._policy,
            self._metrics,
            log,
            Ids(random.getrandbits),
            Settings(
                decision_timeout=self._config.server.decision_timeout,
                show_id=self._config.replies.show_id,
                utf8=self._config.replies.utf8,
                log_decisions=self._config.log.decisions,
            ),
        )
        service.loop = asyncio.get_running_loop()
        for warning in self._warnings:
            log.event("warning", "config.doubtful", problem=str(warning))
        self._take_signals(log)
        try:
            async with self._serving(service, log):
                self._ready = ""
                self._metrics.loaded(time.time())
                gc.collect()
                gc.freeze()  # what a policy and its lists are made of stays
                log.event(
                    "info",
                    "policyd.started",
                    version=__version__,
                    config_hash=self._policy.hash,
                    rules=len({rule.name for rule in self._policy.rules}),
                    owners={str(k): str(v) for k, v in self._policy.owners.items()},
                )
                await self._stop.wait()
                self._ready = "stopping"
            log.event("info", "policyd.stopped")
        finally:
            log.sink.close(LAST_LINES)
        return self._status

    def _milter_ended(self, log: Log) -> None:
        """Stop when libmilter has: it took a signal of ours, or failed. A start begins afresh."""
        log.event("error", "milter.ended", reason="libmilter stopped by itself")
        self._status = SOFTWARE
        self._stop.set()

    def _dropped(self, count: int) -> None:
        self._metrics.dropped("log", count)

    def _take_signals(self, log: Log) -> None:
        loop = asyncio.get_running_loop()
        for number in (signal.SIGTERM, signal.SIGINT):
            loop.add_signal_handler(number, self._stop.set)
        loop.add_signal_handler(
            signal.SIGHUP,
            lambda: log.event("warning", "reload.refused", reason="restart policyd instead"),
        )

    @contextlib.asynccontextmanager
    async def _serving(self, service: Service, log: Log) -> AsyncIterator[None]:
        """Open what the configuration names, and close it in the opposite order."""
        config, loop = self._config, asyncio.get_running_loop()
        async with contextlib.AsyncExitStack() as stack:
            if config.metrics is not None:
                http = HttpListener(
                    config.metrics.listen,
                    self._metrics.registry,
                    ready=lambda: self._ready,
                    version=__version__,
                )
                await http.start()
                stack.push_async_callback(http.stop)
            if config.milter is not None:
                milter = MilterServer(
                    service,
                    config.milter.listen[0],
                    socket_mode=config.milter.socket_mode,
                    socket_group=config.milter.socket_group,
                    ended=lambda: loop.call_soon_threadsafe(self._milter_ended, log),
                )
                milter.start()
                stack.push_async_callback(asyncio.to_thread, milter.stop)
            if config.policy_service is not None:
                policy = await listen(
                    config.policy_service.listen,
                    service,
                    socket_mode=config.policy_service.socket_mode,
                    socket_group=config.policy_service.socket_group,
                )
                stack.push_async_callback(policy.close)
            for task in (self._watch(log), self._tell_unasked(service, log)):
                stack.callback(asyncio.create_task(task).cancel)
            yield

    async def _watch(self, log: Log) -> None:
        """Have changed list files read again, on a thread: a large one takes seconds."""
        while True:
            await asyncio.sleep(LOOK_AT_FILES)
            for change in await asyncio.to_thread(self._watcher.poll, time.monotonic()):
                _tell(change, log.event)

    async def _tell_unasked(self, service: Service, log: Log) -> None:
        await asyncio.sleep(UNASKED_AFTER)
        for stage in service.unasked():
            log.event("warning", "stage.unasked", stage=stage, owner=self._policy.owners[stage])


def _tell(change: Change, event: Callable[..., None]) -> None:
    faults = [f"{fault.file}:{fault.line}: {fault.what}; {fault.mend}" for fault in change.faults]
    if change.taken:
        event("info", "list.read", list=change.name, entries=change.entries, faults=faults)
    else:
        event("error", "list.refused", list=change.name, entries=change.entries, faults=faults)

"""
The supervisor: the process that `policyd serve` is, once its configuration is built.

It opens the sockets, starts workers and watches them, passes policy
connections on, serves HTTP, and reloads. It decides nothing itself.
"""

import asyncio
import contextlib
import socket
import time
from collections.abc import Callable, Coroutine, Iterable, Sequence
from pathlib import Path
from typing import Any, Final

from prometheus_client import CollectorRegistry, GCCollector, PlatformCollector, ProcessCollector

from policyd import __version__
from policyd.config.model import Milter, PolicyService
from policyd.config.outline import Outline
from policyd.config.state import state_settings
from policyd.observe.board import Board
from policyd.observe.families import STAGE_REQUESTS
from policyd.observe.log import Log, capture_logging, open_log
from policyd.observe.metrics import Metrics
from policyd.observe.series import Layout, Row, map_row
from policyd.protocol.delegation import Reason
from policyd.serve.building import Product
from policyd.serve.commands import CommandListener, Outcome
from policyd.serve.crew import Crew, Why
from policyd.serve.doorman import Doorman
from policyd.serve.gauges import Gauges
from policyd.serve.http import HttpListener
from policyd.serve.messages import Begin, Take
from policyd.serve.reload import Reloads
from policyd.serve.signals import Signals
from policyd.serve.sockets import Listener, open_listeners, parse_endpoint
from policyd.serve.supply import Supply, allowed
from policyd.smtp.stage import FrontEnd, Stage

FINISH_WITHIN: Final = 25.0
"""Seconds that workers have for the answers under way and the last lines of the log."""
HURRY_WITHIN: Final = 1.0
"""The same after a second signal."""
LAST_LINES: Final = 2.0
"""Seconds that the log's last lines may take."""
UNASKED_AFTER: Final = 900.0
"""Seconds after which a stage that has rules and was never asked is told in the log."""


class Supervisor:
    """Everything that serves one configuration."""

    def __init__(self, path: Path, product: Product, outline: Outline, signals: Signals) -> None:
        """Take a configuration without errors, as built."""
        self._path = path
        self._product = product
        self._config = outline.config
        self._signals = signals
        self._ready = "starting"
        self._released = 0
        self._log: Log = open_log(self._config.log.format, self._dropped)
        self._policy_listeners: list[Listener] = []
        self._milter_listeners: list[Listener] = []
        self._tasks: set[asyncio.Task[Any]] = set()

    async def run(self) -> int:
        """Serve until told to stop; OSError and LookupError name what cannot be listened on."""
        self._log.sink.start(asyncio.get_running_loop())
        capture_logging(self._log)
        try:
            async with contextlib.AsyncExitStack() as undo:
                await self._begin(undo)
                await self._signals.stop.wait()
                await self._end()
            self._log.event("info", "policyd.stopped")
        finally:
            for task in self._tasks:
                task.cancel()
            self._log.sink.close(LAST_LINES)
        return 0

    # the beginning

    async def _begin(self, undo: contextlib.AsyncExitStack) -> None:
        config, tell = self._config, self._log.event
        board = Board(config.server.workers)
        self._supply_first(board)
        self._open(undo)
        self._doorman = Doorman(self._policy_listeners, self._pass_on, self._held, self._refused)
        self._crew = Crew(
            self._begins(),
            self._supplies,
            tell=tell,
            restarted=self._restarted,
            changed=self._crew_changed,
            give_back=self._doorman.take_back,
        )
        self._bound()
        if config.metrics is not None:
            http = HttpListener(
                config.metrics.listen,
                self._registry(),
                ready=lambda: self._ready,
                version=__version__,
            )
            await http.start()
            undo.push_async_callback(http.stop)
        commands = CommandListener(self._path, {"reload": self._reload})
        try:
            await commands.start()
            undo.callback(commands.stop)
        except OSError as error:
            tell("error", "commands.unavailable", reason=str(error.strerror))
        self._crew.start()
        for work in (self._reloads.run(), self._reload_at_signals(), self._tell_unasked()):
            self._run(work)

    def _supply_first(self, board: Board) -> None:
        self._board = board
        supply = Supply(self._product, board)
        self._metrics = Metrics(supply.layout, self._own_row(supply.layout))
        warnings = tuple(map(str, self._product.building.problems))
        self._reloads = Reloads(
            self._path, supply, board, self, warnings=warnings, tell=self._log.event
        )
        for warning in warnings:
            self._log.event("warning", "config.doubtful", problem=warning)

    def _own_row(self, layout: Layout) -> Row:
        return map_row(self._board.descriptor(self._board.own), layout)

    def _open(self, undo: contextlib.AsyncExitStack) -> None:
        """Listen for both front ends; all or nothing."""
        undo.callback(_close, self._policy_listeners)
        undo.callback(_close, self._milter_listeners)
        service, milter = self._config.policy_service, self._config.milter
        if service is not None:
            for endpoint in service.listen:
                self._policy_listeners += _listen(service, endpoint)
        if milter is not None and self._product.building.milter_takes_descriptors:
            found, *others = _listen(milter, milter.listen[0])
            self._milter_listeners.append(found)
            _close(others)  # libmilter listens on one socket

    def _begins(self) -> list[tuple[Begin, socket.socket | None]]:
        """Say of each worker whether it serves the milter: all, or one that listens by itself."""
        milter = self._config.milter
        listener = self._milter_listeners[0].socket if self._milter_listeners else None
        begins: list[tuple[Begin, socket.socket | None]] = []
        for number in range(1, self._config.server.workers + 1):
            alone = milter is not None and listener is None and number == 1
            begin = Begin(
                worker=number,
                log_format=self._config.log.format,
                milter=alone or listener is not None,
                configuration=str(self._path),
                state=state_settings(self._config, self._path),
                milter_endpoint=milter.listen[0] if milter is not None and alone else "",
                milter_mode=milter.socket_mode if milter is not None else 0,
                milter_group=milter.socket_group if milter is not None else "",
            )
            begins.append((begin, listener))
        return begins

    def _registry(self) -> CollectorRegistry:
        """Give what /metrics shows: what is counted, what workers hold, and this process."""
        registry = CollectorRegistry()
        registry.register(self._board.collector)
        registry.register(Gauges(self._crew, self._config.server.workers, self._front_ends))
        for collector in (ProcessCollector, PlatformCollector, GCCollector):
            collector(registry=registry)
        return registry

    def _supplies(self, worker: int) -> tuple[Take, Sequence[int]]:
        return self._reloads.supply.supplies(worker)

    # connections

    def _pass_on(self, connection: socket.socket) -> bool:
        return any(worker.give(connection) for worker in self._crew.least_busy())

    def _held(self) -> int:
        return sum(worker.connections for worker in self._crew)

    def _refused(self, reason: Reason, who: str) -> None:
        self._metrics.protocol_error(FrontEnd.POLICY, reason)
        self._log.event("warning", "protocol.error", frontend="policy", reason=reason, client=who)

    def _bound(self) -> None:
        service = self._config.policy_service
        self._doorman.most = service.max_connections if service is not None else 0
        self._doorman.allowed = allowed(self._config)

    # workers

    def _crew_changed(self) -> None:
        """Look at what may go on now: accepting, the first readiness, the release of series."""
        serving = len(self._crew.serving)
        if self._signals.stop.is_set():
            return
        if not serving:
            self._doorman.close()
            self._ready = self._ready or "no worker serves"
            return
        self._doorman.resume()
        if self._ready == "no worker serves":
            self._ready = ""
        elif self._ready and serving == self._config.server.workers:
            self._started()
        oldest = min(worker.oldest for worker in self._crew)
        if oldest > self._released:
            self._released = oldest
            self._board.release(oldest)

    def _started(self) -> None:
        self._ready = ""
        self._metrics.loaded(time.time())
        outline = self._reloads.supply.outline
        self._log.event(
            "info",
            "policyd.started",
            version=__version__,
            workers=self._config.server.workers,
            config_hash=outline.hash,
            rules=len(outline.rules),
            owners={str(k): str(v) for k, v in outline.owners.items()},
        )

    def _restarted(self, worker: int, why: Why) -> None:
        self._board.gone(worker - 1)
        self._metrics.restarted(why)

    # reloading

    async def _reload(self) -> Outcome:
        return await self._reloads.ask()

    async def _reload_at_signals(self) -> None:
        while True:
            await self._signals.reload.wait()
            self._signals.reload.clear()
            await self._reloads.ask()

    async def policy_changed(self) -> None:
        """
        Have every worker decide by what is in force now, and wait until those that serve do.

        One that hangs is waited for until it is replaced.
        """
        supply = self._reloads.supply
        self._config = supply.outline.config
        self._metrics.move(supply.layout, self._own_row(supply.layout))
        self._bound()
        self._crew.take()
        newest = supply.generation
        await self._crew.until(lambda: all(each.newest >= newest for each in self._crew.serving))

    def list_changed(self, name: str, descriptors: list[int]) -> None:
        """Have every worker use a list as it is now."""
        self._crew.take_list(name, descriptors)

    def reloaded(self, ok: bool) -> None:
        """Count a reload."""
        self._metrics.reloaded(ok, time.time())

    # the end

    async def _end(self) -> None:
        self._ready = "stopping"
        self._log.event("info", "policyd.stopping", milter_sessions=self._sessions())
        for task in self._tasks:
            task.cancel()
        # who connects to the milter from now on is to be told at once that there is none
        _close(self._milter_listeners)
        self._crew.drain()
        await self._until(
            lambda: all(each.drained for each in self._crew.serving),
            self._config.server.drain_timeout,
            self._signals.hurry,
        )
        self._doorman.dismiss()
        _close(self._policy_listeners)
        self._crew.finish()
        await self._until(lambda: self._crew.ended, FINISH_WITHIN, self._signals.hurry)
        await self._until(lambda: self._crew.ended, HURRY_WITHIN)
        await self._crew.end()

    async def _until(
        self, true: Callable[[], bool], seconds: float, hurry: asyncio.Event | None = None
    ) -> None:
        """Wait for something that is true of workers, so long at most, or until there is hurry."""
        waits: list[asyncio.Future[Any]] = [asyncio.ensure_future(self._crew.until(true))]
        if hurry is not None:
            waits.append(asyncio.ensure_future(hurry.wait()))
        await asyncio.wait(waits, timeout=seconds, return_when=asyncio.FIRST_COMPLETED)
        for wait in waits:
            wait.cancel()

    def _sessions(self) -> int:
        return sum(worker.sessions for worker in self._crew)

    # the rest

    def _front_ends(self) -> Iterable[FrontEnd]:
        return dict.fromkeys(self._reloads.supply.outline.owners.values())

    def _dropped(self, count: int) -> None:
        self._metrics.dropped("log", count)

    async def _tell_unasked(self) -> None:
        await asyncio.sleep(UNASKED_AFTER)
        outline = self._reloads.supply.outline
        asked = {
            sample.labels["stage"]
            for metric in self._board.collector.collect()
            if metric.name == STAGE_REQUESTS.name.removesuffix("_total")
            for sample in metric.samples
            if sample.value
        }
        for stage in (stage for stage in Stage if stage in outline.ruled and stage not in asked):
            self._log.event("warning", "stage.unasked", stage=stage, owner=outline.owners[stage])

    def _run(self, work: Coroutine[Any, Any, None]) -> None:
        task = asyncio.get_running_loop().create_task(work)
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)


def _listen(front_end: PolicyService | Milter, endpoint: str) -> list[Listener]:
    return open_listeners(
        parse_endpoint(endpoint), mode=front_end.socket_mode, group=front_end.socket_group
    )


def _close(listeners: list[Listener]) -> None:
    for listener in listeners:
        listener.remove()
        listener.socket.close()
    listeners.clear()

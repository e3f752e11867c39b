"""
Reloading: a changed configuration, or a changed list, takes the place of what is in force.

All or nothing: a builder process reads and compiles, and only what is wholly right is taken. One
thing is built at a time; whoever asks for a reload meanwhile gets the next one.
"""

import asyncio
import time
from collections.abc import Callable, Iterable, Iterator
from itertools import chain
from pathlib import Path
from typing import Final, Protocol

from policyd.config.difference import difference, needs_restart
from policyd.config.outline import Outline
from policyd.lists.load import emptied
from policyd.lists.source import Fault
from policyd.lists.watch import Watcher
from policyd.observe.board import Board
from policyd.processes.memory import let_go
from policyd.serve.building import BuildError, Product, build, reread
from policyd.serve.commands import Outcome, Why
from policyd.serve.supply import Supply

LOOK_AT_FILES: Final = 1.0
"""Seconds between looks at the files of lists."""
READ_AGAIN_AFTER: Final = 10.0
"""Seconds until lists are read again whose reading came to nothing, such as for want of memory."""
_MOST_NAMED: Final = 10
"""Rules or lists that a log line names of each kind of change; a line has an end."""


class Audience(Protocol):
    """Who is told of what was taken: the supervisor."""

    async def policy_changed(self) -> None:
        """Have every worker decide by what is in force now; over when all do."""

    def list_changed(self, name: str, descriptors: list[int]) -> None:
        """Have every worker use a list as it is now."""

    def reloaded(self, ok: bool) -> None:
        """Count a reload."""


class Reloads:
    """What is in force, and the one place where it changes."""

    def __init__(
        self,
        path: Path,
        supply: Supply,
        board: Board,
        audience: Audience,
        *,
        warnings: Iterable[str],
        tell: Callable[..., object],
    ) -> None:
        """Start with a first supply, of whose warnings has been told; `tell` logs an event."""
        self._path = path
        self._board = board
        self._audience = audience
        self._tell = tell
        self._next: asyncio.Future[Outcome] | None = None
        self._wanted = asyncio.Event()
        self._stopped = False
        self.supply = supply
        self._warnings = frozenset(warnings)
        self._watcher = _watcher(supply)

    async def ask(self) -> Outcome:
        """Ask for a reload that begins from now on; several who ask in time get the same one."""
        if self._stopped:
            return self._too_late()
        if self._next is None:
            self._next = asyncio.get_running_loop().create_future()
            self._wanted.set()
        return await asyncio.shield(self._next)  # one who leaves takes nothing from the others

    async def run(self) -> None:
        """Reload when asked, and look at the lists' files in between; until cancelled."""
        asked: asyncio.Future[Outcome] | None = None
        try:
            while True:
                try:
                    async with asyncio.timeout(LOOK_AT_FILES):
                        await self._wanted.wait()
                except TimeoutError:
                    await self._look_at_lists()
                    continue
                self._wanted.clear()
                asked, self._next = self._next, None
                outcome = await self._outcome(time.monotonic())
                if asked is not None:
                    asked.set_result(outcome)
        finally:
            self._stopped = True
            for each in (asked, self._next):
                if each is not None and not each.done():
                    each.set_result(self._too_late())

    def _too_late(self) -> Outcome:
        reasons = ("policyd is stopping",)
        return Outcome("fault", self.supply.outline.hash, reasons=reasons)

    async def _outcome(self, started: float) -> Outcome:
        try:
            return await self._reload(started)
        except Exception as error:  # noqa: BLE001 -- the next reload is to find us well
            return self._refuse(started, "fault", (f"{type(error).__name__}: {error}",))

    # the configuration

    async def _reload(self, started: float) -> Outcome:
        try:
            product = await build(self._path, polite=True)
        except (BuildError, OSError) as error:
            return self._refuse(started, "fault", (str(error),))
        outline = product.building.outline
        if outline is None:
            problems = product.building.problems
            errors = tuple(str(each) for each in problems if each.severity == "error")
            return self._refuse(started, "configuration", errors)
        faults = tuple(map(_said, self._emptied(outline)))
        if faults:
            _discard(product)
            return self._refuse(started, "configuration", faults)
        fixed = needs_restart(self.supply.outline.config, outline.config)
        if fixed:
            _discard(product)
            return self._refuse(
                started,
                "restart",
                tuple(f"{key} changes only with a restart of policyd" for key in fixed),
            )
        return await self._take(started, product)

    def _emptied(self, outline: Outline) -> Iterator[Fault]:
        """Blame files that were emptied since they were read, as when they are watched."""
        before = dict(chain.from_iterable(e.signatures.items() for e in self.supply.lists.values()))
        for each in outline.lists.values():
            yield from emptied(each.source, before, each.signatures)

    async def _take(self, started: float, product: Product) -> Outcome:
        before = self.supply
        try:
            self.supply = Supply(product, self._board)
        except (OSError, ValueError):
            _discard(product)
            raise
        self._watcher = _watcher(self.supply)
        await self._audience.policy_changed()
        before.close()
        outline = self.supply.outline
        changes = difference(before.outline, outline)
        warnings = tuple(map(str, product.building.problems))
        known, self._warnings = self._warnings, frozenset(warnings)
        outcome = Outcome("", outline.hash, _since(started), tuple(changes.lines()), warnings)
        self._tell(
            "info",
            "config.reloaded",
            config_hash=outline.hash,
            seconds=outcome.seconds,
            **changes.fields(_MOST_NAMED),
        )
        for warning in warnings:
            if warning not in known:
                self._tell("warning", "config.doubtful", problem=warning)
        self._audience.reloaded(True)
        return outcome

    def _refuse(self, started: float, why: Why, reasons: tuple[str, ...]) -> Outcome:
        outcome = Outcome(why, self.supply.outline.hash, _since(started), reasons=reasons)
        self._tell(
            "error",
            "config.refused",
            config_hash=outcome.config_hash,
            why=why,
            seconds=outcome.seconds,
            reasons=reasons,
        )
        self._audience.reloaded(False)
        return outcome

    # lists

    async def _look_at_lists(self) -> None:
        now = time.monotonic()
        # on a thread: a file server that does not answer is to hold up lists alone
        changed = await asyncio.to_thread(self._watcher.poll, now)
        if not changed:
            return
        lists = self.supply.lists
        try:
            readings, parts = await reread(
                [(source, lists[source.name].signatures) for source in changed]
            )
        except Exception as error:  # noqa: BLE001 -- the next look is to find us well
            for source in changed:
                self._watcher.again(source.name, now + READ_AGAIN_AFTER)
                self._tell("error", "list.refused", list=source.name, reason=str(error))
            return
        for reading in readings:
            name = reading.source.name
            faults = tuple(map(_said, reading.faults))
            if reading.taken:
                self.supply.replace_list(reading, parts[name])
                self._watcher.taken(name, reading.signatures)
                self._audience.list_changed(name, parts[name])
                self._tell("info", "list.read", list=name, entries=reading.entries, faults=faults)
            else:
                entries = lists[name].entries
                self._tell("error", "list.refused", list=name, entries=entries, faults=faults)


def _watcher(supply: Supply) -> Watcher:
    return Watcher((each.source, each.signatures) for each in supply.outline.lists.values())


def _said(fault: Fault) -> str:
    return f"{fault.file}:{fault.line}: {fault.what}; {fault.mend}"


def _discard(product: Product) -> None:
    let_go([product.policy] if product.policy is not None else [])
    for parts in product.lists.values():
        let_go(parts)


def _since(started: float) -> float:
    return round(time.monotonic() - started, 3)

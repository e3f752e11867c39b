"""What the commands about state share: the configured store, batches with rests, and progress."""

import asyncio
import sys
import time
from collections.abc import AsyncIterator, Awaitable, Callable, Iterable, Iterator, Mapping
from contextlib import contextmanager
from functools import partial
from itertools import islice
from pathlib import Path
from typing import Final, TypeVar

import click
import msgspec
from rich.console import Console
from rich.progress import MofNCompleteColumn, Progress, SpinnerColumn, TextColumn

from policyd.checks.greylist import GreylistSettings
from policyd.checks.limits import Limit
from policyd.cli.configured import CONFIGURATION
from policyd.config.greylist import greylist_settings
from policyd.config.load import load
from policyd.config.state import state_settings
from policyd.serve.state_port import ServedState
from policyd.store.contents import Contents
from policyd.store.model import Entry, StoreError
from policyd.store.place import Kind, StateSettings, read_place

UNAVAILABLE: Final = 69
"""EX_UNAVAILABLE of sysexits(3): the store cannot be reached."""

_PATIENCE: Final = 10.0
"""Seconds for one operation: nobody's mail waits for it."""
_AT_ONCE: Final = 200
"""Entries that are written in one operation."""
_AGAIN: Final = (0.1, 0.3, 1.0, 3.0)
"""Seconds after which an operation is tried again."""

T = TypeVar("T")


class Where(msgspec.Struct, frozen=True):
    """What the configuration says about state."""

    settings: StateSettings
    greylist: GreylistSettings
    limits: Mapping[str, Limit]


def where(config: Path) -> Where:
    """Read a configuration, whose rules may be wrong; with other errors, exit with status 78."""
    read = load(config)
    errors = [problem for problem in read.problems if problem.severity == "error"]
    if errors:
        for problem in errors:
            click.echo(str(problem), err=True)
        raise SystemExit(CONFIGURATION)
    return Where(state_settings(read.model, config), greylist_settings(read.model), read.limits)


def with_store(config: Path, found: Where, work: Callable[[Contents], Awaitable[T]]) -> T:
    """Do something with the store; where it cannot be reached, say so and exit with status 69."""
    try:
        return asyncio.run(_with_store(config, found.settings, work))
    except StoreError as error:
        click.echo(f"{found.settings.url}: {error}", err=True)
        raise SystemExit(UNAVAILABLE) from error


def opened(config: Path, settings: StateSettings) -> Contents | None:
    """Open the store to look at it; None where it is a file that is not there yet."""
    place = read_place(settings.url)
    if place.kind is Kind.MEMORY:
        return ServedState(config)
    if place.kind is Kind.SQLITE and not Path(place.path).exists():
        return None
    # it loads redis-py, which takes as long as all else together
    from policyd.store.opening import open_store  # noqa: PLC0415

    return open_store(msgspec.structs.replace(settings, timeout=_PATIENCE))


async def _with_store(
    config: Path, settings: StateSettings, work: Callable[[Contents], Awaitable[T]]
) -> T:
    store: Contents
    if read_place(settings.url).kind is Kind.MEMORY:
        store = ServedState(config)
    else:
        # it loads redis-py, which takes as long as all else together
        from policyd.store.opening import open_store  # noqa: PLC0415

        store = open_store(msgspec.structs.replace(settings, timeout=_PATIENCE))
    try:
        await store.ping()
        return await work(store)
    finally:
        await store.close()


def now() -> int:
    """Give the time in milliseconds since the epoch."""
    return round(time.time() * 1000)


# many entries


async def put_all(store: Contents, entries: Iterable[Entry]) -> None:
    """
    Put entries in, a few at a time, and let those who serve mail go first.

    What cannot be read among them is raised when all before it have been put in.
    """
    each = iter(entries)
    failure: Exception | None = None
    full = True
    while full:
        batch: list[Entry] = []
        try:
            batch.extend(islice(each, _AT_ONCE))  # keeps what came before an error
        except Exception as error:  # noqa: BLE001 -- it is raised below
            failure = error
        full = len(batch) == _AT_ONCE
        await _rested(partial(store.put, batch, now()))
    if failure is not None:
        raise failure


async def remove_all(store: Contents, entries: AsyncIterator[Entry]) -> None:
    """Remove entries, likewise."""
    batch: list[Entry] = []
    async for entry in entries:
        batch.append(entry)
        if len(batch) == _AT_ONCE:
            await _rested(partial(store.remove, batch))
            batch.clear()
    await _rested(partial(store.remove, batch))


async def _rested(do: Callable[[], Awaitable[None]]) -> None:
    began = time.perf_counter()
    await persisted(do)
    await asyncio.sleep(time.perf_counter() - began)


async def persisted(do: Callable[[], Awaitable[T]]) -> T:
    """Do something that may be done twice, again if need be: a store is busy, or has moved."""
    for rest in _AGAIN:
        try:
            return await do()
        except StoreError:
            await asyncio.sleep(rest)
    return await do()


# progress


class Watch:
    """Shows in a terminal how far something is."""

    def __init__(self, progress: Progress, what: str) -> None:
        self._progress = progress
        self._task = progress.add_task(what, total=None)

    def over(self, entries: Iterable[T]) -> Iterator[T]:
        """Give what passes by, and count it."""
        for entry in entries:
            yield entry
            self._progress.advance(self._task)

    async def over_all(self, entries: AsyncIterator[T]) -> AsyncIterator[T]:
        """Give what passes by, and count it."""
        async for entry in entries:
            yield entry
            self._progress.advance(self._task)


@contextmanager
def watching(what: str) -> Iterator[Watch]:
    """Show progress on standard error while it is a terminal, and leave nothing behind."""
    columns = (SpinnerColumn(), TextColumn("{task.description}"), MofNCompleteColumn())
    with Progress(
        *columns,
        console=Console(stderr=True),
        transient=True,
        disable=not sys.stderr.isatty(),
    ) as progress:
        yield Watch(progress, what)

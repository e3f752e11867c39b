"""Having things built by a process of their own (builder.py), from the supervisor's side."""

import asyncio
import pickle
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

import msgspec

from policyd.config.outline import Outline
from policyd.config.problem import Problem
from policyd.lists.signature import Signatures
from policyd.lists.source import Fault, ListSource
from policyd.observe.series import Series
from policyd.processes.channel import Channel, pair
from policyd.processes.memory import kept, let_go, octets_of
from policyd.processes.spawn import start_module

BUILD_WITHIN: Final = 300.0
"""Seconds; lists of ten million entries take a tenth of it."""


class BuildError(Exception):
    """The builder gave no answer; says what became of it."""


class Build(msgspec.Struct, frozen=True, tag=True):
    """Read and compile a configuration; politely where mail is being answered meanwhile."""

    path: str
    polite: bool


class Reread(msgspec.Struct, frozen=True, tag=True):
    """Read lists again. Descriptor: pairs of a source and its files' former signatures, pickled."""


class Built(msgspec.Struct, frozen=True, tag=True):
    """
    The builder's answer.

    Descriptors: what was found, pickled; the policy if there is one; and for each list its octets
    and parts, as many as `lists` says.
    """

    lists: tuple[tuple[str, int], ...]


@dataclass(frozen=True, slots=True)
class Building:
    """What became of a configuration; without an outline it has errors."""

    problems: tuple[Problem, ...]
    outline: Outline | None = None
    series: Series | None = None
    milter_takes_descriptors: bool = False


@dataclass(frozen=True, slots=True)
class ListReading:
    """What became of a list that was read again; with an error among the faults it stays."""

    source: ListSource
    entries: int
    faults: tuple[Fault, ...]
    signatures: Signatures
    taken: bool


ListParts = dict[str, list[int]]
"""Descriptors of each list: of its octets, then of its parts. Whoever holds them closes them."""


@dataclass(frozen=True, slots=True)
class Product:
    """A building, and the descriptors for workers: of the policy (none with errors), of lists."""

    building: Building
    policy: int | None
    lists: ListParts


async def build(path: Path, *, polite: bool) -> Product:
    """Have a configuration read, checked and compiled; BuildError if that cannot be done."""
    answer, (first, *rest) = await _ask(Build(str(path), polite))
    building: Building = _unpickled(first)
    if building.outline is None:
        let_go(rest)
        return Product(building, None, {})
    return Product(building, rest[0], _parts(answer, rest[1:]))


async def reread(
    lists: Sequence[tuple[ListSource, Signatures]],
) -> tuple[tuple[ListReading, ...], ListParts]:
    """Have lists read again; BuildError if that cannot be done."""
    asked = kept(pickle.dumps(list(lists)), "policyd-asked")
    try:
        answer, (first, *rest) = await _ask(Reread(), [asked])
    finally:
        let_go([asked])
    readings: tuple[ListReading, ...] = _unpickled(first)
    return readings, _parts(answer, rest)


def _unpickled(descriptor: int) -> Any:
    octets = octets_of(descriptor)
    let_go([descriptor])
    return pickle.loads(octets)  # noqa: S301 -- our own builder's


def _parts(answer: Built, descriptors: list[int]) -> ListParts:
    parts = {}
    for name, count in answer.lists:
        parts[name], descriptors = descriptors[:count], descriptors[count:]
    return parts


async def _ask(request: Build | Reread, descriptors: Sequence[int] = ()) -> tuple[Built, list[int]]:
    ours, theirs = pair()
    with theirs:
        process = start_module("policyd.serve.builder", theirs.fileno())
    channel: Channel[Built] = Channel(ours, Built)
    answer: asyncio.Future[tuple[Built, list[int]] | None]
    answer = asyncio.get_running_loop().create_future()

    def answered(built: Built, found: list[int]) -> None:
        if answer.done():  # nobody waits any more
            let_go(found)
        else:
            answer.set_result((built, found))

    channel.listen(answered, lambda: None if answer.done() else answer.set_result(None))
    try:
        channel.post(request, descriptors)
        async with asyncio.timeout(BUILD_WITHIN):
            found = await answer
    except TimeoutError as error:
        raise BuildError(f"it was not built within {BUILD_WITHIN:g} s") from error
    finally:
        channel.close()
        process.kill()
        status = await asyncio.shield(asyncio.to_thread(process.wait))
    if found is None:
        raise BuildError(f"the builder ended without an answer, {_ending(status)}")
    return found


def _ending(status: int) -> str:
    return f"by signal {-status}" if status < 0 else f"with exit status {status}"

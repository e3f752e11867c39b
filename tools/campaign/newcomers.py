"""The load of the campaign `faults`: requests of what was never seen, in a process of their own."""

import asyncio
import contextlib
import gc
import itertools
import time
from collections.abc import Iterator
from dataclasses import dataclass
from multiprocessing.connection import Connection
from multiprocessing.sharedctypes import RawValue
from typing import Any, Final

import uvloop

from tools.campaign.apart import Apart
from tools.campaign.load import TICK
from tools.campaign.verdicts import Asked, Kind, request

_AGAIN: Final = 0.05
"""Seconds after which a connection that was closed is made anew."""


@dataclass(frozen=True)
class Pace:
    """So many connections, each of which asks once in so many seconds if it is answered by then."""

    connections: int = 40
    between: float = 0.1
    patience: float = 20.0
    """After which an answer that has not come is lost."""


class Newcomers(Apart):
    """A running load. As a context manager it is under way within, and ended afterwards."""

    def __init__(self, address: tuple[str, int], pace: Pace) -> None:
        self._ended: Any = RawValue("b", 0)
        arguments = (address, pace, self._ended)
        super().__init__(_main, arguments, end=self._stop, patience=pace.patience)

    def _stop(self) -> None:
        self._ended.value = 1

    def finish(self) -> Asked:
        """Have nothing more asked, and give all that was."""
        asked = self.last_words()
        assert isinstance(asked, Asked)
        return asked


def _main(address: tuple[str, int], pace: Pace, ended: Any, pipe: Connection) -> None:
    gc.disable()  # its pauses would be counted as policyd's; a load ends before it matters
    runner = asyncio.Runner(loop_factory=uvloop.new_event_loop)
    with runner, contextlib.suppress(KeyboardInterrupt):
        runner.run(_run(address, pace, ended, pipe))


async def _run(address: tuple[str, int], pace: Pace, ended: Any, pipe: Connection) -> None:
    asked = Asked()
    asking = [
        asyncio.create_task(_ask(address, pace, ended, number, asked))
        for number in range(pace.connections)
    ]
    pipe.send("under way")
    while not ended.value:
        due = time.monotonic() + TICK
        await asyncio.sleep(TICK)
        asked.lags.fired(due, time.monotonic())
    await asyncio.gather(*asking)
    pipe.send(asked)


async def _ask(address: tuple[str, int], pace: Pace, ended: Any, number: int, asked: Asked) -> None:
    """Ask over one connection after the other; they take turns within the time between two."""
    due = time.monotonic() + pace.between * number / pace.connections
    questions = _questions(number)
    while not ended.value:
        try:
            reader, writer = await asyncio.open_connection(*address)
        except OSError:
            await asyncio.sleep(_AGAIN)
            continue
        action: str | None = ""
        while not ended.value and action is not None:
            await asyncio.sleep(max(0.0, due - time.monotonic()))
            due = max(due + pace.between, time.monotonic())
            kind, question = next(questions)
            begun = time.monotonic()
            action = await _answer(reader, writer, question, pace.patience)
            asked.note(begun, time.monotonic(), kind, action)
        writer.close()
        with contextlib.suppress(OSError):
            await writer.wait_closed()


def _questions(number: int) -> Iterator[tuple[Kind, bytes]]:
    """Give requests of all kinds in turn; those of different connections begin with others."""
    for turn in itertools.count(number):
        kind = tuple(Kind)[turn % len(Kind)]
        # the end is that of the message before, the one that a limit was asked about
        message = turn - 1 if kind is Kind.END else turn
        yield kind, request(kind, f"{number}.{message}", number)


async def _answer(
    reader: asyncio.StreamReader, writer: asyncio.StreamWriter, question: bytes, patience: float
) -> str | None:
    """Ask, and give the action; None if none comes."""
    writer.write(question)
    try:
        async with asyncio.timeout(patience):
            answer = await reader.readuntil(b"\n\n")
    except (TimeoutError, OSError, EOFError):
        return None
    return answer.decode().removeprefix("action=").rstrip("\n")

"""Connections that ask all at once, and ask again what was not answered, as Postfix does."""

import asyncio
import contextlib
import os
import signal
from collections.abc import Collection, Mapping
from typing import Final

import uvloop

from tools.campaign import processes
from tools.campaign.keeping import Keeping

CONNECTIONS: Final = 40
_AGAIN: Final = 0.02
_PATIENCE: Final = 60.0
"""Seconds in which everything is answered."""


class HammerError(Exception):
    """Something was not answered in time."""


class Hammer:
    """
    Asks a policyd; one answer is for what the store did not answer in time, and is asked again.

    `kill_at`: a worker is killed as soon as so many requests have their answer.
    """

    def __init__(self, policyd: Keeping, unknown: str, kill_at: Collection[int] = ()) -> None:
        self.killed = 0
        self.lost = 0
        """Connections that were closed on us, with a request on each or none."""
        self._policyd = policyd
        self._unknown = unknown
        self._kill_at = kill_at
        self._answered = 0

    def ask(self, requests: Mapping[str, bytes]) -> dict[str, str]:
        """
        Ask all, spread over the connections, as soon as every worker serves.

        Give what each was answered; HammerError if one was not.
        """
        self._policyd.wait_until_whole()
        with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
            return runner.run(self._ask(requests))

    async def _ask(self, requests: Mapping[str, bytes]) -> dict[str, str]:
        names = list(requests)
        answers: dict[str, str] = {}
        parts = [
            {name: requests[name] for name in names[n::CONNECTIONS]} for n in range(CONNECTIONS)
        ]
        try:
            async with asyncio.timeout(_PATIENCE), asyncio.TaskGroup() as group:
                for part in parts:
                    group.create_task(self._ask_some(part, answers))
        except TimeoutError as error:
            unanswered = (
                f"{len(answers)} of {len(names)} answered after {_PATIENCE:g} s:\n"
                f"{self._policyd.failures()}"
            )
            raise HammerError(unanswered) from error
        return answers

    async def _ask_some(self, requests: Mapping[str, bytes], answers: dict[str, str]) -> None:
        waiting = dict(requests)
        while waiting:
            try:
                reader, writer = await asyncio.open_connection(*self._policyd.address)
            except OSError:
                await asyncio.sleep(_AGAIN)
                continue
            try:
                await self._ask_over(reader, writer, waiting, answers)
            except (OSError, EOFError):
                self.lost += 1
                await asyncio.sleep(_AGAIN)
            writer.close()
            with contextlib.suppress(OSError):
                await writer.wait_closed()

    async def _ask_over(
        self,
        reader: asyncio.StreamReader,
        writer: asyncio.StreamWriter,
        waiting: dict[str, bytes],
        answers: dict[str, str],
    ) -> None:
        while waiting:
            name, request = next(iter(waiting.items()))
            writer.write(request)
            answer = (await reader.readuntil(b"\n\n")).decode().removeprefix("action=").strip()
            if answer == self._unknown:
                await asyncio.sleep(_AGAIN)
                continue
            answers[name] = answer
            del waiting[name]
            self._answered += 1
            if self._answered in self._kill_at:
                os.kill(processes.workers(self._policyd.pid)[0], signal.SIGKILL)
                self.killed += 1

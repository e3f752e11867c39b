"""The work of SPF on a thread of this process, asking a resolver on this loop as its pool would."""

import asyncio
import importlib
from collections.abc import Awaitable, Callable, Sequence
from typing import Any

from policyd.checks.spf import SenderPolicy
from policyd.dns.answer import Found, Kind
from policyd.dns.questions import answering
from policyd.mail.spf import Identity, SpfAnswer
from tests.mail.spf_zones import CLIENT, ZoneData


class Zones:
    """Zone data as a worker asks it."""

    def __init__(self, data: ZoneData) -> None:
        self._data = data

    async def ask(self, name: str, kind: Kind) -> Found:
        return self._data.ask(name, kind)


class Threads:
    """A Runner: what it runs is in `done`, and `before` is awaited ahead of each."""

    def __init__(
        self, zones: ZoneData, before: Callable[[], Awaitable[object]] | None = None
    ) -> None:
        self.done: list[bytes] = []
        self._answer = answering(Zones(zones))
        self._before = before

    async def run(
        self, work: str, payload: bytes, *, limit: float, descriptors: Sequence[int] = ()
    ) -> bytes:
        if self._before is not None:
            await self._before()
        self.done.append(payload)
        loop = asyncio.get_running_loop()

        def ask(question: bytes) -> bytes:
            return asyncio.run_coroutine_threadsafe(self._answered(question), loop).result()

        module, _, name = work.partition(":")
        function = getattr(importlib.import_module(module), name)
        async with asyncio.timeout(limit):
            result = await asyncio.to_thread(function, payload, descriptors, ask)
        assert isinstance(result, bytes)
        return result

    async def _answered(self, question: bytes) -> bytes:
        return await self._answer(question)


def attributes(sender: str = "jo@example.test", **others: str) -> dict[str, Any]:
    return {
        "client_address": CLIENT,
        "helo_name": "helo.test",
        "sender": sender,
        **others,
    }


async def mail_from(policy: SenderPolicy, sender: str, **others: str) -> SpfAnswer:
    """Evaluate MAIL FROM."""
    return await policy.evaluate(attributes(sender, **others), Identity.MAIL_FROM)

"""Resolvers as tests use them: on a loop of their own, closed at the end, nothing left behind."""

import asyncio
import os
from collections.abc import Awaitable, Callable, Coroutine
from pathlib import Path
from typing import Any, TypeVar

import uvloop

from policyd.dns.answer import DnsError, Found, Kind
from policyd.dns.resolver import CaresResolver
from policyd.dns.settings import DnsSettings

T = TypeVar("T")
Loop = Callable[[], asyncio.AbstractEventLoop]


def run(
    test: Callable[[CaresResolver], Awaitable[T]],
    *servers: str,
    timeout: float = 1.0,
    most_at_once: int = 256,
    changed: Callable[[str, bool, str], object] = lambda *_: None,
    loop: Loop = uvloop.new_event_loop,
) -> T:
    """Do something with a resolver that asks these servers."""

    async def main() -> T:
        resolver = CaresResolver(DnsSettings(servers, timeout, most_at_once), changed)
        try:
            return await test(resolver)
        finally:
            await resolver.close()

    with asyncio.Runner(loop_factory=loop) as runner:
        return runner.run(main())


def ask(server: str, name: str, kind: Kind, timeout: float = 1.0) -> Found:
    """Ask a server one question."""
    return run(lambda resolver: resolver.ask(name, kind), server, timeout=timeout)


async def outcome(asked: Coroutine[Any, Any, Found]) -> Found | DnsError:
    """Give what a question comes to."""
    try:
        return await asked
    except DnsError as error:
        return error


async def until(holds: Callable[[], bool], seconds: float = 10.0) -> None:
    """Wait until something holds."""
    async with asyncio.timeout(seconds):
        while not holds():  # noqa: ASYNC110 -- servers have no events for it
            await asyncio.sleep(0.01)


def resident() -> int:
    """Give the octets of memory that this process has."""
    return int(Path("/proc/self/statm").read_text("ascii").split()[1]) * os.sysconf("SC_PAGESIZE")

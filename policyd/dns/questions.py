"""Questions to the DNS from a process without a loop of its own: both ends of the asking."""

from collections.abc import Awaitable, Callable

from policyd.dns.answer import BlockingResolver, Resolver
from policyd.processes.work import Ask


def answering(resolver: Resolver) -> Callable[[bytes], Awaitable[bytes]]:
    """Give what answers the questions of work (processes.pool.Pool's `answer`)."""

    async def answer(_question: bytes) -> bytes:
        raise NotImplementedError(resolver)

    return answer


def asking(ask: Ask) -> BlockingResolver:
    """Give the resolver of work."""
    raise NotImplementedError

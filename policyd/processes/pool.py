"""Processes that do work for a worker; one that takes too long is killed, and another begins."""

from collections.abc import Awaitable, Callable, Sequence

from policyd.processes.work import WorkError


class Pool:
    """Does work in processes of its own."""

    def __init__(
        self,
        *,
        processes: int,
        at_once: int,
        answer: Callable[[bytes], Awaitable[bytes]] | None = None,
    ) -> None:
        """Begin with no process; work starts one."""

    async def run(
        self, work: str, payload: bytes, *, limit: float, descriptors: Sequence[int] = ()
    ) -> bytes:
        """Have work done."""
        raise WorkError("nobody works here yet")

    async def close(self) -> None:
        """End all."""

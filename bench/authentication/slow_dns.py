"""
A name server that is far away: passes questions on to another, and answers back some time later.

`slow_dns.py ADDRESS SERVER SECONDS`: listens on 127.0.0.1:PORT over UDP. It is a program of its
own, and looks at nothing but the message's id, so that it is never what holds a load back.
"""

import asyncio
import sys
from typing import cast

import uvloop

_IDS = 65536


class Asker(asyncio.DatagramProtocol):
    """Takes questions, and gives their answers."""

    def __init__(self, seconds: float) -> None:
        """Answer so many seconds late."""
        self.seconds = seconds
        self.answerer = Answerer(self)
        self.transport: asyncio.DatagramTransport | None = None

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """Begin."""
        self.transport = cast("asyncio.DatagramTransport", transport)  # uvloop's is no subclass

    def datagram_received(self, data: bytes, addr: tuple[str, int]) -> None:
        """Take a question."""
        self.answerer.pass_on(data, addr)

    def answer(self, data: bytes, asker: tuple[str, int]) -> None:
        """Send an answer when its time has come."""
        assert self.transport is not None
        asyncio.get_running_loop().call_later(self.seconds, self.transport.sendto, data, asker)


class Answerer(asyncio.DatagramProtocol):
    """Asks the server, by ids of its own, since askers choose theirs alike."""

    def __init__(self, asker: Asker) -> None:
        """Ask for it."""
        self._asker = asker
        self._transport: asyncio.DatagramTransport | None = None
        self._waiting: dict[int, tuple[bytes, tuple[str, int]]] = {}
        self._last = 0

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """Begin."""
        self._transport = cast("asyncio.DatagramTransport", transport)

    def pass_on(self, data: bytes, asker: tuple[str, int]) -> None:
        """Ask the server what was asked here."""
        assert self._transport is not None
        self._last = (self._last + 1) % _IDS
        self._waiting[self._last] = (data[:2], asker)
        self._transport.sendto(self._last.to_bytes(2) + data[2:])

    def datagram_received(self, data: bytes, addr: tuple[str, int]) -> None:  # noqa: ARG002
        """Take an answer."""
        waiting = self._waiting.pop(int.from_bytes(data[:2]), None)
        if waiting is not None:
            self._asker.answer(waiting[0] + data[2:], waiting[1])


async def serve(address: str, server: str, seconds: float) -> None:
    """Serve until killed."""
    loop = asyncio.get_running_loop()
    asker = Asker(seconds)
    await loop.create_datagram_endpoint(lambda: asker.answerer, remote_addr=_place(server))
    await loop.create_datagram_endpoint(lambda: asker, local_addr=_place(address))
    await loop.create_future()


def _place(address: str) -> tuple[str, int]:
    host, _, port = address.rpartition(":")
    return host, int(port)


if __name__ == "__main__":
    uvloop.run(serve(sys.argv[1], sys.argv[2], float(sys.argv[3])))

"""Listening for policy requests, and closing without losing an answer."""

import asyncio
import contextlib
from collections.abc import Coroutine, Iterable
from typing import Any, Final

from policyd.serve.delegation.connection import DelegationProtocol
from policyd.serve.delegation.door import Door
from policyd.serve.delegation.outbox import Outbox
from policyd.serve.sockets import BACKLOG, Listener, open_listeners, parse_endpoint
from policyd.service import Answer
from policyd.smtp.stage import FrontEnd

PATIENCE: Final = 100.0
"""Seconds for the rest of a request, and for a peer to read: smtpd_policy_service_timeout's."""

GRACE: Final = 10.0
"""Seconds that close() leaves to answers under way: more than `decision_timeout`."""

_UNSTOPPED: Final = 1.0  # seconds for cancelled Tasks to end


class DelegationServer:
    """The listening sockets and connections of one service; listen() makes one."""

    def __init__(self, service: Door, *, patience: float = PATIENCE) -> None:
        self.service = service
        self.patience = patience
        self.outbox = Outbox()
        self.connections: set[DelegationProtocol] = set()
        self.tasks: set[asyncio.Task[Answer]] = set()
        self._listeners: list[Listener] = []
        self._servers: list[asyncio.AbstractServer] = []
        self._left = asyncio.Event()

    def protocol(self) -> DelegationProtocol:
        """Make the protocol object of a new connection."""
        return DelegationProtocol(self)

    @property
    def addresses(self) -> tuple[Any, ...]:
        """The addresses that are listened on, as getsockname() gives them."""
        return tuple(listener.socket.getsockname() for listener in self._listeners)

    async def start(self, listeners: Iterable[Listener]) -> None:
        """Accept connections on listening sockets, which are the server's from now on."""
        loop = asyncio.get_running_loop()
        for listener in listeners:
            self._listeners.append(listener)
            start = loop.create_unix_server if listener.path else loop.create_server
            server = await start(self.protocol, sock=listener.socket, backlog=BACKLOG)
            self._servers.append(server)

    async def close(self, grace: float = GRACE) -> None:
        """
        Stop: accept no more, finish the answers under way within `grace` seconds, then close.

        Idle connections are closed at once: Postfix opens another when it next asks.
        """
        for listener in self._listeners:
            listener.remove()
        for server in self._servers:
            server.close()
        for connection in tuple(self.connections):
            connection.drain()
        with contextlib.suppress(TimeoutError):
            await asyncio.wait_for(self._quiet(), grace)
        for connection in tuple(self.connections):
            connection.abort()
        for task in self.tasks:
            task.cancel()
        with contextlib.suppress(TimeoutError):
            await asyncio.wait_for(self._quiet(), _UNSTOPPED)

    def joined(self, connection: DelegationProtocol) -> None:
        """Note a new connection."""
        self.connections.add(connection)
        self.service.connected(FrontEnd.POLICY, 1)

    def left(self, connection: DelegationProtocol) -> None:
        """Note that a connection is gone."""
        self.connections.discard(connection)
        self._left.set()
        self.service.connected(FrontEnd.POLICY, -1)

    def run(self, coroutine: Coroutine[Any, Any, Answer]) -> asyncio.Task[Answer]:
        """Let a coroutine go on as a Task, which the server waits for when it closes."""
        task = asyncio.get_running_loop().create_task(coroutine)
        self.tasks.add(task)
        task.add_done_callback(self._ended)
        return task

    def _ended(self, task: asyncio.Task[Answer]) -> None:
        self.tasks.discard(task)
        self._left.set()

    async def _quiet(self) -> None:
        while self.connections or self.tasks:
            self._left.clear()
            await self._left.wait()


async def listen(
    endpoints: Iterable[str],
    service: Door,
    *,
    socket_mode: int = 0o660,
    socket_group: str = "",
    patience: float = PATIENCE,
) -> DelegationServer:
    """
    Serve the policy protocol on endpoints in Postfix's notation.

    All or none: ValueError for an endpoint that cannot be read, OSError that names the one that
    cannot be listened on, LookupError for an unknown `socket_group`.
    """
    parsed = [parse_endpoint(endpoint) for endpoint in endpoints]
    listeners: list[Listener] = []
    try:
        for endpoint in parsed:
            listeners += open_listeners(endpoint, mode=socket_mode, group=socket_group)
    except BaseException:
        for listener in listeners:
            listener.remove()
            listener.socket.close()
        raise
    server = DelegationServer(service, patience=patience)
    await server.start(listeners)
    return server

"""Serving the connections of the policy protocol, and closing without losing an answer."""

import asyncio
import contextlib
import socket
from collections.abc import Coroutine
from typing import Any, Final

from policyd.serve.delegation.connection import DelegationProtocol
from policyd.serve.delegation.door import Door
from policyd.serve.delegation.outbox import Outbox
from policyd.service import Answer
from policyd.smtp.stage import FrontEnd

PATIENCE: Final = 100.0
"""Seconds for the rest of a request, and for a peer to read: smtpd_policy_service_timeout's."""

GRACE: Final = 10.0
"""Seconds that close() leaves to answers under way: more than `decision_timeout`."""

_UNSTOPPED: Final = 1.0  # seconds for cancelled Tasks to end


class DelegationServer:
    """
    The connections of one service, which somebody else accepts.

    `patience`: seconds for the rest of a request, and for a peer to read.
    """

    def __init__(self, service: Door, *, patience: float = PATIENCE) -> None:
        self.service = service
        self.patience = patience
        self.outbox = Outbox()
        self.connections: set[DelegationProtocol] = set()
        self.tasks: set[asyncio.Task[Answer]] = set()
        self._adopting: set[asyncio.Task[None]] = set()
        self._left = asyncio.Event()

    def protocol(self) -> DelegationProtocol:
        """Make the protocol object of a new connection."""
        return DelegationProtocol(self)

    def adopt(self, connection: socket.socket) -> None:
        """Serve a connection, which is the server's from now on."""
        task = asyncio.get_running_loop().create_task(self._adopt(connection))
        self._adopting.add(task)
        task.add_done_callback(self._adopting.discard)

    async def _adopt(self, connection: socket.socket) -> None:
        try:
            loop = asyncio.get_running_loop()
            await loop.connect_accepted_socket(self.protocol, connection)
        except OSError:  # it has gone already
            connection.close()
            self.service.connected(FrontEnd.POLICY, 1)
            self.service.connected(FrontEnd.POLICY, -1)

    async def close(self, grace: float = GRACE) -> None:
        """
        Stop: finish the answers under way within `grace` seconds, then close.

        Idle connections are closed at once: Postfix opens another when it next asks.
        """
        if self._adopting:
            await asyncio.wait(self._adopting)
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

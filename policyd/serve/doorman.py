"""
The doorman: accepts the connections of the policy protocol and passes each on.

One process accepts for all, since the kernel wakes whom it likes: two workers that accept from one
socket come to hold 7 and 93 of 100 connections. Who may connect, and how many, is judged here.
"""

import asyncio
import errno
import socket
from collections import deque
from collections.abc import Callable, Iterable
from typing import Final

from policyd.facts import read
from policyd.lists.named import NamedList
from policyd.protocol.delegation import Reason
from policyd.serve.sockets import Listener

_AT_ONCE: Final = 64
"""Connections accepted before others have their turn."""
_REST: Final = 0.5
"""Seconds without accepting when this process has no descriptor or memory left."""
_AGAIN: Final = 0.05
"""Seconds until a connection that nobody could take is offered again."""
_EXHAUSTED: Final = frozenset({errno.EMFILE, errno.ENFILE, errno.ENOBUFS, errno.ENOMEM})


class Doorman:
    """
    Accepts on listening sockets, which stay the caller's, while it is open.

    `pass_on` takes a connection, which is its own then, or says that nobody can now: then it is
    offered again after moments, and what comes meanwhile waits in the kernel. `held`
    gives how many are open. `refused` is told of those that are turned away.
    """

    def __init__(
        self,
        listeners: Iterable[Listener],
        pass_on: Callable[[socket.socket], bool],
        held: Callable[[], int],
        refused: Callable[[Reason, str], object],
    ) -> None:
        """Begin closed, with no bound and no access list."""
        self._listeners = tuple(listeners)
        self._pass_on = pass_on
        self._held = held
        self._refused = refused
        self._kept: deque[socket.socket] = deque()
        self._open = self._dismissed = False
        self._timer: asyncio.TimerHandle | None = None
        self.most = 0
        self.allowed: NamedList | None = None

    def open(self) -> None:
        """Accept."""
        if not (self._open or self._dismissed):
            self._open = True
            loop = asyncio.get_running_loop()
            for listener in self._listeners:
                loop.add_reader(listener.socket.fileno(), self._accept, listener)

    def close(self) -> None:
        """Accept no more until resume(); what waits in the kernel goes on waiting."""
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None
        if self._open:
            self._open = False
            loop = asyncio.get_running_loop()
            for listener in self._listeners:
                loop.remove_reader(listener.socket.fileno())

    def resume(self) -> None:
        """Try again, after somebody has become able to take connections."""
        while self._kept:
            if not self._hand_over(self._kept.popleft()):
                return
        self.open()

    def take_back(self, connections: Iterable[socket.socket]) -> None:
        """Offer connections again that were passed on and not received."""
        self._kept.extend(connections)
        if self._dismissed:
            self._turn_out()
        elif self._kept:
            self.resume()

    def dismiss(self) -> None:
        """Close for good."""
        self.close()
        self._dismissed = True
        self._turn_out()

    def _turn_out(self) -> None:
        while self._kept:
            self._kept.popleft().close()

    def _accept(self, listener: Listener) -> None:
        for _ in range(_AT_ONCE):
            try:
                connection, address = listener.socket.accept()
            except BlockingIOError:
                return
            except OSError as error:
                if error.errno in _EXHAUSTED:
                    self._refused(Reason.TOO_MANY, str(error.strerror))
                    self._pause(_REST)
                    return
                continue  # this one was gone before it was taken (accept(2))
            if self._turned_away(connection, address):
                connection.close()
            elif not self._hand_over(connection):
                return

    def _turned_away(self, connection: socket.socket, address: object) -> bool:
        peer = str(address[0]) if isinstance(address, tuple) else ""
        if peer and self.allowed is not None and not self.allowed.holds_address(read.ip(peer)):
            self._refused(Reason.NOT_ALLOWED, peer)
            return True
        if self.most and self._held() >= self.most:
            self._refused(Reason.TOO_MANY, peer or "unix")
            return True
        if peer:
            # answers are short and each is waited for
            connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        return False

    def _hand_over(self, connection: socket.socket) -> bool:
        if self._pass_on(connection):
            return True
        self._kept.appendleft(connection)
        self._pause(_AGAIN)
        return False

    def _pause(self, seconds: float) -> None:
        self.close()
        self._timer = asyncio.get_running_loop().call_later(seconds, self.resume)

"""
Sockets by which commands find the policyd that serves a configuration.

They have no file: their names, in the kernel's abstract namespace (unix(7)), are made of the
configuration file's path, so that a command with `-c FILE` finds the daemon that serves FILE, and
nothing is left behind. Only root and the user that policyd runs as are listened to.
"""

import asyncio
import hashlib
import os
import socket
import struct
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Final, Literal

Purpose = Literal["commands", "state"]
"""What a socket is for; one policyd has at most one of each."""

_PREFIXES: Final = {"commands": "policyd/", "state": "policyd-state/"}

Serve = Callable[[asyncio.StreamReader, asyncio.StreamWriter], Awaitable[None]]


class NotServingError(Exception):
    """Nobody serves the configuration, or whoever does closed the connection."""


class LocalListener:
    """Has connections served between start() and stop(); each is closed when it was served."""

    def __init__(self, path: Path, purpose: Purpose, serve: Serve, *, longest: int = 65536) -> None:
        """Take the configuration file's path; a line of a request is at most `longest` octets."""
        self._names = _names(path, purpose)
        self._connected = serve
        self._longest = longest
        self._servers: list[asyncio.AbstractServer] = []

    async def start(self) -> None:
        """Listen; OSError when another policyd serves the same file."""
        try:
            for name in self._names:
                listener = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
                try:
                    listener.bind(name)
                    server = await asyncio.start_unix_server(
                        self._serve, sock=listener, limit=self._longest
                    )
                except BaseException:
                    listener.close()
                    raise
                self._servers.append(server)
        except BaseException:
            self.stop()
            raise

    def stop(self) -> None:
        """Listen no more."""
        for server in self._servers:
            server.close()
        self._servers.clear()

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:
            if _peer(writer.get_extra_info("socket")) in (0, os.geteuid()):
                await self._connected(reader, writer)
        except (TimeoutError, ConnectionError, ValueError):
            pass  # who asked is gone, or never said what it wants
        except asyncio.CancelledError:
            pass  # the loop ends; asyncio's streams would call that an error
        finally:
            writer.close()


def connected(path: Path, purpose: Purpose) -> socket.socket:
    """Connect to the policyd that serves a configuration; NotServingError."""
    for name in _names(path, purpose):
        connection = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
        try:
            connection.connect(name)
        except OSError as error:
            connection.close()
            failure = error
        else:
            return connection
    raise NotServingError(f"no policyd serves {path}: {failure.strerror}") from failure


def _names(path: Path, purpose: Purpose) -> tuple[str, ...]:
    """
    Name the socket by the path as given, and by that of the file itself if it is another.

    A link may lead to another file by the time of a reload, and a file be called by another name.
    """
    given = os.path.abspath(path)  # noqa: PTH100 -- resolve() would follow links
    return tuple(
        f"\0{_PREFIXES[purpose]}" + hashlib.sha256(os.fsencode(each)).hexdigest()[:32]
        for each in dict.fromkeys((given, str(path.resolve())))
    )


def _peer(connection: socket.socket) -> int:
    """Give the user at the other end (SO_PEERCRED, unix(7))."""
    size = struct.calcsize("3i")
    _pid, uid, _gid = struct.unpack(
        "3i", connection.getsockopt(socket.SOL_SOCKET, socket.SO_PEERCRED, size)
    )
    return int(uid)

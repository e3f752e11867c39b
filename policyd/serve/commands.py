"""
The commands that a running policyd takes from the command line, over a socket of its own.

The socket has no file: its name, in the kernel's abstract namespace (unix(7)), is made of the
configuration file's path, so that `policyd reload -c FILE` finds the daemon that serves FILE, and
nothing is left behind. Only root and the user that policyd runs as are listened to.
"""

import asyncio
import contextlib
import hashlib
import os
import socket
import struct
from collections.abc import Awaitable, Callable, Mapping
from pathlib import Path
from typing import Any, Final, Literal

import msgspec

_PATIENCE: Final = 10.0
"""Seconds for a command to come."""

Command = Callable[[], Awaitable[msgspec.Struct]]


Why = Literal["", "configuration", "restart", "fault"]
"""Why a reload was refused: errors in the files, a change that needs a restart, a fault of ours."""


class Outcome(msgspec.Struct, frozen=True):
    """
    What a reload came to: taken where `refused` is empty, else what was in force stays.

    `changes`, `warnings` and `reasons` are lines for a reader; `config_hash` is of what is in force
    now.
    """

    refused: Why
    config_hash: str
    seconds: float = 0.0
    changes: tuple[str, ...] = ()
    warnings: tuple[str, ...] = ()
    reasons: tuple[str, ...] = ()


class NotServingError(Exception):
    """Nobody serves the configuration, or whoever does closed the connection."""


class CommandListener:
    """Answers commands between start() and stop(); each is a name, its answer a struct."""

    def __init__(self, path: Path, commands: Mapping[str, Command]) -> None:
        """Take the configuration file's path and the commands by name."""
        self._names = _names(path)
        self._commands = commands
        self._servers: list[asyncio.AbstractServer] = []

    async def start(self) -> None:
        """Listen; OSError when another policyd serves the same file."""
        try:
            for name in self._names:
                listener = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
                try:
                    listener.bind(name)
                    server = await asyncio.start_unix_server(self._serve, sock=listener)
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
            if _peer(writer.get_extra_info("socket")) not in (0, os.geteuid()):
                return
            async with asyncio.timeout(_PATIENCE):
                line = await reader.readline()
            command = self._commands.get(line.decode("ascii", "replace").strip())
            if command is not None:
                writer.write(msgspec.json.encode(await command()) + b"\n")
                await writer.drain()
        except (TimeoutError, ConnectionError, ValueError):
            pass  # who asked is gone, or never said what it wants
        finally:
            writer.close()


def ask(path: Path, command: str, answer: type[Any]) -> Any:
    """Have the policyd that serves a configuration do a command, and wait; NotServingError."""
    with _connected(path) as connection:
        line = b""
        with contextlib.suppress(OSError), connection.makefile("rb") as stream:
            connection.sendall(command.encode() + b"\n")
            line = stream.readline()
    if not line.endswith(b"\n"):
        raise NotServingError("policyd gave no answer: it has stopped, or this user may not ask")
    return msgspec.json.decode(line, type=answer)


def _connected(path: Path) -> socket.socket:
    for name in _names(path):
        connection = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
        try:
            connection.connect(name)
        except OSError as error:
            connection.close()
            failure = error
        else:
            return connection
    raise NotServingError(f"no policyd serves {path}: {failure.strerror}") from failure


def _names(path: Path) -> tuple[str, ...]:
    """
    Name the socket by the path as given, and by that of the file itself if it is another.

    A link may lead to another file by the time of a reload, and a file be called by another name.
    """
    given = os.path.abspath(path)  # noqa: PTH100 -- resolve() would follow links
    return tuple(
        "\0policyd/" + hashlib.sha256(os.fsencode(each)).hexdigest()[:32]
        for each in dict.fromkeys((given, str(path.resolve())))
    )


def _peer(connection: socket.socket) -> int:
    """Give the user at the other end (SO_PEERCRED, unix(7))."""
    size = struct.calcsize("3i")
    _pid, uid, _gid = struct.unpack(
        "3i", connection.getsockopt(socket.SOL_SOCKET, socket.SO_PEERCRED, size)
    )
    return int(uid)

"""The commands that a running policyd takes from the command line, over a socket of its own."""

import asyncio
import contextlib
from collections.abc import Awaitable, Callable, Mapping
from pathlib import Path
from typing import Any, Final, Literal

import msgspec

from policyd.serve.local import LocalListener, NotServingError, connected

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


class CommandListener(LocalListener):
    """Answers commands between start() and stop(); each is a name, its answer a struct."""

    def __init__(self, path: Path, commands: Mapping[str, Command]) -> None:
        """Take the configuration file's path and the commands by name."""
        super().__init__(path, "commands", self._answer)
        self._commands = commands

    async def _answer(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        async with asyncio.timeout(_PATIENCE):
            line = await reader.readline()
        command = self._commands.get(line.decode("ascii", "replace").strip())
        if command is not None:
            writer.write(msgspec.json.encode(await command()) + b"\n")
            await writer.drain()


def ask(path: Path, command: str, answer: type[Any]) -> Any:
    """Have the policyd that serves a configuration do a command, and wait; NotServingError."""
    with connected(path, "commands") as connection:
        line = b""
        with contextlib.suppress(OSError), connection.makefile("rb") as stream:
            connection.sendall(command.encode() + b"\n")
            line = stream.readline()
    if not line.endswith(b"\n"):
        raise NotServingError("policyd gave no answer: it has stopped, or this user may not ask")
    return msgspec.json.decode(line, type=answer)

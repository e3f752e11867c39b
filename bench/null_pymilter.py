"""
The least a milter in Python can do: pymilter, CONTINUE to everything.

``null_pymilter.py SOCKET`` asks for every callback. ``null_pymilter.py SOCKET --callbacks envfrom
header:noreply ...`` asks for those alone, with or without a reply, so that it can be matched with
the callbacks that another milter negotiates. ``--record FILE`` notes each call, for tests.
"""

import argparse
from collections.abc import Callable
from functools import wraps
from pathlib import Path
from typing import TextIO

import Milter  # type: ignore[import-untyped]  # pymilter carries no types

Callback = Callable[..., int]

OPTIONAL = (
    "connect",
    "hello",
    "envfrom",
    "envrcpt",
    "data",
    "header",
    "eoh",
    "body",
    "unknown",
)
UNASKED = ("eom", "abort", "close")
"""Callbacks that are no subject of the negotiation."""


def going_on(name: str) -> Callback:
    """Make the callback of that name which returns CONTINUE."""

    def callback(_self: object, *_arguments: object) -> int:
        return int(Milter.CONTINUE)

    callback.__name__ = name
    return callback


def recording(callback: Callback, record: TextIO) -> Callback:
    """Note each call of a callback as a line of the record."""

    @wraps(callback)
    def recorded(*arguments: object) -> int:
        record.write(f"{callback.__name__}\n")
        return callback(*arguments)

    return recorded


def milter_class(asked: list[str], record: TextIO | None) -> type:
    """Make the class whose callbacks are those asked for, ``:noreply`` meaning no reply."""
    callbacks: dict[str, Callback] = {}
    for word in (*asked, *UNASKED):
        name, _, manner = word.partition(":")
        callback = going_on(name)
        if record is not None:
            callback = recording(callback, record)
        callbacks[name] = Milter.noreply(callback) if manner == "noreply" else callback
    return type("NullMilter", (Milter.Base,), callbacks)


def main() -> None:
    """Read the command line and serve until killed."""
    words = [*OPTIONAL, *(f"{name}:noreply" for name in OPTIONAL)]
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--callbacks", nargs="*", choices=words, default=list(OPTIONAL))
    parser.add_argument("--record", type=Path, help="file to which each call is appended")
    parser.add_argument("socket", help="unix:/path, or inet:PORT@HOST as libmilter has it")
    arguments = parser.parse_args()
    record = None
    if arguments.record is not None:
        record = arguments.record.open("a", buffering=1)
    Milter.factory = milter_class(arguments.callbacks, record)
    Milter.runmilter("null_pymilter", arguments.socket)


if __name__ == "__main__":
    main()

"""A load in a process of its own, so that its time is not that of the campaign."""

import multiprocessing
from collections.abc import Callable
from multiprocessing.connection import Connection
from types import TracebackType
from typing import Any, Final, Self

START_LIMIT: Final = 30.0
"""Seconds in which a load comes up, and in which its last words come."""


class LoadError(Exception):
    """The load did not start or did not end."""


class Apart:
    """
    A running load. As a context manager it is under way within, and ended afterwards.

    `run` is called in the process with the arguments and the end of a pipe, through which it tells
    first that it is up, and then what it came to. `end` has it ask nothing more.
    """

    def __init__(
        self,
        run: Callable[..., None],
        arguments: tuple[Any, ...],
        *,
        end: Callable[[], None],
        patience: float,
    ) -> None:
        """Prepare; `patience` is in seconds, of the last answer."""
        context = multiprocessing.get_context("spawn")
        self._pipe, self._theirs = context.Pipe()
        self._process = context.Process(target=run, args=(*arguments, self._theirs))
        self._end = end
        self._patience = patience

    def __enter__(self) -> Self:
        """Start it; LoadError when it does not come up."""
        self._process.start()
        self._theirs.close()
        try:
            self._receive(START_LIMIT)
        except BaseException:
            self._process.kill()
            raise
        return self

    def __exit__(
        self,
        exception: type[BaseException] | None,
        value: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        """End it."""
        self._end()
        if exception is not None:
            self._process.kill()
        self._process.join()
        self._pipe.close()

    def last_words(self) -> object:
        """Have nothing more asked, and give what it came to."""
        self._end()
        return self._receive(self._patience + START_LIMIT)

    def _receive(self, seconds: float) -> object:
        pipe: Connection = self._pipe
        try:
            if pipe.poll(seconds):
                return pipe.recv()
        except EOFError:
            pass
        raise LoadError("the load's process does not answer")

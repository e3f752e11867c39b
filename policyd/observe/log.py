"""
The log: one line a decision and one an event, as JSON or for a terminal, on standard error.

Events pass through structlog, with a single processor. A decision is one value that is encoded
as it stands: it is what the log is full of, and structlog's own path would double its cost.
"""

import logging
import os
import sys
from collections.abc import Callable, Mapping
from datetime import UTC, datetime
from functools import partial
from typing import Any, Final, Literal

import msgspec
import structlog

from policyd.facts.table import Attributes
from policyd.observe.console import console_line
from policyd.observe.line import DecisionLine, decision_line, fitted
from policyd.observe.output import MOST_OCTETS
from policyd.observe.sink import Sink
from policyd.smtp.decision import Decision
from policyd.smtp.stage import FrontEnd

Level = Literal["debug", "info", "warning", "error", "critical"]
Format = Literal["json", "console"]

_UTC_NOW: Final = partial(datetime.now, UTC)
_ENCODER: Final = msgspec.json.Encoder()


class Log:
    """
    Writes decisions and events to a sink; safe in any thread, never waits, never raises.

    A line has at most 4 KiB: values that are too long are cut with `...`.
    """

    def __init__(
        self,
        sink: Sink,
        form: Format,
        *,
        colours: bool = False,
        worker: str = "",
        clock: Callable[[], datetime] = _UTC_NOW,
    ) -> None:
        """
        Take a sink and a format; `clock` gives the time in UTC.

        `worker` stands in events: which process they are of, where several share the log.
        """
        self.sink: Final = sink
        self._worker = {"worker": worker} if worker else {}
        self._clock = clock
        self._render = partial(console_line, colours=colours) if form == "console" else _json_line
        self._decided = _json_decision if form == "json" else None
        self._logger = structlog.wrap_logger(
            _Target(sink),
            processors=[self._event],
            wrapper_class=structlog.make_filtering_bound_logger("info"),
        ).bind()

    def decision(
        self,
        decision: Decision,
        attributes: Attributes,
        front_end: FrontEnd,
        seconds: float,
    ) -> None:
        """Write the line of a decision that took `seconds`."""
        line = decision_line(self._clock(), decision, attributes, front_end, seconds)
        octets = None if self._decided is None else self._decided(line)
        self.sink.write(octets or fitted(_fields(line), self._render))

    def event(self, level: Level, event: str, /, **fields: object) -> None:
        """Write an event, named as a past fact (`list.failed`), with whatever explains it."""
        line = {"timestamp": self._clock(), "level": level, "event": event, **self._worker}
        getattr(self._logger, level)({**line, **fields, **line})

    def _event(self, _logger: object, _method: str, values: Mapping[str, Any]) -> bytes:
        return fitted(values["event"], self._render)


def _json_decision(line: DecisionLine) -> bytes | None:
    """Encode a decision; None where it takes more care: no JSON type, or too long."""
    try:
        octets = _ENCODER.encode(line)
    except (ValueError, TypeError, msgspec.MsgspecError):
        return None
    return octets + b"\n" if len(octets) < MOST_OCTETS else None


def _fields(line: DecisionLine) -> dict[str, object]:
    """Give what is not at its default, in the line's order."""
    given = ((name, getattr(line, name), default) for name, default in _DEFAULTS.items())
    return {name: value for name, value, default in given if value != default}


_DEFAULTS: Final = {field.name: field.default for field in msgspec.structs.fields(DecisionLine)}


class _Target:
    """What structlog calls with a finished line: by level, all to the one sink."""

    def __init__(self, sink: Sink) -> None:
        self.debug = self.info = self.warning = self.error = self.critical = sink.write


def open_log(
    form: Format | Literal["auto"], dropped: Callable[[int], None], *, worker: str = ""
) -> Log:
    """
    Open the log on standard error; `auto` is `console` on a terminal, else `json`.

    `dropped`: see Sink; `worker`: see Log.
    """
    # Without a standard error its number may by now belong to something else.
    descriptor = sys.__stderr__.fileno() if sys.__stderr__ is not None else None
    terminal = descriptor is not None and os.isatty(descriptor)
    if form == "auto":
        form = "console" if terminal else "json"
    colours = terminal and "NO_COLOR" not in os.environ
    return Log(Sink(descriptor, dropped), form, colours=colours, worker=worker)


def capture_logging(log: Log) -> None:
    """Have what libraries log (asyncio, uvicorn) from warnings up written as our events."""
    root = logging.getLogger()
    root.handlers[:] = [_Captured(log)]
    root.setLevel(logging.WARNING)


class _Captured(logging.Handler):
    def __init__(self, log: Log) -> None:
        super().__init__()
        self._log = log

    def emit(self, record: logging.LogRecord) -> None:
        """Write a record; handleError, as logging does, for one whose arguments do not fit."""
        try:
            message = record.getMessage()
        except Exception:  # noqa: BLE001 -- any argument's own __str__ runs here
            self.handleError(record)
            return
        fields: dict[str, object] = {"logger": record.name, "message": message}
        if record.exc_info and record.exc_info[1] is not None:
            fields["exception"] = record.exc_info[1]
        level: Level = "error" if record.levelno >= logging.ERROR else "warning"
        self._log.event(level, "library.logged", **fields)


def _json_line(fields: Mapping[str, object]) -> bytes:
    return _ENCODER.encode(fields) + b"\n"

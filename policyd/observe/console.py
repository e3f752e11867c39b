"""Log lines for a terminal: a decision reads as its reply, then what it was about."""

import json
from collections.abc import Iterator, Mapping
from datetime import datetime
from typing import Final

_COLOURS: Final = {
    "accept": "32",
    "pass": "2",
    "defer": "33",
    "reject": "31",
    "warning": "33",
    "error": "31",
    "critical": "31",
}
"""By verdict or level, the parameter of SGR (ECMA-48): green, faint, yellow, red."""
_OTHER_VERDICT: Final = "36"  # cyan: something happens to the message


def console_line(fields: Mapping[str, object], *, colours: bool) -> bytes:
    """
    Write one line for a reader, time in their own zone; never a control character of a sender's.

    `12:00:01 rcpt reject 550 5.1.1 rule=... client=... sender=... recipient=... id=...`
    """
    # fromisoformat takes only what the log itself wrote there.
    when = datetime.fromisoformat(str(fields["timestamp"])).astimezone()
    words = [when.strftime("%H:%M:%S")]
    if fields["event"] == "decision" and "verdict" in fields:
        words += _decision(fields, colours=colours)
    else:
        level = str(fields["level"])
        words += [_coloured(level, _COLOURS.get(level), colours), str(fields["event"])]
        words += [
            f"{key}={_shown(value)}"
            for key, value in fields.items()
            if key not in ("timestamp", "level", "event")
        ]
    return " ".join(words).encode() + b"\n"


def _decision(fields: Mapping[str, object], *, colours: bool) -> Iterator[str]:
    verdict = str(fields["verdict"])
    yield str(fields["stage"]) or "-"
    yield _coloured(verdict, _COLOURS.get(verdict, _OTHER_VERDICT), colours)
    if "code" in fields:
        yield f"{fields['code']} {fields['enhanced']}"
    if fields.get("source") == "error":
        yield _coloured("error", _COLOURS["error"], colours)
    for key in ("rule", "reason", "argument"):
        if key in fields:
            yield f"{key}={_shown(fields[key])}"
    name, address = fields.get("client_name", "unknown"), fields.get("client_address", "unknown")
    yield f"client={_shown(f'{name}[{address}]')}"
    for key, label in (
        ("helo_name", "helo"),
        ("sender", "sender"),
        ("recipient", "recipient"),
        ("sasl_username", "login"),
        ("queue_id", "queue_id"),
        ("service", "service"),
        ("also", "also"),
    ):
        if key in fields:
            yield f"{label}={_shown(fields[key])}"
    yield f"id={_shown(fields['id'])}"
    if "text" in fields:
        yield f"text={_shown(fields['text'])}"


def _shown(value: object) -> str:
    """Write a value as it is where it is one plain word, else as JSON in ASCII."""
    if isinstance(value, str) and value.isprintable() and not set(value) & set(' "\\='):
        return value
    return json.dumps(value)


def _coloured(text: str, colour: str | None, colours: bool) -> str:
    return f"\x1b[{colour}m{text}\x1b[0m" if colours and colour else text

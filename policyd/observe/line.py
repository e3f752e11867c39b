"""
What stands in a log line, and how it is kept to one line of bounded length.

Keys are Postfix's attribute names (SMTPD_POLICY_README); what is empty is left out. Values are
whatever a sender put in them, so nothing about them is taken for granted.
"""

import functools
import math
import traceback
from collections.abc import Callable, Mapping
from datetime import datetime
from pathlib import Path
from typing import Final

import msgspec

from policyd.facts.table import Attributes
from policyd.observe.output import MOST_OCTETS
from policyd.smtp.decision import Decision, RuleHit, Source
from policyd.smtp.stage import FrontEnd

_LIMITS: Final = (MOST_OCTETS, 512, 128, 48, 16)
"""Characters a value may keep, tried in this order until the line fits."""
_ITEMS: Final = 16
"""A list may keep one entry for so many characters."""
_WIDEST: Final = 2**63 - 1
"""The largest integer that readers of JSON agree on taking."""


class DecisionLine(msgspec.Struct, omit_defaults=True, gc=False):
    """The line of one decision. `seconds`: how long it took; `code` is text, as in the metrics."""

    timestamp: datetime
    level: str
    event: str
    id: str
    frontend: str
    stage: str
    verdict: str
    code: str = ""
    enhanced: str = ""
    text: str = ""
    argument: str = ""
    if_permitted: bool = False
    rule: str = ""
    source: str = ""
    reason: str = ""
    also: tuple[RuleHit, ...] = ()
    protocol_state: object = ""
    client_address: object = ""
    client_name: object = ""
    reverse_client_name: object = ""
    helo_name: object = ""
    sender: object = ""
    recipient: object = ""
    recipient_count: object = 0
    size: object = 0
    queue_id: object = ""
    instance: object = ""
    sasl_username: object = ""
    encryption_protocol: object = ""
    policy_context: object = ""
    service: object = ""
    seconds: float = 0.0


def decision_line(
    when: datetime,
    decision: Decision,
    attributes: Attributes,
    front_end: FrontEnd,
    seconds: float,
) -> DecisionLine:
    """Gather a decision's line; the order is DecisionLine's, which is filled by position."""
    reply = decision.reply
    if reply is None:
        code = enhanced = text = ""
    else:
        code, enhanced = _pair(reply.code, reply.subject, reply.detail)
        text = reply.text
    get = attributes.get
    return DecisionLine(
        when,
        "error" if decision.source is Source.ERROR else "info",
        "decision",
        decision.id,
        front_end,
        decision.stage or "",
        decision.verdict,
        code,
        enhanced,
        text,
        decision.argument,
        decision.if_permitted,
        decision.rule,
        decision.source,
        decision.reason,
        decision.also,
        get("protocol_state", ""),
        get("client_address", ""),
        get("client_name", ""),
        get("reverse_client_name", ""),
        get("helo_name", ""),
        get("sender", ""),
        get("recipient", ""),
        _number(get("recipient_count", 0)),
        _number(get("size", 0)),
        get("queue_id", ""),
        get("instance", ""),
        get("sasl_username", ""),
        get("encryption_protocol", ""),
        get("policy_context", ""),
        get("service", ""),
        seconds,
    )


def fitted(fields: Mapping[str, object], render: Callable[[Mapping[str, object]], bytes]) -> bytes:
    """
    Render fields to a line of at most MOST_OCTETS, cutting long values with `...` as far as needed.

    When there are too many fields for that, only the first three stay: time, level and event.
    """
    for limit in _LIMITS:
        line = render({key: _plain(value, limit) for key, value in fields.items()})
        if len(line) <= MOST_OCTETS:
            return line
    return render({key: _plain(fields[key], _LIMITS[-1]) for key in list(fields)[:3]})


@functools.lru_cache(maxsize=1024)
def _pair(code: int, subject: int, detail: int) -> tuple[str, str]:
    return str(code), f"{code // 100}.{subject}.{detail}"


def _number(value: object) -> object:
    """Give Postfix's digits as a number, so that readers can compare it; else what was given."""
    if type(value) is str:
        if value.isdecimal() and len(value) <= 18:  # fits 64 bits
            return int(value)
        return value or 0
    return value


def _plain(value: object, limit: int) -> object:
    """Make a value that every renderer takes: text without lone surrogates, numbers, lists."""
    if isinstance(value, str):
        return _cut(value, limit)
    if value is None or isinstance(value, bool):
        return value
    if isinstance(value, int):
        return value if abs(value) <= _WIDEST else _cut(str(value), limit)
    if isinstance(value, float):
        return value if math.isfinite(value) else str(value)
    if isinstance(value, datetime):
        return value.isoformat().replace("+00:00", "Z")
    if isinstance(value, BaseException):
        return _cut(_exception(value), limit)
    if isinstance(value, msgspec.Struct):
        return {key: _plain(item, limit) for key, item in msgspec.structs.asdict(value).items()}
    keep = limit // _ITEMS
    if isinstance(value, Mapping):
        items = list(value.items())[:keep]
        return {_cut(str(key), limit): _plain(item, limit) for key, item in items}
    if isinstance(value, (list, tuple, set, frozenset)):
        return [_plain(item, limit) for item in list(value)[:keep]]
    return _cut(str(value), limit)


def _cut(text: str, limit: int) -> str:
    r"""Cut text, and write lone surrogates (octets that were no UTF-8) as `\udcXX`."""
    if len(text) > limit:
        text = text[:limit] + "..."
    return text.encode("utf-8", "backslashreplace").decode()


def _exception(error: BaseException) -> str:
    """Say in one line what was raised and where."""
    said = f"{type(error).__name__}: {error}"
    frames = traceback.extract_tb(error.__traceback__)
    if not frames:
        return said
    last = frames[-1]
    return f"{said} ({Path(last.filename).name}:{last.lineno} in {last.name})"

"""What can be wrong with a peer of the policy protocol."""

from enum import StrEnum
from typing import Final


class Reason(StrEnum):
    """What was wrong with a peer of the policy protocol; a metric's label."""

    EMPTY = "empty"
    CRLF = "crlf"
    NUL = "nul"
    MALFORMED_LINE = "malformed-line"
    NOT_A_REQUEST = "not-a-request"
    TOO_LONG = "too-long"
    TRUNCATED = "truncated"
    TIMEOUT = "timeout"
    UNREAD = "unread-answers"
    UNKNOWN_STATE = "unknown-state"
    UNKNOWN_STAGE = "unknown-stage"
    UNKNOWN_LIST = "unknown-list"
    LATER_STAGE = "later-stage"
    INTERNAL = "internal"
    TOO_MANY = "too-many-connections"
    NOT_ALLOWED = "not-allowed"


REASONS: Final = tuple(Reason)
"""Every reason under which a protocol error can be counted."""


class ProtocolError(Exception):
    """
    The peer broke the protocol: `reason` is one of REASONS, `detail` says more in words.

    Raised by a parser the request has no answer, and the connection is to be closed. Given back
    by read_context the request is whole, and is answered DUNNO.
    """

    def __init__(self, reason: Reason, detail: str) -> None:
        super().__init__(f"{reason}: {detail}")
        self.reason = reason
        self.detail = detail


_SHOWN: Final = 80


def shown(text: str) -> str:
    """Give what a peer sent in a form fit for a log line: quoted, ASCII, not too long."""
    return ascii(text[:_SHOWN])

"""
Postfix's policy delegation protocol, without I/O (SMTPD_POLICY_README).

Bytes become requests, a request's context says what to decide, and a decision becomes an action.
"""

from policyd.protocol.delegation.actions import action, encode_action
from policyd.protocol.delegation.context import Asked, read_context
from policyd.protocol.delegation.errors import REASONS, ProtocolError, Reason
from policyd.protocol.delegation.requests import (
    ATTRIBUTES,
    MAX_REQUEST,
    SINCE,
    STATES,
    Request,
    RequestParser,
)

__all__ = [
    "ATTRIBUTES",
    "MAX_REQUEST",
    "REASONS",
    "SINCE",
    "STATES",
    "Asked",
    "ProtocolError",
    "Reason",
    "Request",
    "RequestParser",
    "action",
    "encode_action",
    "read_context",
]

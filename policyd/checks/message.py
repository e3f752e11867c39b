"""What joins the requests of one message, as attributes tell it."""

from typing import Final

from policyd.facts.table import Attributes
from policyd.store.model import Message

SEPARATOR: Final = "\x1f"
_CONNECTION: Final = ("server_address", "client_address", "client_port")
_UNKNOWN: Final = frozenset({"", "0", "unknown"})
"""What stands for an address or a port that an XCLIENT proxy does not tell (XCLIENT_README)."""


def message_of(attributes: Attributes) -> Message:
    """
    Give the message that a request is about.

    Its instance is Postfix's (SMTPD_POLICY_README), or the milter's own. The connection is the same
    to both front ends, which else have no word in common before there is a queue id. Where a part
    of it is not known there is none: another session might be taken for this one.
    """
    parts = [str(attributes.get(name, "")) for name in _CONNECTION]
    connection = "" if _UNKNOWN.intersection(parts) else SEPARATOR.join(parts)
    return Message(str(attributes.get("instance", "")), connection)

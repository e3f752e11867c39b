"""What joins the requests of one message, as attributes tell it."""

from typing import Final

from policyd.facts.table import Attributes
from policyd.store.model import Message

SEPARATOR: Final = "\x1f"
_CONNECTION: Final = ("server_address", "client_address", "client_port")


def message_of(attributes: Attributes) -> Message:
    """
    Give the message that a request is about.

    Its instance is Postfix's (SMTPD_POLICY_README), or the milter's own. The connection is the same
    to both front ends, which else have no word in common before there is a queue id.
    """
    parts = [str(attributes.get(name, "")) for name in _CONNECTION]
    connection = SEPARATOR.join(parts) if all(parts) else ""
    return Message(str(attributes.get("instance", "")), connection)

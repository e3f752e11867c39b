"""What joins the requests of one message, in either front end's words."""

import pytest

from policyd.checks.message import message_of
from policyd.store.model import Message

POLICY = {
    "server_address": "192.0.2.25",
    "client_address": "2001:db8::7",
    "client_port": "49152",
}
"""As Postfix tells it to a policy server; the milter tells the port as a number."""


def test_a_connection_is_the_same_to_both_front_ends() -> None:
    connection = "192.0.2.25\x1f2001:db8::7\x1f49152"
    assert message_of({**POLICY, "instance": "1a.5.0"}) == Message("1a.5.0", connection)
    assert message_of({**POLICY, "client_port": 49152}) == Message("", connection)


@pytest.mark.parametrize("unknown", ["", "0", 0, "unknown", None])
@pytest.mark.parametrize("attribute", POLICY)
def test_a_connection_of_which_a_part_is_unknown_is_none(attribute: str, unknown: object) -> None:
    """Postfix writes `unknown` where XCLIENT says [UNAVAILABLE], and 0 to a milter."""
    told = {name: value for name, value in POLICY.items() if name != attribute}
    if unknown is not None:
        told[attribute] = unknown  # type: ignore[assignment] # a port may be a number
    assert message_of(told) == Message("", "")

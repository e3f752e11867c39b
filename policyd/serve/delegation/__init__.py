"""
The server of Postfix's policy delegation protocol, on asyncio or uvloop.

Postfix keeps one connection a process and asks one question at a time (SMTPD_POLICY_README).
Nothing here relies on it: questions that come together are answered in their order, a few a turn
of the loop, and a peer that sends without end, stops in a request or reads no answers costs
bounded memory and no other peer's time.
"""

from policyd.serve.delegation.connection import BATCH, DelegationProtocol
from policyd.serve.delegation.door import Door
from policyd.serve.delegation.server import GRACE, PATIENCE, DelegationServer

__all__ = [
    "BATCH",
    "GRACE",
    "PATIENCE",
    "DelegationProtocol",
    "DelegationServer",
    "Door",
]

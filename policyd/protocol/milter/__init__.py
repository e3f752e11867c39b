"""
The milter protocol's meaning, without I/O (MILTER_README; libmilter's documentation).

What a milter asks of the MTA for a policy, what callbacks and macros say under the names of
Postfix's policy attributes, and which status, reply and changes a decision amounts to. The bytes
are libmilter's business.
"""

from typing import Final

from policyd.protocol.milter.answer import (
    AMENDING,
    GO_ON,
    NOTHING,
    Amendments,
    MilterAnswer,
    Status,
    milter_answer,
)
from policyd.protocol.milter.mime import Skeleton
from policyd.protocol.milter.plan import Actions, Event, Plan, Steps, plan

REASONS: Final = ("not-utf-8", "internal", "too-many-connections")
"""Every reason under which a milter peer's fault is counted."""

__all__ = [
    "AMENDING",
    "GO_ON",
    "NOTHING",
    "REASONS",
    "Actions",
    "Amendments",
    "Event",
    "MilterAnswer",
    "Plan",
    "Skeleton",
    "Status",
    "Steps",
    "milter_answer",
    "plan",
]

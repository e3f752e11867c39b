"""
SPF (RFC 7208): what is asked, and what it came to.

The libraries are imported by the work alone (spf_query, spf_work), which runs beside the worker.
"""

from enum import StrEnum
from typing import Final

import msgspec

from policyd.facts import read

RESULTS: Final = ("pass", "fail", "softfail", "neutral", "none", "temperror", "permerror")
"""RFC 7208 section 2.6."""
POSTMASTER: Final = "postmaster"
LONGEST_TEXT: Final = 200
"""Characters of an explanation or a reason."""

_LONGEST_NAME: Final = 253
_LONGEST_LABEL: Final = 63


class Identity(StrEnum):
    """Whose policy is asked: the domain of MAIL FROM, or the name given with HELO (section 2)."""

    MAIL_FROM = "mailfrom"
    HELO = "helo"


class SpfAnswer(msgspec.Struct, frozen=True):
    """
    What an evaluation came to, about `domain`.

    `reason` is for who runs this site. `explanation` is what the domain's owner says to a sender
    who fails (exp=, section 6.2): somebody else's words, empty without any. It may be kept for
    `ttl` seconds.
    """

    result: str
    identity: Identity
    domain: str
    reason: str = ""
    explanation: str = ""
    ttl: float = 0.0


class SpfQuestion(msgspec.Struct, frozen=True):
    """
    Whether `address` may send for `local`@`domain`: the arguments of check_host() (section 4.1).

    `domain` and `helo` are as facts.read.domain gives them, `receiver` is who asks. No question to
    the DNS is begun after `seconds` seconds.
    """

    address: str
    identity: Identity
    local: str
    domain: str
    helo: str
    receiver: str
    seconds: float


class SpfEvaluation(msgspec.Struct, frozen=True):
    """An answer, and whether it depends on the local part or the HELO name (macros s, l, h)."""

    answer: SpfAnswer
    personal: bool


def may_have_policy(domain: str) -> bool:
    """Tell whether a domain is well formed, of several labels, and no address (section 4.3)."""
    labels = domain.split(".")
    return (
        domain.isascii()
        and len(domain) <= _LONGEST_NAME
        and len(labels) > 1
        and all(0 < len(label) <= _LONGEST_LABEL for label in labels)
        and not read.is_address_literal(domain)
    )

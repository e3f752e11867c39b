"""What policyd concluded about one question, and why."""

from enum import StrEnum

import msgspec

from policyd.smtp.reply import Reply
from policyd.smtp.stage import Stage


class Verdict(StrEnum):
    """What a decision amounts to."""

    ACCEPT = "accept"
    PASS = "pass"  # noqa: S105 -- a verdict, not a password
    DEFER = "defer"
    REJECT = "reject"
    DISCARD = "discard"
    HOLD = "hold"
    REDIRECT = "redirect"
    BCC = "bcc"
    FILTER = "filter"
    PREPEND = "prepend"
    WARN = "warn"
    SCORE = "score"
    """Of a rule that matched only; no decision amounts to it."""


class Source(StrEnum):
    """Who decided: a rule, nobody (no objection), or a fault of policyd's own."""

    RULE = "rule"
    DEFAULT = "default"
    ERROR = "error"


class Mode(StrEnum):
    """Whether a rule's outcome is sent, or only counted and logged."""

    ENFORCE = "enforce"
    SHADOW = "shadow"


class RuleHit(msgspec.Struct, frozen=True):
    """A rule that matched on the way to a decision, with the outcome it has or would have had."""

    rule: str
    stage: Stage
    verdict: Verdict
    code: str
    enhanced: str
    mode: Mode


class Decision(msgspec.Struct, frozen=True, gc=False):
    """
    The answer to one question.

    `reply` is what the sender is given (defer and reject only); `argument` is a verb's: the
    header, the reason, the address or the transport. `reason` is for us and never sent. `stage`
    is that of the rule that decided, else the last that was asked. `if_permitted`: a later reject
    of Postfix's own wins (DEFER_IF_PERMIT, access(5)). `also` are rules in shadow mode, and rules
    whose outcome gave way to a stronger one of the same request.
    """

    id: str
    verdict: Verdict
    stage: Stage | None
    source: Source
    reply: Reply | None = None
    argument: str = ""
    rule: str = ""
    reason: str = ""
    if_permitted: bool = False
    also: tuple[RuleHit, ...] = ()

    @property
    def code(self) -> str:
        """The basic code as a metric label; empty where none is given."""
        return str(self.reply.code) if self.reply is not None else ""

    @property
    def enhanced(self) -> str:
        """The enhanced code as a metric label; empty where none is given."""
        return str(self.reply.enhanced) if self.reply is not None else ""

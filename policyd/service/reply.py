"""From what a rule yields to what is sent: texts filled in, made safe, and cut to fit."""

from typing import Final

from policyd.facts.table import Attributes
from policyd.protocol import postfix
from policyd.protocol.text import fit, safe
from policyd.rules.outcome import header_of
from policyd.rules.policy import Match
from policyd.rules.template import Template, moment
from policyd.service.context import DecisionContext
from policyd.smtp.catalogue import BASIC
from policyd.smtp.decision import Verdict
from policyd.smtp.reply import EnhancedCode, Reply
from policyd.smtp.stage import RestrictionList

ARGUMENT_ROOM: Final = 400
"""Octets of a reason that Postfix logs, or of a header's value: well within a line of 998."""

FAULT: Final = Reply(451, 3, 0, "Temporary policy failure, please try again later")
"""What is sent when the fault is policyd's own (RFC 3463 section 3.4)."""


def reply_of(
    match: Match,
    attributes: Attributes,
    context: DecisionContext,
    *,
    restriction: RestrictionList | None,
    utf8: bool,
    tail: str,
) -> Reply | None:
    """
    Give the reply that a match sends; None if it sends none.

    `restriction` is the list that Postfix asks from, whose prefix takes of the line's room; None
    for a milter. `tail` is kept at the text's end however long it is.
    """
    if match.text is None or match.enhanced is None:
        return None
    enhanced: EnhancedCode = match.enhanced
    text = safe(_filled(match.text, attributes, context), utf8=utf8)
    if not text:
        text = safe(match.text.plain, utf8=utf8) or safe(BASIC[match.code].text, utf8=False)
    room = postfix.room(match.code, enhanced, restriction, attributes)
    return Reply(match.code, enhanced.subject, enhanced.detail, fit(text, room, tail=tail))


def argument_of(
    match: Match, attributes: Attributes, context: DecisionContext, *, utf8: bool
) -> str:
    """Give a verb's argument: a reason, an address, a transport, or a header."""
    if match.argument is None:
        return ""
    text = safe(_filled(match.argument, attributes, context), utf8=utf8)
    if match.verdict is Verdict.PREPEND:
        name, value = header_of(text)
        return f"{name}: {fit(value or '-', ARGUMENT_ROOM)}"
    return fit(text, ARGUMENT_ROOM) or match.rule


def _filled(template: Template, attributes: Attributes, context: DecisionContext) -> str:
    if not template.names:
        return template.plain
    values = {"score": f"{context.score:g}", "now": moment(context.now), **context.values}
    return template.render(attributes, values)

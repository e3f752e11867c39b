"""
Decisions to actions: the right-hand sides of access(5) that a policy server may answer.

Postfix takes an empty action and one of digits alone for OK, and goes on as with DUNNO when an
argument is not to its taste; none of that can leave here.
"""

import re
from collections.abc import Mapping
from typing import Final

from policyd.protocol.delegation.errors import shown
from policyd.protocol.text import safe
from policyd.smtp.decision import Decision, Verdict
from policyd.smtp.reply import Reply

_NO_OBJECTION: Final = frozenset({Verdict.ACCEPT, Verdict.PASS})
_DUNNO: Final = "DUNNO"
_DUNNO_ANSWER: Final = b"action=DUNNO\n\n"
_NO_TEXT: Final = "no reason given"
"""Stands for a text of which nothing can be shown: Postfix takes a code alone for OK."""

_WITH_TEXT: Final[Mapping[Verdict, str]] = {
    Verdict.HOLD: "HOLD",
    Verdict.DISCARD: "DISCARD",
    Verdict.WARN: "WARN",
}

# What smtpd_check.c demands of an argument; with any other it warns and goes on as with DUNNO.
_WITH_ARGUMENT: Final[Mapping[Verdict, tuple[str, re.Pattern[str]]]] = {
    Verdict.REDIRECT: ("REDIRECT", re.compile(r".*@.*")),
    Verdict.BCC: ("BCC", re.compile(r".*@.*")),
    Verdict.FILTER: ("FILTER", re.compile(r".+:.*")),
    Verdict.PREPEND: ("PREPEND", re.compile(r"[!-9;-~]+ *:.*")),
}


def encode_action(decision: Decision) -> bytes:
    """Give the answer to a request as it goes on the wire; ValueError as action() does."""
    if decision.verdict in _NO_OBJECTION:
        return _DUNNO_ANSWER
    return f"action={action(decision)}\n\n".encode()


def action(decision: Decision) -> str:
    """
    Give the action that makes Postfix do what was decided: one line with a text, and never OK.

    ValueError when there is no such action: a refusal without a 4yz or 5yz reply, the verdict
    score, an argument that Postfix would not take and thereby let the mail pass.
    """
    verdict = decision.verdict
    if verdict in _NO_OBJECTION:
        return _DUNNO
    if verdict in (Verdict.DEFER, Verdict.REJECT):
        return _refusal(decision.reply, if_permitted=decision.if_permitted)
    word = _WITH_TEXT.get(verdict)
    if word is not None:
        return f"{word} {_line(decision.argument) or _who(decision)}"
    if verdict not in _WITH_ARGUMENT:
        raise ValueError(f"{verdict} is no answer")
    word, form = _WITH_ARGUMENT[verdict]
    argument = _line(decision.argument)
    if form.fullmatch(argument) is None:
        raise ValueError(f"Postfix would not take {word} with {shown(argument)}")
    return f"{word} {argument}"


def _refusal(reply: Reply | None, *, if_permitted: bool) -> str:
    if reply is None or reply.code // 100 not in (4, 5):
        raise ValueError("a refusal has a 4yz or 5yz reply")
    pair = f"{reply.enhanced} {_line(reply.text) or _NO_TEXT}"
    # DEFER_IF_PERMIT takes an enhanced code and answers access_map_defer_code (access(5)): a
    # permanent refusal cannot be said with it
    if if_permitted and reply.code // 100 == 4:
        return f"DEFER_IF_PERMIT {pair}"
    return f"{reply.code} {pair}"


def _line(text: str) -> str:
    return safe(text, utf8=True)


def _who(decision: Decision) -> str:
    return _line(f"rule {decision.rule}" if decision.rule else _NO_TEXT)

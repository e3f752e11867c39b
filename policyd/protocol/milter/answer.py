"""
Decisions to milter answers: a status, the reply that goes with it, and changes to the message.

The status is derived from the reply's class: libmilter ignores a reply of another class than the
status returned and Postfix then sends words of its own (smfi_setreply). No decision becomes
SMFIS_ACCEPT, after which other callbacks of the message would not come.
"""

import re
from enum import StrEnum
from typing import Final, TypeVar

import msgspec

from policyd.protocol.postfix import room
from policyd.protocol.text import fit, octets, safe
from policyd.smtp.decision import Decision, Verdict
from policyd.smtp.reply import Reply


class Status(StrEnum):
    """What a callback returns to libmilter (libmilter/mfapi.h, SMFIS_*)."""

    CONTINUE = "continue"
    TEMPFAIL = "tempfail"
    REJECT = "reject"
    DISCARD = "discard"


class MilterAnswer(msgspec.Struct, frozen=True):
    """A status, and the arguments of smfi_setreply: basic code, enhanced code and text, or None."""

    status: Status
    reply: tuple[str, str, str] | None = None


GO_ON: Final = MilterAnswer(Status.CONTINUE)
"""No objection, and every answer that changes the message at its end."""

_DISCARD: Final = MilterAnswer(Status.DISCARD)
_BY_CLASS: Final = {4: Status.TEMPFAIL, 5: Status.REJECT}
_NO_TEXT: Final = "no reason given"
_MOST: Final = 980
"""The octets that smfi_setreply takes for a text (libmilter/smfi.c, MAXREPLYLEN), `%%` as two."""


def milter_answer(decision: Decision) -> MilterAnswer:
    """Give the answer of a decision; ValueError for a refusal without a 4yz or 5yz reply."""
    if decision.verdict is Verdict.DISCARD:
        return _DISCARD
    if decision.verdict not in (Verdict.DEFER, Verdict.REJECT):
        return GO_ON
    reply = decision.reply
    status = _BY_CLASS.get(reply.code // 100) if reply is not None else None
    if reply is None or status is None:
        raise ValueError("a refusal has a 4yz or 5yz reply")
    return MilterAnswer(status, (str(reply.code), str(reply.enhanced), _text(reply)))


def _text(reply: Reply) -> str:
    text = safe(reply.text, utf8=True) or _NO_TEXT
    text = fit(text, room(reply.code, reply.enhanced, None, {}))
    # Postfix takes `%%` for `%` and drops a `%` that stands alone (milter8.c)
    while octets(text) + text.count("%") > _MOST:
        text = fit(text, octets(text) - 1)
    return text.replace("%", "%%")


class Amendments(msgspec.Struct, frozen=True):
    """
    What a message undergoes at its end, where alone a milter can change it.

    `hold` is the reason of a quarantine and empty for none; `redirect` one address in place of
    all recipients; `bcc` further recipients; `headers` names and values, put before all others.
    """

    hold: str = ""
    redirect: str = ""
    bcc: tuple[str, ...] = ()
    headers: tuple[tuple[str, str], ...] = ()

    def __bool__(self) -> bool:
        """Tell whether there is anything to change."""
        return self != NOTHING

    def after(self, decision: Decision) -> "Amendments":
        """
        Add what a decision asks for; ValueError for an argument that Postfix would not take.

        As in Postfix, the last redirect wins and blind copies add up (access(5)).
        """
        argument = safe(decision.argument, utf8=True)
        match decision.verdict:
            case Verdict.HOLD:
                reason = argument or f"rule {decision.rule}"
                return msgspec.structs.replace(self, hold=self.hold or reason)
            case Verdict.REDIRECT:
                return msgspec.structs.replace(self, redirect=_address(argument))
            case Verdict.BCC:
                return msgspec.structs.replace(self, bcc=_joined(self.bcc, _address(argument)))
            case Verdict.PREPEND:
                return msgspec.structs.replace(
                    self, headers=_joined(self.headers, _header(argument))
                )
            case _:
                return self

    def with_those_of(self, session: "Amendments") -> "Amendments":
        """Add what was decided for the whole session; the message's own redirect wins."""
        return Amendments(
            hold=self.hold or session.hold,
            redirect=self.redirect or session.redirect,
            bcc=session.bcc + tuple(bcc for bcc in self.bcc if bcc not in session.bcc),
            headers=session.headers
            + tuple(header for header in self.headers if header not in session.headers),
        )


NOTHING: Final = Amendments()
"""The message stays as it is."""

AMENDING: Final = frozenset({Verdict.HOLD, Verdict.REDIRECT, Verdict.BCC, Verdict.PREPEND})
"""The verdicts that change a message at its end."""

_T = TypeVar("_T")
_HEADER: Final = re.compile(r"([!-9;-~]+) *: *(.*)")  # RFC 5322 section 2.2


def _joined(items: tuple[_T, ...], item: _T) -> tuple[_T, ...]:
    return items if item in items else (*items, item)


def _address(argument: str) -> str:
    if "@" not in argument:
        raise ValueError(f"{argument!a} is not a mail address to send to")
    return argument


def _header(argument: str) -> tuple[str, str]:
    found = _HEADER.fullmatch(argument)
    if found is None:
        raise ValueError(f"{argument!a} is not a header line")
    return found[1], found[2]

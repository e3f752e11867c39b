"""
What the client sees of a decision: the lines, where they show, and what becomes of the message.

One function predicts, for `check`, `explain` and the tests that hold it against a real Postfix.
The dialogue is that of a plain client that goes on after a refusal: banner, EHLO, MAIL, one RCPT,
DATA, end-of-data; where Postfix asks about VRFY or ETRN: banner, EHLO, that command.
"""

from collections.abc import Mapping
from enum import StrEnum
from typing import Final

import msgspec

from policyd.facts.table import Attributes
from policyd.protocol.postfix.rewriting import LINE_LIMIT, prefix, rewrite, usual_list
from policyd.protocol.text import octets
from policyd.smtp.decision import Decision, Verdict
from policyd.smtp.reply import EnhancedCode, Reply
from policyd.smtp.stage import FrontEnd, RestrictionList, Stage


class Step(StrEnum):
    """A step of the SMTP dialogue that the client is given a reply to."""

    BANNER = "banner"
    EHLO = "EHLO"
    MAIL = "MAIL"
    RCPT = "RCPT"
    DATA = "DATA"
    END_OF_DATA = "end-of-data"
    VRFY = "VRFY"
    ETRN = "ETRN"


class Setting(msgspec.Struct, frozen=True):
    """
    Who asks, and where.

    `stage` is where Postfix asks: the request's protocol_state, or the milter's event. The list
    that asks is `restriction`; None means the list usual for that stage, and is right for a
    milter. `hostname` is Postfix's myhostname.
    """

    front_end: FrontEnd
    stage: Stage
    restriction: RestrictionList | None = None
    hostname: str = "mx.example.org"
    soft_bounce: bool = False


class Line(msgspec.Struct, frozen=True):
    """
    A reply as the client receives it.

    `enhanced` is empty for greetings and replies to EHLO (RFC 2034 section 4); a reply of several
    lines has them in `text`, joined by newline. After a reply that `closes`, Postfix hangs up.
    """

    at: Step
    code: int
    enhanced: str
    text: str
    closes: bool = False

    def __str__(self) -> str:
        """Give the reply as on the wire, its lines joined by newline."""
        pair = f"{self.enhanced} " if self.enhanced else ""
        *first, last = self.text.split("\n")
        return "\n".join(
            [*(f"{self.code}-{pair}{text}" for text in first), f"{self.code} {pair}{last}"]
        )


class Prediction(msgspec.Struct, frozen=True):
    """
    What becomes of a decision.

    `lines` are the replies that differ from those of a session without policyd, in the order of
    the dialogue. `effect` says what happens to the message, `notes` in what the client's view
    differs from the rule's words.
    """

    lines: tuple[Line, ...] = ()
    effect: str = ""
    notes: tuple[str, ...] = ()


_STEPS: Final[Mapping[Stage, Step]] = {
    Stage.CONNECT: Step.BANNER,
    Stage.HELO: Step.EHLO,
    Stage.MAIL: Step.MAIL,
    Stage.RCPT: Step.RCPT,
    Stage.DATA: Step.DATA,
    Stage.END_OF_DATA: Step.END_OF_DATA,
    Stage.VRFY: Step.VRFY,
    Stage.ETRN: Step.ETRN,
}

_HANG_UP: Final = frozenset({421, 521})
"""Postfix closes the connection after these, whoever chose them (smtpd_chat_reply)."""

_DEFER_CODE: Final = 450
"""access_map_defer_code, with which Postfix answers DEFER_IF_PERMIT (access(5))."""

_BEFORE_RCPT: Final = frozenset({Stage.CONNECT, Stage.HELO, Stage.MAIL})
_FORGOTTEN: Final = frozenset(
    {(Stage.VRFY, RestrictionList.CLIENT), (Stage.VRFY, RestrictionList.HELO)}
)
"""smtpd_check_rcpt takes over what the sender list remembered, and VRFY has no sender."""

_NO_MESSAGE: Final = frozenset({Stage.CONNECT, Stage.HELO, Stage.VRFY, Stage.ETRN})

# smtpd.c: what a client that goes on is told after its MAIL or its only RCPT was refused
_NEED_MAIL: Final = Line(Step.RCPT, 503, "5.5.1", "Error: need MAIL command")
_NEED_RCPT: Final = Line(Step.DATA, 503, "5.5.1", "Error: need RCPT command")
_NO_RECIPIENTS: Final = Line(Step.DATA, 554, "5.5.1", "Error: no valid recipients")

_AFTER: Final[Mapping[Step, tuple[Line, ...]]] = {
    Step.MAIL: (_NEED_MAIL, _NEED_RCPT),
    Step.RCPT: (_NO_RECIPIENTS,),
}

_EFFECTS: Final[Mapping[Verdict, str]] = {
    Verdict.HOLD: "message held",
    Verdict.DISCARD: "message discarded",
    Verdict.REDIRECT: "message redirected to {argument}",
    Verdict.BCC: "message copied to {argument}",
    Verdict.FILTER: "message passed to {argument}",
    Verdict.PREPEND: "header added: {argument}",
}


def predict(decision: Decision, attributes: Attributes, setting: Setting) -> Prediction:
    """Tell what the client will see of `decision`, and what becomes of the message."""
    if decision.reply is None:
        return _verb(decision, setting)
    if setting.front_end is FrontEnd.POLICY:
        lines, notes = _policy(decision, decision.reply, attributes, setting)
    else:
        lines, notes = _milter(decision, decision.reply, setting)
    if setting.soft_bounce and any(line.code >= 500 for line in lines):
        lines = tuple(_soften(line) for line in lines)
        notes = [*notes, "soft_bounce makes every 5yz reply a 4yz one"]
    lines = _until_closed(lines)
    return Prediction(lines=lines, notes=tuple(notes + _line_notes(lines)))


def _policy(
    decision: Decision, reply: Reply, attributes: Attributes, setting: Setting
) -> tuple[tuple[Line, ...], list[str]]:
    restriction = setting.restriction or usual_list(setting.stage)
    if_permitted = decision.if_permitted and reply.code // 100 == 4
    told, notes = _told_at(decision.stage, setting.stage, if_permitted=if_permitted)
    code = reply.code
    if if_permitted and (setting.stage, restriction) in _FORGOTTEN:
        note = f"Postfix forgets a DEFER_IF_PERMIT of the {restriction} list at VRFY"
        return (), [note]
    if if_permitted:
        notes.append("sent unless Postfix itself rejects with another reply (DEFER_IF_PERMIT)")
        if code != _DEFER_CODE:
            notes.append(f"DEFER_IF_PERMIT is answered with {_DEFER_CODE}, not with {code}")
            code = _DEFER_CODE
    enhanced = rewrite(reply.enhanced, code, restriction)
    if enhanced != EnhancedCode(code // 100, reply.subject, reply.detail):
        notes.append(
            f"Postfix sends {enhanced} in place of {reply.enhanced}: the {restriction} list "
            "asks (access(5), ENHANCED STATUS CODES)"
        )
    text = _printable(prefix(restriction, attributes) + reply.text)
    line = Line(told, code, str(enhanced), text)
    return (line, *_after_policy(told, attributes)), notes


def _told_at(decided: Stage | None, asked: Stage, *, if_permitted: bool) -> tuple[Step, list[str]]:
    """Name the step whose reply carries a policy decision."""
    if if_permitted and asked in _BEFORE_RCPT:
        return Step.RCPT, [f"Postfix remembers what it was told at {asked}, and replies at RCPT"]
    if decided is not None and decided is not asked:
        return _STEPS[asked], [f"the {decided} rule is answered at {_STEPS[asked]}"]
    return _STEPS[asked], []


def _after_policy(told: Step, attributes: Attributes) -> tuple[Line, ...]:
    if told is not Step.BANNER:
        return _AFTER.get(told, ())
    client = f"{attributes.get('client_name', '')}[{attributes.get('client_address', '')}]"
    denied = _printable(f"Error: access denied for {client}")
    steps = (Step.EHLO, Step.MAIL, Step.RCPT, Step.DATA)
    return tuple(Line(step, 503, "5.7.0", denied) for step in steps)


def _milter(
    decision: Decision, reply: Reply, setting: Setting
) -> tuple[tuple[Line, ...], list[str]]:
    notes = []
    if decision.if_permitted:
        notes.append("a milter has no DEFER_IF_PERMIT: the reply is sent at once")
    told = _STEPS[setting.stage]
    code = reply.code
    if setting.soft_bounce and code >= 500:  # milter8.c softens a reply when it arrives
        code -= 100
    if told is Step.BANNER and code == 421:
        text = f"{setting.hostname} Service unavailable - try again later"
        return (Line(told, code, "", text),), [*notes, "Postfix's own text stands for the rule's"]
    line = Line(told, reply.code, str(reply.enhanced), reply.text)
    if told not in (Step.BANNER, Step.EHLO) or code == 421:
        return (line, *_AFTER.get(told, ())), notes
    return _held_until_mail(line, refused=code >= 500, setting=setting, notes=notes)


def _held_until_mail(
    line: Line, *, refused: bool, setting: Setting, notes: list[str]
) -> tuple[tuple[Line, ...], list[str]]:
    """Give the dialogue after a milter's reply at connect or helo, which Postfix keeps for MAIL."""
    before = []
    if refused:
        if line.at is Step.BANNER:
            text = f"{setting.hostname} ESMTP not accepting connections"
            before.append(Line(Step.BANNER, 554, "", text))
        features = f"{setting.hostname}\nENHANCEDSTATUSCODES"
        before.append(Line(Step.EHLO, 250, "", features))
    held = msgspec.structs.replace(line, at=Step.MAIL)
    note = f"Postfix keeps a milter's reply at {setting.stage} and gives it to every MAIL"
    return (*before, held, *_AFTER[Step.MAIL]), [*notes, note]


def _verb(decision: Decision, setting: Setting) -> Prediction:
    effect = _EFFECTS.get(decision.verdict, "").format(argument=decision.argument)
    if not effect:
        return Prediction()
    verb = decision.verdict.upper()
    if setting.front_end is FrontEnd.POLICY:
        late = decision.verdict is Verdict.PREPEND and setting.stage is Stage.END_OF_DATA
        if setting.stage in _NO_MESSAGE or late:
            note = f"Postfix ignores {verb} at {_STEPS[setting.stage]}, with a warning in its log"
            return Prediction(notes=(note,))
        return Prediction(effect=effect)
    if decision.verdict is Verdict.DISCARD:
        if setting.stage in _NO_MESSAGE:
            return Prediction(notes=(f"a milter cannot discard at {setting.stage}",))
    elif setting.stage is not Stage.END_OF_DATA:
        note = f"a milter can do this at end-of-data: remembered from {setting.stage}"
        return Prediction(effect=effect, notes=(note,))
    return Prediction(effect=effect)


def _soften(line: Line) -> Line:
    if line.code < 500:
        return line
    enhanced = "4" + line.enhanced[1:] if line.enhanced else ""
    return msgspec.structs.replace(line, code=line.code - 100, enhanced=enhanced)


def _until_closed(lines: tuple[Line, ...]) -> tuple[Line, ...]:
    for number, line in enumerate(lines, start=1):
        if line.code in _HANG_UP:
            return (*lines[: number - 1], msgspec.structs.replace(line, closes=True))
    return lines


def _line_notes(lines: tuple[Line, ...]) -> list[str]:
    notes = [f"Postfix hangs up after {line.code}" for line in lines if line.closes]
    longest = max((octets(one) for line in lines for one in str(line).split("\n")), default=0)
    if longest > LINE_LIMIT:
        notes.append(f"a line has {longest} octets, more than {LINE_LIMIT}")
    return notes


def _printable(text: str) -> str:
    """Do as Postfix does before it sends: what is no printable character becomes a blank."""
    return "".join(" " if _unprintable(ord(character)) else character for character in text)


def _unprintable(point: int) -> bool:
    return point < 0x20 or point == 0x7F or 0xD800 <= point <= 0xDFFF

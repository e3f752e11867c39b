"""
Outcomes: what a rule's `then` says, and where each verb can be done.

The verb table holds for the language as a whole: what a stage or a front end cannot do is refused
when the configuration is loaded. It follows access(5) for policy delegation and milter(8)'s
limits for the milter.
"""

import difflib
import re
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Final

from policyd.rules.template import Template, TemplateError
from policyd.rules.template import parse as parse_template
from policyd.smtp.catalogue import NAMED
from policyd.smtp.decision import Verdict
from policyd.smtp.stage import FrontEnd, Stage

_REPLY: Final = re.compile(
    r"(?P<code>[0-9]{3})(?:[ \t]+(?P<enhanced>[0-9]+\.\S*))?(?:[ \t]+(?P<text>.*))?"
)
_HEADER: Final = re.compile(r"(?P<name>[!-9;-~]+):[ \t]+(?P<value>.*\S)")  # RFC 5322 section 2.2
_NAME: Final = re.compile(r"[a-z][a-z0-9-]*")
_TRANSPORT: Final = re.compile(r"[A-Za-z0-9_.-]+:\S*")
_MAILBOX: Final = re.compile(r"[^\s@<>{}]+@[^\s@<>{}]+")

_VERBS: Final = frozenset(
    {
        Verdict.ACCEPT,
        Verdict.PASS,
        Verdict.SCORE,
        Verdict.PREPEND,
        Verdict.HOLD,
        Verdict.DISCARD,
        Verdict.REDIRECT,
        Verdict.BCC,
        Verdict.FILTER,
        Verdict.WARN,
    }
)
WHOLE_MESSAGE: Final = frozenset(
    {Verdict.HOLD, Verdict.DISCARD, Verdict.REDIRECT, Verdict.BCC, Verdict.FILTER}
)
"""Verbs that act on the whole message; at rcpt a rule has to say so."""


class OutcomeError(ValueError):
    """A `then` that says nothing policyd can do: what is wrong, and the mend."""

    def __init__(self, what: str, mend: str) -> None:
        """Keep the mend beside what is wrong."""
        super().__init__(what)
        self.mend = mend


@dataclass(frozen=True, slots=True)
class Outcome:
    """
    A `then` that has been read.

    Replies have `code` and `enhanced` (as written, not yet judged) and a text; verbs that take
    one have an argument. Exactly one template is set where there is something to say.
    """

    verdict: Verdict
    code: int = 0
    enhanced: str = ""
    text: Template | None = None
    argument: Template | None = None
    if_permitted: bool = False
    score: float = 0.0
    named: str = ""

    @property
    def names(self) -> frozenset[str]:
        """The facts and values that its text or argument shows."""
        template = self.text or self.argument
        return template.names if template is not None else frozenset()


def parse(then: str) -> Outcome:
    """Read a `then`; OutcomeError says what is wrong and how to mend it."""
    text = " ".join(then.split("\n")).strip()
    try:
        word, _, rest = text.partition(" ")
        if word == "if_permitted":
            return _if_permitted(rest.strip())
        if word in _VERBS:
            return _verb(Verdict(word), rest.strip())
        return _reply(text)
    except TemplateError as error:
        raise OutcomeError(str(error), "name facts as in conditions: {recipient}") from error


def _if_permitted(rest: str) -> Outcome:
    if rest.split(" ", 1)[0] in _VERBS:
        raise OutcomeError(f"if_permitted with a verb: {rest}", "write if_permitted and a reply")
    outcome = _reply(rest)
    if outcome.code != 450:
        # access(5): DEFER_IF_PERMIT answers with access_map_defer_code, which is 450
        raise OutcomeError(
            f"if_permitted with {outcome.code}: Postfix answers DEFER_IF_PERMIT with 450 only",
            "write if_permitted 450 4.x.y text, or the reply without if_permitted",
        )
    return Outcome(
        outcome.verdict,
        outcome.code,
        outcome.enhanced,
        outcome.text,
        if_permitted=True,
        named=outcome.named,
    )


def _reply(text: str) -> Outcome:
    if text[:1].isdigit():
        return _coded(text)
    name, colon, own = text.partition(":")
    name = name.strip()
    reply = NAMED.get(name)
    if reply is None:
        raise OutcomeError(*_unknown(name, text))
    if colon and not own.strip():
        raise OutcomeError(f"{name}: has no text", f"write {name} alone for its default text")
    template = parse_template(own.strip() if colon else reply.text)
    enhanced = f"{reply.code // 100}.{reply.subject}.{reply.detail}"
    return Outcome(_verdict(reply.code), reply.code, enhanced, template, named=name)


def _coded(text: str) -> Outcome:
    found = _REPLY.fullmatch(text)
    if found is None:
        raise OutcomeError(
            f"{text.split(maxsplit=1)[0]!r} is no reply code",
            "write NNN X.Y.Z text, e.g. 550 5.1.1 No",
        )
    code = int(found["code"])
    return Outcome(
        _verdict(code), code, found["enhanced"] or "", parse_template((found["text"] or "").strip())
    )


def _verdict(code: int) -> Verdict:
    return Verdict.DEFER if code // 100 == 4 else Verdict.REJECT


def _unknown(name: str, text: str) -> tuple[str, str]:
    if text.split(" ", 1)[0].upper() in ("OK", "PERMIT", "RELAY"):
        return (
            f"policyd never answers {text.split(' ', 1)[0].upper()}: it could open a relay",
            "write accept, which leaves Postfix's own restrictions in force",
        )
    if text.split(" ", 1)[0].upper() in ("REJECT", "DEFER", "DUNNO"):
        return (
            f"{text.split(' ', 1)[0]} leaves the code to Postfix",
            "write the pair, e.g. 550 5.7.1 text or 450 4.7.1 text; pass for DUNNO",
        )
    near = difflib.get_close_matches(name.lower(), [*NAMED, *_VERBS], n=1)
    hint = f"did you mean {near[0]}? " if near else ""
    return (
        f"{name or text!r} is neither a reply, a named reply nor a verb",
        f"{hint}`policyd codes` lists the named replies",
    )


def _verb(verb: Verdict, rest: str) -> Outcome:
    match verb:
        case Verdict.ACCEPT | Verdict.PASS:
            if rest:
                raise OutcomeError(f"{verb} takes nothing", f"write {verb} alone")
            return Outcome(verb)
        case Verdict.SCORE:
            try:
                return Outcome(verb, score=_finite(rest))
            except ValueError as error:
                raise OutcomeError(
                    f"score takes a number, not {rest!r}", "write score 2"
                ) from error
        case Verdict.PREPEND if _HEADER.fullmatch(rest) is None:
            raise OutcomeError(
                f"prepend takes a header, not {rest!r}", "write prepend X-Name: text"
            )
        case Verdict.REDIRECT | Verdict.BCC if _MAILBOX.fullmatch(rest) is None:
            raise OutcomeError(
                f"{verb} takes one mail address, not {rest!r}", f"write {verb} user@domain"
            )
        case Verdict.FILTER if _TRANSPORT.fullmatch(rest) is None or "{" in rest:
            raise OutcomeError(
                f"filter takes transport:nexthop, not {rest!r}",
                "write filter smtp:[127.0.0.1]:10025",
            )
        case Verdict.WARN if not rest:
            raise OutcomeError("warn has no text", "write warn and what Postfix is to log")
    # access(5): HOLD and DISCARD take an optional text, which is logged
    return Outcome(verb, argument=parse_template(rest or "policy"))


def _finite(text: str) -> float:
    value = float(text)
    if not abs(value) < 1e9:
        raise ValueError(text)
    return value


def forbidden(verdict: Verdict, stage: Stage, front_end: FrontEnd) -> str:
    """Tell why a verb cannot be done at a stage by a front end; empty if it can."""
    table = _POLICY_CANNOT if front_end is FrontEnd.POLICY else _MILTER_CANNOT
    return table.get(verdict, {}).get(stage, "")


def _at(reason: str, *stages: Stage) -> dict[Stage, str]:
    return dict.fromkeys(stages, reason)


_NO_MESSAGE: Final = "there is no message at vrfy and etrn"
_POLICY_MESSAGE: Final = _at(_NO_MESSAGE, Stage.VRFY, Stage.ETRN)
_MILTER_CANNOT: Final[Mapping[Verdict, Mapping[Stage, str]]] = {
    Verdict.DISCARD: _at(
        "a milter cannot discard before there is a message", Stage.CONNECT, Stage.HELO
    ),
    Verdict.PREPEND: _at(
        "a milter adds headers at end-of-data", *(s for s in Stage if s is not Stage.END_OF_DATA)
    ),
    Verdict.FILTER: _at("a milter cannot set a content filter", *Stage),
}
_POLICY_CANNOT: Final[Mapping[Verdict, Mapping[Stage, str]]] = {
    Verdict.PREPEND: _POLICY_MESSAGE
    | _at(
        "Postfix ignores PREPEND in smtpd_end_of_data_restrictions (access(5))", Stage.END_OF_DATA
    ),
    Verdict.HOLD: _POLICY_MESSAGE,
    Verdict.DISCARD: _POLICY_MESSAGE,
    Verdict.REDIRECT: _POLICY_MESSAGE,
    Verdict.BCC: _POLICY_MESSAGE,
    Verdict.FILTER: _POLICY_MESSAGE,
}


def needs_whole_message(verdict: Verdict, stage: Stage) -> bool:
    """Tell whether a rule has to say `whole_message = true`."""
    return stage is Stage.RCPT and verdict in WHOLE_MESSAGE


def ignored_when_answered_there(verdict: Verdict, stage: Stage, front_end: FrontEnd) -> bool:
    """
    Tell whether Postfix ignores a verb when it asks at CONNECT or HELO.

    With smtpd_delay_reject = yes it asks at RCPT instead, where the verb works (access(5)).
    """
    return (
        front_end is FrontEnd.POLICY
        and stage in (Stage.CONNECT, Stage.HELO)
        and (verdict in WHOLE_MESSAGE or verdict is Verdict.PREPEND)
    )


def header_of(argument: str) -> tuple[str, str]:
    """Split a prepend's argument into the header's name and value."""
    name, _, value = argument.partition(":")
    return name.strip(), value.strip()

"""
Each case in which Postfix sends something else than a rule says, known when the file is loaded.

The notes of `predict` say it of one decision; these say it of a reply in a configuration, where
the list that will ask may not be known yet.
"""

from policyd.protocol.postfix.rewriting import (
    LINE_LIMIT,
    longest_prefix,
    rewrite,
    usual_list,
)
from policyd.protocol.text import octets
from policyd.smtp.reply import EnhancedCode
from policyd.smtp.stage import FrontEnd, RestrictionList, Stage


def surprises(
    code: int,
    enhanced: EnhancedCode,
    front_end: FrontEnd,
    stage: Stage,
    restriction: RestrictionList | None = None,
    *,
    text: str = "",
) -> tuple[str, ...]:
    """
    Say what Postfix will make of a reply of a rule for `stage`, where that differs from the rule.

    Without a `restriction` both wirings count: one line in smtpd_recipient_restrictions, and a
    line in the list usual for the stage. With a `text` its length is judged too.
    """
    if front_end is FrontEnd.POLICY:
        lists = _lists(stage, restriction)
        notes = _rewritten(code, enhanced, lists) + _hang_up(code)
    else:
        lists = ()
        notes = _by_milter(code, stage) + _hang_up(code)
    return tuple(notes + _too_long(code, enhanced, lists, text))


def _lists(stage: Stage, restriction: RestrictionList | None) -> tuple[RestrictionList, ...]:
    if restriction is not None:
        return (restriction,)
    usual = usual_list(stage)
    if stage in (Stage.CONNECT, Stage.HELO, Stage.MAIL):
        return (usual, RestrictionList.RECIPIENT)
    return (usual,)


def _rewritten(code: int, enhanced: EnhancedCode, lists: tuple[RestrictionList, ...]) -> list[str]:
    sent: dict[EnhancedCode, list[RestrictionList]] = {}
    for restriction in lists:
        becomes = rewrite(enhanced, code, restriction)
        if becomes != enhanced:
            sent.setdefault(becomes, []).append(restriction)
    return [
        f"Postfix sends {code} {becomes} in place of {code} {enhanced} "
        f"when the {' or '.join(asking)} list asks"
        for becomes, asking in sent.items()
    ]


def _hang_up(code: int) -> list[str]:
    return [f"Postfix hangs up after {code}"] if code in (421, 521) else []


def _by_milter(code: int, stage: Stage) -> list[str]:
    if stage is Stage.CONNECT and code == 421:
        return ["at connect Postfix sends `421 HOSTNAME Service unavailable - try again later`"]
    if stage is Stage.CONNECT:
        refusal = "`554 HOSTNAME ESMTP not accepting connections`"
        banner = refusal if code >= 500 else "the usual 220"
        return [f"at connect the banner is {banner}; each MAIL is answered with a milter's reply"]
    if stage is Stage.HELO and code != 421:
        return ["at helo EHLO is answered 250; each MAIL is answered with a milter's reply"]
    return []


def _too_long(
    code: int, enhanced: EnhancedCode, lists: tuple[RestrictionList, ...], text: str
) -> list[str]:
    longest = max((longest_prefix(restriction) for restriction in lists), default=0)
    room = LINE_LIMIT - len(f"{code} {enhanced} ") - longest
    if octets(text) <= room:
        return []
    beside = " beside the longest prefix that Postfix can put before it" if lists else ""
    return [f"the text has {octets(text)} octets, more than the {room} left for it{beside}"]

"""Look entries of the catalogue up by number, pair, command, name, or words of their texts."""

import re
from collections.abc import Iterable, Mapping
from typing import Final

import msgspec

from policyd.smtp.catalogue import (
    BASIC,
    COMMANDS,
    ENHANCED,
    NAMED,
    BasicCode,
    CommandCode,
    EnhancedEntry,
    NamedReply,
    answers,
)
from policyd.smtp.pairing import Finding, judge
from policyd.smtp.reply import EnhancedCode
from policyd.smtp.stage import Stage

_PAIR: Final = re.compile(r"([0-9]{3})[ -]([0-9]\S*\.\S*)(?: (.+))?", re.DOTALL)
_BASIC: Final = re.compile(r"[0-9]{3}", re.ASCII)
_ENHANCED: Final = re.compile(r"([Xx245])\.([0-9]{1,3})(?:\.([0-9]{1,3}))?", re.ASCII)


class Judged(msgspec.Struct, frozen=True):
    """
    A pair that was asked for: what there is to say of it, and where it may be given.

    `stages` has for each stage `ok`, `warning` or `error`.
    """

    code: int
    enhanced: str
    findings: tuple[Finding, ...]
    stages: Mapping[Stage, str]


class Found(msgspec.Struct, frozen=True):
    """The entries that a query found, and the judgement if it was a pair."""

    basic: tuple[BasicCode, ...] = ()
    commands: tuple[CommandCode, ...] = ()
    enhanced: tuple[EnhancedEntry, ...] = ()
    replies: tuple[NamedReply, ...] = ()
    pair: Judged | None = None

    def __bool__(self) -> bool:
        """Say whether there is an entry."""
        return bool(self.basic or self.commands or self.enhanced or self.replies)


def look_up(query: str, stage: Stage | None = None, command: str = "") -> Found:
    """
    Find what `query` names, or everything if it is empty; at one stage or command, if given.

    `query` is a basic code (`450`), an enhanced code (`4.2.1`, `X.2.1`, `X.2`), a pair
    (`450 4.2.1`), a command (`RCPT`), the name of a reply, or words that an entry must hold. Of
    a stage or command alone, enhanced codes are no part: they belong to none.
    """
    words = " ".join(query.split())
    if pair := _PAIR.fullmatch(words):
        return _pair(int(pair[1]), pair[2], pair[3] or "", stage)
    found = _search(words)
    if stage is not None:
        found = _at(found, answers(stage), {stage}, bool(words))
    if command:
        found = _at(found, COMMANDS[command].values(), _stages(command), bool(words))
    return found


def _search(words: str) -> Found:
    if not words:
        return Found(tuple(BASIC.values()), _rows(), tuple(ENHANCED.values()), _replies())
    if _BASIC.fullmatch(words):
        return _code(int(words))
    if enhanced := _ENHANCED.fullmatch(words):
        class_, subject, detail = enhanced.groups()
        return _enhanced(class_, int(subject), int(detail) if detail is not None else None)
    command = {name.casefold(): name for name in COMMANDS}.get(words.casefold())
    if command is not None:
        codes = COMMANDS[command]
        return Found(basic=tuple(BASIC[code] for code in codes), commands=tuple(codes.values()))
    if words in NAMED:
        reply = NAMED[words]
        entry = ENHANCED[reply.subject, reply.detail]
        return Found(basic=(BASIC[reply.code],), enhanced=(entry,), replies=(reply,))
    return _words(words.casefold().split())


def _rows() -> tuple[CommandCode, ...]:
    return tuple(row for codes in COMMANDS.values() for row in codes.values())


def _replies() -> tuple[NamedReply, ...]:
    return tuple(NAMED.values())


def _code(code: int) -> Found:
    return Found(
        basic=(BASIC[code],) if code in BASIC else (),
        commands=tuple(row for row in _rows() if row.code == code),
        enhanced=tuple(each for each in ENHANCED.values() if code in each.associated.codes),
        replies=tuple(each for each in _replies() if each.code == code),
    )


def _enhanced(class_: str, subject: int, detail: int | None) -> Found:
    """Find an enhanced code, or a whole subject, with the basic codes that go with one code."""

    def fits(code: int, its_subject: int, its_detail: int) -> bool:
        in_class = class_ in "Xx" or code // 100 == int(class_)
        return in_class and its_subject == subject and detail in (None, its_detail)

    entries = tuple(
        each
        for each in ENHANCED.values()
        if each.subject == subject and detail in (None, each.detail)
    )
    basic = tuple(
        each
        for each in BASIC.values()
        if any(fits(each.code, entry.subject, entry.detail) for entry in entries)
        and any(_go_together(each, entry) for entry in entries)
    )
    return Found(
        basic=basic if detail is not None else (),
        enhanced=entries,
        replies=tuple(each for each in _replies() if fits(each.code, each.subject, each.detail)),
    )


def _go_together(basic: BasicCode, entry: EnhancedEntry) -> bool:
    own = {(each.subject, each.detail) for each in (basic.default, *basic.others) if each}
    return basic.code in entry.associated.codes or (entry.subject, entry.detail) in own


def _words(words: list[str]) -> Found:
    def hold(*texts: str) -> bool:
        text = "\n".join(texts).casefold()
        return all(word in text for word in words)

    return Found(
        basic=tuple(
            each
            for each in BASIC.values()
            if hold(each.text, *each.also_worded, each.status, each.source, each.note)
        ),
        commands=tuple(row for row in _rows() if hold(row.source, row.status, row.note)),
        enhanced=tuple(
            each
            for each in ENHANCED.values()
            if hold(each.name, *each.also_worded, each.status, each.reference, each.note)
        ),
        replies=tuple(
            each for each in _replies() if hold(each.name, each.text, each.source, each.note)
        ),
    )


def _pair(code: int, enhanced: str, text: str, stage: Stage | None) -> Found:
    try:
        detail = EnhancedCode.parse(enhanced)
    except ValueError:
        detail = None
    entry = ENHANCED.get((detail.subject, detail.detail)) if detail is not None else None
    said = text or "text"  # a pair alone is asked for: that it has no text is no news
    stages = (stage,) if stage is not None else ()
    general = judge(code, enhanced, said, ())
    return Found(
        basic=(BASIC[code],) if code in BASIC else (),
        commands=tuple(row for row in _rows() if row.code == code and row in _asked(stage)),
        enhanced=(entry,) if entry is not None else (),
        replies=tuple(each for each in _replies() if each.code == code and each.enhanced == detail),
        pair=Judged(
            code=code,
            enhanced=enhanced,
            findings=judge(code, enhanced, said, stages),
            stages={
                each: _verdict(judge(code, enhanced, said, (each,)), general) for each in Stage
            },
        ),
    )


def _asked(stage: Stage | None) -> tuple[CommandCode, ...]:
    """Give what the commands policyd is asked at are answered with, or those of one stage."""
    return tuple(row for each in Stage if stage in (None, each) for row in answers(each))


def _verdict(findings: Iterable[Finding], general: Iterable[Finding]) -> str:
    """Give the worst that there is to say of a pair at one stage; of errors, also the general."""
    known = set(general)
    severities = {
        each.severity for each in findings if each.severity == "error" or each not in known
    }
    return "error" if "error" in severities else "warning" if severities else "ok"


def _stages(command: str) -> set[Stage]:
    return {stage for stage in Stage if any(row.command == command for row in answers(stage))}


def _at(found: Found, rows: Iterable[CommandCode], stages: set[Stage], asked: bool) -> Found:
    """Keep what belongs to the rows of a stage or command; enhanced codes only if asked for."""
    kept = tuple(rows)
    codes = {row.code for row in kept}
    return Found(
        basic=tuple(each for each in found.basic if each.code in codes),
        commands=tuple(row for row in found.commands if row in kept),
        enhanced=found.enhanced if asked else (),
        replies=tuple(each for each in found.replies if each.stages & stages),
    )

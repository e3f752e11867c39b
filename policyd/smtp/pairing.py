"""
Judge whether a reply is a right pair of codes, at a right stage, with a text that fits it.

What must hold is an error (RFC 2034 section 4, RFC 3463 section 2, RFC 5321 section 4.3.2); what
the registry and the RFCs advise is a warning. Nothing here knows Postfix, which rewrites some
replies on their way.
"""

import re
from collections.abc import Iterable, Iterator, Mapping
from typing import Final, Literal

import msgspec

from policyd.smtp.catalogue import (
    BASIC,
    COMMANDS,
    ENHANCED,
    BasicCode,
    CommandCode,
    EnhancedEntry,
    NamedReply,
    Status,
    answers,
)
from policyd.smtp.reply import EnhancedCode
from policyd.smtp.stage import Stage

Severity = Literal["error", "warning"]


class Finding(msgspec.Struct, frozen=True):
    """What is wrong with a reply, and how to mend it, in a sentence each."""

    severity: Severity
    what: str
    mend: str


EVERYWHERE: Final = frozenset({421, 450, 451, 452, 521, 550, 553, 554, 556})
"""
Codes that may be configured at every stage.

Postfix sends any code wherever it is asked, and a client that does not expect one goes by its
first digit (RFC 5321 section 4.3.2). Where RFC 5321 does not list one there is a warning.
"""

_LISTS: Final[Mapping[Stage, tuple[str, ...]]] = {Stage.ETRN: ("RFC 1985", "RFC 5321")}
_LIST: Final = ("RFC 5321", "RFC 7504")  # which updates it

_LOGIN_NEEDED: Final = frozenset({Stage.MAIL, Stage.RCPT, Stage.DATA, Stage.VRFY, Stage.ETRN})
"""RFC 4954 section 6: 530 to any command but AUTH, EHLO, HELO, NOOP, RSET and QUIT."""

_OTHER_CLASS: Final[Mapping[int, int]] = {
    421: 554,
    450: 550,
    451: 550,
    452: 552,
    521: 421,
    550: 450,
    552: 452,
    553: 450,
    554: 450,
    556: 450,
}
"""The code that says of the other class what a code says of its own."""

_USUAL: Final[Mapping[int, tuple[int, ...]]] = {
    4: (450, 451, 421, 459),
    5: (550, 554, 501),
}
"""What a policy refuses with, in the order of preference."""


def default_pair(code: int) -> EnhancedCode | None:
    """
    Give the enhanced code that goes with a basic code when nothing more is known.

    None for a code that the catalogue does not hold or that takes none (3yz, RFC 2034 section 4).
    """
    basic = BASIC.get(code)
    return basic.default if basic is not None else None


def judge(code: int, enhanced: str, text: str, stages: Iterable[Stage]) -> tuple[Finding, ...]:
    """
    Judge a reply as it was written, for the stages at which it may be given.

    `enhanced` may be malformed and `text` a template; no stages: its stage is not judged.
    """
    asked = tuple(stages)
    if code // 100 not in (4, 5):
        return (_neither_defers_nor_rejects(code), *_judge_text(code, text))
    findings: list[Finding] = []
    basic = BASIC.get(code)
    detail = _parse(enhanced)
    if basic is None:
        findings.append(_unknown(code, detail, asked))
    findings += _judge_enhanced(code, enhanced, asked)
    if basic is not None:
        findings += (finding for stage in asked for finding in _judge_stage(basic, detail, stage))
    return (*findings, *_judge_text(code, text))


def judge_named(reply: NamedReply, text: str, stages: Iterable[Stage]) -> tuple[Finding, ...]:
    """
    Judge the use of a named reply: its text, and the stages that are not its own.

    The catalogue answers for its pair, and for the pair at its own stages.
    """
    findings: list[Finding] = []
    for stage in stages:
        if stage in reply.stages:
            continue
        own = ", ".join(each for each in Stage if each in reply.stages)
        findings += _judge_stage(BASIC[reply.code], reply.enhanced, stage) or (
            Finding(
                "warning",
                f"{reply.name} is meant for {own}, not for {stage}",
                "move the rule to that stage, or keep it if the text is true there",
            ),
        )
    return (*findings, *_judge_text(reply.code, text))


def _parse(enhanced: str) -> EnhancedCode | None:
    try:
        return EnhancedCode.parse(enhanced)
    except ValueError:
        return None


def _pair(code: int, detail: EnhancedCode | None) -> str:
    """Write a pair of `code`, with the detail if that is registered, else with its default."""
    if detail is not None and _registered(detail) is not None:
        return f"{code} {EnhancedCode(code // 100, detail.subject, detail.detail)}"
    return f"{code} {default_pair(code) or EnhancedCode(code // 100, 0, 0)}"


def _registered(detail: EnhancedCode) -> EnhancedEntry | None:
    entry = ENHANCED.get((detail.subject, detail.detail))
    return entry if entry is not None and entry.name else None


# The basic code


def _neither_defers_nor_rejects(code: int) -> Finding:
    return Finding(
        "error",
        f"{code} is not a 4yz or 5yz code, and a reply of a rule defers or rejects",
        'write a pair such as "450 4.7.1" or "550 5.7.1", or to let mail pass the verb '
        '"accept" or "pass"',
    )


def _unknown(code: int, detail: EnhancedCode | None, stages: tuple[Stage, ...]) -> Finding:
    usual = _best(_USUAL[code // 100], None, stages)
    return Finding(
        "error",
        f"{code} is a code of no specification",
        f'write "{_pair(usual, detail)}": finer shades belong into the enhanced code '
        "(RFC 5321 section 4.2.1)",
    )


# The enhanced code


def _judge_enhanced(code: int, enhanced: str, stages: tuple[Stage, ...]) -> Iterator[Finding]:
    detail = _parse(enhanced)
    if detail is None:
        yield _malformed(code, enhanced)
        return
    if detail.class_ != code // 100:
        yield _classes_differ(code, detail, stages)
    entry = _registered(detail)
    if entry is None:
        yield _unregistered(code, detail)
    elif detail.class_ == code // 100:
        yield from _judge_pair(code, detail, entry, stages)


def _malformed(code: int, enhanced: str) -> Finding:
    numbers = re.findall(r"[0-9]{1,4}", enhanced, re.ASCII)
    meant = _parse(".".join(str(int(number)) for number in numbers))
    pair = _pair(code, meant) if code in BASIC else _pair(_USUAL[code // 100][0], meant)
    if not enhanced:
        return Finding("error", f"{code} has no enhanced code", f'write "{pair}"')
    return Finding(
        "error",
        f"{enhanced!r} is not an enhanced code: class.subject.detail of digits without blanks "
        "or leading zeros (RFC 3463 section 2)",
        f'write "{pair}"',
    )


def _classes_differ(code: int, detail: EnhancedCode, stages: tuple[Stage, ...]) -> Finding:
    what = f"{code} and {detail} are of different classes (RFC 2034 section 4)"
    same = _pair(code if code in BASIC else _USUAL[code // 100][0], detail)
    if detail.class_ not in (4, 5):
        return Finding("error", what, f'write "{same}"')
    other = _pair(_counterpart(code, detail, stages), detail)
    transient, final = sorted((same, other))
    return Finding("error", what, f'write "{transient}" (try again) or "{final}" (final)')


def _unregistered(code: int, detail: EnhancedCode) -> Finding:
    if (detail.subject, detail.detail) in ENHANCED:
        return Finding(
            "error",
            f"X.{detail.subject}.{detail.detail} is registered as deprecated and without meaning",
            f'write "{code} {code // 100}.6.8", which it was a double of',
        )
    family = EnhancedCode(code // 100, detail.subject, 0)
    pair = _pair(code if code in BASIC else _USUAL[code // 100][0], family)
    return Finding(
        "error",
        f"X.{detail.subject}.{detail.detail} is not a registered enhanced code (RFC 5248)",
        f'write "{pair}" and say the rest in the text',
    )


def _judge_pair(
    code: int, detail: EnhancedCode, entry: EnhancedEntry, stages: tuple[Stage, ...]
) -> Iterator[Finding]:
    if not entry.associated.allows(code):
        better = [
            each
            for each in sorted(entry.associated.codes)
            if each // 100 == code // 100
            and _sendable(each, stages)
            and _doubts(each, stages) <= _doubts(code, stages)
        ]
        keep = (
            "keep it, a usual pair" if _is_usual(code, detail) else "keep it if it is what you mean"
        )
        write = f', or write "{_pair(_best(better, entry, stages), detail)}"' if better else ""
        yield Finding(
            "warning",
            f"the registry names other basic codes for {entry}: {entry.registry}",
            f"{keep}{write}: the registry's list is a hint (RFC 5248 section 2.1)",
        )
    if detail.class_ not in entry.classes and not entry.classes_why.startswith("registry"):
        other = _pair(_counterpart(code, detail, stages), detail)
        common = " as others do" if detail.class_ in entry.classes_seen else ""
        write = f'write "{other}", or ' if entry.classes & {4, 5} else ""
        yield Finding(
            "warning",
            f"{detail} is of a class of little use for {entry} ({entry.classes_why})",
            f"{write}keep it{common}",
        )


# The stage


def _judge_stage(
    basic: BasicCode, detail: EnhancedCode | None, stage: Stage
) -> tuple[Finding, ...]:
    code = basic.code
    rows = tuple(row for row in answers(stage) if row.code == code)
    entry = _registered(detail) if detail is not None else None
    usual = _best([each for each in _USUAL[code // 100] if each != code], entry, (stage,))
    better = f'write "{_moved(code, usual, detail)}"'
    if code == 521 and stage is not Stage.CONNECT:
        what = f"521 at {stage}: RFC 7504 has it for the opening of a connection"
        return (Finding("warning", what, f"{better}, or keep it"),)
    if any(_listed(row, stage) for row in rows):
        return _theirs(basic, stage, better)
    if code == 530 and stage in _LOGIN_NEEDED:
        return ()
    if rows and code not in EVERYWHERE and rows[0].status is Status.CURRENT:
        return _theirs(basic, stage, better)
    if rows or code in EVERYWHERE:
        known = f" (known from {rows[0].source})" if rows else ""
        what = f"{_LISTS.get(stage, _LIST)[0]} does not list {code} at {stage}{known}"
        return (Finding("warning", what, f"{better}, or keep it: clients go by the first digit"),)
    return (Finding("error", f"{code} cannot be given at {stage}: {_home(basic)}", better),)


def _theirs(basic: BasicCode, stage: Stage, better: str) -> tuple[Finding, ...]:
    """Warn of a code that is listed for the stage, but no business of a policy's."""
    if basic.policy or basic.code == 521:
        return ()
    what = f"{basic.code} at {stage} is not a policy's to give: {basic.policy_why}"
    return (Finding("warning", what, f"{better}, or keep it"),)


def _listed(row: CommandCode, stage: Stage) -> bool:
    return row.status is Status.CURRENT and any(
        rfc in row.source for rfc in _LISTS.get(stage, _LIST)
    )


def _home(basic: BasicCode) -> str:
    rows = [codes[basic.code] for codes in COMMANDS.values() if basic.code in codes]
    homes = [row.command for row in rows if row.status is not Status.OBSOLETE]
    if not rows:
        return "no command is answered with it"
    return f"it answers {', '.join(homes or [row.command for row in rows])}"


# The nearest right code, for mends


def _is_usual(code: int, detail: EnhancedCode) -> bool:
    basic = BASIC.get(code)
    return basic is not None and detail in (basic.default, *basic.others)


def _moved(code: int, to: int, detail: EnhancedCode | None) -> str:
    """Write the pair for another code of the class; keep the detail unless it was bound to code."""
    entry = _registered(detail) if detail is not None else None
    if entry is not None and entry.associated.given:
        bound = entry.associated.allows(code) and not entry.associated.allows(to)
        return _pair(to, None if bound else detail)
    return _pair(to, detail)


def _counterpart(code: int, detail: EnhancedCode, stages: tuple[Stage, ...]) -> int:
    """Find the code of the other class that says most nearly the same."""
    entry = _registered(detail)
    class_ = 4 if code // 100 == 5 else 5
    first = _OTHER_CLASS.get(code, _USUAL[class_][0])
    named = entry.associated.codes if entry is not None else ()
    others = (each for each in sorted(named) if each // 100 == class_ and _sendable(each, stages))
    return _best((first, *others), entry, stages)


def _sendable(code: int, stages: tuple[Stage, ...]) -> bool:
    """Say whether a policy may send it, at these stages if any."""
    return BASIC[code].policy and _doubts(code, stages)[0] == 0


def _best(codes: Iterable[int], entry: EnhancedEntry | None, stages: tuple[Stage, ...]) -> int:
    """Choose the code that fits the stages and the registry best, the first of equals."""
    return min(
        codes,
        key=lambda code: (
            *_doubts(code, stages),
            entry is not None and not entry.associated.allows(code),
        ),
    )


def _doubts(code: int, stages: tuple[Stage, ...]) -> tuple[int, int]:
    """Count the stages that cannot take a code, and those for which it is not listed."""
    unlisted = [stage for stage in stages if not _listed_at(code, stage)]
    return sum(1 for _ in unlisted if code not in EVERYWHERE), len(unlisted)


def _listed_at(code: int, stage: Stage) -> bool:
    return any(row.code == code and _listed(row, stage) for row in answers(stage))


# The text

_PLACEHOLDER: Final = re.compile(r"\{(?!retry_after\})[^{}]*\}")  # that one is a promise

_NOT: Final = r"(?<!not[ ])(?<!n't[ ])(?<!never[ ])(?<!no[ ])(?<!non-)(?<!without[ ])"

_SAYS_TRY_AGAIN: Final = re.compile(
    rf"""{_NOT}\b(?:
        (?:try|come|connect|send)\ (?:again\ |it\ again\ |back\ )?(?:later|in\ (?:an?|some|\d+|\{{))
        | (?<!and\ )(?:re)?try\ again | retr(?:y|ies|ying)
        | temporar(?:y|ily) | transient(?:ly)? | greylist(?:ed|ing)?
        )\b | \{{retry_after\}}""",
    re.VERBOSE | re.IGNORECASE,
)
_SAYS_FINAL: Final = re.compile(
    rf"""{_NOT}\b(?:permanent(?:ly)? | never | forever | for\ ever | for\ good | give\ up)\b
        | \b(?:\w+n't | (?:do\ )?(?:not|never|no))\ (?:re)?tr(?:y|ies|ying)\b
          (?!\ (?:again\ )?(?:before|until|for|earlier|sooner|yet)\b)""",
    re.VERBOSE | re.IGNORECASE,
)


def _judge_text(code: int, text: str) -> Iterator[Finding]:
    if not text.strip():
        mend = "write after the codes what the sender can do"
        yield Finding("error", "the reply has no text", mend)
        return
    bad = next((char for char in text if not char.isprintable()), None)
    if bad is not None:
        what = f"the text holds {bad!r}, which cannot go on the wire"
        yield Finding("error", what, "write one line of printable characters")
    words = " ".join(_PLACEHOLDER.sub("", text).split())
    if code // 100 == 5 and (said := _SAYS_TRY_AGAIN.search(words)):
        what = f'the text says "{said[0]}", but {code} is final'
        yield Finding("warning", what, "write another text, or a 4yz pair if that is what you mean")
    if code // 100 == 4 and (said := _SAYS_FINAL.search(words)):
        what = f'the text says "{said[0]}", but {code} asks the client to try again'
        yield Finding("warning", what, "write another text, or a 5yz pair if that is what you mean")

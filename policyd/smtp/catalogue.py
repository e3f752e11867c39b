"""
The catalogue: every basic code, command reply and enhanced code, and the named replies.

It is data, in `data/*.csv`, read once when this module is imported and never changed:

- `basic.csv`: the codes of RFC 5321 section 4.2.3 and of every extension, with codes that are only
  registered beside an enhanced code (RFC 5248 section 2.4) or only seen in practice.
- `commands.csv`: which command or stage answers which codes (RFC 5321 section 4.3.2 and others).
- `enhanced.csv`: IANA's registry of SMTP enhanced status codes.
- `replies.csv`: replies by name, each a pair, a text and the stages where it belongs.

`seen_in` numbers the five tables of reply codes, long in circulation, that the catalogue was begun
from and still holds in full (`DOCUMENTS`); `also_worded` has their wording where it differs.
"""

import csv
import difflib
import re
from collections import defaultdict
from collections.abc import Iterator, Mapping
from enum import StrEnum
from importlib.resources import files
from types import MappingProxyType
from typing import Final

import msgspec

from policyd.smtp.reply import EnhancedCode, Reply
from policyd.smtp.stage import Stage

DOCUMENTS: Final = (
    "reply codes, and reply codes grouped by command (a blog's copy, angle brackets lost)",
    "the reply codes of RFC 821 by function groups (two copies in one document)",
    "reply codes grouped by command (wiki of Lucy Security, 2019)",
    "smtp response codes, with the enhanced codes of RFC 3463 appendix A (Ed Fisher, 2007)",
    "SMTP reject codes: RFC 2821 section 4.2.3 in numeric order (a blog of cscholz.io)",
)
"""The tables that `seen_in` numbers, from 0."""


class Status(StrEnum):
    """Whether an entry may be expected today."""

    CURRENT = "current"
    OBSOLETE = "obsolete"
    NONSTANDARD = "nonstandard"


class BasicCode(msgspec.Struct, frozen=True):
    """
    A basic code (RFC 5321 section 4.2).

    `policy`: a policy daemon can have a reason to send it, and `policy_why` says which or why not.
    `default` is the enhanced code that goes with it when nothing more is known, `others` are good
    ones too, `pair_source` says who has it so; 3yz replies take none (RFC 2034 section 4).
    """

    code: int
    status: Status
    text: str
    also_worded: tuple[str, ...]
    source: str
    seen_in: tuple[int, ...]
    policy: bool
    policy_why: str
    default: EnhancedCode | None
    others: tuple[EnhancedCode, ...]
    pair_source: str
    note: str


class CommandCode(msgspec.Struct, frozen=True):
    """A code that a command (or the connection, or the end of the data) is answered with."""

    command: str
    code: int
    status: Status
    source: str
    seen_in: tuple[int, ...]
    note: str

    @property
    def kind(self) -> str:
        """What the first digit says: success, intermediate, transient or permanent."""
        return {2: "success", 3: "intermediate", 4: "transient", 5: "permanent"}[self.code // 100]


class Association(msgspec.Struct, frozen=True):
    """The basic codes that the registry names beside an enhanced code: a hint (RFC 5248 2.1)."""

    codes: frozenset[int]
    classes: frozenset[int]

    @classmethod
    def parse(cls, cell: str) -> "Association":
        """Read the registry's cell: `451, 550`, `250 or 251`, `5XX`, `Any`, `Not given`."""
        if cell == "Any":
            return cls(frozenset(), frozenset({2, 4, 5}))
        codes = frozenset(map(int, re.findall(r"\d{3}", cell)))
        return cls(codes, frozenset(map(int, re.findall(r"(\d)XX", cell))))

    @property
    def given(self) -> bool:
        """Whether the registry names any."""
        return bool(self.codes or self.classes)

    def allows(self, code: int) -> bool:
        """Whether `code` is among them, or none are given."""
        return not self.given or code in self.codes or code // 100 in self.classes


class EnhancedEntry(msgspec.Struct, frozen=True):
    """
    An enhanced code without its class, as the registry has it.

    `registry` is the registry's own cell of basic codes and `associated` what it means;
    `classes` are those that make sense for the detail and `classes_why` says who holds so;
    `classes_seen` are those met in practice.
    """

    subject: int
    detail: int
    status: Status
    name: str
    also_worded: tuple[str, ...]
    registry: str
    associated: Association
    reference: str
    seen_in: tuple[int, ...]
    classes: frozenset[int]
    classes_why: str
    classes_seen: frozenset[int]
    note: str

    def __str__(self) -> str:
        """Give the registry's form, `X.2.1`."""
        return f"X.{self.subject}.{self.detail}"


class NamedReply(msgspec.Struct, frozen=True):
    """
    A reply by its name.

    `stages` are those where the situation it is for arises; `note` says why the pair is right
    where the registry, or RFC 5321's list for the stage, has it otherwise.
    """

    name: str
    code: int
    subject: int
    detail: int
    stages: frozenset[Stage]
    text: str
    source: str
    note: str

    @property
    def reply(self) -> Reply:
        """The reply with its default text."""
        return Reply(self.code, self.subject, self.detail, self.text)

    @property
    def enhanced(self) -> EnhancedCode:
        """The enhanced code, its class taken from the basic code."""
        return EnhancedCode(self.code // 100, self.subject, self.detail)


class UnknownNameError(LookupError):
    """No reply has this name; `nearest` is one that is spelt much like it, or empty."""

    def __init__(self, name: str, nearest: str) -> None:
        hint = f'; did you mean "{nearest}"?' if nearest else ""
        super().__init__(f'no reply is named "{name}"{hint}')
        self.name = name
        self.nearest = nearest


def named(name: str) -> NamedReply:
    """Find a reply by its name; UnknownNameError offers the nearest."""
    try:
        return NAMED[name]
    except KeyError:
        near = difflib.get_close_matches(name, NAMED, n=1)
        raise UnknownNameError(name, near[0] if near else "") from None


def _rows(name: str) -> Iterator[dict[str, str]]:
    table = files("policyd.smtp").joinpath("data", name).read_text(encoding="utf-8")
    yield from csv.DictReader(table.splitlines())


def _numbers(cell: str) -> tuple[int, ...]:
    return tuple(map(int, cell.split()))


def _wordings(cell: str) -> tuple[str, ...]:
    return tuple(cell.split(" | ")) if cell else ()


def _stages(cell: str) -> frozenset[Stage]:
    return frozenset(Stage) if cell == "any" else frozenset(map(Stage, cell.split()))


def _read_basic() -> Mapping[int, BasicCode]:
    entries = (
        BasicCode(
            code=int(row["code"]),
            status=Status(row["status"]),
            text=row["text"],
            also_worded=_wordings(row["also_worded"]),
            source=row["source"],
            seen_in=_numbers(row["seen_in"]),
            policy=row["policy"] == "yes",
            policy_why=row["policy_why"],
            default=EnhancedCode.parse(row["default"]) if row["default"] else None,
            others=tuple(map(EnhancedCode.parse, row["others"].split())),
            pair_source=row["pair_source"],
            note=row["note"],
        )
        for row in _rows("basic.csv")
    )
    return MappingProxyType({entry.code: entry for entry in entries})


def _read_commands() -> Mapping[str, Mapping[int, CommandCode]]:
    commands: defaultdict[str, dict[int, CommandCode]] = defaultdict(dict)
    for row in _rows("commands.csv"):
        commands[row["command"]][int(row["code"])] = CommandCode(
            command=row["command"],
            code=int(row["code"]),
            status=Status(row["status"]),
            source=row["source"],
            seen_in=_numbers(row["seen_in"]),
            note=row["note"],
        )
    return MappingProxyType({name: MappingProxyType(codes) for name, codes in commands.items()})


def _read_enhanced() -> Mapping[tuple[int, int], EnhancedEntry]:
    entries = {}
    for row in _rows("enhanced.csv"):
        _, subject, detail = row["code"].split(".")
        entries[int(subject), int(detail)] = EnhancedEntry(
            subject=int(subject),
            detail=int(detail),
            status=Status(row["status"]),
            name=row["name"],
            also_worded=_wordings(row["also_worded"]),
            registry=row["registry"],
            associated=Association.parse(row["registry"]),
            reference=row["reference"],
            seen_in=_numbers(row["seen_in"]),
            classes=frozenset(_numbers(row["classes"])),
            classes_why=row["classes_why"],
            classes_seen=frozenset(_numbers(row["classes_seen"])),
            note=row["note"],
        )
    return MappingProxyType(entries)


def _read_named() -> Mapping[str, NamedReply]:
    entries = (
        NamedReply(
            name=row["name"],
            code=int(row["code"]),
            subject=int(row["subject"]),
            detail=int(row["detail"]),
            stages=_stages(row["stages"]),
            text=row["text"],
            source=row["source"],
            note=row["note"],
        )
        for row in _rows("replies.csv")
    )
    return MappingProxyType({entry.name: entry for entry in entries})


BASIC: Final = _read_basic()
"""Every basic code by its number."""

COMMANDS: Final = _read_commands()
"""The codes of every command by its name; `connect` and `end-of-data` stand among them."""

ENHANCED: Final = _read_enhanced()
"""Every registered enhanced code by subject and detail."""

NAMED: Final = _read_named()
"""Every named reply by its name."""

_ANSWERS: Final[Mapping[Stage, tuple[str, ...]]] = MappingProxyType(
    {
        Stage.CONNECT: ("connect",),
        Stage.HELO: ("HELO", "EHLO"),
        Stage.MAIL: ("MAIL",),
        Stage.RCPT: ("RCPT",),
        Stage.DATA: ("DATA",),
        Stage.END_OF_DATA: ("end-of-data",),
        Stage.VRFY: ("VRFY",),
        Stage.ETRN: ("ETRN",),
    }
)


def answers(stage: Stage) -> tuple[CommandCode, ...]:
    """
    Give what the commands of a stage are answered with.

    BDAT is not among them: Postfix asks at DATA and at the end of the data for it too.
    """
    return tuple(row for command in _ANSWERS[stage] for row in COMMANDS[command].values())

"""The tables of several files as one configuration: each once, rules in order of files."""

import keyword
import re
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass, field

from policyd.config.include import KEY as INCLUDE
from policyd.config.model import LONGEST_NAME, TABLES
from policyd.config.problem import Problem, choose_from
from policyd.config.source import Document, KeyPath
from policyd.config.units import describe
from policyd.facts.table import FACTS

_LISTS, _LIMITS, _DNSBL, _RULE = "lists", "limits", "dnsbl", "rule"
KNOWN = (INCLUDE, *TABLES, _LISTS, _LIMITS, _DNSBL, _RULE)
"""The keys that may stand at the top of a file."""


@dataclass(frozen=True, slots=True)
class Part:
    """A table, and where it stands."""

    document: Document
    at: KeyPath
    values: Mapping[str, object]

    def line(self, *path: str | int) -> int:
        """Give the line of the table, or of a value in it."""
        return self.document.line((*self.at, *path))


@dataclass(slots=True)
class Parts:
    """All tables of a configuration, unchecked within."""

    tables: dict[str, Part] = field(default_factory=dict)
    lists: dict[str, Part] = field(default_factory=dict)
    limits: dict[str, Part] = field(default_factory=dict)
    zones: dict[str, Part] = field(default_factory=dict)
    rules: list[Part] = field(default_factory=list)
    problems: list[Problem] = field(default_factory=list)


def gather(documents: Iterable[Document]) -> Parts:
    """Take the files' tables together; what cannot be where it stands is a problem."""
    parts = Parts()
    for document in documents:
        for key, value in document.values.items():
            if key in TABLES:
                parts.problems.extend(_take_once(parts.tables, document, (key,), value))
            elif key == _LISTS:
                found = _take_named(parts.lists, document, _LISTS, value, _judge_list_name)
                parts.problems.extend(found)
            elif key == _LIMITS:
                found = _take_named(parts.limits, document, _LIMITS, value, _judge_name("limit"))
                parts.problems.extend(found)
            elif key == _DNSBL:
                found = _take_named(parts.zones, document, _DNSBL, value, _judge_name("DNS list"))
                parts.problems.extend(found)
            elif key == _RULE:
                _take_rules(parts, document, value)
            elif key != INCLUDE:
                table = isinstance(value, (dict, list))
                what = f"there is no table [{key}]" if table else f'there is no key "{key}" here'
                parts.problems.append(_problem(document, (key,), what, choose_from(key, KNOWN)))
    return parts


def _take_once(
    taken: dict[str, Part], document: Document, at: tuple[str, ...], value: object
) -> Iterator[Problem]:
    called, name = f"[{'.'.join(at)}]", at[-1]
    if not isinstance(value, dict):
        given = "[[…]]" if isinstance(value, list) else describe(value)
        what = f"{called} is one table, not {given}"
        yield _problem(document, at, what, f"write {called} and its keys below it")
    elif name in taken:
        first = taken[name]
        what = f"{called} stands in {first.document.shown}:{first.line()} already"
        yield _problem(document, at, what, "write all of its keys in one place")
    else:
        taken[name] = Part(document, at, value)


def _take_named(
    taken: dict[str, Part],
    document: Document,
    key: str,
    value: object,
    judge_name: Callable[[Document, KeyPath, str], Iterable[Problem]],
) -> Iterator[Problem]:
    """Take tables that have names of their own: `[lists.NAME]`, `[limits.NAME]`, `[dnsbl.NAME]`."""
    if not isinstance(value, dict):
        what = f"{describe(value)} is no {key.removesuffix('s')}"
        yield _problem(document, (key,), what, f"write [{key}.NAME] and its keys below it")
        return
    for name, table in value.items():
        at = (key, name)
        yield from judge_name(document, at, name)
        yield from _take_once(taken, document, at, table)


def _judge_list_name(document: Document, at: KeyPath, name: str) -> Iterator[Problem]:
    if not (name.isascii() and name.isidentifier()) or keyword.iskeyword(name):
        mend = "write letters, digits and underscores, and no word of the language of conditions"
        yield _problem(document, at, f'a condition cannot name a list "{name}"', mend)
    elif name in FACTS:
        yield _problem(document, at, f"{name} is the name of a fact", "give the list another name")


def _judge_name(thing: str) -> Callable[[Document, KeyPath, str], Iterator[Problem]]:
    """Give what judges the name of a limit or of another thing that checks are called with."""

    def judge(document: Document, at: KeyPath, name: str) -> Iterator[Problem]:
        if not re.fullmatch(r"[A-Za-z0-9_-]+", name):
            mend = "write letters, digits, underscores and hyphens"
            yield _problem(document, at, f'"{name}" cannot be the name of a {thing}', mend)
        elif len(name) > LONGEST_NAME:
            what = f"the name of the {thing} has {len(name)} characters"
            yield _problem(document, at, what, f"it has at most {LONGEST_NAME}; shorten it")

    return judge


def _take_rules(parts: Parts, document: Document, value: object) -> None:
    tables = value if isinstance(value, list) else [value]
    if not isinstance(value, list) or not all(isinstance(table, dict) for table in tables):
        what = "rules are written as tables of a list"
        mend = "write [[rule]], in double brackets, before the keys of each"
        parts.problems.append(_problem(document, (_RULE,), what, mend))
    for index, table in enumerate(tables):
        if isinstance(table, dict):
            at = (_RULE, index) if isinstance(value, list) else (_RULE,)
            parts.rules.append(Part(document, at, table))


def _problem(document: Document, at: KeyPath, what: str, mend: str) -> Problem:
    return Problem(document.shown, document.line(at), "", what, mend)

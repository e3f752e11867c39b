"""
Loading a configuration: files to tables, tables to values, and every problem of them at once.

What is wrong is left out of the result, or at its default, so that the rest can be judged further;
a configuration with errors is for nothing else.
"""

import hashlib
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from policyd.checks.limits import Limit
from policyd.checks.zone import Zone
from policyd.config.dnsbl import judge_zones, read_zone
from policyd.config.gather import Part, Parts, gather
from policyd.config.include import read_files
from policyd.config.judge import TABLE_OF, judge
from policyd.config.limits import judge_use, read_limit
from policyd.config.listed import read_list
from policyd.config.model import TABLES, Config, RuleTable, State, Table, read_stages
from policyd.config.owners import ALONE, claims, owners
from policyd.config.problem import Problem
from policyd.config.remote import is_remote, read_remote
from policyd.config.source import Document
from policyd.config.state import read_state_files
from policyd.config.translate import read_rest, read_table
from policyd.config.units import WrongValueError
from policyd.lists.named import NamedList
from policyd.lists.remote.settings import RemoteList
from policyd.rules.source import RuleSource
from policyd.smtp.stage import FrontEnd, Stage

_HASH_DIGITS: Final = 12


@dataclass(frozen=True, slots=True)
class Loaded:
    """
    What load() made of a configuration; its rules are not compiled yet.

    `rules` is empty when a file could not be read, since rules need what it may hold. `hash` is
    that of the files' contents and of limits' overrides, lists' files excepted: they change by
    themselves.
    """

    model: Config
    rules: tuple[RuleSource, ...]
    lists: Mapping[str, NamedList]
    remote: Mapping[str, RemoteList]
    limits: Mapping[str, Limit]
    zones: Mapping[str, Zone]
    owners: Mapping[Stage, FrontEnd]
    problems: tuple[Problem, ...]
    files: tuple[Path, ...]
    hash: str


def load(path: Path) -> Loaded:
    """Load a configuration; problems are sorted by file and line and never raised."""
    documents, problems, complete = read_files(path)
    parts = gather(documents)
    tables, found = _tables(parts)
    config = Config.model_validate(tables)
    claimed = claims(_named_stages(parts))
    lists, lists_found = _lists(parts, config.addresses.recipient_delimiter)
    remote, remote_found = _remote(parts, config)
    limits, limits_found = _limits(parts)
    zones, zones_found = _zones(parts)
    rules, rules_found = _rules(parts)
    # Without a front end, which is an error, the rules are judged as if there were one.
    owned = owners(claimed or {FrontEnd.POLICY: ALONE[FrontEnd.POLICY]})
    if complete:
        found += tuple(judge(config, parts.tables, claimed, str(path)))
    if complete and len(rules) == len(parts.rules):
        found += tuple(judge_use(limits, parts.limits, rules, owned))
        found += tuple(judge_zones(zones, parts.zones, rules))
    every = (
        *problems,
        *parts.problems,
        *found,
        *lists_found,
        *remote_found,
        *limits_found,
        *zones_found,
        *rules_found,
    )
    return Loaded(
        model=config,
        rules=rules if complete else (),
        lists=lists,
        remote=remote,
        limits=limits,
        zones=zones,
        owners=owned,
        problems=tuple(sorted(dict.fromkeys(every))),
        files=tuple(document.path for document in documents),
        hash=_hash(documents, limits),
    )


def _tables(parts: Parts) -> tuple[dict[str, Table], tuple[Problem, ...]]:
    tables: dict[str, Table] = {}
    problems: list[Problem] = []
    for name, part in parts.tables.items():
        table, found = read_rest(TABLES[name], part, called=f"[{name}]")
        problems.extend(found)
        if isinstance(table, State):
            table, found = read_state_files(table, part)
            problems.extend(found)
        if table is not None:
            tables[name] = table
    return tables, tuple(problems)


def _named_stages(parts: Parts) -> Mapping[FrontEnd, tuple[Stage, ...] | None]:
    """Give the stages that each front end's table names; None if they cannot be read."""
    named: dict[FrontEnd, tuple[Stage, ...] | None] = {}
    for front_end, name in TABLE_OF.items():
        if name in parts.tables:
            stages = parts.tables[name].values.get("stages")
            try:
                named[front_end] = () if stages is None else read_stages(stages)
            except WrongValueError:
                named[front_end] = None
    return named


def _lists(
    parts: Parts, recipient_delimiter: str
) -> tuple[dict[str, NamedList], tuple[Problem, ...]]:
    lists: dict[str, NamedList] = {}
    problems: list[Problem] = []
    for name, part in parts.lists.items():
        if not is_remote(part):
            lists[name], found = read_list(name, part, recipient_delimiter)
            problems.extend(found)
    return lists, tuple(problems)


def _remote(parts: Parts, config: Config) -> tuple[dict[str, RemoteList], tuple[Problem, ...]]:
    """Read the tables of lists that are looked up remotely."""
    lists: dict[str, RemoteList] = {}
    problems: list[Problem] = []
    for name, part in parts.lists.items():
        if is_remote(part):
            lists[name], found = read_remote(name, part, config)
            problems.extend(found)
    return lists, tuple(problems)


def _limits(parts: Parts) -> tuple[dict[str, Limit], tuple[Problem, ...]]:
    limits: dict[str, Limit] = {}
    problems: list[Problem] = []
    for name, part in parts.limits.items():
        limits[name], found = read_limit(name, part)
        problems.extend(found)
    return limits, tuple(problems)


def _zones(parts: Parts) -> tuple[dict[str, Zone], tuple[Problem, ...]]:
    zones: dict[str, Zone] = {}
    problems: list[Problem] = []
    for name, part in parts.zones.items():
        zones[name], found = read_zone(name, part)
        problems.extend(found)
    return zones, tuple(problems)


def _rules(parts: Parts) -> tuple[tuple[RuleSource, ...], tuple[Problem, ...]]:
    rules: list[RuleSource] = []
    problems: list[Problem] = []
    named: dict[str, Part] = {}
    for part in parts.rules:
        name = part.values.get("name")
        called = name if isinstance(name, str) else ""
        table, found = read_table(RuleTable, part, called="the rule", rule=called)
        problems.extend(found)
        if called and called in named:
            first = named[called]
            what = f"the name is used in {first.document.shown}:{first.line('name')} already"
            mend = "give each rule a name of its own"
            line = part.line("name")
            problems.append(Problem(part.document.shown, line, called, what, mend))
        named.setdefault(called, part)
        if table is not None:
            rules.append(_source(table, part))
    return tuple(rules), tuple(problems)


def _source(table: RuleTable, part: Part) -> RuleSource:
    return RuleSource(
        name=table.name,
        stages=table.stage,
        when=table.when,
        then=table.then,
        mode=table.mode,
        on_error=table.on_error,
        whole_message=table.whole_message,
        file=part.document.shown,
        lines={"": part.line(), **{key: part.line(key) for key in part.values}},
    )


def _hash(documents: Iterable[Document], limits: Mapping[str, Limit]) -> str:
    whole = hashlib.sha256()
    for document in documents:
        whole.update(hashlib.sha256(document.data).digest())
    for limit in limits.values():
        for key, override in sorted(limit.overrides.items()):
            whole.update(f"{key}\0{override.most}\0{override.burst}\n".encode())
    return whole.hexdigest()[:_HASH_DIGITS]

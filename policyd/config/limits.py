"""From `[limits.NAME]` tables to limits, and what is doubtful in how rules ask them."""

import ast
import re
from collections.abc import Iterable, Iterator, Mapping, Sequence
from difflib import get_close_matches
from pathlib import Path
from typing import Final

from policyd.checks.limits import Limit, Override
from policyd.checks.rate import Amount, Rate, Unit, amount_text
from policyd.config.gather import Part
from policyd.config.model import LimitTable
from policyd.config.overrides import read_overrides
from policyd.config.problem import Problem
from policyd.config.source import UnreadableError
from policyd.config.translate import read_table
from policyd.facts.table import FACTS
from policyd.rules.grammar import FaultError, parse_text
from policyd.rules.source import RuleSource
from policyd.smtp.stage import FrontEnd, Stage

MOST_RECIPIENTS: Final = 1_000
"""Recipients of a message at most by default: smtpd_recipient_limit (postconf(5))."""
LARGEST_MESSAGE: Final = 10_240_000
"""Bytes of a message at most by default: message_size_limit (postconf(5))."""

_SOME_KEY: Final = "'key'"
"""What stands for a key that cannot be read, so that rules that ask the limit can be judged."""


def read_limit(name: str, part: Part) -> tuple[Limit, tuple[Problem, ...]]:
    """Make a limit of its table and read its overrides; what is wrong is left at some default."""
    table, problems = read_table(LimitTable, part, called=f"[limits.{name}]")
    if table is None:
        return Limit(name, Unit.MESSAGES, 1, 1000, key=(_SOME_KEY,)), problems
    found: list[Problem] = []
    limit = Limit(
        name,
        table.rate.unit,
        table.rate.amount,
        table.rate.window,
        _burst(table.burst, table.rate, part, found),
        _overrides(table, part, found),
        tuple(_key(table.key, part, found)),
        f"{part.document.shown}:{part.line('key')}",
    )
    return limit, (*found, *_small(limit, part))


def _key(written: Sequence[str], part: Part, problems: list[Problem]) -> Iterator[str]:
    """Give the expressions that can be one; of limits that no rule asks, nothing else is judged."""
    several = isinstance(part.values["key"], list)
    for index, text in enumerate(written):
        path = ("key", index) if several else ("key",)
        try:
            _, tree = parse_text(text)
            _refuse_unknown(tree)
        except FaultError as error:
            fault = error.fault
            problems.append(_problem(part, path, f"key: {fault.what}", fault.mend))
            yield _SOME_KEY
        else:
            yield text


def _refuse_unknown(tree: ast.expr) -> None:
    called = {node.func for node in ast.walk(tree) if isinstance(node, ast.Call)}
    for node in ast.walk(tree):
        if isinstance(node, ast.Name) and node not in called and node.id not in FACTS:
            near = get_close_matches(node.id.lower(), FACTS, n=1)
            quoted = "write a text in quotes of its own: \"'all'\""
            mend = f"did you mean {near[0]}?" if near else quoted
            raise FaultError(f"there is no fact {node.id}", mend)


def _burst(written: Amount | None, rate: Rate, part: Part, problems: list[Problem]) -> int:
    if written is None:
        return 0
    if written.unit not in (None, rate.unit):
        what = f"burst: it is in {written.unit}, and the rate in {rate.unit}"
        problems.append(_problem(part, ("burst",), what, f"write it in {rate.unit}"))
        return 0
    if written.number > rate.amount:
        what = f"burst: no more than the rate, {rate}, is admitted at once anyway"
        mend = "write a smaller one, or leave it out"
        problems.append(_problem(part, ("burst",), what, mend, error=False))
    return written.number


def _overrides(table: LimitTable, part: Part, problems: list[Problem]) -> Mapping[str, Override]:
    if table.overrides_file is None:
        return {}
    path = part.document.path.parent / table.overrides_file
    shown = str(Path(part.document.shown).parent / table.overrides_file)
    try:
        found = read_overrides(path, shown, table.key, table.rate.unit)
    except UnreadableError as error:
        what = f"{shown} cannot be read: {error.why}"
        mend = "correct the name, or let policyd's user read it"
        problems.append(_problem(part, ("overrides_file",), what, mend))
        return {}
    problems.extend(found.problems)
    return found.overrides


def _small(limit: Limit, part: Part) -> Iterator[Problem]:
    """Warn of what one message may be more than."""
    bounds = {"rate": limit.most, "burst": limit.burst}
    for key, bound in bounds.items():
        admitted = amount_text(bound, limit.unit)
        if limit.unit is Unit.RECIPIENTS and 0 < bound < MOST_RECIPIENTS:
            what = (
                f"{key}: a message may have {MOST_RECIPIENTS} recipients; asked at rcpt, those "
                f"beyond {bound} are refused until later, asked after it, such a message never "
                "passes"
            )
            mend = (
                f"if that is not meant, write at least {MOST_RECIPIENTS}, or let Postfix take no "
                f"more: smtpd_recipient_limit = {bound}"
            )
        elif limit.unit is Unit.BYTES and 0 < bound < LARGEST_MESSAGE:
            what = (
                f"{key}: a message may have {LARGEST_MESSAGE} bytes, and one of more than "
                f"{admitted} never passes, however often it is tried"
            )
            mend = (
                f"write at least {LARGEST_MESSAGE} bytes, or let Postfix say so at once: "
                f"message_size_limit = {bound}"
            )
        else:
            continue
        yield _problem(part, (key,), what, mend, error=False)


def judge_use(
    limits: Mapping[str, Limit],
    parts: Mapping[str, Part],
    rules: Iterable[RuleSource],
    owners: Mapping[Stage, FrontEnd],
) -> Iterator[Problem]:
    """
    Warn of limits that no rule names, and of those that are charged twice for one message.

    Rules are not parsed yet, so what counts is the name in quotes.
    """
    rules = tuple(rules)
    for name, limit in limits.items():
        named = re.compile(rf"""(['"]){re.escape(name)}\1""")
        stages = {s for rule in rules if named.search(rule.when) for s in rule.stages}
        if not stages:
            mend = f"write exceeds('{name}'), or remove it"
            yield _doubt(parts[name], f'no rule asks the limit "{name}"', mend)
        elif limit.unit is Unit.RECIPIENTS and Stage.RCPT in stages and len(stages) > 1:
            what = f'the limit "{name}" counts recipients at rcpt, and all of them again later'
            yield _doubt(parts[name], what, "ask it at rcpt alone, or make two limits of it")
        elif len({owners[stage] for stage in stages if stage in owners}) > 1:
            what = (
                f'the limit "{name}" is asked by both front ends, and each charges a message, for '
                "what joins its requests is not the same to them"
            )
            yield _doubt(parts[name], what, "ask it at stages of one of the two")


def _doubt(part: Part, what: str, mend: str) -> Problem:
    return _problem(part, (), what, mend, error=False)


def _problem(
    part: Part, path: tuple[str | int, ...], what: str, mend: str, *, error: bool = True
) -> Problem:
    line = part.line(*path)
    return Problem(part.document.shown, line, "", what, mend, "error" if error else "warning")

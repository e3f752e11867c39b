"""
What is wrong with what a check of another package declares, and the mend, for its author.

Types are looked at too: who wrote it need not use a type checker.
"""

import inspect
import keyword
import math
import re
from collections.abc import Callable, Iterator, Mapping
from typing import Any, Final

from policyd.checks.interface import Check, Counting
from policyd.facts.table import FACTS, FactType
from policyd.facts.value import ASKING_ONLY
from policyd.smtp.stage import Stage

FAILED: Final = "failed"
"""The result under which the engine counts a check that could not be made."""
LONGEST_LIMIT: Final = 300.0
"""Seconds; Postfix waits 100 for an answer (smtpd_policy_service_timeout)."""
_MOST_SERIES: Final = 200
"""Results, or label values of a metric: each is a series of every worker."""

_LABEL: Final = re.compile(r"[A-Za-z0-9][A-Za-z0-9_.:-]{0,39}", re.ASCII)
_METRIC: Final = re.compile(r"[a-z][a-z0-9_]{0,80}", re.ASCII)
_OWN_METRIC: Final = "policyd_check_duration_"
ONLY_OURS: Final[Mapping[str, object]] = {
    "needs_at": {},
    "dependency": "",
    "sited": False,
    "definitions": None,
    "every": False,
    "configured": None,
    "follows": {},
}
"""What is for what the configuration defines, and what a check that does without has there."""

Objection = tuple[str, str]


def objections(check: Check) -> Iterator[Objection]:
    """Give all that is wrong with a declaration: what, and how it is mended."""
    name: object = check.name
    if not (isinstance(name, str) and name.isascii() and name.isidentifier()):
        yield f"the name of its check is {name!r}", "name it as conditions call it: weekend"
        return
    if keyword.iskeyword(name):
        yield f"its check is named {name}, which conditions cannot call", "name it otherwise"
    for rule in (_asking, _types, _results, _facts, _values, _stages, _not_ours, _countings):
        for what, mend in rule(check):
            yield f"its check {name}: {what}", mend


def _asking(check: Any) -> Iterator[Objection]:
    if not callable(check.ask):
        yield f"ask is a {type(check.ask).__name__}", "give a function"
    elif check.remote is not _is_coroutine_function(check.ask):
        if check.remote:
            yield "it is remote, and ask is no coroutine function", "write async def, or no remote"
        else:
            yield "ask is a coroutine function, and it is not remote", "say remote=True"
    if not (_is_number(check.limit) and 0 < check.limit <= LONGEST_LIMIT):
        yield f"limit is {check.limit!r}", f"give seconds, at most {LONGEST_LIMIT:g}"
    if not isinstance(check.on_error, str):
        yield f"on_error is {check.on_error!r}", 'write "skip" or a reply'


def _is_coroutine_function(ask: Callable[..., object]) -> bool:
    call = getattr(ask, "__call__", None)  # noqa: B004 -- of an object that can be called
    return inspect.iscoroutinefunction(ask) or inspect.iscoroutinefunction(call)


def _is_number(value: object) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool) and math.isfinite(value)


def _types(check: Any) -> Iterator[Objection]:
    if not isinstance(check.parameters, tuple):
        yield f"parameters is {check.parameters!r}", "give a tuple of FactType"
        return
    for where, type_ in (*(("parameters", each) for each in check.parameters),
                         ("result", check.result)):  # fmt: skip
        if not isinstance(type_, FactType) or type_ is FactType.MESSAGE:
            known = ", ".join(each.name for each in FactType if each is not FactType.MESSAGE)
            yield f"{where}: {type_!r} is no type of values", f"FactType has: {known}"


def _results(check: Any) -> Iterator[Objection]:
    if not (isinstance(check.results, tuple) and 0 < len(check.results) <= _MOST_SERIES):
        yield f"results is {check.results!r}", f"give a tuple of 1 to {_MOST_SERIES} words"
        return
    for each in check.results:
        if not (isinstance(each, str) and _LABEL.fullmatch(each)):
            what = f"the result {each!r} cannot be the label of a metric"
            yield what, "write at most 40 letters, digits, _ . : or -"
        elif each == FAILED:
            yield f"the result {FAILED!r} is counted when a check fails", "name it otherwise"


def _facts(check: Any) -> Iterator[Objection]:
    if not isinstance(check.needs, tuple):
        yield f"needs is {check.needs!r}", "give a tuple of names of facts"
        return
    for name in check.needs:
        if name not in FACTS:
            yield f"needs: there is no fact {name!r}", f"known: {', '.join(FACTS)}"
        elif name in ASKING_ONLY:
            yield f"needs: {name} is known to conditions only", "take it as an argument"


def _values(check: Any) -> Iterator[Objection]:
    if not isinstance(check.values, Mapping):
        yield f"values is {check.values!r}", "give names and what each says"
        return
    for name, says in check.values.items():
        if not (isinstance(name, str) and name.isascii() and name.isidentifier()):
            yield f"values: {name!r} is no name", "name it as texts show it: weekend_ends"
        elif name in FACTS:
            yield f"values: {name} is a fact", f"name it {check.name}_{name}"
        if not isinstance(says, str):
            yield f"values: {name} says {says!r}", "say in words what it is"


def _stages(check: Any) -> Iterator[Objection]:
    stages = check.stages
    if stages is None:
        return
    if not (isinstance(stages, frozenset) and all(isinstance(each, Stage) for each in stages)):
        yield f"stages is {stages!r}", "give a frozenset of Stage"


def _not_ours(check: Any) -> Iterator[Objection]:
    for name, without in ONLY_OURS.items():
        if getattr(check, name) != without:
            yield f"{name} is for policyd's own checks", "leave it out"


def _countings(check: Any) -> Iterator[Objection]:
    prefix = f"policyd_check_{check.name}_"
    for each in check.countings:
        if not isinstance(each, Counting):
            yield f"countings: {each!r} is no Counting", "give a tuple of Counting"
            continue
        ending = "" if each.bounds else "_total"
        good = _METRIC.fullmatch(each.name.removeprefix(prefix))
        if not (each.name.startswith(prefix) and each.name.endswith(ending) and good):
            mend = f"name it {prefix}something{ending}"
            yield f"countings: {each.name!r} is no name of a metric of its own", mend
        elif each.name.startswith(_OWN_METRIC):
            yield f"countings: {each.name} is policyd's own", "name the check otherwise"
        if not all(_METRIC.fullmatch(label) for label in each.labels):
            yield f"countings: {each.name} has labels {each.labels!r}", "name them: kind"
        if len(each.series) > _MOST_SERIES or not all(
            len(values) == len(each.labels) and all(map(_LABEL.fullmatch, values))
            for values in each.series
        ):
            what = f"countings: the series of {each.name} are {each.series!r}"
            yield what, f"give at most {_MOST_SERIES}, each with a word for each label"

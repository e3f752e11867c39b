"""
The interface between conditions and checks: what a check declares, and what it answers.

A check is a name in conditions. It declares the types of its arguments and of its result, whether
it waits for something remote, what becomes of a rule when it fails, and the values that a rule's
text may show. The engine calls it, times it, counts it and applies its failure; a check knows
neither rules nor metrics. Checks of other packages are found under the entry point group
`policyd.checks`, each a Check or a callable without arguments that makes one.
"""

from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass, field
from importlib.metadata import entry_points
from typing import Final, cast

from policyd.facts.table import FactType

ENTRY_POINTS: Final = "policyd.checks"
SKIP: Final = "skip"
"""The `on_error` under which a rule whose check failed does not apply."""


class CheckFailedError(Exception):
    """A check could not be made: a time-out, a store that is down, SERVFAIL. Says which and why."""


@dataclass(frozen=True, slots=True)
class Answer:
    """
    What a check found: the value for the condition, the result as a metric label, and values.

    `result` is one of the check's `results`; `values` may hold only names of its `values`.
    """

    value: object
    result: str
    values: Mapping[str, str] = field(default_factory=dict)


Ask = Callable[..., Answer] | Callable[..., Awaitable[Answer]]


@dataclass(frozen=True, slots=True)
class Check:
    """
    A check: called as `ask(attributes, *arguments)`; a remote one's `ask` is a coroutine function.

    `asks_once`: it changes state or counts, so it is not asked again when a later stage repeats
    the rules of an earlier one; in accept and score rules it is an error. `needs`: the facts that
    it reads beside its arguments. `on_error` is `skip` or a reply, for rules that do not say.
    `values` names what a text may show, each with what it says.
    """

    name: str
    ask: Ask
    parameters: tuple[FactType, ...] = ()
    needs: tuple[str, ...] = ()
    result: FactType = FactType.TRUTH
    results: tuple[str, ...] = ("true", "false")
    remote: bool = False
    asks_once: bool = False
    on_error: str = SKIP
    values: Mapping[str, str] = field(default_factory=dict)
    says: str = ""


def installed() -> Mapping[str, Check]:
    """Give the checks of installed packages by name; ImportError and the like pass through."""
    found: dict[str, Check] = {}
    for point in entry_points(group=ENTRY_POINTS):
        loaded = point.load()
        check = loaded if isinstance(loaded, Check) else cast("Callable[[], Check]", loaded)()
        found[check.name] = check
    return found

"""What a condition may name where it stands."""

import difflib
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Final, Protocol

from policyd.checks.interface import Check
from policyd.facts.table import FactType
from policyd.lists.remote.settings import RemoteList
from policyd.rules import nodes
from policyd.smtp.stage import FrontEnd, Stage

NUMBERS: Final = frozenset({FactType.NUMBER, FactType.SIZE, FactType.DURATION})
"""The types that are numbers, and can be reckoned with."""
METHODS: Final[Mapping[FactType, tuple[str, frozenset[str]]]] = {
    FactType.MAIL: ("holds_mail", frozenset({"addresses", "patterns"})),
    FactType.DOMAIN: ("holds_domain", frozenset({"domains", "patterns"})),
    FactType.ADDRESS: ("holds_address", frozenset({"networks"})),
    FactType.TEXT: ("holds_text", frozenset({"addresses", "patterns"})),
}
"""By the type of a value, the method that looks it up, and the kinds of lists that can have it."""
SPEAKERS: Final = {FrontEnd.POLICY: "policy delegation", FrontEnd.MILTER: "the milter"}
"""The front ends as messages name them."""


class NamedContainer(nodes.Container, Protocol):
    """A list of the configuration as conditions see it: what it holds and of which kinds."""

    @property
    def kinds(self) -> frozenset[str]:
        """Which of addresses, domains, networks, patterns the list has."""
        ...


@dataclass(frozen=True, slots=True)
class Scope:
    """
    What a condition may name: where it is asked, the lists, the checks.

    `write_out(kind, entries)` makes a list of entries that a condition spells out (kind:
    addresses, domains, networks or patterns); LiteralError says which entry is wrong. `facts` are
    known here although the stage as such does not know them. `shadow`
    and `settles` are what checks are told (checks.interface.Site). `remote` are the lists that a
    check looks up.
    """

    stage: Stage
    front_end: FrontEnd
    lists: Mapping[str, NamedContainer]
    checks: Mapping[str, Check]
    write_out: Callable[[str, Sequence[str]], nodes.Container]
    facts: frozenset[str] = frozenset()
    shadow: bool = False
    settles: bool = False
    remote: Mapping[str, RemoteList] = field(default_factory=dict)

    @property
    def list_names(self) -> tuple[str, ...]:
        """The names of all lists."""
        return (*self.lists, *self.remote)


def nearest(name: str, known: Iterable[str]) -> str:
    """Ask whether a name near one that is not known was meant; empty if none is near."""
    near = difflib.get_close_matches(name, list(known), n=1)
    return f"did you mean {near[0]}?" if near else ""


def a_type(type_: FactType) -> str:
    """Name a type with its article."""
    return f"an {type_}" if type_ is FactType.ADDRESS else f"a {type_}"

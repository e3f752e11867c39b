"""
Conditions as typed trees: what the parser makes of a `when` and both compilers read.

Each node keeps the piece of the condition that it stands for, for explanations.
"""

from dataclasses import dataclass
from typing import Protocol

from policyd.checks.interface import Check, Site
from policyd.facts.table import FactType


class Container(Protocol):
    """What stands right of `in`: a list, under its name or written out."""

    def holds_mail(self, address: str, /) -> bool:
        """Tell whether it has a mail address, as facts.read.mail gives it."""
        ...

    def holds_domain(self, name: str, /) -> bool:
        """Tell whether it has a domain, as facts.read.domain gives it."""
        ...

    def holds_address(self, address: str, /) -> bool:
        """Tell whether a network of it has an IP address; False for the empty one."""
        ...

    def holds_text(self, value: str, /) -> bool:
        """Tell whether it has a text, without case."""
        ...


@dataclass(frozen=True, slots=True)
class Node:
    """A piece of a condition: its text and the type of its value."""

    source: str
    type: FactType


@dataclass(frozen=True, slots=True)
class Literal(Node):
    """A constant, read by the type that its other operand asks for."""

    value: object


@dataclass(frozen=True, slots=True)
class FactNode(Node):
    """A fact."""

    name: str


@dataclass(frozen=True, slots=True)
class Both(Node):
    """`and` or `or` of truth values, evaluated left to right no further than needed."""

    word: str
    parts: tuple[Node, ...]


@dataclass(frozen=True, slots=True)
class Not(Node):
    """`not` of a truth value."""

    part: Node


@dataclass(frozen=True, slots=True)
class Compare(Node):
    """A comparison of two values of one type."""

    left: Node
    word: str
    right: Node


@dataclass(frozen=True, slots=True)
class ClockCompare(Node):
    """The time of day, in minutes since local midnight, against a literal such as `22:30`."""

    left: Node
    word: str
    minutes: int


@dataclass(frozen=True, slots=True)
class Member(Node):
    """Membership in a list; `method` is the Container's."""

    item: Node
    container: Container
    method: str
    negated: bool


@dataclass(frozen=True, slots=True)
class Contains(Node):
    """A text within a text or among several, or a value among a few literals."""

    item: Node
    where: Node
    negated: bool


@dataclass(frozen=True, slots=True)
class Several(Node):
    """`any_in` or `all_in`: whether a list has any, or all, of several values (none: false)."""

    word: str
    items: Node
    container: Container
    method: str


@dataclass(frozen=True, slots=True)
class Header(Node):
    """`header('Name')`."""

    name: str


@dataclass(frozen=True, slots=True)
class HeaderCount(Node):
    """`header_count('Name')`."""

    name: str


@dataclass(frozen=True, slots=True)
class CheckCall(Node):
    """
    A call of a check: `needs` are the facts that it reads beside its arguments.

    `site` is given to a check that wants it; `dependencies` are what the call relies on.
    """

    check: Check
    arguments: tuple[Node, ...]
    needs: tuple[str, ...] = ()
    site: Site | None = None
    dependencies: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class Defined(Node):
    """An argument that the configuration defines: its value, its key over facts, its dependency."""

    value: object
    key: tuple[Node, ...]
    dependency: str = ""


@dataclass(frozen=True, slots=True)
class CastNode(Node):
    """A text read as a mail address or a domain."""

    part: Node


@dataclass(frozen=True, slots=True)
class Arithmetic(Node):
    """`+ - * / // %` of two numbers; `left` is None for a sign."""

    left: Node | None
    word: str
    right: Node


def children(node: Node) -> tuple[Node, ...]:
    """Give the nodes right below one, in order of evaluation."""
    match node:
        case Both(parts=parts):
            return parts
        case Not(part=part) | CastNode(part=part):
            return (part,)
        case Compare(left=left, right=right):
            return (left, right)
        case ClockCompare(left=left):
            return (left,)
        case Member(item=item):
            return (item,)
        case Contains(item=item, where=where):
            return (item, where)
        case Several(items=items):
            return (items,)
        case CheckCall(arguments=arguments):
            return arguments
        case Defined(key=key):
            return key
        case Arithmetic(left=left, right=right):
            return (right,) if left is None else (left, right)
    return ()


def walk(node: Node) -> tuple[Node, ...]:
    """Give a node and all below it, each before its own."""
    found = [node]
    for child in children(node):
        found.extend(walk(child))
    return tuple(found)


def named_facts(node: Node) -> frozenset[str]:
    """Give the names of the facts that a condition itself names."""
    return frozenset(piece.name for piece in walk(node) if isinstance(piece, FactNode))


def facts_of(node: Node) -> frozenset[str]:
    """Give the names of all facts that a condition reads, those that its checks need included."""
    names = set(named_facts(node))
    for piece in walk(node):
        if isinstance(piece, Header | HeaderCount):
            names.add("headers")
        elif isinstance(piece, CheckCall):
            names.update(piece.needs)
    return frozenset(names)


def calls_of(node: Node) -> tuple[CheckCall, ...]:
    """Give the calls of checks in a condition, in order."""
    return tuple(piece for piece in walk(node) if isinstance(piece, CheckCall))


def checks_of(node: Node) -> tuple[Check, ...]:
    """Give the checks that a condition calls, in order."""
    return tuple(call.check for call in calls_of(node))

"""
Calls of checks in conditions: their arguments, and what the configuration defines for them.

The parser of conditions (see expression) reads what stands in the arguments.
"""

import ast
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import replace
from itertools import groupby
from typing import Final, Protocol

from policyd.checks.interface import Check, Definition, Site
from policyd.facts.table import FactType
from policyd.rules import nodes
from policyd.rules.grammar import FaultError
from policyd.rules.scope import NUMBERS, Scope, a_type, nearest
from policyd.smtp.stage import Stage

KEYS: Final = NUMBERS | {FactType.TEXT, FactType.MAIL, FactType.DOMAIN, FactType.ADDRESS}
"""The types that a key of something the configuration defines may have."""


class Parser(Protocol):
    """What reads the parts of one condition."""

    scope: Scope

    def text(self, tree: ast.AST) -> str:
        """Give the piece of the condition that a tree stands for."""
        ...

    def value(self, tree: ast.expr) -> nodes.Node:
        """Read any value."""
        ...

    def fact(self, name: str) -> nodes.Node:
        """Read the name of a fact."""
        ...

    def literal(self, node: nodes.Literal, wanted: FactType) -> nodes.Literal:
        """Read a literal as another type."""
        ...

    def elsewhere(self, text: str) -> nodes.Node:
        """Read a value that the configuration spells out in another place."""
        ...


def parse_check(parser: Parser, tree: ast.Call, check: Check) -> nodes.Node:
    """Read a call of a check; FaultError says what is wrong with it."""
    scope = parser.scope
    if check.stages is not None and scope.stage not in check.stages:
        where = ", ".join(each for each in Stage if each in check.stages)
        raise FaultError(f"{check.name}() cannot be asked at {scope.stage}", f"ask it at {where}")
    if check.definitions is None:
        arguments = _arguments(parser, tree, check)
    else:
        arguments = _defined(parser, tree, check, check.definitions)
    needs = (*check.needs, *check.needs_at.get(scope.stage, ()))
    for name in needs:
        parser.fact(name)
    site = Site(scope.stage, scope.shadow, scope.settles) if check.sited else None
    return nodes.CheckCall(
        parser.text(tree), check.result, check, arguments, needs, site, _relied_on(check, arguments)
    )


def _relied_on(check: Check, arguments: Iterable[nodes.Node]) -> tuple[str, ...]:
    """Give what a call relies on: the check itself, and what it asks with."""
    own = (each.dependency for each in arguments if isinstance(each, nodes.Defined))
    return tuple(dict.fromkeys(filter(None, (check.dependency, *own))))


def _arguments(parser: Parser, tree: ast.Call, check: Check) -> tuple[nodes.Node, ...]:
    if len(tree.args) != len(check.parameters):
        raise FaultError(
            f"{check.name}() takes {len(check.parameters)} arguments, not {len(tree.args)}",
            f"{check.name}({', '.join(check.parameters)})",
        )
    arguments = []
    for argument, wanted in zip(tree.args, check.parameters, strict=True):
        value = parser.value(argument)
        if isinstance(value, nodes.Literal):
            value = parser.literal(value, wanted)
        elif value.type is not wanted and not {value.type, wanted} <= NUMBERS:
            raise FaultError(
                f"{check.name}() takes {a_type(wanted)}, and {value.source} is "
                f"{a_type(value.type)}",
                f"give it {a_type(wanted)}",
            )
        arguments.append(value)
    return tuple(arguments)


def _defined(
    parser: Parser, tree: ast.Call, check: Check, definitions: Mapping[str, Definition]
) -> tuple[nodes.Node, ...]:
    """Read the names of what the configuration defines, and the keys of that."""
    usage = f"write {check.name}('NAME'), in quotes"
    if not tree.args and check.every:
        return _every(parser, check, definitions)
    if not tree.args:
        raise FaultError(f"{check.name}() names nothing", usage)
    found: dict[str, nodes.Node] = {}
    for argument in tree.args:
        if not (isinstance(argument, ast.Constant) and isinstance(argument.value, str)):
            raise FaultError(f"{parser.text(argument)} is no name in quotes", usage)
        name = argument.value
        definition = definitions.get(name)
        if definition is None:
            near = nearest(name, definitions)
            every = f"there are: {', '.join(definitions)}" if definitions else ""
            what = f"{check.name}(): there is no {name!r}"
            raise FaultError(what, near or every or "define it in the configuration")
        objection = definition.objection(parser.scope.stage)
        if objection is not None:
            raise FaultError(*objection)
        found[name] = _one(parser, name, definition)
    return tuple(found.values())


def _one(parser: Parser, name: str, definition: Definition) -> nodes.Node:
    key = tuple(_key(parser, text, definition) for text in definition.key)
    return nodes.Defined(name, FactType.TEXT, definition.value, key, definition.dependency)


def _every(
    parser: Parser, check: Check, definitions: Mapping[str, Definition]
) -> tuple[nodes.Node, ...]:
    """Give all that can be asked here."""
    if not definitions:
        raise FaultError(f"{check.name}() has nothing to ask", "define it in the configuration")
    found = []
    why = ("", "")
    for name, definition in definitions.items():
        objection = definition.objection(parser.scope.stage)
        if objection is not None:
            why = objection
            continue
        try:
            found.append(_one(parser, name, definition))
        except FaultError as error:
            why = (error.fault.what, error.fault.mend)
    if not found:
        raise FaultError(f"{check.name}() has nothing to ask here: {why[0]}", why[1])
    return tuple(found)


def _key(parser: Parser, text: str, definition: Definition) -> nodes.Node:
    """Read what is to tell one sender, client or recipient from others."""
    try:
        node = parser.elsewhere(text)
    except FaultError as error:
        what = f"key of {definition.place}: {error.fault.what}"
        raise FaultError(what, error.fault.mend) from error
    if node.type not in KEYS:
        what = f"key of {definition.place}: {node.source} is {a_type(node.type)}"
        raise FaultError(what, "name a fact")
    return node


def asked_together(parts: Iterable[nodes.Node]) -> Iterator[nodes.Node]:
    """Make one call of neighbours that name definitions of one check: asked at once or not."""
    for check, group in groupby(parts, _check_of_definitions):
        calls = list(group)
        first = calls[0]
        if check is None or len(calls) == 1 or not isinstance(first, nodes.CheckCall):
            yield from calls
            continue
        arguments = {each.source: each for call in calls for each in nodes.children(call)}
        source = " or ".join(call.source for call in calls)
        given = tuple(arguments.values())
        relied_on = _relied_on(check, given)
        yield replace(first, source=source, arguments=given, dependencies=relied_on)


def _check_of_definitions(node: nodes.Node) -> Check | None:
    if isinstance(node, nodes.CheckCall) and node.check.definitions is not None:
        return node.check
    return None

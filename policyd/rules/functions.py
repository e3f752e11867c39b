"""
Functions in conditions, which unlike checks are part of the language: what their calls may say.

The parser of conditions (see expression) reads what stands in the arguments.
"""

import ast
from collections.abc import Mapping, Sequence
from typing import Final, Protocol

from policyd.facts.table import FactType
from policyd.lists.remote.membership import Word
from policyd.rules import calls, nodes
from policyd.rules.grammar import FaultError
from policyd.rules.remote import look_up
from policyd.rules.scope import METHODS, a_type

FUNCTIONS: Final[Mapping[str, str]] = {
    "any_in": "any_in(recipients, LIST): a list has at least one of several values",
    "all_in": "all_in(recipients, LIST): a list has all of several values, and there is one",
    "header": "header('Name'): the values of that header, joined by newlines; empty without it",
    "header_count": "header_count('Name'): how many headers of that name there are",
    "matches": "matches(value, 'pattern'): a linear-time regular expression is found in it",
}
"""How each is called, and what it gives."""

_SINGLE: Final = {FactType.MAILS: FactType.MAIL, FactType.TEXTS: FactType.TEXT}


class Parser(calls.Parser, Protocol):
    """What reads the parts of one condition, lists too."""

    def named(self, name: str, item: nodes.Node) -> tuple[nodes.Container, str]:
        """Give a list for what is looked for in it, and the method that looks."""
        ...

    def write_out(self, kind: str, entries: Sequence[str]) -> nodes.Container:
        """Make a list of what a condition spells out."""
        ...


def parse_function(parser: Parser, tree: ast.Call, name: str) -> nodes.Node:
    """Read a call of one of the functions; FaultError says what is wrong with it."""
    if name in ("header", "header_count"):
        return _header(parser, tree, name)
    if name == "matches":
        return _matches(parser, tree)
    return _several(parser, tree, name)


def _several(parser: Parser, tree: ast.Call, word: str) -> nodes.Node:
    match tree.args:
        case [several, ast.Name(id=name)]:
            items, one = _items(parser, several)
            source = parser.text(tree)
            remote = parser.scope.remote.get(name)
            if remote is not None:
                return look_up(items, remote, Word(word), source, parser.scope.checks)
            container, method = parser.named(name, one)
            return nodes.Several(source, FactType.TRUTH, word, items, container, method)
        case [several, ast.List(elts=[_, *_] as written)]:
            items, one = _items(parser, several)
            container = parser.write_out("addresses", [_text(parser, each) for each in written])
            method = METHODS[one.type][0]
            source = parser.text(tree)
            return nodes.Several(source, FactType.TRUTH, word, items, container, method)
    usage = f"write {FUNCTIONS[word].partition(':')[0]}"
    raise FaultError(f"{word}() takes several values and a list", usage)


def _text(parser: Parser, tree: ast.expr) -> str:
    value = parser.value(tree)
    if isinstance(value, nodes.Literal) and isinstance(value.value, str):
        return value.value
    raise FaultError(f"{value.source} in a list", "a list holds texts in quotes only")


def _items(parser: Parser, tree: ast.expr) -> tuple[nodes.Node, nodes.Node]:
    """Read several values: a fact or the call of a check. Beside them, what one is like."""
    items = parser.value(tree)
    single = _SINGLE.get(items.type)
    if single is None:
        raise FaultError(f"{items.source} is one {items.type}", f"write {items.source} in ...")
    return items, nodes.FactNode(items.source, single, items.source)


def _header(parser: Parser, tree: ast.Call, word: str) -> nodes.Node:
    match tree.args:
        case [ast.Constant(value=str() as name)] if name.strip(":") and ":" not in name:
            parser.fact("headers")
            if word == "header":
                return nodes.Header(parser.text(tree), FactType.TEXT, name)
            return nodes.HeaderCount(parser.text(tree), FactType.NUMBER, name)
    raise FaultError(f"{word}() takes one name", f"write {word}('Subject')")


def _matches(parser: Parser, tree: ast.Call) -> nodes.Node:
    match tree.args:
        case [value, ast.Constant(value=str() as pattern)]:
            item = parser.value(value)
            if item.type not in METHODS or item.type is FactType.ADDRESS:
                raise FaultError(f"{item.source} is {a_type(item.type)}", "match texts and names")
            container = parser.write_out("patterns", (pattern,))
            method = METHODS[item.type][0]
            source = parser.text(tree)
            return nodes.Member(source, FactType.TRUTH, item, container, method, negated=False)
    raise FaultError("matches() takes a value and a pattern", "write matches(helo_name, '^x')")

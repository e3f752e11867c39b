"""
Conditions: a typed subset of Python's expression grammar, parsed and checked into trees.

Python's own parser reads the text; only the listed forms are taken over, each with its types
checked. Nothing of the text is ever executed as Python.
"""

import ast
from collections.abc import Mapping, Sequence
from typing import Final

from policyd.facts.table import FACTS, FactType, where_known
from policyd.lists.remote.membership import Word
from policyd.rules import nodes
from policyd.rules.calls import asked_together, parse_check
from policyd.rules.functions import FUNCTIONS, parse_function
from policyd.rules.grammar import Fault, FaultError, parse_text
from policyd.rules.literals import LiteralError, clock_minutes, coerce
from policyd.rules.remote import look_up
from policyd.rules.scope import METHODS, NUMBERS, SPEAKERS, Scope, a_type, nearest

_ORDERED: Final = NUMBERS | {FactType.TIME}
_WORDS: Final[Mapping[type[ast.cmpop], str]] = {
    ast.Eq: "==",
    ast.NotEq: "!=",
    ast.Lt: "<",
    ast.LtE: "<=",
    ast.Gt: ">",
    ast.GtE: ">=",
    ast.In: "in",
    ast.NotIn: "not in",
}
_ARITHMETIC: Final[Mapping[type[ast.operator], str]] = {
    ast.Add: "+",
    ast.Sub: "-",
    ast.Mult: "*",
    ast.Div: "/",
    ast.FloorDiv: "//",
    ast.Mod: "%",
}
_FORBIDDEN: Final[Mapping[type[ast.AST], tuple[str, str]]] = {
    ast.Attribute: ("a dot after a name", "facts have no attributes; derived ones have names"),
    ast.Subscript: ("a subscript", "there are none; sender_domain and the like are facts"),
    ast.Lambda: ("lambda", "write the condition itself"),
    ast.ListComp: ("a comprehension", "any_in() and all_in() look at several values"),
    ast.SetComp: ("a comprehension", "any_in() and all_in() look at several values"),
    ast.DictComp: ("a comprehension", "any_in() and all_in() look at several values"),
    ast.GeneratorExp: ("a comprehension", "any_in() and all_in() look at several values"),
    ast.IfExp: ("if ... else", "use and, or, not"),
    ast.JoinedStr: ("an f-string", "write a plain string"),
    ast.NamedExpr: (":=", "write == to compare"),
    ast.Tuple: ("a tuple", "write a list: [ ]"),
    ast.Set: ("a set", "write a list: [ ]"),
    ast.Dict: ("a dictionary", "write a list: [ ]"),
    ast.Starred: ("*", "write the values out"),
    ast.Await: ("await", "checks are called by their names alone"),
}


def parse(text: str, scope: Scope) -> tuple[nodes.Node | None, tuple[Fault, ...]]:
    """Parse and check a condition: its tree, or all that is wrong with it."""
    try:
        line, tree = parse_text(text)
        parser = _Parser(line, scope)
        node = parser.truth(tree)
    except FaultError as error:
        return None, (error.fault,)
    return (None if parser.faults else node), tuple(parser.faults)


class _Parser:
    """Turns Python's tree into ours; collects faults so that all of a condition's are told."""

    def __init__(self, line: str, scope: Scope) -> None:
        self._line = line
        self.scope = scope
        self.faults: list[Fault] = []

    def text(self, tree: ast.AST) -> str:
        """Give the piece of the condition that a tree stands for."""
        return ast.get_source_segment(self._line, tree) or self._line

    def truth(self, tree: ast.expr) -> nodes.Node:
        """Parse what must be a truth value."""
        match tree:
            case ast.BoolOp():
                word = "and" if isinstance(tree.op, ast.And) else "or"
                parts = tuple(self._part(part) for part in tree.values)
                parts = tuple(asked_together(parts)) if word == "or" else parts
                if len(parts) == 1:
                    return parts[0]
                return nodes.Both(self.text(tree), FactType.TRUTH, word, parts)
            case ast.UnaryOp(op=ast.Not()):
                return nodes.Not(self.text(tree), FactType.TRUTH, self._part(tree.operand))
            case ast.Constant(value=bool()):
                return nodes.Literal(self.text(tree), FactType.TRUTH, tree.value)
        node = self._comparison(tree) if isinstance(tree, ast.Compare) else self.value(tree)
        if node.type is not FactType.TRUTH:
            raise FaultError(
                f"{node.source} is {a_type(node.type)}, not a truth value",
                _truth_mend(node),
            )
        return node

    def _part(self, tree: ast.expr) -> nodes.Node:
        """Parse one side of and, or, not; a fault in it leaves the others to be checked."""
        try:
            return self.truth(tree)
        except FaultError as error:
            if error.fault not in self.faults:
                self.faults.append(error.fault)
            return nodes.Literal(self.text(tree), FactType.TRUTH, False)

    def _comparison(self, tree: ast.Compare) -> nodes.Node:
        operands = [tree.left, *tree.comparators]
        if len(tree.ops) > 1 and any(isinstance(x, ast.Call) for x in operands[1:-1]):
            raise FaultError("a call in the middle of a chain", "compare twice, joined by and")
        parts = tuple(
            self._pair(left, _WORDS.get(type(op), ""), right, tree)
            for left, op, right in zip(operands, tree.ops, operands[1:], strict=False)
        )
        if len(parts) == 1:
            return parts[0]
        return nodes.Both(self.text(tree), FactType.TRUTH, "and", parts)

    def _pair(self, left: ast.expr, word: str, right: ast.expr, tree: ast.Compare) -> nodes.Node:
        source = self.text(tree) if len(tree.ops) == 1 else f"{self.text(left)} {word} ..."
        if not word:
            raise FaultError("`is`", "write == or !=")
        if word in ("in", "not in"):
            return self._membership(left, right, source, negated=word == "not in")
        return self._compare(left, word, right, source)

    def _compare(self, left: ast.expr, word: str, right: ast.expr, source: str) -> nodes.Node:
        a, b = self.value(left), self.value(right)
        if isinstance(a, nodes.Literal) and isinstance(b, nodes.Literal):
            raise FaultError(f"{source} compares two literals", "compare a fact with one")
        if isinstance(a, nodes.Literal):  # `'x' == sender` reads as `sender == 'x'`
            mirrored = {"<": ">", "<=": ">=", ">": "<", ">=": "<="}.get(word, word)
            return self._typed(b, mirrored, a, source)
        return self._typed(a, word, b, source)

    def _typed(self, a: nodes.Node, word: str, b: nodes.Node, source: str) -> nodes.Node:
        if FactType.TRUTH in (a.type, b.type):
            raise FaultError(f"{source} compares truth values", "use them as they are, or not ...")
        if isinstance(b, nodes.Literal):
            clock = clock_minutes(str(b.value)) if a.type is FactType.TIME else None
            if clock is not None:
                return nodes.ClockCompare(source, FactType.TRUTH, a, word, clock)
            b = self.literal(b, a.type)
        elif a.type is not b.type and not {a.type, b.type} <= NUMBERS:
            a, b = self._meet(a, b, source)
        if word not in ("==", "!=") and a.type not in _ORDERED:
            raise FaultError(
                f"{source}: {a_type(a.type)} has no order", "compare it with ==, != or in"
            )
        return nodes.Compare(source, FactType.TRUTH, a, word, b)

    def _meet(self, a: nodes.Node, b: nodes.Node, source: str) -> tuple[nodes.Node, nodes.Node]:
        """Let a text stand beside a domain or a mail address: logins are often addresses."""
        for text, other in ((a, b), (b, a)):
            if text.type is FactType.TEXT and other.type in (FactType.MAIL, FactType.DOMAIN):
                cast = nodes.CastNode(text.source, other.type, text)
                return (cast, b) if text is a else (a, cast)
        raise FaultError(
            f"{source} compares {a_type(a.type)} with {a_type(b.type)}", "compare facts of one type"
        )

    def elsewhere(self, text: str) -> nodes.Node:
        """Parse a value that the configuration spells out in another place."""
        line, tree = parse_text(text)
        return _Parser(line, self.scope).value(tree)

    def literal(self, node: nodes.Literal, wanted: FactType) -> nodes.Literal:
        """Read a literal by another type; FaultError if it has none such."""
        try:
            return nodes.Literal(node.source, wanted, coerce(node.value, wanted))
        except LiteralError as error:
            raise FaultError(str(error), error.mend) from error

    def _membership(
        self, left: ast.expr, right: ast.expr, source: str, *, negated: bool
    ) -> nodes.Node:
        item = self.value(left)
        if isinstance(right, ast.Name) and right.id in self.scope.remote:
            return self._remote(right.id, item, source, negated=negated)
        if isinstance(right, ast.Name) and right.id not in FACTS:
            container, method = self.named(right.id, item)
            return nodes.Member(source, FactType.TRUTH, item, container, method, negated)
        if isinstance(right, ast.List):
            return self._among(item, right, source, negated=negated)
        where = self.value(right)
        if item.type is FactType.ADDRESS and isinstance(where, nodes.Literal):
            container = self.write_out("networks", (str(where.value),))
            return nodes.Member(source, FactType.TRUTH, item, container, "holds_address", negated)
        if where.type in (FactType.TEXT, FactType.TEXTS) and item.type is FactType.TEXT:
            return nodes.Contains(source, FactType.TRUTH, item, where, negated)
        raise FaultError(
            f"{source}: {a_type(item.type)} is not looked for in {a_type(where.type)}",
            "right of `in` stands a list: its name, or [ ] with the values",
        )

    def _remote(self, name: str, item: nodes.Node, source: str, *, negated: bool) -> nodes.Node:
        """Have the check for it look an item up."""
        scope = self.scope
        asked = f"{item.source} in {name}" if negated else source
        call = look_up(item, scope.remote[name], Word.IN, asked, scope.checks)
        return nodes.Not(source, FactType.TRUTH, call) if negated else call

    def named(self, name: str, item: nodes.Node) -> tuple[nodes.Container, str]:
        """Give a list for what is looked for in it, and the method that looks."""
        container = self.scope.lists.get(name)
        if container is None:
            near = nearest(name, self.scope.list_names)
            raise FaultError(f"there is no list {name}", near or f"add a table [lists.{name}]")
        if item.type not in METHODS:
            raise FaultError(
                f"{a_type(item.type)} cannot be in a list", "compare it with == or <, >"
            )
        method, kinds = METHODS[item.type]
        if not container.kinds & kinds:
            raise FaultError(
                f"{item.source} is {a_type(item.type)}, and the list {name} has "
                f"{' and '.join(sorted(container.kinds)) or 'nothing'}",
                _list_mend(item, container.kinds, kinds),
            )
        return container, method

    def _among(
        self, item: nodes.Node, right: ast.List, source: str, *, negated: bool
    ) -> nodes.Node:
        values = []
        for element in right.elts:
            value = self.value(element)
            if not isinstance(value, nodes.Literal):
                raise FaultError(f"{value.source} in a list", "a list holds literals only")
            values.append(value)
        if not values:
            raise FaultError(f"{source}: an empty list", "name at least one value")
        kind = {
            FactType.MAIL: "addresses",
            FactType.DOMAIN: "domains",
            FactType.ADDRESS: "networks",
        }.get(item.type)
        if kind is not None:
            texts = tuple(str(value.value) for value in values)
            method = METHODS[item.type][0]
            container = self.write_out(kind, texts)
            return nodes.Member(source, FactType.TRUTH, item, container, method, negated)
        if item.type not in NUMBERS | {FactType.TEXT}:
            raise FaultError(
                f"{a_type(item.type)} cannot be in a list", "compare it with == or <, >"
            )
        constants = frozenset(self.literal(value, item.type).value for value in values)
        where = nodes.Literal(self.text(right), item.type, constants)
        return nodes.Contains(source, FactType.TRUTH, item, where, negated)

    def write_out(self, kind: str, entries: Sequence[str]) -> nodes.Container:
        """Make a list of what a condition spells out."""
        try:
            return self.scope.write_out(kind, entries)
        except LiteralError as error:
            raise FaultError(str(error), error.mend) from error

    def value(self, tree: ast.expr) -> nodes.Node:
        """Parse any value: a literal, a fact, a call, arithmetic, or a truth in parentheses."""
        match tree:
            case ast.Constant(value=bool()):
                return nodes.Literal(self.text(tree), FactType.TRUTH, tree.value)
            case ast.Constant(value=int() | float()):
                return nodes.Literal(self.text(tree), FactType.NUMBER, tree.value)
            case ast.Constant(value=str()):
                return nodes.Literal(self.text(tree), FactType.TEXT, tree.value)
            case ast.Name():
                return self._readable(tree.id)
            case ast.Call():
                return self._call(tree)
            case ast.BinOp() | ast.UnaryOp(op=ast.USub() | ast.UAdd()):
                return self._arithmetic(tree)
            case ast.BoolOp() | ast.Compare() | ast.UnaryOp():
                return self.truth(tree)
        what, mend = _FORBIDDEN.get(
            type(tree), (f"{type(tree).__name__.lower()}", "see the forms a condition may have")
        )
        raise FaultError(f"{what} is not part of a condition: {self.text(tree)}", mend)

    def fact(self, name: str) -> nodes.Node:
        """Parse the name of a fact that is known here."""
        fact = FACTS.get(name)
        if fact is None:
            raise FaultError(*self._unknown_name(name))
        known = self.scope.stage in fact.known[self.scope.front_end]
        if not known and name not in self.scope.facts:
            raise FaultError(
                f"{name} is not known at {self.scope.stage} to {SPEAKERS[self.scope.front_end]}",
                f"it is known {where_known(fact)}",
            )
        return nodes.FactNode(name, fact.type, name)

    def _readable(self, name: str) -> nodes.Node:
        """Parse the name of a fact that a condition itself may look at."""
        node = self.fact(name)
        if node.type is FactType.MESSAGE:
            raise FaultError(f"{name} is for checks to read", "call a check, such as dkim()")
        return node

    def _unknown_name(self, name: str) -> tuple[str, str]:
        if name in ("true", "false"):
            return f"there is no fact {name}", f"write {name.capitalize()}"
        if name in self.scope.list_names:
            return f"{name} is a list", f"write `FACT in {name}`"
        if name in FUNCTIONS or name in self.scope.checks:
            return f"{name} is called", f"write {name}(...)"
        known = [
            fact for fact in FACTS.values() if self.scope.stage in fact.known[self.scope.front_end]
        ]
        near = nearest(name, [fact.name for fact in known]) or nearest(name, FACTS)
        return f"there is no fact {name}", near or "`policyd check` names the facts of each stage"

    def _call(self, tree: ast.Call) -> nodes.Node:
        if not isinstance(tree.func, ast.Name):
            raise FaultError(f"a call of {self.text(tree.func)}", "call functions by their names")
        name = tree.func.id
        if tree.keywords:
            raise FaultError(f"{name}() with a named argument", "give the value alone")
        if name in FUNCTIONS:
            return parse_function(self, tree, name)
        check = self.scope.checks.get(name)
        if check is None:
            known = [*FUNCTIONS, *filter(str.isidentifier, self.scope.checks)]
            near = nearest(name, known)
            every = ", ".join(known)
            raise FaultError(f"there is no check {name}()", near or f"there are: {every}")
        return parse_check(self, tree, check)

    def _arithmetic(self, tree: ast.BinOp | ast.UnaryOp) -> nodes.Node:
        if isinstance(tree, ast.UnaryOp):
            word, operands = "-" if isinstance(tree.op, ast.USub) else "+", [tree.operand]
        else:
            found = _ARITHMETIC.get(type(tree.op))
            if found is None:
                raise FaultError(f"the operator in {self.text(tree)}", "there are + - * / // and %")
            word, operands = found, [tree.left, tree.right]
        values = [self.value(operand) for operand in operands]
        typed = next((v.type for v in values if v.type in NUMBERS - {FactType.NUMBER}), None)
        for i, value in enumerate(values):
            if isinstance(value, nodes.Literal) and value.type is FactType.TEXT and typed:
                values[i] = self.literal(value, typed)
            elif value.type not in NUMBERS:
                raise FaultError(
                    f"arithmetic on {value.source}, {a_type(value.type)}", "use numbers and sizes"
                )
        left = values[0] if len(values) > 1 else None
        return nodes.Arithmetic(self.text(tree), typed or FactType.NUMBER, left, word, values[-1])


def _truth_mend(node: nodes.Node) -> str:
    if node.type in NUMBERS:
        return f"write {node.source} > 0"
    if node.type is FactType.TEXT or node.type is FactType.MAIL:
        return f"write {node.source} != ''"
    return "compare it with something"


def _list_mend(item: nodes.Node, has: frozenset[str], wants: frozenset[str]) -> str:
    if item.type is FactType.MAIL and "domains" in has and item.source in ("sender", "recipient"):
        return f"write {item.source}_domain"
    return f"give the list {' or '.join(sorted(wants))}"

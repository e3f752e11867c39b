"""
Conditions as Python source: one tree, two outputs.

The plain output is the condition; the traced one wraps every node so that its value is kept. Names
in the source stand for facts (`f_...`), constants (`k...`), lists (`l...`) and checks (`c...`),
all put into one namespace; nothing of a condition's own text is part of it.
"""

from collections.abc import Callable, Mapping
from datetime import datetime
from math import nan
from typing import Final

from policyd.checks.interface import CheckFailedError
from policyd.facts import read
from policyd.facts.table import FACTS, FactType
from policyd.lists.named import NamedList, domain_keys, mail_keys
from policyd.lists.networks import number_of
from policyd.lists.source import Kind
from policyd.rules import nodes
from policyd.rules.policy import Context

_INLINE: Final[Mapping[str, str]] = {
    "now": "ctx.now",
    "score": "score",
    "helo_is_address": "is_address_literal(a.get('helo_name', ''))",
    "local_submission": "a.get('local_submission') is True",
    "utf8_headers": "a.get('utf8_headers') is True",
    "sender_local": "local_part(f_sender)",
    "sender_domain": "domain_part(f_sender)",
    "recipient_local": "local_part(f_recipient)",
    "recipient_domain": "domain_part(f_recipient)",
}
_READERS: Final[Mapping[FactType, str]] = {
    FactType.NUMBER: "number",
    FactType.SIZE: "number",
    FactType.DOMAIN: "domain",
    FactType.MAIL: "mail",
    FactType.ADDRESS: "ip",
    FactType.MAILS: "mails",
    FactType.TEXTS: "texts",
}
_BASE: Final[Mapping[str, str]] = {
    "sender_local": "sender",
    "sender_domain": "sender",
    "recipient_local": "recipient",
    "recipient_domain": "recipient",
}


def _minutes(now: float) -> float:
    """Give the local time of day in minutes since midnight."""
    local = datetime.fromtimestamp(now).astimezone()
    return local.hour * 60 + local.minute + local.second / 60


def _divide(left: float, right: float) -> float:
    return left / right if right else nan


def _floor(left: float, right: float) -> float:
    return left // right if right else nan


def _modulo(left: float, right: float) -> float:
    return left % right if right else nan


def _all_of(holds: Callable[[str], bool], items: tuple[str, ...]) -> bool:
    return bool(items) and all(map(holds, items))


def _keep(ctx: Context, number: int, value: object) -> object:
    ctx.trace[number] = value
    return value


_DIVISIONS: Final = {"/": "divide", "//": "floor", "%": "modulo"}


class Namespace:
    """What the generated source refers to by name."""

    def __init__(self) -> None:
        """Start with the readers of facts."""
        self.names: dict[str, object] = {
            "CheckFailed": CheckFailedError,
            "all_of": _all_of,
            "divide": _divide,
            "domain": read.domain,
            "domain_keys": domain_keys,
            "domain_part": read.domain_part,
            "floor": _floor,
            "header": read.header,
            "header_count": read.header_count,
            "ip": read.ip,
            "is_address_literal": read.is_address_literal,
            "keep": _keep,
            "local_part": read.local_part,
            "mail": read.mail,
            "mail_keys": mail_keys,
            "mails": read.mails,
            "minutes": _minutes,
            "modulo": _modulo,
            "number": read.number,
            "number_of": number_of,
            "texts": read.texts,
        }
        self._known: dict[int, str] = {}

    def add(self, letter: str, value: object) -> str:
        """Give the name of a value, a new one the first time."""
        name = self._known.get(id(value))
        if name is None:
            name = f"{letter}{len(self.names)}"
            self.names[name] = value  # keeps it alive, so that its id stays its own
            self._known[id(value)] = name
        return name


def assignments(facts: frozenset[str], once: frozenset[str] = frozenset()) -> list[str]:
    """Give the lines that read facts, but those in `once`, into locals; addresses come first."""
    wanted = (set(facts) - once) | {_BASE[name] for name in facts if name in _BASE}
    ordered = sorted(wanted, key=lambda name: (name in _BASE, name))
    return [f"f_{name} = {_reading(name)}" for name in ordered if name != "score"]


def _reading(name: str) -> str:
    inline = _INLINE.get(name)
    if inline is not None:
        return inline
    reader = _READERS.get(FACTS[name].type)
    return f"a.get({name!r}, '')" if reader is None else f"{reader}(a.get({name!r}, ''))"


class Emitter:
    """Gives conditions as source; with `number` given, every node is traced under its number."""

    def __init__(
        self,
        namespace: Namespace,
        once: frozenset[str],
        number: Callable[[nodes.Node], int] | None = None,
    ) -> None:
        """
        Share a namespace with the rest of the function that the conditions become part of.

        Facts in `once` are named once only: they are read where they stand, if that is reached.
        """
        self._namespace = namespace
        self._once = once
        self._number = number
        self._keys: dict[str, str] = {}

    def take_keys(self) -> list[str]:
        """Give the lines that look-ups of the conditions since the last call rely on."""
        lines = [f"{name} = {value}" for name, value in self._keys.items()]
        self._keys.clear()
        return lines

    def source(self, node: nodes.Node) -> str:
        """Give an expression, in parentheses where it needs them."""
        if self._number is None:
            return self._plain(node)
        return f"keep(ctx, {self._number(node)}, {self._plain(node)})"

    def _plain(self, node: nodes.Node) -> str:
        match node:
            case nodes.Literal(value=value):
                return self._namespace.add("k", value)
            case nodes.FactNode(name=name):
                if name == "score":
                    return name
                return _reading(name) if name in self._once else f"f_{name}"
            case nodes.Both(word=word, parts=parts):
                return "(" + f" {word} ".join(map(self.source, parts)) + ")"
            case nodes.Not(part=part):
                return f"(not {self.source(part)})"
            case nodes.Compare():
                return self._compare(node)
            case nodes.ClockCompare(left=left, word=word, minutes=minutes):
                return f"(minutes({self.source(left)}) {word} {minutes})"
            case nodes.Member():
                return self._member(node)
            case nodes.Contains(item=item, where=where, negated=negated):
                word = "not in" if negated else "in"
                return f"({self.source(item)} {word} {self.source(where)})"
            case nodes.Several():
                return self._several(node)
            case nodes.Header(name=name):
                return f"header(a.get('headers'), {self._namespace.add('k', name)})"
            case nodes.HeaderCount(name=name):
                return f"header_count(a.get('headers'), {self._namespace.add('k', name)})"
            case nodes.CastNode(part=part, type=type_):
                return f"{_READERS[type_]}({self.source(part)})"
            case nodes.CheckCall():
                return self._call(node)
            case nodes.Arithmetic():
                return self._arithmetic(node)
        raise TypeError(node)

    def _compare(self, node: nodes.Compare) -> str:
        left, right = self.source(node.left), self.source(node.right)
        plain = f"({left} {node.word} {right})"
        if node.left.type is not FactType.ADDRESS:
            return plain
        # an address can be unknown (XCLIENT_README): every comparison with it is false
        known = " and ".join(
            f"{self._plain(side)} != ''"
            for side in (node.left, node.right)
            if isinstance(side, nodes.FactNode)
        )
        return f"({plain} and {known})" if known else plain

    def _member(self, node: nodes.Member) -> str:
        container = self._namespace.add("l", node.container)
        direct = self._look_up(node, container) if self._number is None else ""
        if direct:
            return direct
        item = self.source(node.item)
        if not node.negated:
            return f"{container}.{node.method}({item})"
        if node.item.type is FactType.ADDRESS:
            return f"(not {container}.{node.method}({item}) and {self._plain(node.item)} != '')"
        return f"(not {container}.{node.method}({item}))"

    def _look_up(self, node: nodes.Member, container: str) -> str:
        """
        Look a fact up in a list without calling it; empty where that cannot be.

        What a fact is found under is worked out once, however many lists are asked about it.
        """
        held, item = node.container, node.item
        if not isinstance(held, NamedList) or Kind.PATTERNS in held.kinds:
            return ""
        if not isinstance(item, nodes.FactNode) or item.name in self._once:
            return ""
        fact = item.name
        sign = "" if node.negated else "not "
        match node.method:
            case "holds_mail":
                delimiters = self._namespace.add("k", held.source.recipient_delimiter)
                keys = f"m_{fact}_{delimiters}"
                self._keys[keys] = f"mail_keys(f_{fact}, {delimiters})"
                return f"({sign}{container}.snapshot.addresses.isdisjoint({keys}))"
            case "holds_domain":
                self._keys[f"d_{fact}"] = f"domain_keys(f_{fact})"
                return f"({sign}{container}.snapshot.domains.isdisjoint(d_{fact}))"
            case "holds_address":
                self._keys[f"n_{fact}"] = f"number_of(f_{fact})"
                found = f"{container}.snapshot.networks.holds_number(n_{fact})"
                return f"(not {found} and f_{fact} != '')" if node.negated else found
        return ""

    def _several(self, node: nodes.Several) -> str:
        container = self._namespace.add("l", node.container)
        items = self.source(node.items)
        if node.word == "any_in":
            return f"any(map({container}.{node.method}, {items}))"
        return f"all_of({container}.{node.method}, {items})"

    def _call(self, node: nodes.CheckCall) -> str:
        check = self._namespace.add("c", node.check)
        given = [] if node.site is None else [self._namespace.add("k", node.site)]
        given += map(self._argument, node.arguments)
        if node.check.configured is not None:
            given.append(self._namespace.add("k", node.check.configured))
        arguments = "".join(f", {each}" for each in given)
        if node.check.remote:
            return f"(await ctx.ask_remote({check}, a{arguments}))"
        return f"ctx.ask({check}, a{arguments})"

    def _argument(self, node: nodes.Node) -> str:
        if not isinstance(node, nodes.Defined):
            return self.source(node)
        parts = [self._namespace.add("k", node.value), *map(self.source, node.key)]
        return f"({', '.join(parts)},)"

    def _arithmetic(self, node: nodes.Arithmetic) -> str:
        right = self.source(node.right)
        if node.left is None:
            return f"({node.word}{right})"
        left = self.source(node.left)
        if node.word in _DIVISIONS:
            return f"{_DIVISIONS[node.word]}({left}, {right})"
        return f"({left} {node.word} {right})"

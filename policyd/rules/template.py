"""Texts as templates: `No such mailbox here: {recipient}`, over facts and checks' values."""

import string
from collections.abc import Callable, Mapping
from datetime import UTC, datetime
from typing import Final

import msgspec

from policyd.facts import read
from policyd.facts.table import FACTS, Attributes, FactType


class TemplateError(ValueError):
    """A text that cannot be read as a template; says what is wrong."""


class Template(msgspec.Struct, frozen=True, gc=False):
    """A text in pieces: literal text and names, in turn; `names` are those it shows."""

    text: str
    pieces: tuple[tuple[str, str], ...]

    @property
    def names(self) -> frozenset[str]:
        """The facts and values that it shows."""
        return frozenset(name for _, name in self.pieces if name)

    @property
    def plain(self) -> str:
        """The text where nothing is filled in: the whole of it when it shows nothing."""
        return "".join(literal for literal, _ in self.pieces)

    def render(self, attributes: Attributes, values: Mapping[str, str]) -> str:
        """Fill it in. What comes out is as hostile as what a sender put in."""
        return "".join(
            literal + (_shown(name, attributes, values) if name else "")
            for literal, name in self.pieces
        )


def parse(text: str) -> Template:
    """Read a text: `{name}` is filled in, `{{` and `}}` are braces; TemplateError otherwise."""
    pieces = []
    try:
        for literal, name, specification, conversion in string.Formatter().parse(text):
            if specification or conversion or (name is not None and not name.isidentifier()):
                raise TemplateError(f"{{{name}}} is no name of a fact or of a check's value")
            pieces.append((literal, name or ""))
    except ValueError as error:
        if isinstance(error, TemplateError):
            raise
        raise TemplateError(f"{error}; write {{{{ and }}}} for braces") from error
    return Template(text, tuple(pieces))


def _of(part: Callable[[str], str], name: str) -> Callable[[Attributes], str]:
    """Derive from an address as it was given: texts show what the sender wrote."""
    return lambda attributes: part(read.text(attributes.get(name)))


_DERIVED: Final[Mapping[str, Callable[[Attributes], str]]] = {
    "sender_local": _of(read.local_part, "sender"),
    "sender_domain": _of(read.domain_part, "sender"),
    "recipient_local": _of(read.local_part, "recipient"),
    "recipient_domain": _of(read.domain_part, "recipient"),
    "helo_is_address": lambda a: str(read.is_address_literal(read.text(a.get("helo_name")))),
}


def _shown(name: str, attributes: Attributes, values: Mapping[str, str]) -> str:
    if name in values:
        return values[name]
    derived = _DERIVED.get(name)
    if derived is not None:
        return derived(attributes)
    value = attributes.get(name)
    fact = FACTS.get(name)
    if fact is not None and fact.type in (FactType.MAILS, FactType.TEXTS):
        return ", ".join(read.texts(value))
    return "" if value is None else str(value)


def moment(now: float) -> str:
    """Give a time, in seconds since the epoch, as texts show it (RFC 3339, UTC)."""
    return datetime.fromtimestamp(now, UTC).strftime("%Y-%m-%dT%H:%M:%SZ")

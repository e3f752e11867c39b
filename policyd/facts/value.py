"""A fact's value by its name, for those that are given facts rather than compiled over them."""

from collections.abc import Callable, Mapping
from typing import Final

from policyd.facts import read
from policyd.facts.table import FACTS, Attributes, FactType

ASKING_ONLY: Final = frozenset({"now", "score"})
"""What a question knows and attributes do not."""

_READERS: Final[Mapping[FactType, Callable[[object], object]]] = {
    FactType.TEXT: read.text,
    FactType.NUMBER: read.number,
    FactType.SIZE: read.number,
    FactType.DOMAIN: read.domain,
    FactType.MAIL: read.mail,
    FactType.ADDRESS: read.ip,
    FactType.TRUTH: lambda value: value is True,
    FactType.MAILS: read.mails,
    FactType.TEXTS: read.texts,
}
_DERIVED: Final[Mapping[str, Callable[[Attributes], object]]] = {
    "sender_local": lambda given: read.local_part(read.mail(given.get("sender"))),
    "sender_domain": lambda given: read.domain_part(read.mail(given.get("sender"))),
    "recipient_local": lambda given: read.local_part(read.mail(given.get("recipient"))),
    "recipient_domain": lambda given: read.domain_part(read.mail(given.get("recipient"))),
    "helo_is_address": lambda given: read.is_address_literal(read.text(given.get("helo_name"))),
}


def value_of(attributes: Attributes, name: str) -> object:
    """
    Give a fact as conditions see it, empty if it is absent; the fact `message` as it stands.

    KeyError for what is no fact, or for one of ASKING_ONLY.
    """
    if name in ASKING_ONLY:
        raise KeyError(name)
    derived = _DERIVED.get(name)
    if derived is not None:
        return derived(attributes)
    reader = _READERS.get(FACTS[name].type)
    value = attributes.get(name)
    return value if reader is None else reader(value)

"""
Membership in a list that is looked up remotely: a call of the check that does it.

The list, the kind of value and the word stand in the call as a constant.
"""

from collections.abc import Mapping
from typing import Final

from policyd.checks.interface import Check
from policyd.checks.listed import NAME
from policyd.facts.table import FactType
from policyd.lists.remote.keys import TAKEN, Asked
from policyd.lists.remote.membership import Membership, Word
from policyd.lists.remote.settings import Holds, RemoteList
from policyd.rules import nodes
from policyd.rules.grammar import FaultError

_ASKED: Final = {
    FactType.MAIL: Asked.MAIL,
    FactType.DOMAIN: Asked.DOMAIN,
    FactType.TEXT: Asked.TEXT,
    FactType.MAILS: Asked.MAIL,
    FactType.TEXTS: Asked.TEXT,
}


def look_up(
    item: nodes.Node, wanted: RemoteList, word: Word, source: str, checks: Mapping[str, Check]
) -> nodes.CheckCall:
    """Make the call; FaultError if the list cannot have such a value."""
    asked = _ASKED.get(item.type)
    if asked is None or wanted.holds not in (None, *TAKEN[asked]):
        raise FaultError(
            f"the list {wanted.name} holds {wanted.holds}, and {item.source} is of type "
            f"{item.type}",
            _mend(item, wanted, asked),
        )
    constant = nodes.Literal(wanted.name, FactType.TEXT, Membership(wanted, asked, word))
    check = checks[NAME]
    return nodes.CheckCall(
        source, check.result, check, (constant, item), dependencies=(wanted.dependency,)
    )


def _mend(item: nodes.Node, wanted: RemoteList, asked: Asked | None) -> str:
    if wanted.holds is Holds.DOMAINS and item.source in ("sender", "recipient"):
        return f"write {item.source}_domain"
    if asked is None:
        return "only mail addresses, domains and texts are looked up remotely"
    return f'say holds = "{min(TAKEN[asked])}" in [lists.{wanted.name}]'

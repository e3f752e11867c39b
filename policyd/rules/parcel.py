"""
A compiled policy on its way from the process that compiled it to those that decide by it.

Values and policyd's own functions travel as pickle(3) has them, a question's function as its code
and its namespace. Lists and checks go by name and are the receiver's own; a list written out in a
condition goes whole. Rules stay behind: their trees serve explanations only, and those are
compiled where they are asked for.
"""

import io
import marshal
import pickle
from collections.abc import Mapping
from dataclasses import replace
from functools import lru_cache
from types import FunctionType
from typing import Any, Final

from policyd.checks.interface import Check
from policyd.lists.load import Reading, Snapshot
from policyd.lists.named import NamedList
from policyd.lists.source import Kind, ListSource
from policyd.rules.compile import SOURCE
from policyd.rules.policy import Policy, Question, Traced, UntraceableError

_LIST: Final = "list"
_CHECK: Final = "check"


def pack(policy: Policy) -> bytes:
    """Give a policy as octets, for unpack() in a process of the same program and Python."""
    octets = io.BytesIO()
    _Packer(octets, protocol=pickle.HIGHEST_PROTOCOL).dump(_without_rules(policy))
    return octets.getvalue()


def unpack(octets: bytes, lists: Mapping[str, NamedList], checks: Mapping[str, Check]) -> Policy:
    """
    Make the policy of pack()'s octets, asking the given lists and checks by their names.

    LookupError tells of one that is not there. The policy has no rules and cannot be traced.
    """
    policy = _Unpacker(octets, lists, checks).load()
    assert isinstance(policy, Policy)
    return policy


def _without_rules(policy: Policy) -> Policy:
    def bare(question: Question) -> Question:
        return replace(question, trace=_untraceable)

    return replace(
        policy,
        rules=(),
        delegation={stage: bare(question) for stage, question in policy.delegation.items()},
        at_rcpt=None if policy.at_rcpt is None else bare(policy.at_rcpt),
        milter={stage: bare(question) for stage, question in policy.milter.items()},
        local={stage: bare(question) for stage, question in policy.local.items()},
    )


def _untraceable() -> Traced:
    raise UntraceableError(
        "a policy that another process compiled has no conditions to show; compile it here"
    )


class _Packer(pickle.Pickler):
    def persistent_id(self, value: object) -> tuple[str, str] | None:
        """Name what the receiver has of its own."""
        if isinstance(value, NamedList) and value.name:
            return _LIST, value.name
        if isinstance(value, Check):
            return _CHECK, value.name
        return None

    def reducer_override(self, value: object) -> Any:
        """Say how what pickle(3) cannot take, or takes at length, is made again."""
        if isinstance(value, FunctionType) and value.__code__.co_filename == SOURCE:
            return _function, (marshal.dumps(value.__code__), value.__globals__)
        if isinstance(value, NamedList):
            source = value.source
            return _written_out, (source.kinds, source.recipient_delimiter, value.snapshot)
        return NotImplemented


class _Unpacker(pickle.Unpickler):
    def __init__(
        self, octets: bytes, lists: Mapping[str, NamedList], checks: Mapping[str, Check]
    ) -> None:
        super().__init__(io.BytesIO(octets))
        self._own: Mapping[str, Mapping[str, object]] = {_LIST: lists, _CHECK: checks}

    def persistent_load(self, named: tuple[str, str]) -> object:
        """Give the receiver's own list or check of a name."""
        kind, name = named
        found = self._own[kind].get(name)
        if found is None:
            raise LookupError(f"the policy asks the {kind} {name}, which is not there")
        return found


def _function(code: bytes, names: dict[str, object]) -> FunctionType:
    return FunctionType(marshal.loads(code), names)  # noqa: S302 -- from a process of our own


def _written_out(kinds: frozenset[Kind], delimiters: str, snapshot: Snapshot) -> NamedList:
    return NamedList(_nameless(kinds, delimiters), Reading(snapshot, (), {}))


@lru_cache(maxsize=16)
def _nameless(kinds: frozenset[Kind], delimiters: str) -> ListSource:
    """Give what hundreds of lists that conditions write out have in common."""
    return ListSource("", kinds, "", 0, recipient_delimiter=delimiters)

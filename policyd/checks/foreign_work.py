"""What a helper process does: ask a check of another package (see foreign)."""

from collections.abc import Sequence
from functools import lru_cache
from importlib.metadata import EntryPoint
from typing import cast

import msgspec

from policyd.checks.foreign_answer import FileMessage, Plain, Question, Reply, judged
from policyd.checks.installed import ENTRY_POINTS, check_of
from policyd.checks.interface import Answer, Check, CheckFailedError
from policyd.processes.work import Ask


def answer(payload: bytes, descriptors: Sequence[int], _ask: Ask) -> bytes:
    """Ask the check that a Question names: a Reply. What the check raises passes through."""
    question = msgspec.msgpack.decode(payload, type=Question)
    check = _check(question.name, question.entry)
    facts = {name: _plain(value) for name, value in question.facts.items()}
    if question.size is not None:
        facts["message"] = FileMessage(descriptors[0], question.size)
    try:
        found = cast("Answer", check.ask(facts, *map(_plain, question.arguments)))
        reply = Reply.of(judged(check, found))
    except CheckFailedError as error:
        reply = Reply(failed=str(error).removeprefix(f"{check.name}(): ")[:500] or "it failed")
    return msgspec.msgpack.encode(reply)


@lru_cache(maxsize=256)
def _check(name: str, entry: str) -> Check:
    return check_of(EntryPoint(name, entry, ENTRY_POINTS))


def _plain(value: object) -> object:
    """Give a value as conditions have it: what is several is a tuple."""
    return msgspec.convert(value, Plain)

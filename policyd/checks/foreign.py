"""
Checks of other packages as they are asked: whatever they do is their failure, never a fault.

An asynchronous one runs on the loop. One that is not is asked in a helper process (see
foreign_work), which is killed when it takes longer than the check's limit. Either gets the facts
that it needs, as conditions see them, and its arguments; its answer is held against what it
declares.
"""

import asyncio
from collections.abc import Awaitable
from dataclasses import replace
from typing import Final, cast

import msgspec

from policyd.checks.foreign_answer import WORK, FileMessage, Question, Reply, judged
from policyd.checks.installed import Installed
from policyd.checks.interface import Answer, Ask, Check, CheckFailedError
from policyd.facts.table import Attributes
from policyd.facts.value import value_of
from policyd.mail.arrived import Arrived
from policyd.processes.work import Runner, WorkError

_LONGEST_REPLY: Final = 2**20
"""Octets of an answer that comes from a process."""
_MESSAGE: Final = "message"


def running(found: Installed, runner: Runner | None) -> Check:
    """Make the check that conditions ask; without what runs it, one that fails."""
    if runner is None:
        return replace(found.check, ask=_loaded_only, remote=True)
    ask = _on_loop(found.check) if found.check.remote else _in_process(found, runner)
    return replace(found.check, ask=ask, remote=True)


async def _loaded_only(_attributes: Attributes, *_arguments: object) -> Answer:
    raise CheckFailedError("nothing is asked where a configuration is only loaded")


def _on_loop(check: Check) -> Ask:
    async def ask(attributes: Attributes, *arguments: object) -> Answer:
        facts: dict[str, object] = {**_facts(check, attributes)}
        arrived = _arrived(check, attributes)
        if arrived is not None:
            facts[_MESSAGE] = FileMessage(arrived.descriptor(), arrived.size)
        try:
            async with asyncio.timeout(check.limit) as within:
                answer = await cast("Awaitable[Answer]", check.ask(facts, *arguments))
        except CheckFailedError as error:
            raise CheckFailedError(f"{check.name}(): {error}") from error
        except Exception as error:
            if isinstance(error, TimeoutError) and within.expired():
                why = f"{check.name}() took longer than {check.limit:g} s"
            else:
                why = f"{check.name}(): {type(error).__name__}: {error}"
            raise CheckFailedError(why) from error
        return judged(check, answer)

    return ask


def _in_process(found: Installed, runner: Runner) -> Ask:
    check = found.check

    async def ask(attributes: Attributes, *arguments: object) -> Answer:
        arrived = _arrived(check, attributes)
        question = Question(
            found.point.name,
            found.point.value,
            _facts(check, attributes),
            arguments,
            None if arrived is None else arrived.size,
        )
        try:
            octets = await runner.run(
                WORK,
                msgspec.msgpack.encode(question),
                limit=check.limit,
                descriptors=[] if arrived is None else [arrived.descriptor()],
            )
        except WorkError as error:
            raise CheckFailedError(_said(check, str(error))) from error
        return judged(check, _reply(check, octets).answer(check))

    return ask


def _said(check: Check, why: str) -> str:
    called = f"{check.name}()"
    why = why.replace(WORK, called)
    return why if why.startswith(called) else f"{called}: {why}"


def _reply(check: Check, octets: bytes) -> Reply:
    """Read what a process has said; it may be anything."""
    if len(octets) > _LONGEST_REPLY:
        raise CheckFailedError(f"{check.name}(): its answer has {len(octets)} octets")
    try:
        reply = msgspec.msgpack.decode(octets, type=Reply)
    except msgspec.MsgspecError as error:
        raise CheckFailedError(f"{check.name}(): its answer cannot be read: {error}") from error
    if reply.failed:
        raise CheckFailedError(f"{check.name}(): {reply.failed}")
    return reply


def _facts(check: Check, attributes: Attributes) -> dict[str, object]:
    return {name: value_of(attributes, name) for name in check.needs if name != _MESSAGE}


def _arrived(check: Check, attributes: Attributes) -> Arrived | None:
    """Give the message if the check needs it."""
    if _MESSAGE not in check.needs:
        return None
    arrived = attributes.get(_MESSAGE)
    if arrived is None:
        raise CheckFailedError(f"{check.name}(): there is no message here")
    return cast("Arrived", arrived)


def ahead(found: Installed) -> tuple[str, ...]:
    """Give the modules that a process needs to ask a check; none if it is asked on the loop."""
    return () if found.check.remote else (WORK.partition(":")[0], found.point.module)

"""What a policy answers to requests, in full and ready to be compared, here or elsewhere."""

import asyncio
from collections.abc import Awaitable, Mapping, Sequence
from typing import cast

import msgspec

from policyd.rules.parcel import unpack
from policyd.rules.policy import Match, Policy, Question
from tests.rules.world import CHECKS, LISTS, Recorder

Request = Mapping[str, object]


def answers(policy: Policy, requests: Sequence[Request]) -> list[object]:
    """Ask every question of a policy about every request."""
    return [
        (question.front_end, question.stages, *_answer(question, request))
        for question in policy.questions()
        for request in requests
    ]


def answers_of_parcel(octets: bytes, requests: Sequence[Request]) -> list[object]:
    """Ask a packed policy; for another process to call."""
    return answers(unpack(octets, LISTS, CHECKS), requests)


def everything(match: Match | None) -> object:
    """Give all that a match says."""
    return None if match is None else msgspec.structs.astuple(match)


def _answer(question: Question, request: Request) -> tuple[object, ...]:
    context = Recorder()
    asked = question.ask(request, context)
    if question.remote:
        asked = asyncio.run(_wait(cast("Awaitable[Match | None]", asked)))
    hits = [everything(match) for match in context.hits]
    found = everything(cast("Match | None", asked))
    return found, hits, context.score, context.failures, context.asked


async def _wait(asked: Awaitable[Match | None]) -> Match | None:
    return await asked

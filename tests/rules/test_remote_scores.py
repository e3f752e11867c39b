"""Scores that remote checks decide carry over to later stages, as those of local ones do."""

import asyncio
from collections.abc import Awaitable, Mapping
from typing import cast

import pytest

from policyd.checks.interface import Answer, Check, CheckFailedError
from policyd.facts.table import Attributes, FactType
from policyd.rules.policy import Match, Question
from policyd.smtp.decision import Verdict
from policyd.smtp.stage import FrontEnd, Stage
from tests.rules.world import PLAIN_OWNERS, Recorder, compiled, rule

CONNECT, RCPT, DATA, END = Stage.CONNECT, Stage.RCPT, Stage.DATA, Stage.END_OF_DATA


async def _far(_attributes: Attributes, value: str) -> Answer:
    await asyncio.sleep(0)
    if value == "down@example.org":
        raise CheckFailedError("it does not answer", "far")
    found = value.startswith("bad")
    return Answer(found, "true" if found else "false")


FAR: Mapping[str, Check] = {
    "far": Check("far", _far, (FactType.MAIL,), remote=True, dependency="far")
}
POLICY = compiled(
    rule("sender", Stage.MAIL, "score 2", "far(sender)"),
    rule("recipient", RCPT, "score 3", "far(recipient)"),
    rule("at-rcpt", RCPT, "550 5.7.1 no", "score >= 5"),
    rule("at-data", DATA, "550 5.7.1 no", "score >= 2"),
    rule("at-end", END, "550 5.7.1 no", "score >= 5"),
    checks=FAR,
)


def decided(question: Question, **attributes: object) -> tuple[Match | None, float]:
    context = Recorder()
    assert question.remote
    asking = cast("Awaitable[Match | None]", question.ask(attributes, context))

    async def wait() -> Match | None:
        return await asking

    return asyncio.run(wait()), context.score


@pytest.mark.parametrize(
    ("sender", "recipient", "score"),
    [
        ("ok@example.org", "ok@example.org", 0),
        ("bad@example.org", "ok@example.org", 2),
        ("ok@example.org", "bad@example.org", 3),
        ("bad@example.org", "bad@example.org", 5),
        ("down@example.org", "bad@example.org", 3),
    ],
)
def test_the_stages_of_one_request_add_up(sender: str, recipient: str, score: float) -> None:
    assert POLICY.at_rcpt is not None
    match, found = decided(POLICY.at_rcpt, sender=sender, recipient=recipient)
    assert found == score
    assert (match is not None and match.verdict is Verdict.REJECT) is (score >= 5)


def test_a_later_stage_asks_the_remote_check_again() -> None:
    match, score = decided(POLICY.delegation[DATA], sender="bad@example.org")
    assert score == 2
    assert match is not None
    assert match.rule == "at-data"
    assert decided(POLICY.delegation[DATA], sender="down@example.org") == (None, 0)


@pytest.mark.parametrize(
    ("recipients", "score"),
    [
        (("ok@example.org", "bad@example.org"), 5),  # the worst recipient counts
        (("bad1@example.org", "bad2@example.org"), 5),  # and once a message
        (("ok@example.org",), 2),
    ],
)
def test_the_other_front_end_adds_up_the_worst_recipient(
    recipients: tuple[str, ...], score: float
) -> None:
    assert PLAIN_OWNERS[END] is FrontEnd.MILTER
    match, found = decided(POLICY.milter[END], sender="bad@example.org", recipients=recipients)
    assert found == score
    assert (match is not None) is (score >= 5)

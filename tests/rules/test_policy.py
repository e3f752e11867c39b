"""What a policy decides: order, scopes, scores, shadow, several stages in one request, carrying."""

import asyncio
from collections.abc import Mapping

import pytest
from hypothesis import given

from policyd.rules.policy import Match, Question
from policyd.rules.source import RuleSource
from policyd.smtp.decision import Verdict
from policyd.smtp.stage import FrontEnd, Stage
from tests.rules.drawn import REQUESTS, SOURCES
from tests.rules.world import (
    ALL_MILTER,
    ALL_POLICY,
    PLAIN_OWNERS,
    Recorder,
    compiled,
    rule,
    shadow,
)

CONNECT, HELO, MAIL, RCPT = Stage.CONNECT, Stage.HELO, Stage.MAIL, Stage.RCPT
DATA, END = Stage.DATA, Stage.END_OF_DATA
IN = {"client_address": "192.0.2.1", "sender": "s@example.net", "recipient": "a@example.org"}


def ask(
    question: Question | None, attributes: Mapping[str, object] | None = None, **more: object
) -> tuple[Match | None, Recorder]:
    assert question is not None
    context = Recorder()
    found = question.ask({**IN, **(attributes or {}), **more}, context)
    if question.remote:
        found = asyncio.run(found)  # type: ignore[arg-type] # a coroutine then
    return found, context  # type: ignore[return-value] # a match now


def name_of(found: Match | None) -> str:
    return found.rule if found is not None else ""


def test_the_first_rule_that_matches_decides() -> None:
    policy = compiled(
        rule("a", RCPT, "450 4.7.1 a", "no()"),
        rule("b", RCPT, "450 4.7.1 b", "yes()"),
        rule("c", RCPT, "550 5.7.1 c"),
    )
    found, _ = ask(policy.delegation[RCPT])
    assert name_of(found) == "b"


def test_a_request_at_rcpt_decides_the_earlier_stages_in_their_order() -> None:
    policy = compiled(
        rule("r", RCPT, "450 4.7.1 r"),
        rule("m", MAIL, "450 4.7.1 m", "sender == 'm@m'"),
        rule("h", HELO, "450 4.7.1 h", "helo_name == 'h'"),
        rule("c", CONNECT, "450 4.7.1 c", "client_address == '192.0.2.9'"),
    )
    everything = {"sender": "m@m", "helo_name": "h", "client_address": "192.0.2.9"}
    assert policy.at_rcpt is not None
    assert policy.at_rcpt.stages == (CONNECT, HELO, MAIL, RCPT)
    assert name_of(ask(policy.at_rcpt, everything)[0]) == "c"
    assert name_of(ask(policy.at_rcpt, everything, client_address="")[0]) == "h"
    assert name_of(ask(policy.at_rcpt, sender="m@m")[0]) == "m"
    assert name_of(ask(policy.at_rcpt)[0]) == "r"


def test_pass_ends_its_stage_and_no_other() -> None:
    policy = compiled(rule("p", MAIL, "pass"), rule("r", RCPT, "450 4.7.1 r"))
    assert name_of(ask(policy.at_rcpt)[0]) == "r"
    policy = compiled(rule("p", MAIL, "pass", "yes()"), rule("m", MAIL, "450 4.7.1 m"))
    found, context = ask(policy.at_rcpt)
    assert name_of(found) == "p"
    assert [hit.rule for hit in context.hits] == ["p"]


@pytest.mark.parametrize("stage", [CONNECT, HELO, MAIL])
def test_accept_silences_the_rest_of_the_request(stage: Stage) -> None:
    policy = compiled(rule("ok", stage, "accept"), rule("r", RCPT, "450 4.7.1 r"))
    found, _ = ask(policy.at_rcpt)
    assert found is not None
    assert found.verdict is Verdict.ACCEPT


def test_a_refusal_of_a_later_stage_beats_an_earlier_verb() -> None:
    policy = compiled(
        rule("w", MAIL, "warn looks odd"),
        rule("h", HELO, "hold look at it"),
        rule("r", RCPT, "550 5.7.1 r", "recipient == 'x@y'"),
    )
    assert name_of(ask(policy.at_rcpt, recipient="x@y")[0]) == "r"
    found, context = ask(policy.at_rcpt)
    assert name_of(found) == "h", "hold outweighs a warning"
    assert {hit.rule for hit in context.hits} == {"w", "h"}


def test_accept_does_not_undo_an_earlier_verb() -> None:
    policy = compiled(rule("h", MAIL, "hold look at it"), rule("a", RCPT, "accept"))
    assert name_of(ask(policy.at_rcpt)[0]) == "h"


def test_a_shadow_rule_never_ends_evaluation_nor_scores() -> None:
    policy = compiled(
        shadow("s", RCPT, "550 5.7.1 s"),
        shadow("points", RCPT, "score 100"),
        rule("high", RCPT, "550 5.7.1 high", "score >= 100"),
        rule("r", RCPT, "450 4.7.1 r"),
    )
    found, context = ask(policy.delegation[RCPT])
    assert name_of(found) == "r"
    assert [hit.rule for hit in context.hits] == ["s", "points"]


def test_scores_add_up_over_the_stages_of_a_request() -> None:
    policy = compiled(
        rule("c", CONNECT, "score 1.5"),
        rule("h", HELO, "score 2"),
        rule("m", MAIL, "score -1"),
        rule("r", RCPT, "550 5.7.1 r", "score >= 2.5"),
    )
    found, context = ask(policy.at_rcpt)
    assert name_of(found) == "r"
    assert context.score == 2.5


def test_bare_postmaster_is_never_refused() -> None:
    policy = compiled(rule("c", CONNECT, "550 5.7.1 c"), rule("r", RCPT, "550 5.7.1 r"))
    for recipient in ("postmaster", "PostMaster"):
        assert ask(policy.at_rcpt, recipient=recipient)[0] is None
        assert ask(policy.delegation[RCPT], recipient=recipient)[0] is None
    assert name_of(ask(policy.delegation[RCPT], recipient="postmaster@example.org")[0]) == "r"


class TestFailedChecks:
    def test_a_rule_whose_check_failed_is_skipped(self) -> None:
        policy = compiled(rule("f", RCPT, "550 5.7.1 f", "fails()"), rule("r", RCPT, "450 4.7.1 r"))
        found, context = ask(policy.delegation[RCPT])
        assert name_of(found) == "r"
        assert context.failures == ["f: the store is down"]

    def test_on_error_of_the_rule_is_answered(self) -> None:
        policy = compiled(
            rule("f", RCPT, "550 5.7.1 f", "fails()", on_error="451 4.3.0 Away, please retry")
        )
        found, _ = ask(policy.delegation[RCPT])
        assert found is not None
        assert (found.code, found.verdict) == (451, Verdict.DEFER)

    def test_the_check_s_own_default_is_answered_unless_the_rule_says_skip(self) -> None:
        policy = compiled(rule("f", RCPT, "550 5.7.1 f", "fails_loudly()"))
        found, _ = ask(policy.delegation[RCPT])
        assert found is not None
        assert found.code == 450
        policy = compiled(rule("f", RCPT, "550 5.7.1 f", "fails_loudly()", on_error="skip"))
        assert ask(policy.delegation[RCPT])[0] is None

    def test_a_check_right_of_what_decides_is_not_asked(self) -> None:
        policy = compiled(rule("f", RCPT, "550 5.7.1 f", "sender == 'x@y' and yes()"))
        _, context = ask(policy.delegation[RCPT])
        assert context.asked == []


class TestCarrying:
    """A later stage evaluates accept and score rules of earlier ones over the facts it has."""

    def test_accept_at_mail_silences_data_and_end_of_data(self) -> None:
        policy = compiled(
            rule("ok", MAIL, "accept", "sender == 's@example.net'"),
            rule("d", DATA, "550 5.7.1 d"),
            rule("e", END, "550 5.7.1 e"),
        )
        for question in (policy.delegation[DATA], policy.milter[END]):
            found, _ = ask(question)
            assert name_of(found) == "ok"
            assert found is not None
            assert found.stage == question.stages[-1]
            assert name_of(ask(question, sender="other@example.net")[0]) in ("d", "e")

    def test_a_pass_before_the_accept_ends_the_stage_again(self) -> None:
        policy = compiled(
            rule("p", MAIL, "pass", "client_address == '192.0.2.1'"),
            rule("ok", MAIL, "accept"),
            rule("d", DATA, "550 5.7.1 d"),
        )
        assert name_of(ask(policy.delegation[DATA])[0]) == "d"
        assert name_of(ask(policy.delegation[DATA], client_address="192.0.2.2")[0]) == "ok"

    def test_accept_at_rcpt_counts_only_if_every_recipient_is_accepted(self) -> None:
        policy = compiled(
            rule("ok", RCPT, "accept", "recipient in mailboxes"), rule("e", END, "550 5.7.1 e")
        )
        question = policy.milter[END]
        both = ("a@example.org", "B@example.org")
        assert name_of(ask(question, recipients=both)[0]) == "ok"
        assert name_of(ask(question, recipients=(*both, "x@y"))[0]) == "e"
        assert name_of(ask(question, recipients=("x@y", *both))[0]) == "e"

    def test_of_rcpt_scores_the_worst_recipient_counts_once(self) -> None:
        policy = compiled(
            rule("m", MAIL, "score 1"),
            rule("x", RCPT, "score 5", "recipient == 'x@y'"),
            rule("any", RCPT, "score 2"),
            rule("e", END, "550 5.7.1 e", "score == 8"),
        )
        found, context = ask(policy.milter[END], recipients=("a@example.org", "x@y", "x@y"))
        assert name_of(found) == "e", context.score
        assert context.hits == [], "they were counted at their own stages"

    def test_with_several_recipients_policy_delegation_knows_none(self) -> None:
        policy = compiled(
            rule("pass", RCPT, "pass", "recipient == 'x@y'"),
            rule("ok", RCPT, "accept", "client_address == '192.0.2.1'"),
            rule("d", DATA, "550 5.7.1 d"),
        )
        assert name_of(ask(policy.delegation[DATA])[0]) == "ok"
        several = ask(policy.delegation[DATA], recipient="", recipient_count="2")[0]
        assert name_of(several) == "d", "one of them may have been passed before the accept"

    def test_what_a_milter_does_not_know_does_not_carry(self) -> None:
        policy = compiled(
            rule("ok", CONNECT, "accept", "stress == 'yes'"), rule("e", END, "550 5.7.1 e")
        )
        assert name_of(ask(policy.milter[END], stress="yes")[0]) == "e"

    def test_vrfy_and_etrn_carry_connect_and_helo(self) -> None:
        policy = compiled(
            rule("ok", HELO, "accept", "helo_name == 'friend'"),
            rule("v", Stage.VRFY, "550 5.7.1 v"),
            owners=ALL_POLICY,
        )
        assert name_of(ask(policy.delegation[Stage.VRFY], helo_name="friend")[0]) == "ok"
        assert name_of(ask(policy.delegation[Stage.VRFY])[0]) == "v"

    def test_remote_checks_make_a_later_question_wait_too(self) -> None:
        policy = compiled(rule("ok", MAIL, "accept", "far()"), rule("d", DATA, "550 5.7.1 d"))
        assert policy.delegation[DATA].remote
        assert name_of(ask(policy.delegation[DATA])[0]) == "ok"


class TestLocalSubmissions:
    def test_only_rules_that_test_for_them_apply(self) -> None:
        policy = compiled(
            rule("local", MAIL, "550 5.7.1 l", "local_submission and sender == 'root@x'"),
            rule("m", MAIL, "550 5.7.1 m"),
            owners=ALL_MILTER,
        )
        local = {"local_submission": True}
        assert name_of(ask(policy.local[MAIL], local, sender="root@x")[0]) == "local"
        assert ask(policy.local[MAIL], local, sender="jo@x")[0] is None
        assert name_of(ask(policy.milter[MAIL], sender="root@x")[0]) == "m"
        assert END not in policy.local


def test_only_what_a_front_end_decides_is_asked_of_it() -> None:
    owners = PLAIN_OWNERS | {MAIL: FrontEnd.MILTER}
    policy = compiled(
        rule("m", MAIL, "550 5.7.1 m"), rule("c", CONNECT, "450 4.7.1 c"), owners=owners
    )
    assert policy.at_rcpt is not None
    assert policy.at_rcpt.stages == (CONNECT, HELO, RCPT)
    assert policy.asked(MAIL, alone=False) is None
    assert set(policy.milter) == {MAIL}


@given(SOURCES, REQUESTS)
def test_the_traced_question_decides_as_the_plain_one(
    sources: list[RuleSource], request_: dict[str, object]
) -> None:
    """And what it says of every node agrees with the outcome."""
    policy = compiled(*sources)
    for question in policy.questions():
        plain, traced = Recorder(), Recorder()
        trace = question.trace()
        plainly = question.ask(request_, plain)
        assert trace.ask(request_, traced) == plainly
        assert [h.rule for h in traced.hits] == [h.rule for h in plain.hits]
        assert traced.score == plain.score
        assert traced.asked == plain.asked
        for one in trace.rules:
            if isinstance(plainly, Match) and one.rule.name == plainly.rule and not one.carried:
                assert traced.trace[one.reached] is True
                assert traced.trace[one.nodes[0][0]]

"""Decisions: the labels that they are counted by."""

import pytest

from policyd.smtp.decision import Decision, Mode, Source, Verdict
from policyd.smtp.reply import Reply
from policyd.smtp.stage import Stage


def test_a_decision_with_a_reply_is_counted_by_both_its_codes() -> None:
    decision = Decision(
        id="1",
        verdict=Verdict.DEFER,
        stage=Stage.RCPT,
        source=Source.RULE,
        reply=Reply(450, 2, 1, "text"),
    )
    assert (decision.code, decision.enhanced) == ("450", "4.2.1")


def test_a_decision_without_a_reply_is_counted_by_no_code() -> None:
    decision = Decision(id="1", verdict=Verdict.PASS, stage=None, source=Source.DEFAULT)
    assert (decision.code, decision.enhanced) == ("", "")


def test_a_decision_cannot_be_changed() -> None:
    decision = Decision(id="1", verdict=Verdict.PASS, stage=None, source=Source.DEFAULT)
    with pytest.raises(AttributeError):
        decision.verdict = Verdict.REJECT  # type: ignore[misc]  # that is the point


def test_labels_are_the_words_of_the_metrics() -> None:
    assert {str(each) for each in Source} == {"rule", "default", "error"}
    assert {str(each) for each in Mode} == {"enforce", "shadow"}
    assert {"accept", "pass", "defer", "reject", "discard", "hold"} <= {*map(str, Verdict)}

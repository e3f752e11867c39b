"""The benchmark of remote checks runs, quickly if asked to, and the checks let its load pass."""

import pytest

from bench.authentication import checks, report
from bench.authentication.plan import Plan
from bench.authentication.results import Measured

pytestmark = pytest.mark.integration

BRIEF = Plan(rounds=1, seconds=0.3, warm_up=0.3)


def rates(found: Measured, passed: str) -> dict[str, float]:
    """Give the rates by contender; nearly all answers are that one."""
    assert found.left_out == []
    for row in found.rows:
        assert row.answers[passed] > 0.9 * sum(row.answers.values()), row
    return {row.contender: row.rate for row in found.rows}


def test_policies_with_every_check_pass_the_load_and_cost_more_than_those_without() -> None:
    found = checks.policy(BRIEF, lambda _: None)
    rate = rates(found, "DUNNO")
    assert [row.failed for row in found.rows] == [0, 0, 0]
    assert rate.keys() == {checks.WITHOUT, checks.KEPT, checks.ANEW}
    assert rate[checks.WITHOUT] > rate[checks.KEPT] > 0
    results = report.nothing_yet()
    assert f"| {checks.KEPT} |" in report.document(type(results)("", {}, policy=found))


def test_signed_messages_pass_every_check() -> None:
    rate = rates(checks.messages(BRIEF, lambda _: None), "EOM:CONTINUE")
    assert rate.keys() == {checks.WITHOUT, checks.KEPT, checks.ANEW}
    assert min(rate.values()) > 0

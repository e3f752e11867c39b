"""Answers are counted and checked; waits and lags are kept with their moments."""

import pytest

from tools.campaign.policy import PASSED, Kind, expected
from tools.campaign.tally import EXAMPLES, Lags, Tally
from tools.campaign.waits import Waits


def test_answers_are_counted_by_codes() -> None:
    tally = Tally("policy")
    tally.answer(Kind.REFUSED, expected(Kind.REFUSED, 1), 1, 1)
    tally.answer(Kind.REFUSED, expected(Kind.REFUSED, 2), 1, 2)
    tally.answer(Kind.PASSED, PASSED, 2, 2)
    front = tally.summed()
    assert (front.answered, front.wrong) == (3, 0)
    assert front.answers == {"550 5.1.1": 2, "": 1}


def test_an_answer_of_a_policy_that_was_replaced_is_wrong() -> None:
    tally = Tally("policy")
    tally.answer(Kind.REFUSED, expected(Kind.REFUSED, 1), 2, 2)
    front = tally.summed()
    assert front.wrong == 1
    assert front.examples == ("refused: '550 5.1.1 Policy 00001' by generations 2 to 2",)


def test_what_is_lost_is_counted_by_the_codes_that_were_due() -> None:
    tally = Tally("policy")
    tally.never_answered(Kind.REFUSED, 1)
    tally.never_answered(None, 1)
    front = tally.summed()
    assert (front.lost, front.unanswered) == (2, {"550 5.1.1": 1})


def test_the_longest_waits_are_kept_with_the_lag_during_them() -> None:
    tally, lags = Tally("milter"), Lags()
    for number in range(100):
        tally.waited(float(number), number + (number * 37 % 100) / 100)
    lags.fired(due=27.0, now=27.04)  # during the longest, 27 to 27.99
    lags.fired(due=28.0, now=28.5)
    slowest = tally.slowest(lags)
    assert len(slowest) == EXAMPLES
    assert [slow.wait for slow in slowest] == [990.0, 980.0, 970.0, 960.0, 950.0]
    assert (slowest[0].at, slowest[0].lag) == (27.0, 40.0)


def test_many_that_wait_for_the_same_thing_are_one_stall() -> None:
    tally = Tally("policy")
    for number in range(10):
        tally.waited(10.0 + number / 100, 10.2)
    tally.waited(20.0, 20.05)
    assert [slow.wait for slow in tally.slowest(Lags())] == [200.0, 50.0]


def test_percentiles_are_in_milliseconds() -> None:
    waits = Waits.of([number / 1000 for number in range(1, 1001)])
    assert (waits.count, waits.p50, waits.p99, waits.longest) == (1000, 501.0, 991.0, 1000.0)


def test_no_waits_are_zeros() -> None:
    assert Waits.of([]) == Waits()


def test_every_firing_counts_for_the_lag() -> None:
    lags = Lags()
    lags.fired(1.0, 1.001)
    lags.fired(2.0, 2.25)
    assert lags.summed().count == 2
    assert lags.summed().longest == pytest.approx(250)
    assert lags.worst(0.0, 1.5) == 0.0

"""Mails under kills are judged by what the policy answers, counters by what was received."""

from collections import Counter

import pytest

from tools.campaign.kills import compare, order, without_cause
from tools.campaign.mails import MAILS, Again, Mail, MailTally, Outcome
from tools.campaign.policy import Kind
from tools.campaign.results import Counted
from tools.campaign.site import Ended
from tools.campaign.tally import Front, Loaded
from tools.campaign.waits import Waits
from tools.smtp_dialogue import Reply

REFUSED = Mail(Kind.REFUSED, Kind.PASSED)
REFUSED_AT_END = Mail(Kind.PASSED, Kind.REFUSED)
ACCEPTED = Mail(Kind.PASSED, Kind.PASSED)
AGAIN = Reply.parse(("451 4.7.1 Service unavailable - try again later",))


def reply(line: str) -> Reply:
    return Reply.parse((line,))


def test_every_kind_of_mail_has_an_answer_of_its_own() -> None:
    assert len({mail.expected for mail in MAILS}) == len(MAILS)


@pytest.mark.parametrize(
    ("mail", "command", "line", "fits"),
    [
        (REFUSED, "RCPT", "550 5.1.1 <r@d>: Recipient address rejected: Policy 00001", True),
        (REFUSED, "RCPT", "550 5.1.1 <r@d>: Recipient address rejected: unknown", False),
        (REFUSED, "RCPT", "451 4.3.5 <r@d>: Server configuration problem", False),
        (REFUSED, "end", "250 2.0.0 Ok: queued as 1", False),
        (REFUSED_AT_END, "end", "550 5.1.1 Policy 00001", True),
        (REFUSED_AT_END, "RCPT", "550 5.1.1 Policy 00001", False),
        (ACCEPTED, "end", "250 2.0.0 Ok: queued as 1", True),
        (ACCEPTED, "MAIL", "451 4.7.1 Service unavailable - try again later", False),
    ],
)
def test_a_mail_is_answered_as_the_policy_says(
    mail: Mail, command: str, line: str, fits: bool
) -> None:
    assert Outcome(command, reply(line)).fits(mail) is fits


def test_the_milters_default_action_is_told_from_the_policy() -> None:
    assert Outcome("MAIL", AGAIN).again
    assert not Outcome("MAIL", reply("451 4.7.1 Policy 00001")).again
    assert not Outcome("MAIL", reply("451 4.3.0 Service unavailable")).again


def ended(at: float) -> Ended:
    return Ended(at, at, replaced=0.2)


def test_a_mail_tried_again_needs_a_worker_that_ended_in_its_session() -> None:
    agains = [Again(session=10.0, answered=12.0), Again(20.0, 21.0)]
    assert without_cause(agains, [ended(11.0), ended(20.5)]) == 0
    assert without_cause(agains, [ended(11.0)]) == 1
    assert without_cause(agains, [ended(9.0), ended(12.5), ended(22.0)]) == 2


def test_a_worker_may_end_before_the_campaign_looks_at_the_clock_again() -> None:
    killed = Ended(after=11.0, before=11.4, replaced=0.2)
    assert without_cause([Again(session=10.0, answered=11.1)], [killed]) == 0
    assert without_cause([Again(session=11.3, answered=11.4)], [killed]) == 0


def test_freezes_are_spread_among_kills() -> None:
    kinds = order(100, 20)
    assert (len(kinds), sum(kinds)) == (120, 20)
    assert all(sum(kinds[start : start + 6]) == 1 for start in range(0, 120, 6))
    assert order(2, 0) == [False, False]


class TestReceived:
    def test_a_refusal_at_rcpt_was_received(self) -> None:
        tally = MailTally()
        tally.rcpt(REFUSED, reply("550 5.1.1 <r@d>: Policy 00001"), 0.01)
        assert tally.received == Counter({("policy", "550 5.1.1"): 1})
        assert +tally.uncertain == Counter()

    def test_a_slow_rcpt_may_have_been_asked_twice(self) -> None:
        tally = MailTally()
        tally.rcpt(REFUSED, reply("550 5.1.1 <r@d>: Policy 00001"), 1.2)
        assert tally.uncertain == Counter({("policy", "550 5.1.1"): 1})

    def test_where_the_milter_broke_at_rcpt_the_policy_had_passed(self) -> None:
        tally = MailTally()
        tally.rcpt(ACCEPTED, AGAIN, 0.01)
        assert tally.received == Counter({("policy", ""): 1})

    def test_where_the_milter_broke_at_the_end_it_may_have_answered(self) -> None:
        tally = MailTally()
        tally.end(REFUSED_AT_END, AGAIN)
        tally.end(REFUSED_AT_END, reply("550 5.1.1 Policy 00001"))
        assert tally.received == tally.uncertain == Counter({("milter", "550 5.1.1"): 1})


def test_a_mail_that_gets_no_reply_is_answered_otherwise() -> None:
    tally = MailTally()
    tally.failed(TimeoutError("timed out"))
    assert (tally.wrong, tally.examples) == (1, ["TimeoutError: timed out"])


@pytest.mark.parametrize(
    ("received", "uncertain", "counted", "agrees"),
    [(5, 0, 5, True), (5, 0, 4, False), (5, 0, 6, False), (5, 2, 7, True), (5, 2, 8, False)],
)
def test_counters_agree_within_what_was_asked_and_not_answered(
    received: int, uncertain: int, counted: int, agrees: bool
) -> None:
    assert Counted("policy", "", received, uncertain, counted).agrees is agrees


def test_all_clients_are_added_up() -> None:
    tally = MailTally()
    tally.rcpt(REFUSED, reply("550 5.1.1 <r@d>: Policy 00001"), 0.01)
    asked = Front(answers={"550 5.1.1": 4, "": 3}, unanswered={"550 5.1.1": 1})
    loaded = Loaded(asked, Front(answers={"": 2}), Waits(), (), 1.0)
    counted = {("policy", "550 5.1.1"): 6, ("policy", ""): 3, ("milter", "451 4.3.0"): 0}
    assert compare(tally, loaded, counted) == (
        Counted("milter", "", 2, 0, 0),
        Counted("policy", "", 3, 0, 3),
        Counted("policy", "550 5.1.1", 5, 1, 6),
    )

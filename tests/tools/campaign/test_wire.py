"""The load's clients read answers off the wire as the policy writes them."""

import pytest

from tools.campaign.asking import read_action, requests
from tools.campaign.policy import PASSED, Kind
from tools.campaign.telling import events, read_answer
from tools.milter_client import HEADER, Answer


@pytest.mark.parametrize(
    ("wire", "answer"),
    [
        (b"action=DUNNO\n\n", PASSED),
        (b"action=450 4.2.1 Policy 00001\n\n", "450 4.2.1 Policy 00001"),
    ],
)
def test_an_action_is_an_answer(wire: bytes, answer: str) -> None:
    assert read_action(wire) == answer


@pytest.mark.parametrize(
    ("packet", "answer"),
    [
        (Answer("continue"), PASSED),
        (Answer("accept"), PASSED),
        (Answer("reply", b"550 5.1.1 Policy 00001\0"), "550 5.1.1 Policy 00001"),
        (Answer("tempfail"), "tempfail"),
    ],
)
def test_a_milter_answer_is_an_answer(packet: Answer, answer: str) -> None:
    assert read_answer(packet) == answer


def test_a_request_asks_by_its_recipient() -> None:
    request = requests(3)[Kind.DEFERRED]
    assert b"\nrecipient=deferred@example.org\n" in request
    assert request.endswith(b"\n\n")
    assert request.count(b"\n\n") == 1


def test_a_message_asks_by_its_subject() -> None:
    assert (HEADER, b"Subject\0refused\0") in events(Kind.REFUSED)

"""An answer while the store fails is the store's, that of on_error, or wrong."""

import pytest

from tools.campaign.verdicts import Asked, Kind, Verdict, judge, request


@pytest.mark.parametrize(
    ("kind", "action", "verdict"),
    [
        (Kind.GREY, "450 4.2.0 Greylisted", Verdict.NORMAL),
        (Kind.GREY, "DUNNO", Verdict.FALLBACK),
        (Kind.GREY, "451 4.3.0 Limits cannot be looked up", Verdict.OTHERWISE),
        (Kind.LIMIT, "DUNNO", Verdict.NORMAL),
        (Kind.LIMIT, "451 4.3.0 Limits cannot be looked up", Verdict.FALLBACK),
        (Kind.LIMIT, "450 4.7.1 Too much", Verdict.OTHERWISE),
        (Kind.END, "DUNNO", Verdict.NORMAL),
        (Kind.END, "451 4.3.0 Limits cannot be looked up", Verdict.OTHERWISE),
        (Kind.CONTROL, "550 5.1.1 No such user", Verdict.NORMAL),
        (Kind.CONTROL, "DUNNO", Verdict.OTHERWISE),
    ],
)
def test_each_kind_has_an_answer_with_the_store_and_one_without(
    kind: Kind, action: str, verdict: Verdict
) -> None:
    assert judge(kind, action) is verdict


def test_the_end_of_a_message_names_it_and_no_recipient() -> None:
    limit, end = (request(kind, "7.1", 7).decode() for kind in (Kind.LIMIT, Kind.END))
    assert "\ninstance=7.1\n" in limit
    assert "\ninstance=7.1\n" in end
    assert "\nprotocol_state=END-OF-MESSAGE\n" in end
    assert "\nrecipient=\n" in end


def test_who_is_greylisted_is_not_logged_in() -> None:
    assert b"\nsasl_username=\n" in request(Kind.GREY, "7.1", 7)
    assert b"\nsasl_username=7.1\n" in request(Kind.LIMIT, "7.1", 7)


def test_what_was_under_way_when_it_began_counts() -> None:
    asked = Asked()
    asked.note(9.0, 9.5, Kind.GREY, "DUNNO")  # over before
    asked.note(9.9, 10.9, Kind.GREY, "DUNNO")  # under way
    asked.note(11.0, 11.25, Kind.LIMIT, "DUNNO")
    asked.note(12.0, 12.5, Kind.CONTROL, "DUNNO")
    asked.note(13.0, 15.0, Kind.GREY, None)
    asked.note(20.0, 20.1, Kind.GREY, None)  # afterwards
    span = asked.between(10.0, 20.0)
    assert span.asked == 4
    assert list(span.verdicts) == [1, 1, 1, 1]
    assert span.longest == 2000.0
    assert span.last_fallback == 10.9
    assert span.examples == ["control: 'DUNNO'"]


def test_the_last_answer_without_the_store_is_the_begin_if_there_was_none() -> None:
    asked = Asked()
    asked.note(11.0, 11.25, Kind.LIMIT, "DUNNO")
    assert asked.between(10.0, 20.0).last_fallback == 10.0
    assert Asked().between(10.0, 20.0).longest == 0.0

"""What `check` says of a reply that Postfix will not send as the rule has it."""

import pytest

from policyd.protocol.postfix import surprises
from policyd.smtp.reply import EnhancedCode
from policyd.smtp.stage import FrontEnd, RestrictionList, Stage

RECIPIENT = RestrictionList.RECIPIENT
BOTH = "sender or recipient"
NOT_ACCEPTING = "`554 HOSTNAME ESMTP not accepting connections`"
LATE = "each MAIL is answered with a milter's reply"


def said(
    pair: str,
    front_end: FrontEnd,
    stage: str,
    restriction: RestrictionList | None = None,
    text: str = "",
) -> tuple[str, ...]:
    code, enhanced = pair.split()
    return surprises(
        int(code), EnhancedCode.parse(enhanced), front_end, Stage(stage), restriction, text=text
    )


@pytest.mark.parametrize(
    ("pair", "stage", "restriction", "expected"),
    [
        ("550 5.1.1", "rcpt", None, []),
        ("550 5.7.1", "connect", None, []),
        (
            "556 5.1.10",
            "rcpt",
            RECIPIENT,
            ["Postfix sends 556 5.1.0 in place of 556 5.1.10 when the recipient list asks"],
        ),
        (
            "550 5.1.8",
            "connect",
            None,
            [
                "Postfix sends 550 5.0.0 in place of 550 5.1.8 when the client list asks",
                "Postfix sends 550 5.1.2 in place of 550 5.1.8 when the recipient list asks",
            ],
        ),
        (
            "550 5.1.8",
            "mail",
            None,
            ["Postfix sends 550 5.1.2 in place of 550 5.1.8 when the recipient list asks"],
        ),
        ("550 5.1.8", "mail", RestrictionList.SENDER, []),
        (
            "550 5.1.9",
            "mail",
            None,
            [f"Postfix sends 550 5.1.0 in place of 550 5.1.9 when the {BOTH} list asks"],
        ),
        (
            "450 4.1.1",
            "data",
            None,
            ["Postfix sends 450 4.0.0 in place of 450 4.1.1 when the data list asks"],
        ),
        ("421 4.3.2", "rcpt", None, ["Postfix hangs up after 421"]),
        ("521 5.3.2", "etrn", None, ["Postfix hangs up after 521"]),
    ],
)
def test_what_becomes_of_a_policy_reply(
    pair: str, stage: str, restriction: RestrictionList | None, expected: list[str]
) -> None:
    assert list(said(pair, FrontEnd.POLICY, stage, restriction)) == expected


@pytest.mark.parametrize(
    ("pair", "stage", "expected"),
    [
        ("550 5.1.1", "mail", []),
        ("550 5.1.9", "end-of-data", []),
        (
            "550 5.7.1",
            "connect",
            [f"at connect the banner is {NOT_ACCEPTING}; {LATE}"],
        ),
        (
            "450 4.7.1",
            "connect",
            [f"at connect the banner is the usual 220; {LATE}"],
        ),
        (
            "421 4.3.2",
            "connect",
            [
                "at connect Postfix sends `421 HOSTNAME Service unavailable - try again later`",
                "Postfix hangs up after 421",
            ],
        ),
        (
            "550 5.7.1",
            "helo",
            [f"at helo EHLO is answered 250; {LATE}"],
        ),
        ("421 4.3.2", "helo", ["Postfix hangs up after 421"]),
        (
            "521 5.3.2",
            "helo",
            [
                f"at helo EHLO is answered 250; {LATE}",
                "Postfix hangs up after 521",
            ],
        ),
    ],
)
def test_what_becomes_of_a_milter_reply(pair: str, stage: str, expected: list[str]) -> None:
    assert list(said(pair, FrontEnd.MILTER, stage)) == expected


@pytest.mark.parametrize(
    ("front_end", "stage", "room"),
    [
        (FrontEnd.MILTER, "rcpt", 500),
        (FrontEnd.POLICY, "rcpt", 214),
        (FrontEnd.POLICY, "connect", 166),
        (FrontEnd.POLICY, "data", 469),
    ],
)
def test_a_text_is_too_long_where_the_longest_names_leave_no_room(
    front_end: FrontEnd, stage: str, room: int
) -> None:
    usual = said("550 5.7.1", front_end, stage)
    assert said("550 5.7.1", front_end, stage, text="x" * room) == usual
    *others, note = said("550 5.7.1", front_end, stage, text="x" * (room + 1))
    assert tuple(others) == usual
    assert note.startswith(f"the text has {room + 1} octets, more than the {room} left for it")

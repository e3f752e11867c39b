"""Decisions to milter answers: status and reply of one class, changes kept for the end."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from policyd.protocol.milter import NOTHING, Amendments, Status, milter_answer
from policyd.smtp.decision import Decision, Source, Verdict
from policyd.smtp.reply import Reply
from policyd.smtp.stage import Stage

TEXTS = st.text(st.characters(), min_size=1, max_size=1500).filter(
    lambda text: text.strip() and not {"\r", "\n", "\0"} & set(text)
)
PAIRS = st.tuples(
    st.sampled_from([421, 450, 451, 452, 521, 550, 552, 554]),
    st.integers(0, 999),
    st.integers(0, 999),
)


def decided(verdict: Verdict, *, reply: Reply | None = None, argument: str = "") -> Decision:
    return Decision(
        "id", verdict, Stage.END_OF_DATA, Source.RULE, reply=reply, argument=argument, rule="r"
    )


def refusal(code: int, subject: int, detail: int, text: str) -> Decision:
    verdict = Verdict.DEFER if code < 500 else Verdict.REJECT
    return decided(verdict, reply=Reply(code, subject, detail, text))


@pytest.mark.parametrize(
    ("code", "status"),
    [
        (421, Status.TEMPFAIL),
        (450, Status.TEMPFAIL),
        (451, Status.TEMPFAIL),
        (521, Status.REJECT),
        (550, Status.REJECT),
        (554, Status.REJECT),
    ],
)
def test_the_status_is_of_the_replys_class(code: int, status: Status) -> None:
    answer = milter_answer(refusal(code, 7, 1, "No"))
    assert answer.status is status
    assert answer.reply == (str(code), f"{code // 100}.7.1", "No")


@given(PAIRS, TEXTS)
def test_every_reply_is_one_that_libmilter_and_postfix_take(
    pair: tuple[int, int, int], text: str
) -> None:
    answer = milter_answer(refusal(*pair, text))
    assert answer.reply is not None
    code, enhanced, shown = answer.reply
    assert enhanced[0] == code[0]
    assert answer.status is (Status.TEMPFAIL if code[0] == "4" else Status.REJECT)
    assert shown
    assert shown.isprintable()
    assert len(shown.encode()) <= 980
    assert "%" not in shown.replace("%%", "")
    sent = f"{code} {enhanced} {shown.replace('%%', '%')}"
    assert len(sent.encode()) <= 510


def test_a_per_cent_sign_is_doubled() -> None:
    answer = milter_answer(refusal(550, 7, 1, "100% %s %%"))
    assert answer.reply == ("550", "5.7.1", "100%% %%s %%%%")


def test_a_text_of_which_nothing_can_be_shown_has_a_substitute() -> None:
    answer = milter_answer(refusal(450, 7, 1, "\x01\x02"))
    assert answer.reply == ("450", "4.7.1", "no reason given")


@pytest.mark.parametrize(
    "verdict", sorted(set(Verdict) - {Verdict.DEFER, Verdict.REJECT, Verdict.DISCARD})
)
def test_what_is_no_refusal_and_no_discard_goes_on(verdict: Verdict) -> None:
    answer = milter_answer(decided(verdict))
    assert answer.status is Status.CONTINUE
    assert answer.reply is None


def test_discard_has_no_reply() -> None:
    answer = milter_answer(decided(Verdict.DISCARD))
    assert answer.status is Status.DISCARD
    assert answer.reply is None


def test_a_later_reject_wins_over_if_permitted_only_in_policy_delegation() -> None:
    reply = Reply(450, 7, 1, "Wait")
    decision = Decision(
        "id", Verdict.DEFER, Stage.RCPT, Source.RULE, reply=reply, if_permitted=True
    )
    assert milter_answer(decision).reply == ("450", "4.7.1", "Wait")


@pytest.mark.parametrize("reply", [None, Reply(250, 0, 0, "Fine")])
def test_a_refusal_without_a_refusing_reply_is_an_error(reply: Reply | None) -> None:
    with pytest.raises(ValueError, match="4yz or 5yz"):
        milter_answer(decided(Verdict.REJECT, reply=reply))


def test_changes_add_up_and_the_last_redirect_wins() -> None:
    changes = NOTHING
    for decision in (
        decided(Verdict.HOLD, argument="first"),
        decided(Verdict.HOLD, argument="second"),
        decided(Verdict.REDIRECT, argument="a@example.org"),
        decided(Verdict.REDIRECT, argument="b@example.org"),
        decided(Verdict.BCC, argument="c@example.org"),
        decided(Verdict.BCC, argument="c@example.org"),
        decided(Verdict.BCC, argument="d@example.org"),
        decided(Verdict.PREPEND, argument="X-Note: yes: indeed"),
        decided(Verdict.ACCEPT),
        decided(Verdict.WARN, argument="no change"),
    ):
        changes = changes.after(decision)
    assert changes == Amendments(
        hold="first",
        redirect="b@example.org",
        bcc=("c@example.org", "d@example.org"),
        headers=(("X-Note", "yes: indeed"),),
    )


def test_a_hold_without_reason_names_its_rule() -> None:
    assert NOTHING.after(decided(Verdict.HOLD)).hold == "rule r"


def test_the_messages_changes_come_before_the_sessions() -> None:
    session = Amendments(hold="session", redirect="s@example.org", bcc=("b@example.org",))
    message = Amendments(redirect="m@example.org", bcc=("b@example.org", "c@example.org"))
    assert message.with_those_of(session) == Amendments(
        hold="session", redirect="m@example.org", bcc=("b@example.org", "c@example.org")
    )
    assert NOTHING.with_those_of(session) == session
    assert not NOTHING.with_those_of(NOTHING)


@pytest.mark.parametrize(
    ("verdict", "argument"),
    [
        (Verdict.REDIRECT, "nobody"),
        (Verdict.BCC, ""),
        (Verdict.PREPEND, "no header"),
        (Verdict.PREPEND, "Na me: value"),
        (Verdict.PREPEND, ": value"),
    ],
)
def test_an_argument_that_postfix_would_not_take_is_an_error(
    verdict: Verdict, argument: str
) -> None:
    with pytest.raises(ValueError, match="is not a"):
        NOTHING.after(decided(verdict, argument=argument))


@given(st.text())
def test_a_header_to_prepend_is_one_line_whatever_is_in_it(text: str) -> None:
    ((name, value),) = NOTHING.after(decided(Verdict.PREPEND, argument=f"X-Note: {text}")).headers
    assert name == "X-Note"
    assert value.isprintable()
    value.encode()

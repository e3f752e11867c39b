"""What a client sees of a decision, as measured on a Postfix 3.7.11: each verdict, each stage."""

import pytest

from policyd.protocol.postfix import Prediction, Setting, predict
from policyd.smtp.decision import Decision, Source, Verdict
from policyd.smtp.reply import EnhancedCode, Reply
from policyd.smtp.stage import FrontEnd, RestrictionList, Stage

KNOWN = {
    "client_name": "localhost",
    "client_address": "127.0.0.1",
    "helo_name": "c.example",
    "sender": "s@a.example",
    "recipient": "r1@d.example",
    "etrn_domain": "d.example",
}
HOST = "mx.test.example"
DENIED = "503 5.7.0 Error: access denied for localhost[127.0.0.1]"


def decided(pair: str, text: str = "foo", *, if_permitted: bool = False) -> Decision:
    code, enhanced = pair.split()
    subject, detail = EnhancedCode.parse(enhanced).subject, EnhancedCode.parse(enhanced).detail
    return Decision(
        id="7f3a",
        verdict=Verdict.DEFER if code.startswith("4") else Verdict.REJECT,
        stage=None,
        source=Source.RULE,
        reply=Reply(int(code), subject, detail, text),
        if_permitted=if_permitted,
    )


def verb(verdict: Verdict, argument: str = "") -> Decision:
    return Decision(id="7f3a", verdict=verdict, stage=None, source=Source.RULE, argument=argument)


def by_policy(stage: str, restriction: str | None = None, *, soft_bounce: bool = False) -> Setting:
    asking = None if restriction is None else RestrictionList(restriction)
    return Setting(FrontEnd.POLICY, Stage(stage), asking, hostname=HOST, soft_bounce=soft_bounce)


def by_milter(stage: str, *, soft_bounce: bool = False) -> Setting:
    return Setting(FrontEnd.MILTER, Stage(stage), hostname=HOST, soft_bounce=soft_bounce)


def dialogue(prediction: Prediction) -> list[str]:
    return [f"{line.at}: {line}{' (closes)' if line.closes else ''}" for line in prediction.lines]


@pytest.mark.parametrize(
    ("stage", "restriction", "pair", "expected"),
    [
        (
            "connect",
            "client",
            "450 4.2.1",
            [
                "banner: 450 4.2.1 <localhost[127.0.0.1]>: Client host rejected: foo",
                f"EHLO: {DENIED}",
                f"MAIL: {DENIED}",
                f"RCPT: {DENIED}",
                f"DATA: {DENIED}",
            ],
        ),
        (
            "connect",
            "client",
            "550 5.1.1",
            [
                "banner: 550 5.0.0 <localhost[127.0.0.1]>: Client host rejected: foo",
                f"EHLO: {DENIED}",
                f"MAIL: {DENIED}",
                f"RCPT: {DENIED}",
                f"DATA: {DENIED}",
            ],
        ),
        (
            "connect",
            "client",
            "521 5.3.2",
            ["banner: 521 5.3.2 <localhost[127.0.0.1]>: Client host rejected: foo (closes)"],
        ),
        (
            "connect",
            "client",
            "421 4.3.2",
            ["banner: 421 4.3.2 <localhost[127.0.0.1]>: Client host rejected: foo (closes)"],
        ),
        ("helo", "helo", "450 4.2.1", ["EHLO: 450 4.2.1 <c.example>: Helo command rejected: foo"]),
        ("helo", "helo", "550 5.1.1", ["EHLO: 550 5.0.0 <c.example>: Helo command rejected: foo"]),
        (
            "mail",
            "sender",
            "450 4.2.1",
            [
                "MAIL: 450 4.2.1 <s@a.example>: Sender address rejected: foo",
                "RCPT: 503 5.5.1 Error: need MAIL command",
                "DATA: 503 5.5.1 Error: need RCPT command",
            ],
        ),
        (
            "mail",
            "sender",
            "550 5.1.1",
            [
                "MAIL: 550 5.1.7 <s@a.example>: Sender address rejected: foo",
                "RCPT: 503 5.5.1 Error: need MAIL command",
                "DATA: 503 5.5.1 Error: need RCPT command",
            ],
        ),
        (
            "rcpt",
            "client",
            "550 5.1.1",
            [
                "RCPT: 550 5.0.0 <localhost[127.0.0.1]>: Client host rejected: foo",
                "DATA: 554 5.5.1 Error: no valid recipients",
            ],
        ),
        (
            "rcpt",
            "helo",
            "450 4.2.1",
            [
                "RCPT: 450 4.2.1 <c.example>: Helo command rejected: foo",
                "DATA: 554 5.5.1 Error: no valid recipients",
            ],
        ),
        (
            "rcpt",
            "sender",
            "550 5.1.1",
            [
                "RCPT: 550 5.1.7 <s@a.example>: Sender address rejected: foo",
                "DATA: 554 5.5.1 Error: no valid recipients",
            ],
        ),
        (
            "rcpt",
            "recipient",
            "450 4.2.1",
            [
                "RCPT: 450 4.2.1 <r1@d.example>: Recipient address rejected: foo",
                "DATA: 554 5.5.1 Error: no valid recipients",
            ],
        ),
        (
            "rcpt",
            "relay",
            "550 5.1.1",
            [
                "RCPT: 550 5.1.1 <r1@d.example>: Recipient address rejected: foo",
                "DATA: 554 5.5.1 Error: no valid recipients",
            ],
        ),
        (
            "rcpt",
            "recipient",
            "421 4.3.2",
            ["RCPT: 421 4.3.2 <r1@d.example>: Recipient address rejected: foo (closes)"],
        ),
        ("data", "data", "450 4.2.1", ["DATA: 450 4.2.1 <DATA>: Data command rejected: foo"]),
        ("data", "data", "550 5.1.1", ["DATA: 550 5.0.0 <DATA>: Data command rejected: foo"]),
        (
            "end-of-data",
            "end-of-data",
            "450 4.2.1",
            ["end-of-data: 450 4.2.1 <END-OF-MESSAGE>: End-of-data rejected: foo"],
        ),
        (
            "end-of-data",
            "end-of-data",
            "550 5.1.1",
            ["end-of-data: 550 5.0.0 <END-OF-MESSAGE>: End-of-data rejected: foo"],
        ),
        (
            "vrfy",
            "recipient",
            "550 5.1.1",
            ["VRFY: 550 5.1.1 <r1@d.example>: Recipient address rejected: foo"],
        ),
        ("etrn", "etrn", "550 5.1.1", ["ETRN: 550 5.0.0 <d.example>: Etrn command rejected: foo"]),
        (
            "etrn",
            "etrn",
            "521 5.3.2",
            ["ETRN: 521 5.3.2 <d.example>: Etrn command rejected: foo (closes)"],
        ),
    ],
)
def test_a_policy_reply_as_the_client_sees_it(
    stage: str, restriction: str, pair: str, expected: list[str]
) -> None:
    prediction = predict(decided(pair), KNOWN, by_policy(stage, restriction))
    assert dialogue(prediction) == expected
    assert prediction.effect == ""


@pytest.mark.parametrize(
    ("stage", "pair", "expected"),
    [
        (
            "connect",
            "550 5.7.1",
            [
                "banner: 554 mx.test.example ESMTP not accepting connections",
                "EHLO: 250-mx.test.example\n250 ENHANCEDSTATUSCODES",
                "MAIL: 550 5.7.1 foo",
                "RCPT: 503 5.5.1 Error: need MAIL command",
                "DATA: 503 5.5.1 Error: need RCPT command",
            ],
        ),
        (
            "connect",
            "450 4.2.1",
            [
                "MAIL: 450 4.2.1 foo",
                "RCPT: 503 5.5.1 Error: need MAIL command",
                "DATA: 503 5.5.1 Error: need RCPT command",
            ],
        ),
        (
            "connect",
            "421 4.3.2",
            ["banner: 421 mx.test.example Service unavailable - try again later (closes)"],
        ),
        (
            "connect",
            "521 5.3.2",
            [
                "banner: 554 mx.test.example ESMTP not accepting connections",
                "EHLO: 250-mx.test.example\n250 ENHANCEDSTATUSCODES",
                "MAIL: 521 5.3.2 foo (closes)",
            ],
        ),
        (
            "helo",
            "550 5.1.1",
            [
                "EHLO: 250-mx.test.example\n250 ENHANCEDSTATUSCODES",
                "MAIL: 550 5.1.1 foo",
                "RCPT: 503 5.5.1 Error: need MAIL command",
                "DATA: 503 5.5.1 Error: need RCPT command",
            ],
        ),
        (
            "helo",
            "450 4.2.1",
            [
                "MAIL: 450 4.2.1 foo",
                "RCPT: 503 5.5.1 Error: need MAIL command",
                "DATA: 503 5.5.1 Error: need RCPT command",
            ],
        ),
        ("helo", "421 4.3.2", ["EHLO: 421 4.3.2 foo (closes)"]),
        (
            "helo",
            "521 5.3.2",
            [
                "EHLO: 250-mx.test.example\n250 ENHANCEDSTATUSCODES",
                "MAIL: 521 5.3.2 foo (closes)",
            ],
        ),
        (
            "mail",
            "550 5.1.1",
            [
                "MAIL: 550 5.1.1 foo",
                "RCPT: 503 5.5.1 Error: need MAIL command",
                "DATA: 503 5.5.1 Error: need RCPT command",
            ],
        ),
        ("mail", "421 4.3.2", ["MAIL: 421 4.3.2 foo (closes)"]),
        (
            "rcpt",
            "450 4.2.1",
            ["RCPT: 450 4.2.1 foo", "DATA: 554 5.5.1 Error: no valid recipients"],
        ),
        ("rcpt", "521 5.3.2", ["RCPT: 521 5.3.2 foo (closes)"]),
        ("data", "550 5.7.1", ["DATA: 550 5.7.1 foo"]),
        ("data", "421 4.3.2", ["DATA: 421 4.3.2 foo (closes)"]),
        ("end-of-data", "450 4.2.1", ["end-of-data: 450 4.2.1 foo"]),
        ("end-of-data", "550 5.1.1", ["end-of-data: 550 5.1.1 foo"]),
        ("end-of-data", "521 5.3.2", ["end-of-data: 521 5.3.2 foo (closes)"]),
    ],
)
def test_a_milter_reply_as_the_client_sees_it(stage: str, pair: str, expected: list[str]) -> None:
    assert dialogue(predict(decided(pair), KNOWN, by_milter(stage))) == expected


@pytest.mark.parametrize(
    ("stage", "restriction", "name"),
    [
        ("connect", "client", "<localhost[127.0.0.1]>: Client host"),
        ("helo", "helo", "<c.example>: Helo command"),
        ("mail", "sender", "<s@a.example>: Sender address"),
        ("rcpt", "client", "<localhost[127.0.0.1]>: Client host"),
        ("rcpt", "recipient", "<r1@d.example>: Recipient address"),
    ],
)
def test_a_deferral_if_permitted_shows_at_rcpt(stage: str, restriction: str, name: str) -> None:
    decision = decided("450 4.2.1", if_permitted=True)
    prediction = predict(decision, KNOWN, by_policy(stage, restriction))
    assert dialogue(prediction) == [
        f"RCPT: 450 4.2.1 {name} rejected: foo",
        "DATA: 554 5.5.1 Error: no valid recipients",
    ]
    assert any("DEFER_IF_PERMIT" in note for note in prediction.notes)


@pytest.mark.parametrize(
    ("stage", "expected"),
    [
        ("data", "DATA: 450 4.2.1 <DATA>: Data command rejected: foo"),
        ("end-of-data", "end-of-data: 450 4.2.1 <END-OF-MESSAGE>: End-of-data rejected: foo"),
        ("vrfy", "VRFY: 450 4.2.1 <r1@d.example>: Recipient address rejected: foo"),
        ("etrn", "ETRN: 450 4.2.1 <d.example>: Etrn command rejected: foo"),
    ],
)
def test_elsewhere_a_deferral_if_permitted_shows_at_once(stage: str, expected: str) -> None:
    decision = decided("450 4.2.1", if_permitted=True)
    assert dialogue(predict(decision, KNOWN, by_policy(stage))) == [expected]


@pytest.mark.parametrize("restriction", ["client", "helo"])
def test_at_vrfy_postfix_forgets_a_deferral_if_permitted_of_earlier_lists(restriction: str) -> None:
    decision = decided("450 4.2.1", if_permitted=True)
    prediction = predict(decision, KNOWN, by_policy("vrfy", restriction))
    assert prediction.lines == ()
    assert prediction.notes == (
        f"Postfix forgets a DEFER_IF_PERMIT of the {restriction} list at VRFY",
    )


def test_a_deferral_if_permitted_always_has_postfix_s_code() -> None:
    prediction = predict(decided("451 4.3.0", if_permitted=True), KNOWN, by_policy("data"))
    assert dialogue(prediction) == ["DATA: 450 4.3.0 <DATA>: Data command rejected: foo"]
    assert "DEFER_IF_PERMIT is answered with 450, not with 451" in prediction.notes


def test_a_milter_sends_a_deferral_if_permitted_at_once() -> None:
    prediction = predict(decided("450 4.2.1", if_permitted=True), KNOWN, by_milter("data"))
    assert dialogue(prediction) == ["DATA: 450 4.2.1 foo"]
    assert prediction.notes == ("a milter has no DEFER_IF_PERMIT: the reply is sent at once",)


VERBS = {
    Verdict.HOLD: ("under review", "message held"),
    Verdict.DISCARD: ("", "message discarded"),
    Verdict.REDIRECT: ("trap@d.example", "message redirected to trap@d.example"),
    Verdict.BCC: ("copy@d.example", "message copied to copy@d.example"),
    Verdict.FILTER: ("scan:[127.0.0.1]:10025", "message passed to scan:[127.0.0.1]:10025"),
    Verdict.PREPEND: ("X-Seen: {yes}", "header added: X-Seen: {yes}"),
}


@pytest.mark.parametrize("verdict", VERBS)
@pytest.mark.parametrize("stage", ["mail", "rcpt", "data"])
def test_a_verb_shows_in_no_reply_but_in_the_message(verdict: Verdict, stage: str) -> None:
    argument, effect = VERBS[verdict]
    assert predict(verb(verdict, argument), KNOWN, by_policy(stage)) == Prediction(effect=effect)


@pytest.mark.parametrize("verdict", VERBS)
@pytest.mark.parametrize("stage", ["connect", "helo", "vrfy", "etrn"])
def test_postfix_ignores_a_verb_outside_a_message(verdict: Verdict, stage: str) -> None:
    prediction = predict(verb(verdict, VERBS[verdict][0]), KNOWN, by_policy(stage))
    assert (prediction.lines, prediction.effect) == ((), "")
    assert prediction.notes[0].startswith(f"Postfix ignores {verdict.upper()} at ")


def test_postfix_adds_no_header_at_end_of_data() -> None:
    prediction = predict(verb(Verdict.PREPEND, "X-A: b"), KNOWN, by_policy("end-of-data"))
    assert prediction.effect == ""
    assert prediction.notes


@pytest.mark.parametrize("verdict", [Verdict.ACCEPT, Verdict.PASS, Verdict.WARN])
@pytest.mark.parametrize("setting", [by_policy("rcpt"), by_milter("end-of-data")])
def test_no_objection_changes_nothing(verdict: Verdict, setting: Setting) -> None:
    assert predict(verb(verdict, "noted"), KNOWN, setting) == Prediction()


@pytest.mark.parametrize("verdict", [Verdict.HOLD, Verdict.REDIRECT, Verdict.BCC, Verdict.PREPEND])
def test_a_milter_s_verb_waits_for_end_of_data(verdict: Verdict) -> None:
    argument, effect = VERBS[verdict]
    decision = verb(verdict, argument)
    assert predict(decision, KNOWN, by_milter("end-of-data")) == Prediction(effect=effect)
    early = predict(decision, KNOWN, by_milter("rcpt"))
    assert early.effect == effect
    assert early.notes == ("a milter can do this at end-of-data: remembered from rcpt",)


@pytest.mark.parametrize("stage", ["mail", "rcpt", "data", "end-of-data"])
def test_a_milter_discards_at_once(stage: str) -> None:
    prediction = predict(verb(Verdict.DISCARD), KNOWN, by_milter(stage))
    assert prediction == Prediction(effect="message discarded")


@pytest.mark.parametrize("stage", ["connect", "helo"])
def test_a_milter_discards_no_session(stage: str) -> None:
    prediction = predict(verb(Verdict.DISCARD), KNOWN, by_milter(stage))
    assert prediction == Prediction(notes=(f"a milter cannot discard at {stage}",))


@pytest.mark.parametrize(
    ("setting", "pair", "expected"),
    [
        (
            by_policy("rcpt", soft_bounce=True),
            "550 5.1.1",
            [
                "RCPT: 450 4.1.1 <r1@d.example>: Recipient address rejected: foo",
                "DATA: 454 4.5.1 Error: no valid recipients",
            ],
        ),
        (
            by_policy("mail", soft_bounce=True),
            "521 5.3.2",
            ["MAIL: 421 4.3.2 <s@a.example>: Sender address rejected: foo (closes)"],
        ),
        (
            by_policy("mail", soft_bounce=True),
            "450 4.7.1",
            [
                "MAIL: 450 4.7.1 <s@a.example>: Sender address rejected: foo",
                "RCPT: 403 4.5.1 Error: need MAIL command",
                "DATA: 403 4.5.1 Error: need RCPT command",
            ],
        ),
        (
            by_milter("connect", soft_bounce=True),
            "550 5.7.1",
            [
                "MAIL: 450 4.7.1 foo",
                "RCPT: 403 4.5.1 Error: need MAIL command",
                "DATA: 403 4.5.1 Error: need RCPT command",
            ],
        ),
        (
            by_milter("connect", soft_bounce=True),
            "521 5.3.2",
            ["banner: 421 mx.test.example Service unavailable - try again later (closes)"],
        ),
        (by_milter("data", soft_bounce=True), "550 5.7.1", ["DATA: 450 4.7.1 foo"]),
    ],
)
def test_soft_bounce_turns_every_rejection_into_a_deferral(
    setting: Setting, pair: str, expected: list[str]
) -> None:
    assert dialogue(predict(decided(pair), KNOWN, setting)) == expected


def test_a_rewritten_code_is_told() -> None:
    (note,) = predict(decided("550 5.1.1"), KNOWN, by_policy("mail")).notes
    assert note.startswith("Postfix sends 5.1.7 in place of 5.1.1: the sender list asks")


def test_the_stage_of_the_rule_and_of_the_reply_may_differ() -> None:
    decision = Decision(
        id="7f3a",
        verdict=Verdict.REJECT,
        stage=Stage.CONNECT,
        source=Source.RULE,
        reply=Reply(550, 7, 1, "foo"),
    )
    prediction = predict(decision, KNOWN, by_policy("rcpt"))
    assert prediction.lines[0].at == "RCPT"
    assert prediction.notes == ("the connect rule is answered at RCPT",)


@pytest.mark.parametrize("pair", ["421 4.3.2", "521 5.3.2"])
def test_a_hang_up_is_told(pair: str) -> None:
    notes = predict(decided(pair), KNOWN, by_policy("rcpt")).notes
    assert notes == (f"Postfix hangs up after {pair[:3]}",)


def test_a_line_over_the_limit_is_told() -> None:
    prediction = predict(decided("550 5.7.1", "x" * 500), KNOWN, by_policy("rcpt"))
    assert any("more than 510" in note for note in prediction.notes)


def test_control_characters_of_a_name_leave_postfix_as_blanks() -> None:
    known = KNOWN | {"recipient": "a\x01b\x7fc@d.example"}
    prediction = predict(decided("550 5.7.1"), known, by_policy("rcpt"))
    assert str(prediction.lines[0]) == (
        "550 5.7.1 <a b c@d.example>: Recipient address rejected: foo"
    )

"""What is refused, and what is warned of, when rules are built."""

import pytest

from policyd.rules.source import RuleSource
from policyd.smtp.decision import Verdict
from policyd.smtp.stage import TRANSACTION, FrontEnd, Stage
from tests.rules.world import (
    ALL_MILTER,
    ALL_POLICY,
    PLAIN_OWNERS,
    compiled,
    complaints_of,
    rule,
    shadow,
)

CONNECT, HELO, MAIL, RCPT = Stage.CONNECT, Stage.HELO, Stage.MAIL, Stage.RCPT
DATA, END, VRFY, ETRN = Stage.DATA, Stage.END_OF_DATA, Stage.VRFY, Stage.ETRN

REFUSED = [
    (rule("r", RCPT, "OK"), "policyd never answers OK"),
    (rule("r", RCPT, "permit"), "policyd never answers PERMIT"),
    (rule("r", RCPT, "relay"), "policyd never answers RELAY"),
    (rule("r", RCPT, "REJECT no"), "REJECT leaves the code to Postfix"),
    (rule("r", RCPT, "dunno"), "dunno leaves the code to Postfix"),
    (rule("r", RCPT, "450 5.1.1 x"), ""),
    (rule("r", RCPT, "250 2.0.0 ok"), ""),
    (rule("r", RCPT, "550 No such user"), ""),
    (rule("r", RCPT, "550 5.9.9 x"), ""),
    (rule("r", RCPT, "550 5.1.1"), ""),
    (rule("r", RCPT, "55 5.1.1 x"), "is no reply code"),
    (rule("r", RCPT, "greylist"), "is neither a reply, a named reply nor a verb"),
    (rule("r", RCPT, "greylisted:"), "has no text"),
    (rule("r", RCPT, "accept all"), "accept takes nothing"),
    (rule("r", RCPT, "score many"), "score takes a number"),
    (rule("r", RCPT, "score nan"), "score takes a number"),
    (rule("r", RCPT, "prepend nothing"), "prepend takes a header"),
    (rule("r", RCPT, "redirect me", whole_message=True), "redirect takes one mail address"),
    (rule("r", RCPT, "bcc a@b c@d", whole_message=True), "bcc takes one mail address"),
    (rule("r", RCPT, "filter x", whole_message=True), "filter takes transport:nexthop"),
    (rule("r", RCPT, "warn"), "warn has no text"),
    (rule("r", RCPT, "if_permitted 550 5.7.1 x"), "answers DEFER_IF_PERMIT with 450 only"),
    (rule("r", RCPT, "if_permitted 451 4.7.1 x"), "answers DEFER_IF_PERMIT with 450 only"),
    (rule("r", RCPT, "if_permitted accept"), "if_permitted with a verb"),
    (rule("r", RCPT, "550 5.7.1 {sendr}"), "{sendr} is neither a fact nor a value"),
    (rule("r", CONNECT, "550 5.7.1 {sender}"), "{sender} is not known at connect"),
    (rule("r", END, "550 5.7.1 {message}"), "{message} cannot be shown"),
    (rule("r", RCPT, "550 5.7.1 {sender.domain}"), "is no name of a fact"),
    (rule("r", RCPT, "550 5.7.1 {sender!r}"), "is no name of a fact"),
    (rule("r", RCPT, "550 5.7.1 {"), "Single '{'"),
    (rule("r", RCPT, "550 5.7.1 {retry_after}"), "{retry_after} is neither"),
    (rule("r", RCPT, "450 4.7.1 x", "fails()", on_error="accept"), "is a verb"),
    (rule("r", RCPT, "450 4.7.1 x", "fails()", on_error="450 5.7.1 x"), ""),
    (rule("r", RCPT, "accept", "once()"), "once() in a rule that says accept"),
    (rule("r", RCPT, "score 1", "once()"), "once() in a rule that says score"),
    (rule("r", CONNECT, "450 4.7.1 x", "needy()"), "recipient is not known at connect"),
]


@pytest.mark.parametrize(("source", "what"), REFUSED, ids=[s.then[:30] for s, _ in REFUSED])
def test_is_refused_with_a_mend(source: RuleSource, what: str) -> None:
    errors = [c for c in complaints_of(source) if c.error]
    assert any(what in c.what for c in errors), errors
    assert all(c.mend and c.rule is source for c in errors)


LOADS = [
    rule("r", RCPT, "greylisted"),
    rule("r", RCPT, "greylisted: Please retry in {retry_after}", "yes()"),
    rule("r", RCPT, "if_permitted greylisted"),
    rule("r", RCPT, "if_permitted 450 4.7.1 later"),
    rule("r", RCPT, "550 5.7.1 {{braces}} and {recipient}"),
    rule("r", RCPT, "450 4.7.1 x", "fails()", on_error="451 4.3.0 Away"),
    rule("r", RCPT, "hold", whole_message=True),
    rule("r", RCPT, "score -1.5"),
    rule("r", (MAIL, RCPT, DATA), "550 5.7.1 x"),
    rule("r", RCPT, "450 4.7.1 x", "once()"),
]


@pytest.mark.parametrize("source", LOADS, ids=[s.then[:30] for s in LOADS])
def test_loads(source: RuleSource) -> None:
    assert not [c for c in complaints_of(source) if c.error]


ARGUMENTS = {
    Verdict.HOLD: "hold why",
    Verdict.DISCARD: "discard",
    Verdict.REDIRECT: "redirect a@b",
    Verdict.BCC: "bcc a@b",
    Verdict.FILTER: "filter smtp:[::1]:25",
    Verdict.PREPEND: "prepend X-A: b",
    Verdict.WARN: "warn look",
    Verdict.ACCEPT: "accept",
    Verdict.PASS: "pass",
    Verdict.SCORE: "score 1",
}
MESSAGE = {Verdict.HOLD, Verdict.DISCARD, Verdict.REDIRECT, Verdict.BCC, Verdict.FILTER}


def can(verdict: Verdict, stage: Stage, front_end: FrontEnd) -> bool:
    """Say the verb table of the language once more, cell by cell."""
    if verdict in (Verdict.ACCEPT, Verdict.PASS, Verdict.SCORE, Verdict.WARN):
        return True
    if front_end is FrontEnd.POLICY:
        if stage in (VRFY, ETRN):
            return False
        return not (verdict is Verdict.PREPEND and stage is END)
    if verdict is Verdict.FILTER:
        return False
    if verdict is Verdict.PREPEND:
        return stage is END
    return not (verdict is Verdict.DISCARD and stage in (CONNECT, HELO))


CELLS = [
    (verdict, stage, front_end)
    for verdict in ARGUMENTS
    for front_end in FrontEnd
    for stage in (Stage if front_end is FrontEnd.POLICY else TRANSACTION)
]


@pytest.mark.parametrize(("verdict", "stage", "front_end"), CELLS)
def test_the_verb_table_holds(verdict: Verdict, stage: Stage, front_end: FrontEnd) -> None:
    owners = ALL_POLICY if front_end is FrontEnd.POLICY else ALL_MILTER
    whole = verdict in MESSAGE
    source = rule(
        "r", stage, ARGUMENTS[verdict], "client_address != '192.0.2.1'", whole_message=whole
    )
    errors = [c for c in complaints_of(source, owners=owners) if c.error]
    assert bool(errors) is not can(verdict, stage, front_end), errors
    assert all(
        ("cannot be done at" in c.what and " can at " in c.mend) or "another" in c.mend
        for c in errors
    )


@pytest.mark.parametrize("verdict", MESSAGE)
def test_at_rcpt_a_verb_on_the_message_has_to_say_so(verdict: Verdict) -> None:
    errors = [c for c in complaints_of(rule("r", RCPT, ARGUMENTS[verdict])) if c.error]
    assert [c.mend.startswith("say whole_message = true") for c in errors] == [True]
    assert not [c for c in complaints_of(rule("r", MAIL, ARGUMENTS[verdict])) if c.error]


def test_a_rule_behind_one_that_always_applies_is_never_reached() -> None:
    always = rule("always", RCPT, "pass")
    after = rule("after", (MAIL, RCPT), "550 5.7.1 x")
    found = [c for c in complaints_of(always, after) if c.error]
    assert [(c.rule.name, c.what) for c in found] == [
        ("after", 'never reached at rcpt: rule "always" before it always applies')
    ]
    assert [c.error for c in complaints_of(rule("t", RCPT, "pass", "True"), after) if c.error]


@pytest.mark.parametrize(
    "first", [shadow("s", RCPT, "550 5.7.1 x"), rule("s", RCPT, "score 1"), rule("s", MAIL, "pass")]
)
def test_what_goes_on_hides_nothing(first: RuleSource) -> None:
    assert not [c for c in complaints_of(first, rule("after", RCPT, "450 4.7.1 x")) if c.error]


def test_a_stage_that_nobody_decides_is_refused() -> None:
    owners = {RCPT: FrontEnd.POLICY}
    found = complaints_of(rule("r", (RCPT, DATA), "450 4.7.1 x"), owners=owners)
    assert [c.what for c in found if c.error] == ["no front end decides stage data"]


@pytest.mark.parametrize(
    ("stage", "then", "what"),
    [
        (MAIL, "450 4.7.1 later", "may only reject or discard"),
        (MAIL, "accept", "may only reject or discard"),
        (RCPT, "550 5.7.1 no", "cannot be refused"),
    ],
)
def test_rules_on_local_submissions_may_only_do_what_cleanup_can(
    stage: Stage, then: str, what: str
) -> None:
    source = rule("r", stage, then, "local_submission")
    errors = [c for c in complaints_of(source, owners=ALL_MILTER) if c.error]
    assert any(what in c.what for c in errors)


def test_an_accept_that_cannot_carry_over_is_warned_of() -> None:
    source = rule("r", CONNECT, "accept", "stress == 'yes'")
    found = [c for c in complaints_of(source) if not c.error]
    assert [c.what for c in found] == [
        "accept does not carry over to end-of-data: the milter does not know stress"
    ]
    assert not complaints_of(source, owners=ALL_POLICY)


def test_ignored_verbs_at_connect_and_helo_are_warned_of() -> None:
    found = complaints_of(rule("r", HELO, "hold why"))
    assert [c.error for c in found if "ignores hold" in c.what] == [False]


def test_a_text_beyond_ascii_is_warned_of() -> None:
    found = complaints_of(rule("r", RCPT, "550 5.7.1 Nö"))
    assert any("not ASCII" in c.what and not c.error for c in found)


def test_complaints_are_told_once_however_many_stages_a_rule_has() -> None:
    found = complaints_of(rule("r", tuple(Stage)[:4], "550 5.7.1 x", "nobody()"))
    assert len([c for c in found if "nobody" in c.what]) == 1


def test_a_thousand_rules_compile_and_the_last_is_reached() -> None:
    rules = [rule(f"r{i}", RCPT, "550 5.7.1 x", f"sender == 'u{i}@x'") for i in range(1000)]
    policy = compiled(*rules, owners=PLAIN_OWNERS)
    assert policy.at_rcpt is not None
    assert len(policy.at_rcpt.matches) == 1000

"""What is negotiated for which policy: no more steps, replies, actions and macros than it needs."""

from dataclasses import dataclass

import pytest

from policyd.protocol.milter import Event, Plan, Steps, plan
from policyd.protocol.milter.macros import DEFAULTS, MACROS, MacroStep
from policyd.protocol.milter.plan import Actions
from policyd.smtp.decision import Verdict
from policyd.smtp.stage import TRANSACTION, Stage

REFUSED = frozenset({Verdict.REJECT})


@dataclass(frozen=True)
class Question:
    facts: frozenset[str] = frozenset()
    verdicts: frozenset[Verdict] = REFUSED


def planned(stage: Stage, *facts: str, verdicts: frozenset[Verdict] = REFUSED) -> Plan:
    return plan({stage: Question(frozenset(facts), verdicts)}, {})


def named(plan: Plan, step: MacroStep) -> set[str]:
    return set(plan.named.get(step, "").split())


def test_without_rules_only_the_client_is_told_and_nothing_is_waited_for() -> None:
    nothing = plan({}, {})
    assert nothing.asked == nothing.silent == {Event.CONNECT}
    assert nothing.actions == Actions.NAME_MACROS
    assert nothing.read == {}


@pytest.mark.parametrize(
    ("facts", "asked"),
    [
        ((), set()),
        (("client_address", "client_name", "local_submission", "now"), set()),
        (("sasl_username", "queue_id", "encryption_protocol", "server_port"), set()),
        (("helo_name",), {Event.HELO}),
        (("helo_is_address",), {Event.HELO}),
        (("sender_domain",), {Event.MAIL}),
        (("recipients",), {Event.MAIL, Event.RCPT}),
        (("recipient_count",), {Event.MAIL, Event.RCPT}),
        (("recipient_domain",), {Event.MAIL, Event.RCPT}),  # of a rcpt rule carried over
        (("headers",), {Event.HEADER}),
        (("utf8_headers",), {Event.HEADER}),
        (("body_size",), {Event.BODY}),
        (("attachments",), {Event.HEADER, Event.BODY}),
        (("size",), {Event.HEADER, Event.BODY}),
        (("message",), {Event.MAIL, Event.HEADER, Event.BODY}),
    ],
)
def test_end_of_data_asks_for_what_its_facts_need_and_for_no_reply(
    facts: tuple[str, ...], asked: set[Event]
) -> None:
    made = planned(Stage.END_OF_DATA, *facts)
    assert made.asked == made.silent == asked | {Event.CONNECT}


def test_headers_are_told_exactly_where_a_message_is_kept_and_it_is_kept_only_to_be_read() -> None:
    made = planned(Stage.END_OF_DATA, "message")
    assert made.message
    assert made.steps & Steps.LEADING_SPACE
    others = planned(Stage.END_OF_DATA, "attachments", "size", "headers")
    assert not others.message
    assert not others.steps & Steps.LEADING_SPACE


def test_the_body_is_looked_at_only_for_attachments() -> None:
    assert planned(Stage.END_OF_DATA, "attachments").attachments
    assert not planned(Stage.END_OF_DATA, "body_size", "size", "headers").attachments


@pytest.mark.parametrize(
    ("stage", "event"),
    [
        (Stage.CONNECT, Event.CONNECT),
        (Stage.MAIL, Event.MAIL),
        (Stage.RCPT, Event.RCPT),
        (Stage.DATA, Event.DATA),
    ],
)
def test_a_decided_stage_replies_alone(stage: Stage, event: Event) -> None:
    made = planned(stage)
    assert made.asked - made.silent == {event}
    assert made.silent <= {Event.CONNECT, Event.MAIL}


def test_helo_may_be_answered_at_mail() -> None:
    made = planned(Stage.HELO)
    assert made.asked - made.silent == {Event.HELO, Event.MAIL}


def test_size_before_the_end_is_mails_parameter() -> None:
    assert planned(Stage.RCPT, "size").asked == {Event.CONNECT, Event.MAIL, Event.RCPT}
    assert Event.BODY not in planned(Stage.DATA, "size").asked


@pytest.mark.parametrize(
    ("verdict", "actions", "event"),
    [
        (Verdict.PREPEND, Actions.ADD_HEADERS, Event.MAIL),
        (Verdict.HOLD, Actions.QUARANTINE, Event.MAIL),
        (Verdict.BCC, Actions.ADD_RECIPIENTS, Event.MAIL),
        (Verdict.REDIRECT, Actions.ADD_RECIPIENTS | Actions.DELETE_RECIPIENTS, Event.RCPT),
        (Verdict.DISCARD, Actions(0), Event.CONNECT),
    ],
)
def test_a_verb_asks_for_its_actions_only(verdict: Verdict, actions: Actions, event: Event) -> None:
    made = planned(Stage.DATA, verdicts=frozenset({verdict}))
    assert made.actions == actions | Actions.NAME_MACROS
    assert event in made.asked


def test_local_submissions_are_planned_for_too() -> None:
    made = plan({}, {Stage.MAIL: Question(frozenset({"sender"}))})
    assert made.asked - made.silent == {Event.MAIL}


def test_macros_are_asked_for_where_postfix_knows_them() -> None:
    made = planned(
        Stage.END_OF_DATA,
        "reverse_client_name",
        "server_port",
        "encryption_protocol",
        "sasl_method",
        "queue_id",
    )
    assert named(made, MacroStep.CONNECT) == {"v", "{client_ptr}", "{daemon_port}"}
    assert named(made, MacroStep.MAIL) >= {"v", "{tls_version}", "{auth_type}"}


def test_tls_macros_are_asked_for_at_helo_if_helo_is_decided() -> None:
    made = planned(Stage.HELO, "encryption_cipher")
    assert made.read[Stage.HELO] == (MACROS["encryption_cipher"],)
    assert MACROS["encryption_cipher"].step(Stage.HELO) is MacroStep.HELO
    assert named(made, MacroStep.MAIL) == set()


def test_the_log_gets_sender_login_and_queue_id_without_a_callback() -> None:
    made = planned(Stage.END_OF_DATA)
    read = {macro.attribute for macro in made.read[Stage.END_OF_DATA]}
    assert read == {"sender", "sasl_username", "queue_id"}
    assert Event.MAIL not in made.asked
    assert {macro.attribute for macro in planned(Stage.CONNECT).read[Stage.CONNECT]} == set()


def test_the_sender_comes_from_mail_where_mail_is_told() -> None:
    assert MACROS["sender"] not in planned(Stage.RCPT, "sender").read[Stage.RCPT]


@pytest.mark.parametrize("stage", TRANSACTION)
def test_macros_are_named_only_where_postfixs_own_list_is_not_enough(stage: Stage) -> None:
    every = planned(stage, *MACROS)
    for step in MacroStep:
        needed = {macro.name for macro in every.read[stage] if macro.step(stage) is step}
        assert needed <= named(every, step) | DEFAULTS[step]
        assert named(every, step) == set() or "v" in named(every, step)
    assert planned(stage, "client_name").named.keys() <= {MacroStep.RCPT}


def test_the_queue_id_at_rcpt_is_always_named() -> None:
    assert planned(Stage.RCPT).named == {MacroStep.RCPT: "v i"}


def test_what_is_not_asked_for_is_done_without() -> None:
    steps = planned(Stage.RCPT).steps
    assert steps == (
        Steps.SILENT_CONNECT
        | Steps.NO_HELO
        | Steps.SILENT_MAIL
        | Steps.NO_DATA
        | Steps.NO_HEADER
        | Steps.NO_END_OF_HEADER
        | Steps.NO_BODY
        | Steps.NO_UNKNOWN
    )

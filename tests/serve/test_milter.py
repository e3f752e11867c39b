"""The milter on its socket: decisions, negotiation, what is remembered, faults, hostile peers."""

import contextlib
import socket
import struct
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pytest

from policyd.protocol.milter import Actions, Steps
from tests.serve.milter_running import RunningMilter
from tools.milter_client import Answer, Ended, MilterClient, MilterClosedError, packet, strings

CONTINUE = Answer("continue")
STAGES = ("connect", "helo", "mail", "rcpt", "data", "end-of-data")
QUIET = dict.fromkeys(STAGES, None) | {"end-of-data": CONTINUE}

Run = Callable[..., RunningMilter]


def rule(stage: str, then: str, when: str = "", **rest: Any) -> dict[str, Any]:
    return {"stage": stage, "then": then, "when": when, **rest}


@pytest.fixture
def run(tmp_path: Path) -> Iterator[Run]:
    with contextlib.ExitStack() as stack:

        def start(*rules: dict[str, Any], **given: Any) -> RunningMilter:
            return stack.enter_context(RunningMilter(tmp_path, *rules, **given))

        yield start


def walk(client: MilterClient, **connection: Any) -> dict[str, Answer | None]:
    """Go through a transaction to its end, or to the first refusal; give each answer."""
    steps: dict[str, Callable[[], Answer | None]] = {
        "connect": lambda: client.connect(**connection),
        "helo": client.helo,
        "mail": client.mail,
        "rcpt": client.rcpt,
        "data": client.data,
        "end-of-data": lambda: client.message().answer,
    }
    answers: dict[str, Answer | None] = {}
    for stage, step in steps.items():
        answer = answers[stage] = step()
        if answer not in (None, CONTINUE):
            break
    return answers


REPLIES = ("450 4.2.1 Later", "550 5.1.1 Never", "421 4.3.2 Bye", "521 5.3.2 Gone")
OTHERS = ("accept", "pass", "warn look")
CASES = {
    (stage, then): port
    for port, (stage, then) in enumerate(
        [(stage, f"{reply}, 100%") for stage in STAGES for reply in REPLIES]
        + [(stage, then) for stage in STAGES for then in OTHERS]
        + [(stage, "discard spam") for stage in STAGES[2:]],
        start=1000,
    )
}


@pytest.fixture(scope="class")
def every_case(tmp_path_factory: pytest.TempPathFactory) -> Iterator[RunningMilter]:
    """A milter with every outcome at every stage, chosen by the client's port."""
    rules = (
        rule(stage, then, f"client_port == {port}", whole_message="discard" in then)
        for (stage, then), port in CASES.items()
    )
    with RunningMilter(tmp_path_factory.mktemp("milter"), *rules) as milter:
        yield milter


class TestOutcomes:
    @pytest.mark.parametrize(("stage", "then"), CASES)
    def test_an_outcome_is_given_at_its_stage_and_counted_once(
        self, every_case: RunningMilter, stage: str, then: str
    ) -> None:
        with every_case.client() as client:
            answers = walk(client, port=CASES[stage, then])
        counted = {a["stage"]: a for a in every_case.answers(len(answers))}
        assert every_case.rest() == []
        assert list(counted) == list(answers)
        answer, line = answers.pop(stage), counted.pop(stage)
        if then.startswith("discard"):
            assert answer == Answer("discard")
        elif then in OTHERS:
            assert answer == CONTINUE
        else:
            assert answer == Answer("reply", f"{then}%\0".encode())
            assert f"{line['code']} {line['enhanced']}" == then[:9]
        assert line["source"] == "rule"
        assert set(answers.values()) <= {CONTINUE}


class TestDecisions:
    def test_without_a_matching_rule_nothing_is_objected_to(self, run: Run) -> None:
        milter = run(*(rule(stage, "550 5.7.1 No", "client_port == 1") for stage in STAGES))
        with milter.client() as client:
            assert walk(client) == dict.fromkeys(STAGES, CONTINUE)
        assert [(a["stage"], a["source"]) for a in milter.answers(6)] == [
            (stage, "default") for stage in STAGES
        ]

    def test_without_rules_nothing_is_decided_or_counted(self, run: Run) -> None:
        milter = run()
        with milter.client() as client:
            assert walk(client) == QUIET
        assert milter.rest() == []

    def test_a_refused_recipient_is_none_of_the_message(self, run: Run) -> None:
        milter = run(
            rule("rcpt", "450 4.2.1 Not {recipient}", "recipient_local == 'b'"),
            rule("end-of-data", "550 5.7.1 All", "all_in(recipients, users)"),
        )
        with milter.client() as client:
            client.connect(), client.mail()
            assert client.rcpt(b"<a@x.example>") == CONTINUE
            assert client.rcpt(b"<b@x.example>") == Answer("reply", b"450 4.2.1 Not b@x.example\0")
            assert client.rcpt(b'<"c"@x.example>') == CONTINUE
            assert client.message().answer.text == "550 5.7.1 All"
        assert milter.answers(4)[-1]["attributes"]["recipients"] == ["a@x.example", "c@x.example"]

    def test_no_reply_is_kept_for_another_recipient(self, run: Run) -> None:
        milter = run(
            rule("rcpt", "450 4.2.1 First", "recipient_local == 'a'"),
            rule("rcpt", "450 4.7.1 Third", "recipient_local == 'c'"),
        )
        with milter.client() as client:
            client.connect(), client.mail()
            answers = [client.rcpt(b"<%c@x.example>" % letter) for letter in b"abc"]
        assert [answer.text for answer in answers if answer] == [
            "450 4.2.1 First",
            "",
            "450 4.7.1 Third",
        ]

    def test_a_bare_postmaster_is_never_refused(self, run: Run) -> None:
        milter = run(rule("rcpt", "550 5.1.1 Nobody"))
        with milter.client() as client:
            client.connect(), client.mail()
            assert client.rcpt(b"<PostMaster>") == CONTINUE
            assert client.rcpt(b"<postmaster@x.example>") != CONTINUE

    def test_facts_come_from_callbacks_and_macros(self, run: Run) -> None:
        expected = {
            "client_address": "2001:db8::1",
            "client_name": "unknown",
            "client_port": "4711",
            "reverse_client_name": "ptr.example",
            "server_address": "192.0.2.25",
            "server_port": "587",
            "helo_name": "h?i?",
            "sender": "a@example.net",
            "size": str(len(b"Subject: test\r\n\r\nHello\r\n")),
            "sasl_method": "PLAIN",
            "sasl_username": "alice",
            "sasl_sender": "alice@example.net",
            "encryption_protocol": "TLSv1.3",
            "encryption_cipher": "AES",
            "encryption_keysize": "256",
            "ccert_subject": "CN",
            "ccert_issuer": "CA",
            "queue_id": "4XyZ",
            "service": "submission",
            "mail_version": "3.7.11",
            "recipient_count": "1",
        }
        text = "|".join(f"{{{fact}}}" for fact in expected)
        milter = run(rule("end-of-data", f"550 5.7.1 {text}"))
        macros = {
            "client_ptr": "ptr.example",
            "daemon_addr": "192.0.2.25",
            "daemon_port": "587",
            "daemon_name": "submission",
            "auth_type": "PLAIN",
            "auth_authen": "alice",
            "auth_author": "alice@example.net",
            "tls_version": "TLSv1.3",
            "cipher": "AES",
            "cipher_bits": "256",
            "cert_subject": "CN",
            "cert_issuer": "CA",
            "i": "4XyZ",
        }
        with milter.client(**macros) as client:
            client.connect(b"[2001:db8::1]", "2001:db8::1", 4711), client.helo(b"h<i>")
            client.mail(b"<@relay:a@example.net>", b"BODY=8BITMIME", b"SIZE=99")
            client.rcpt()
            answer = client.message().answer.text.removeprefix("550 5.7.1 ")
        assert dict(zip(expected, answer.split("|"), strict=True)) == expected

    def test_an_unknown_client_address_is_absent(self, run: Run) -> None:
        milter = run(rule("connect", "550 5.7.1 No", "client_address != '192.0.2.1'"))
        with milter.client() as client:
            assert client.connect_unknown() == CONTINUE
        with milter.client() as client:
            assert client.connect(address="192.0.2.2") != CONTINUE
        assert "client_address" not in milter.answer()["attributes"]

    def test_the_content_is_known_at_the_end(self, run: Run) -> None:
        milter = run(
            rule("end-of-data", "550 5.7.1 Subject {size}", "header('subject') == 'a b'"),
            rule("end-of-data", "550 5.7.1 Attached", "any_in(attachments, programs)"),
            rule("end-of-data", "550 5.7.1 Large", "body_size > '100 KiB'"),
            rule("end-of-data", "554 5.6.9 UTF-8", "utf8_headers"),
            rule("end-of-data", "554 5.6.0 Two", "header_count('From') > 1"),
        )
        with milter.client() as client:
            client.connect()
            for headers, body, expected in (
                ([(b"Subject", "größe".encode())], b"", "554 5.6.9 UTF-8"),
                ([(b"From", b"a"), (b"from", b"b")], b"", "554 5.6.0 Two"),
                ([(b"Subject", b"a\n b")], b"", "550 5.7.1 Subject 18"),
                ([(b"Content-Type", b"image/x; name=a.exe")], b"x", "550 5.7.1 Attached"),
                ([(b"Subject", b"c")], b"x" * 200_000, "550 5.7.1 Large"),
                ([(b"Subject", b"c")], b"x", ""),
            ):
                client.mail(), client.rcpt()
                assert client.message(headers, body).answer.text == expected

    def test_a_queue_id_is_never_the_last_messages(self, run: Run) -> None:
        milter = run(rule("rcpt", "450 4.2.1 [{queue_id}]"))
        with milter.client(i="FIRST") as client:
            client.connect(), client.mail(), client.rcpt()
            client.abort()
            del client.macros["i"]
            client.mail()
            answer = client.rcpt()
        assert answer is not None
        assert answer.text == "450 4.2.1 []"

    @pytest.mark.parametrize("stage", ["data", "end-of-data"])
    def test_a_queue_id_is_the_messages_own(self, run: Run, stage: str) -> None:
        milter = run(rule(stage, "450 4.2.1 [{queue_id}]"))
        with milter.client() as client:
            client.connect(), client.helo()
            for queue_id in ("FIRST", "SECOND"):
                client.macros.pop("i", None)
                client.mail(), client.rcpt()
                client.macros["i"] = queue_id
                answer = client.data() or client.message().answer
                assert answer.text == f"450 4.2.1 [{queue_id}]"
                client.abort()


class TestNegotiation:
    def test_what_no_rule_needs_is_negotiated_away(self, run: Run) -> None:
        milter = run(rule("end-of-data", "550 5.7.1 No", "client_address == '192.0.2.1'"))
        with milter.client() as client:
            asked = client.negotiated
            assert asked.version == 6
            assert asked.actions == Actions.NAME_MACROS
            assert Steps(asked.steps) == (
                Steps.SILENT_CONNECT
                | Steps.NO_HELO
                | Steps.NO_MAIL
                | Steps.NO_RCPT
                | Steps.NO_DATA
                | Steps.NO_HEADER
                | Steps.NO_END_OF_HEADER
                | Steps.NO_BODY
                | Steps.NO_UNKNOWN
            )
            assert asked.macros == {}

    def test_actions_are_asked_for_by_verb(self, run: Run) -> None:
        milter = run(
            rule("end-of-data", "prepend X-A: b", "client_port == 1"),
            rule("data", "hold for a look", "client_port == 1"),
            rule("mail", "redirect a@example.org", "client_port == 1"),
        )
        with milter.client() as client:
            assert Actions(client.negotiated.actions) == (
                Actions.ADD_HEADERS
                | Actions.QUARANTINE
                | Actions.ADD_RECIPIENTS
                | Actions.DELETE_RECIPIENTS
                | Actions.NAME_MACROS
            )

    def test_an_mta_that_can_do_little_is_served_too(self, run: Run) -> None:
        milter = run(rule("end-of-data", "550 5.7.1 {helo_name}", "header('Subject') == 'test'"))
        with MilterClient(milter.path, steps=0x3F, actions=0x3F) as client:
            assert client.negotiated.steps & ~0x3F == 0
            answers = walk(client)
        assert answers["helo"] == CONTINUE  # silence was not on offer
        assert answers["end-of-data"] == Answer("reply", b"550 5.7.1 client.example\0")

    def test_silent_callbacks_are_silent(self, run: Run) -> None:
        milter = run(rule("end-of-data", "accept", "any_in(recipients, users)"))
        with milter.client() as client:
            client.connect(), client.helo(), client.mail(), client.rcpt()
            assert client.silent(0.2)
            assert client.message().answer == CONTINUE

    def test_a_session_keeps_its_policy_over_a_reload(self, run: Run) -> None:
        milter = run(rule("rcpt", "450 4.2.1 Old"), more=[rule("end-of-data", "550 5.7.1 New")])
        with milter.client() as client:
            client.connect(), client.mail()
            milter.order("reload")
            assert client.rcpt() == Answer("reply", b"450 4.2.1 Old\0")
            client.abort()
            client.mail()
            assert client.rcpt() == Answer("reply", b"450 4.2.1 Old\0")
        with milter.client() as client:
            assert walk(client)["end-of-data"] == Answer("reply", b"550 5.7.1 New\0")


class TestChanges:
    def test_verbs_of_all_stages_are_carried_out_at_the_end(self, run: Run) -> None:
        milter = run(
            rule("connect", "hold from there"),
            rule("mail", "bcc a@example.org"),
            rule("rcpt", "bcc b@example.org", whole_message=True),
            rule("data", "redirect c@example.org"),
            rule("end-of-data", "prepend X-Note: {client_address}"),
        )
        with milter.client() as client:
            client.connect(), client.helo(), client.mail()
            client.rcpt(b'<"q q"@x.example>'), client.rcpt(b"<@relay:u@x.example>"), client.data()
            ended = client.message()
        assert ended.answer == CONTINUE
        assert [(change.name, *change.strings) for change in ended.changes] == [
            ("delete recipient", '<"q q"@x.example>'),
            ("delete recipient", "<u@x.example>"),
            ("add recipient", "<c@example.org>"),
            ("add recipient", "<a@example.org>"),
            ("add recipient", "<b@example.org>"),
            ("insert header", "", "", "", "", "X-Note", "192.0.2.1"),
            ("quarantine", "from there"),
        ]

    def test_an_aborted_message_leaves_nothing_to_the_next(self, run: Run) -> None:
        milter = run(
            rule("mail", "hold that sender", "sender == 'a@example.net'"),
            rule("end-of-data", "550 5.7.1 {recipient_count}", "recipient_count != 1"),
        )
        with milter.client() as client:
            client.connect(), client.mail(b"<a@example.net>"), client.rcpt()
            client.abort()
            client.mail(b"<b@example.net>"), client.rcpt()
            assert client.message() == Ended(CONTINUE)
            client.mail(b"<a@example.net>"), client.rcpt()
            assert client.message().changes == (Answer("quarantine", b"that sender\0"),)
            client.mail(b"<b@example.net>"), client.rcpt()
            assert client.message() == Ended(CONTINUE)

    def test_what_the_session_is_held_for_holds_each_message(self, run: Run) -> None:
        milter = run(rule("helo", "hold that name"))
        with milter.client() as client:
            client.connect(), client.helo()
            for _ in range(2):
                client.mail(), client.rcpt()
                assert client.message().changes == (Answer("quarantine", b"that name\0"),)

    def test_a_refused_message_is_not_changed(self, run: Run) -> None:
        milter = run(rule("mail", "hold for a look"), rule("end-of-data", "550 5.7.1 No"))
        with milter.client() as client:
            client.connect(), client.mail(), client.rcpt()
            assert client.message() == Ended(Answer("reply", b"550 5.7.1 No\0"))

    def test_a_change_that_fails_defers_the_message(self, run: Run) -> None:
        milter = run(rule("data", "redirect c@example.org"))
        with milter.client() as client:
            client.connect(), client.mail(), client.rcpt(b"<\xe9@x.example>"), client.data()
            assert client.message().answer.text.startswith("451 4.3.0 ")
        assert [a["source"] for a in milter.answers(2)] == ["rule", "error"]


class TestLocalSubmissions:
    @pytest.mark.parametrize("address", ["127.0.0.1", "::1"])
    def test_they_pass_without_rules(self, run: Run, address: str) -> None:
        milter = run(*(rule(stage, "550 5.7.1 No") for stage in STAGES))
        with milter.client() as client:
            answers = walk(client, name=b"localhost", address=address, port=0)
        assert answers == dict.fromkeys(STAGES, CONTINUE)
        assert milter.rest() == []

    def test_rules_that_test_for_them_reject(self, run: Run) -> None:
        milter = run(
            rule("end-of-data", "550 5.7.1 {sender}", "local_submission and sender != ''"),
        )
        with milter.client() as client:
            client.connect(b"localhost", "127.0.0.1", 0), client.mail(b"a@example.org")
            client.rcpt(b"b@example.org")
            assert client.message().answer.text == "550 5.7.1 a@example.org"
        with milter.client() as client:
            assert walk(client)["end-of-data"] == CONTINUE

    def test_a_fault_of_ours_does_not_hold_them_up(self, run: Run) -> None:
        milter = run(rule("end-of-data", "550 5.7.1 No", "local_submission and raises()"))
        with milter.client() as client:
            answers = walk(client, address="127.0.0.1", port=0)
        assert answers["end-of-data"] == CONTINUE
        assert milter.answer()["source"] == "error"


FAULT = "451 4.3.0 Temporary policy failure, please try again later"


class TestFaults:
    @pytest.mark.parametrize("stage", STAGES)
    @pytest.mark.parametrize("check", ["raises()", "exits()"])
    def test_an_exception_in_a_check_is_answered_451(
        self, run: Run, stage: str, check: str
    ) -> None:
        milter = run(rule(stage, "550 5.7.1 No", check))
        with milter.client() as client:
            answer = walk(client)[stage]
        assert answer == Answer("reply", f"{FAULT}\0".encode())
        counted = milter.answer()
        assert (counted["stage"], counted["source"]) == (stage, "error")
        assert (counted["code"], counted["enhanced"]) == ("451", "4.3.0")
        assert milter.rest() == []

    @pytest.mark.parametrize("callback", ["connect", "hello", "mail", "rcpt", "header", "body"])
    @pytest.mark.parametrize("error", ["RuntimeError", "SystemExit"])
    def test_an_exception_in_a_silent_callback_is_answered_by_the_next_that_replies(
        self, run: Run, callback: str, error: str
    ) -> None:
        condition = (
            "helo_name != '' and sender != '' and recipient_count > 0"
            " and body_size > 0 and header('a') == ''"
        )
        milter = run(rule("end-of-data", "550 5.7.1 No", condition), broken=[callback, error])
        with milter.client() as client:
            answers = walk(client)
        assert set(answers.values()) == {None, Answer("reply", f"{FAULT}\0".encode())}
        assert milter.answer()["source"] == "error"
        assert set(milter.errors) == {"internal"}

    @pytest.mark.parametrize("callback", ["end_of_message", "rcpt", "data", "mail"])
    def test_an_exception_in_a_callback_is_answered_451(self, run: Run, callback: str) -> None:
        stages = {"end_of_message": "end-of-data"}
        stage = stages.get(callback, callback)
        milter = run(rule(stage, "550 5.7.1 No"), broken=[callback, "RuntimeError"])
        with milter.client() as client:
            assert walk(client)[stage] == Answer("reply", f"{FAULT}\0".encode())
        counted = milter.answer()
        assert (counted["stage"], counted["source"]) == (stage, "error")

    def test_a_bare_postmaster_is_not_refused_for_a_fault_of_ours(self, run: Run) -> None:
        milter = run(rule("rcpt", "accept"), broken=["_known", "RuntimeError"])
        with milter.client() as client:
            client.connect(), client.mail()
            assert client.rcpt(b"<Postmaster>") == CONTINUE
            assert client.rcpt(b"<a@x.example>") == Answer("reply", f"{FAULT}\0".encode())
        assert [a["attributes"]["recipient"] for a in milter.answers(2)] == [
            "Postmaster",
            "a@x.example",
        ]

    @pytest.mark.parametrize("callback", ["fault", "broken"])
    def test_even_a_fault_in_answering_a_fault_has_our_answer(
        self, run: Run, callback: str
    ) -> None:
        milter = run(rule("rcpt", "550 5.7.1 No", "exits()"), broken=[callback, "SystemExit"])
        with milter.client() as client:
            assert walk(client)["rcpt"] == Answer("reply", f"{FAULT}\0".encode())

    def test_an_exception_in_the_negotiation_closes_the_connection(self, run: Run) -> None:
        milter = run(rule("rcpt", "accept"), broken=["__init__", "RuntimeError"])
        with pytest.raises(MilterClosedError):
            milter.client()
        assert milter.rest() == []
        assert set(milter.errors) == {"internal"}

    def test_exceptions_at_abort_and_close_are_told_and_harm_nothing(self, run: Run) -> None:
        milter = run(rule("rcpt", "accept"), broken=["abort", "SystemExit"])
        with milter.client() as client:
            client.connect(), client.mail(), client.rcpt()
            client.abort()
            client.mail()
            assert client.rcpt() == CONTINUE


LONG = 65_000
"""As long as a text can be: libmilter takes packets of 65,535 octets (MILTER_MAX_DATA_SIZE)."""

HOSTILE = [
    b"a\rb\nc",
    b"a\r\nb: c",
    b"%s%n%%d%",
    b"\xff\xfe\xed\xa0\x80",
    b"\x01\x1b[31m\x7f\x80",
    "Grüße 日本".encode(),
    b"x" * LONG,
    b'<"@\\(;',
    b" ",
    b"",
    b"550 5.7.1 mine",
]


@pytest.fixture(scope="class")
def showing(tmp_path_factory: pytest.TempPathFactory) -> Iterator[RunningMilter]:
    """A milter that shows at RCPT what a client can write, and at the end looks at the content."""
    shown = "{client_name} {helo_name} {sender} {recipient} {sasl_username} {service}"
    rules = (
        rule("rcpt", f"450 4.2.1 Not {shown}", "client_port != 1"),
        rule("end-of-data", "prepend X-Note: {sender}", "any_in(attachments, programs)"),
        rule("end-of-data", "550 5.7.1 No", "header('Subject') == 'no' or size > '1 GiB'"),
    )
    with RunningMilter(tmp_path_factory.mktemp("milter"), *rules) as milter:
        yield milter


class TestHostileBytes:
    @pytest.mark.parametrize("octets", HOSTILE)
    def test_in_any_text_they_make_no_other_code_and_no_second_line(
        self, showing: RunningMilter, octets: bytes
    ) -> None:
        more = [octets] if len(octets) < LONG else []
        with showing.client(auth_authen=octets, daemon_name=octets) as client:
            client.connect(octets), client.helo(octets)
            client.mail(b"<" + octets + b">", *more)
            client.abort()
            client.mail(octets, *more)
            for recipient in (octets, b"<" + octets + b">"):
                answer = client.rcpt(recipient, *more)
                assert answer is not None
                assert answer.name == "reply"
                assert answer.content[:13] == b"450 4.2.1 Not"
                text = answer.content[:-1].decode()
                assert text.isprintable()
                assert len(text.replace("%%", "%").encode()) <= 510
                assert "%" not in text.replace("%%", "")
        assert {line["source"] for line in showing.rest()} == {"rule"}

    @pytest.mark.parametrize("octets", HOSTILE)
    def test_in_any_content_they_make_no_other_code(
        self, showing: RunningMilter, octets: bytes
    ) -> None:
        with showing.client() as client:
            client.connect(port=1), client.mail(octets), client.rcpt()
            headers = [
                (b"Subject", octets),
                (b"Content-Type", b"image/x; name=" + octets),
                (b"Content-Type", b"image/x; name=a.exe"),
            ]
            if 0 < len(octets) < LONG:
                headers.append((octets, octets))
            ended = client.message(headers, octets * 3)
            assert ended.answer == CONTINUE
            assert {line["source"] for line in showing.rest()} <= {"rule", "default"}
            for change in ended.changes:
                assert change.content[4:].count(b"\0") == 2
                assert change.text.isprintable() or "\0" in change.text

    def test_what_is_no_milter_protocol_ends_its_session_alone(self, run: Run) -> None:
        milter = run(rule("rcpt", "450 4.2.1 Later"))
        with milter.client() as client:
            client.connect(), client.mail()
            for octets in (
                b"GET / HTTP/1.1\r\n\r\n",
                struct.pack("!I", 0xFFFFFFFF) + b"M",
                struct.pack("!I", 0),
                packet(b"?"),
                packet(b"O", b"\0"),
                packet(b"C", b"x"),
                packet(b"C", strings(b"name") + b"4" + b"\0\0" + strings(b"no address")),
                packet(b"D", b"M"),
                packet(b"R", b"no end"),
            ):
                with socket.socket(socket.AF_UNIX) as visitor:
                    visitor.connect(milter.path)
                    visitor.sendall(octets)
                with contextlib.suppress(OSError), milter.client() as other:
                    other.send(octets)
            assert client.rcpt() == Answer("reply", b"450 4.2.1 Later\0")

    def test_a_helo_name_that_is_not_utf_8_is_decided_at_mail(self, run: Run) -> None:
        milter = run(rule("helo", "550 5.7.1 Not {helo_name}", "helo_name == 'caf?.example'"))
        with milter.client() as client:
            client.connect()
            assert client.helo(b"good.example") == CONTINUE
            assert client.mail() == CONTINUE
            client.abort()
            assert client.helo(b"caf\xe9.example") == CONTINUE
            for _ in range(2):
                assert client.mail() == Answer("reply", b"550 5.7.1 Not caf?.example\0")
            assert client.helo(b"good.example") == CONTINUE
            assert client.mail() == CONTINUE
        assert [a["verdict"] for a in milter.answers(4)] == ["pass", "reject", "reject", "pass"]

    def test_a_silent_helo_that_is_not_utf_8_is_shown_as_postfix_shows_it(self, run: Run) -> None:
        milter = run(rule("rcpt", "550 5.7.1 Not {helo_name}"))
        with milter.client() as client:
            client.connect(), client.helo(b"caf\xc3\xa9\xe9"), client.mail()
            assert client.rcpt() == Answer("reply", b"550 5.7.1 Not caf???\0")

    def test_a_macro_that_is_not_utf_8_is_read(self, run: Run) -> None:
        milter = run(rule("mail", "550 5.7.1 Not {sasl_username}", "sasl_username != ''"))
        with milter.client(auth_authen=b"\xe9ve") as client:
            client.connect()
            assert client.mail() == Answer("reply", b"550 5.7.1 Not ?ve\0")

    def test_other_texts_that_are_not_utf_8_are_counted(self, run: Run) -> None:
        milter = run(rule("end-of-data", "accept", "header('Subject') == 'a'"))
        with milter.client() as client:
            client.connect(b"\xff"), client.mail(), client.rcpt()
            ended = client.message([(b"Subject", b"a"), (b"\xff", b"b"), (b"X", b"\xff")])
            assert ended.answer == CONTINUE
        assert milter.answer()["verdict"] == "accept"
        assert milter.errors == ["not-utf-8", "not-utf-8"]


class TestManySessions:
    def test_200_at_once_are_each_answered_and_leave_nothing_behind(self, run: Run) -> None:
        milter = run(rule("rcpt", "450 4.2.1 Later {recipient_local}"))
        together = threading.Barrier(200)

        def session(number: int) -> bool:
            with milter.client() as client:
                client.connect(), client.mail()
                together.wait(10)
                answer = client.rcpt(b"<%d@x.example>" % number)
                return answer == Answer("reply", b"450 4.2.1 Later %d\0" % number)

        with milter.client() as client:
            client.connect()
        time.sleep(0.3)
        before = milter.descriptors()
        with ThreadPoolExecutor(200) as pool:
            assert all(pool.map(session, range(200)))
        milter.answers(200)
        deadline = time.monotonic() + 5
        while milter.descriptors() > before and time.monotonic() < deadline:
            time.sleep(0.05)
        assert milter.descriptors() <= before


def free_port() -> int:
    with socket.create_server(("127.0.0.1", 0)) as free:
        return int(free.getsockname()[1])


class TestASocketOfLibmiltersOwn:
    """Where libmilter takes no descriptor it opens a socket by itself."""

    def test_a_stale_one_is_replaced_and_a_live_one_is_not(self, tmp_path: Path, run: Run) -> None:
        endpoint = f"unix:{tmp_path}/milter.sock"
        with socket.socket(socket.AF_UNIX) as stale:
            stale.bind(str(tmp_path / "milter.sock"))
        milter = run(rule("rcpt", "accept"), endpoint=endpoint)
        second = RunningMilter(tmp_path, rule("rcpt", "accept"), endpoint=endpoint)
        _, complaint = second.process.communicate(timeout=15)
        assert second.process.returncode == 1
        assert "another server listens on this socket" in complaint
        with milter.client() as client:
            assert client.connect() is None

    def test_it_has_its_mode_and_goes_when_the_milter_is_drained(
        self, tmp_path: Path, run: Run
    ) -> None:
        milter = run(endpoint=f"unix:{tmp_path}/milter.sock", socket={"socket_mode": 0o600})
        assert Path(milter.path).stat().st_mode & 0o777 == 0o600
        milter.order("drain")
        assert not Path(milter.path).exists()
        milter.until("idle")

    @pytest.mark.parametrize("host", ["127.0.0.1", "[::1]"])
    def test_it_can_be_tcp(self, run: Run, host: str) -> None:
        port = free_port()
        run(rule("rcpt", "450 4.2.1 Later"), endpoint=f"inet:{host}:{port}")
        with MilterClient((host.strip("[]"), port)) as client:
            assert walk(client)["rcpt"] == Answer("reply", b"450 4.2.1 Later\0")

    def test_an_endpoint_in_use_is_named(self, tmp_path: Path) -> None:
        with socket.create_server(("127.0.0.1", 0)) as busy:
            endpoint = f"inet:127.0.0.1:{busy.getsockname()[1]}"
            milter = RunningMilter(tmp_path, endpoint=endpoint)
            _, complaint = milter.process.communicate(timeout=15)
        assert milter.process.returncode == 1
        assert endpoint in complaint

    @pytest.mark.parametrize("kind", ["fd", "no-such-kind"])
    def test_whether_that_is_needed_can_be_asked(self, kind: str) -> None:
        program = (
            "import milter; from policyd.serve.milter import takes_descriptors\n"
            "setconn = milter.setconn\n"
            f"milter.setconn = lambda name: setconn(name.replace('fd', {kind!r}))\n"
            "print(takes_descriptors())"
        )
        told = subprocess.run([sys.executable, "-c", program], stdout=subprocess.PIPE, check=True)
        assert told.stdout.decode().strip() == str(kind == "fd")

    def test_a_socket_is_not_handed_over_in_vain(self, tmp_path: Path) -> None:
        milter = RunningMilter(tmp_path, without_fd=True)
        _, complaint = milter.process.communicate(timeout=15)
        assert milter.process.returncode == 1
        assert "libmilter takes no descriptor" in complaint

"""Messages that checks read, through the milter: their octets, and what is kept of them."""

import contextlib
import hashlib
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.serve.milter_running import RunningMilter
from tools.milter_client import ALL_STEPS, Answer, MilterClient

LEADING_SPACE = 0x100000
DIGEST = {"stage": "end-of-data", "when": "digest()", "then": "550 5.7.1 {digest}"}
HEADERS = (
    (b"Subject", b" folded\n\tand folded "),
    (b"X-Tab", b"\tvalue"),
    (b"X-None", b"value"),
    (b"X-Two", b"  value"),
    (b"X-Raw", b" caf\xe9 "),
    (b"X-Empty", b""),
)
ARRIVED = (
    b"Subject: folded\r\n\tand folded \r\nX-Tab:\tvalue\r\nX-None:value\r\nX-Two:  value\r\n"
    b"X-Raw: caf\xe9 \r\nX-Empty:\r\n\r\n"
)
BODY = b"Hello\r\n.\r\n\0\r\n"

Run = Callable[..., RunningMilter]


@pytest.fixture
def run(tmp_path: Path) -> Iterator[Run]:
    with contextlib.ExitStack() as stack:

        def start(*rules: dict[str, Any], **given: Any) -> RunningMilter:
            return stack.enter_context(RunningMilter(tmp_path, *rules, **given))

        yield start


def reply(octets: bytes) -> str:
    return f"550 5.7.1 {len(octets)} {hashlib.sha256(octets).hexdigest()}"


def sent(client: MilterClient, body: bytes = BODY, **given: Any) -> str:
    client.mail(), client.rcpt()
    return client.message(given.get("headers", HEADERS), body).answer.text


def test_a_check_reads_what_the_client_sent(run: Run) -> None:
    milter = run(DIGEST)
    with milter.client() as client:
        assert client.negotiated.steps & LEADING_SPACE
        client.connect(), client.helo()
        assert sent(client) == reply(ARRIVED + BODY)


def test_an_mta_that_eats_the_space_is_taken_to_have_eaten_one(run: Run) -> None:
    milter = run(DIGEST)
    with MilterClient(milter.path, steps=ALL_STEPS & ~LEADING_SPACE) as client:
        assert not client.negotiated.steps & LEADING_SPACE
        client.connect(), client.helo()
        told = ((b"Subject", b"folded\n\tand folded "), (b"X-Two", b" value"))
        whole = b"Subject: folded\r\n\tand folded \r\nX-Two:  value\r\n\r\n" + BODY
        assert sent(client, headers=told) == reply(whole)


def test_other_facts_are_the_same_as_without_the_message(run: Run) -> None:
    milter = run(
        {"stage": "end-of-data", "when": "header('Subject') == 'A' and size == 18", "then": "pass"},
        DIGEST,
    )
    with milter.client() as client:
        client.connect(), client.helo()
        assert sent(client, b"Hi\r\n", headers=((b"Subject", b" A"),)) == ""


@pytest.mark.parametrize(("when", "value"), [("digest()", b" yes"), ("", b"yes")])
def test_what_is_added_has_the_space_that_the_mta_no_longer_adds(
    run: Run, when: str, value: bytes
) -> None:
    milter = run({"stage": "end-of-data", "when": when, "then": "prepend X-Seen: yes"})
    with milter.client() as client:
        client.connect(), client.helo(), client.mail(), client.rcpt()
        changes = client.message().changes
    assert changes == (Answer("insert header", b"\0\0\0\0X-Seen\0" + value + b"\0"),)


def test_each_message_of_a_session_is_itself(run: Run) -> None:
    milter = run(DIGEST)
    with milter.client() as client:
        client.connect(), client.helo()
        for number in range(5):
            if number == 2:  # one that was given up after its first chunk
                client.mail(), client.rcpt()
                client.header(b"Subject", b" never")
                client.body(b"never")
                client.abort()
            body = bytes([65 + number]) * (number * 700_000) + b"\r\n"
            assert sent(client, body) == reply(ARRIVED + body)


def test_a_message_is_let_go_with_its_end(run: Run) -> None:
    milter = run(DIGEST)
    with milter.client() as client:
        client.connect(), client.helo()
        sent(client)
        before = milter.descriptors()
        for _ in range(3):
            sent(client, b"x" * 3_000_000)
            assert milter.descriptors() == before
        client.mail(), client.rcpt(), client.data()
        client.header(b"A", b" b")
        client.body(b"x" * 3_000_000)
        client.abort()
        sent(client, b"")
        assert milter.descriptors() == before


def test_messages_that_come_at_once_keep_apart(run: Run) -> None:
    milter = run(DIGEST)
    with contextlib.ExitStack() as stack:
        clients = [stack.enter_context(milter.client()) for _ in range(8)]
        for client in clients:
            client.connect(), client.helo(), client.mail(), client.rcpt()
        for _ in range(30):
            for number, client in enumerate(clients):
                client.body(bytes([65 + number]) * 60_000)
        for number, client in enumerate(clients):
            body = bytes([65 + number]) * 1_800_000
            assert client.end().answer.text == reply(b"\r\n" + body)


def test_without_room_the_check_fails_and_its_rule_says_what_then(tmp_path: Path) -> None:
    nowhere = tmp_path / "nowhere"
    rules = (
        {**DIGEST, "when": "digest()", "on_error": "451 4.3.1 No room"},
        {"stage": "end-of-data", "then": "550 5.7.1 Not reached"},
    )
    with RunningMilter(tmp_path, *rules, tempdir=str(nowhere)) as milter:
        with milter.client() as client:
            client.connect(), client.helo()
            assert sent(client, b"x" * 2_000_000) == "451 4.3.1 No room"
            assert sent(client) == reply(ARRIVED + BODY)
        refused, _ = milter.answers(2)
        assert refused["source"] == "rule"
        assert "the message cannot be read: No such file or directory" in refused["reason"]

"""What is written is what is counted: 10,000 random requests on several connections."""

import random
import socket
from collections import Counter
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from tools.policyd_process import PolicydProcess, free_port

pytestmark = pytest.mark.integration

REQUESTS = 10_000
CONNECTIONS = 8
POLICY = """
[policy_service]
listen = ["inet:127.0.0.1:{port}"]
[metrics]
listen = "127.0.0.1:{metrics}"
[log]
format = "json"

[[rule]]
name = "session"
stage = "connect"
when = "client_address in '192.0.2.0/28'"
then = "accept"
[[rule]]
name = "helo"
stage = "helo"
when = "helo_name == 'bad.example'"
then = "550 5.7.1 Forged name"
[[rule]]
name = "points"
stage = "mail"
when = "sender == ''"
then = "score 2"
[[rule]]
name = "unknown"
stage = ["rcpt", "vrfy"]
when = "recipient_local == 'nobody'"
then = "mailbox-unknown"
[[rule]]
name = "watched"
stage = "rcpt"
when = "sender_domain == 'example.net'"
then = "greylisted"
mode = "shadow"
[[rule]]
name = "limit"
stage = "rcpt"
when = "score >= 2"
then = "if_permitted 450 4.7.1 Bounces are limited"
[[rule]]
name = "big"
stage = ["data", "end-of-data"]
when = "size > '1 MiB'"
then = "554 5.3.4 Too big"
[[rule]]
name = "copy"
stage = "data"
when = "recipient_count > 3"
then = "bcc archive@example.org"
[[rule]]
name = "etrn"
stage = "etrn"
then = "459 4.5.0 Not here"
"""
STATES = ("CONNECT", "HELO", "EHLO", "MAIL", "RCPT", "DATA", "END-OF-MESSAGE", "VRFY", "ETRN", "X")
CONTEXTS = ("", "", "", "stage=mail", "stage=helo;list=helo", "list=sender", "stage=data", "hello")


def request(rng: random.Random) -> bytes:
    attributes = {
        "request": "smtpd_access_policy",
        "protocol_state": rng.choice(STATES),
        "client_address": f"192.0.2.{rng.randrange(64)}",
        "helo_name": rng.choice(("bad.example", "good.example", "")),
        "sender": rng.choice(("", "a@example.net", "b@example.com")),
        "recipient": rng.choice(("nobody@example.org", "jo@example.org", "postmaster", "")),
        "size": str(rng.choice((0, 5000, 10_000_000))),
        "recipient_count": str(rng.randrange(6)),
        "instance": f"1.{rng.randrange(100)}",
        "policy_context": rng.choice(CONTEXTS),
    }
    return ("".join(f"{k}={v}\n" for k, v in attributes.items()) + "\n").encode()


def conversation(port: int, seed: int) -> Counter[str]:
    """Ask on one connection, sometimes several requests at once; count the answers."""
    rng = random.Random(seed)
    answers: Counter[str] = Counter()
    left = REQUESTS // CONNECTIONS
    with socket.create_connection(("127.0.0.1", port), timeout=20) as connection:
        stream = connection.makefile("rb")
        while left:
            batch = min(left, rng.choice((1, 1, 1, 5, 40)))
            octets = b"".join(request(rng) for _ in range(batch))
            cut = rng.randrange(len(octets))
            connection.sendall(octets[:cut])
            connection.sendall(octets[cut:])
            for _ in range(batch):
                action = stream.readline().decode()
                assert action.startswith("action=")
                assert stream.readline() == b"\n"
                answers[action.removeprefix("action=").rstrip("\n")] += 1
            left -= batch
    return answers


@pytest.fixture
def policyd(tmp_path: Path) -> Iterator[tuple[PolicydProcess, int]]:
    port, metrics = free_port(), free_port()
    configuration = tmp_path / "policyd.toml"
    configuration.write_text(POLICY.format(port=port, metrics=metrics))
    with PolicydProcess(configuration, f"127.0.0.1:{metrics}") as process:
        yield process, port


def pair_of(action: str) -> tuple[str, str]:
    words = action.split()
    if words[0] == "DEFER_IF_PERMIT":
        return "450", words[1]
    return (words[0], words[1]) if words[0].isdigit() else ("", "")


def test_the_replies_counted_are_the_answers_written(policyd: tuple[PolicydProcess, int]) -> None:
    process, port = policyd
    with ThreadPoolExecutor(CONNECTIONS) as pool:
        answers = sum(pool.map(conversation, [port] * CONNECTIONS, range(CONNECTIONS)), Counter())
    assert answers.total() == REQUESTS
    written = Counter[tuple[str, str]]()
    for action, count in answers.items():
        written[pair_of(action)] += count
    assert len(written) >= 5, written

    counted = Counter[tuple[str, str]]()
    for labels, value in process.samples("policyd_replies_total").items():
        counted[dict(labels)["code"], dict(labels)["enhanced"]] += int(value)
    assert +counted == written
    assert sum(process.samples("policyd_dropped_total").values()) == 0
    assert sum(process.samples("policyd_request_duration_seconds_count").values()) == REQUESTS

    decisions = process.decisions()
    logged = Counter((d.get("code", ""), d.get("enhanced", "")) for d in decisions)
    assert logged == written
    assert len({d["id"] for d in decisions}) == REQUESTS

    matched = Counter(
        hit["rule"] for d in decisions for hit in d.get("also", ()) if hit["mode"] == "shadow"
    )
    shadowed = {
        dict(labels)["rule"]: value
        for labels, value in process.samples("policyd_rule_replies_total").items()
        if dict(labels)["mode"] == "shadow"
    }
    assert matched["watched"] > 0
    assert shadowed == matched

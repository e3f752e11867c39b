"""The policy load generator counts truthfully, asks as Postfix does, and always ends."""

import collections
import socket
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from bench.programs import Load, ProgramError, load

pytestmark = pytest.mark.integration

Serve = Callable[[Callable[[socket.socket], None]], str]

NULL_SERVERS = ["null C", "null uvloop", "null uvloop, parsing"]

# SMTPD_POLICY_README and check_policy_service() of Postfix 3.7: all attributes, in its order.
ATTRIBUTES = """
    request protocol_state protocol_name client_address client_name client_port
    reverse_client_name server_address server_port helo_name sender recipient recipient_count
    queue_id instance size etrn_domain stress sasl_method sasl_username sasl_sender ccert_subject
    ccert_issuer ccert_fingerprint ccert_pubkey_fingerprint encryption_protocol encryption_cipher
    encryption_keysize policy_context
""".split()  # noqa: SIM905  # so many names are easier to compare as Postfix's own list


def requests_of(connection: socket.socket) -> Iterator[bytes]:
    """Read one request after the other, up to the empty line, until the peer closes."""
    unread = b""
    while octets := connection.recv(65536):
        unread += octets
        while b"\n\n" in unread:
            request, _, unread = unread.partition(b"\n\n")
            yield request


def answering(*answers: bytes) -> Callable[[socket.socket], None]:
    """Answer a connection's requests with these in turn, then close it."""

    def converse(connection: socket.socket) -> None:
        for answer, _ in zip(answers, requests_of(connection), strict=False):
            connection.sendall(answer)

    return converse


def run(programs: dict[str, Path], address: str, *options: str, **limits: float) -> Load:
    seconds = limits.get("seconds", 10)
    at_once = int(limits.get("at_once", 1))
    grace = limits.get("grace", 0.5)
    return load(
        programs["policy_load"],
        address,
        at_once=at_once,
        seconds=seconds,
        options=options,
        grace=grace,
    )


@pytest.mark.parametrize("at_once", [1, 20, 100])
@pytest.mark.parametrize("name", NULL_SERVERS)
def test_a_null_responder_answers_every_request(
    programs: dict[str, Path], null_policy: Callable[[str], str], name: str, at_once: int
) -> None:
    done = run(programs, null_policy(name), "-n", "5000", at_once=at_once)

    assert done.answered == 5000
    assert done.rest["requests"] == 5000
    assert done.answers == {"DUNNO": 5000}
    assert (done.unanswered, done.errors) == (0, {})
    assert done.rest["unserved_connections"] == 0


def test_it_counts_as_many_requests_as_the_server_reads(
    programs: dict[str, Path], serve: Serve
) -> None:
    read = collections.Counter[str]()

    def converse(connection: socket.socket) -> None:
        for _ in requests_of(connection):
            read[threading.current_thread().name] += 1
            connection.sendall(b"action=DUNNO\n\n")

    done = run(programs, serve(converse), seconds=0.3, at_once=7)

    assert done.answered == done.rest["requests"] == read.total() > 0
    assert len(read) == 7


def test_the_rate_and_the_percentiles_are_of_the_answers_delay(
    programs: dict[str, Path], serve: Serve
) -> None:
    def converse(connection: socket.socket) -> None:
        for _ in requests_of(connection):
            time.sleep(0.05)
            connection.sendall(b"action=DUNNO\n\n")

    done = run(programs, serve(converse), "-n", "20", at_once=2)

    assert 50 <= done.latency["p50"] <= done.latency["p99"] <= done.latency["max"] * 1.01
    assert done.rate <= 40
    assert done.rate * done.rest["seconds"] == pytest.approx(20, rel=0.01)


def test_connections_closed_after_some_answers_are_errors_and_the_run_ends(
    programs: dict[str, Path], serve: Serve
) -> None:
    began = time.monotonic()
    address = serve(answering(*[b"action=DUNNO\n\n"] * 5))
    done = run(programs, address, at_once=4, seconds=30)

    assert time.monotonic() - began < 10
    assert done.answered == 4 * 5
    assert done.unanswered == 4
    assert done.errors == {"closed": 4}


def test_a_silent_server_costs_the_time_and_the_grace_no_more(
    programs: dict[str, Path], serve: Serve
) -> None:
    def silent(connection: socket.socket) -> None:
        while connection.recv(65536):
            pass

    began = time.monotonic()
    done = run(programs, serve(silent), at_once=3, seconds=0.5, grace=0.5)

    assert 1.0 <= time.monotonic() - began < 3
    assert (done.answered, done.unanswered, done.rate) == (0, 3, 0)
    assert done.rest["unserved_connections"] == 3


def test_without_a_listener_each_connection_is_an_error(programs: dict[str, Path]) -> None:
    with socket.create_server(("127.0.0.1", 0)) as closed:
        address = f"inet:127.0.0.1:{closed.getsockname()[1]}"
    done = run(programs, address, at_once=3, seconds=30)

    assert done.errors == {"connect": 3}
    assert done.rest["requests"] == 0


def test_answers_are_counted_by_their_first_word(programs: dict[str, Path], serve: Serve) -> None:
    answers = [
        b"action=DUNNO\n\n",
        b"action=450 4.2.0 Greylisted, please retry\n\n",
        b"note=skipped\naction=DUNNO\n\n",
        b"action=DEFER_IF_PERMIT 4.7.1 Later\naction=REJECT\n\n",
    ]
    done = run(programs, serve(answering(*answers)), "-n", "4")

    assert done.answers == {"DUNNO": 2, "450": 1, "DEFER_IF_PERMIT": 1}
    assert done.errors == {}


@pytest.mark.parametrize(
    ("answer", "error", "answered"),
    [
        (b"result=DUNNO\n\n", "no-action", 0),
        (b"reaction=DUNNO\n\n", "no-action", 0),
        (b"\n\n", "no-action", 0),
        (b"action=DUNNO\n\naction=DUNNO\n\n", "surplus", 1),
        (b"action=DUNNO " + b"x" * 9000, "oversized", 0),
        (b"action=DUNNO\n", "closed", 0),
    ],
)
def test_what_is_no_answer_is_an_error(
    programs: dict[str, Path], serve: Serve, answer: bytes, error: str, answered: int
) -> None:
    done = run(programs, serve(answering(answer)), at_once=2, seconds=30)

    assert done.errors == {error: 2}
    assert done.answered == 2 * answered


def test_an_answer_may_come_in_pieces(programs: dict[str, Path], serve: Serve) -> None:
    def dribble(connection: socket.socket) -> None:
        connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        for _ in requests_of(connection):
            for octet in b"action=DUNNO\n\n":
                connection.sendall(bytes([octet]))

    done = run(programs, serve(dribble), "-n", "50", at_once=2)

    assert done.answers == {"DUNNO": 50}
    assert done.errors == {}


def test_the_requests_are_postfix_3_7s_at_rcpt(programs: dict[str, Path], serve: Serve) -> None:
    read: list[list[tuple[str, str]]] = []

    def converse(connection: socket.socket) -> None:
        for request in requests_of(connection):
            lines = request.decode().split("\n")
            read.append([(line.partition("=")[0], line.partition("=")[2]) for line in lines])
            connection.sendall(b"action=DUNNO\n\n")

    run(programs, serve(converse), "-n", "900", "-d", "300")
    requests = [dict(request) for request in read]
    triplets = {(r["client_address"], r["sender"], r["recipient"]) for r in requests}

    assert len(requests) == 900
    assert all([name for name, _ in request] == ATTRIBUTES for request in read)
    assert {r["protocol_state"] for r in requests} == {"RCPT"}
    assert len(triplets) == 300
    assert len({r["instance"] for r in requests}) == 300
    assert any(r["sender"] == "" for r in requests)
    assert any(r["sasl_username"] and r["encryption_keysize"] == "256" for r in requests)
    assert any(":" in r["client_address"] for r in requests)


def asked(programs: dict[str, Path], serve: Serve, *options: str) -> list[dict[str, str]]:
    """Run a load of 900 requests on one connection and return them."""
    read: list[dict[str, str]] = []

    def converse(connection: socket.socket) -> None:
        for request in requests_of(connection):
            lines = request.decode().split("\n")
            read.append(dict(line.split("=", 1) for line in lines))
            connection.sendall(b"action=DUNNO\n\n")

    run(programs, serve(converse), "-n", "900", "-d", "300", *options)
    assert len(read) == 900
    return read


def test_strangers_have_not_logged_in_and_have_a_sender(
    programs: dict[str, Path], serve: Serve
) -> None:
    requests = asked(programs, serve, "-u")

    assert {bool(r["sender"]) for r in requests} == {True}
    assert {r["sasl_username"] + r["sasl_method"] for r in requests} == {""}
    assert len({r["instance"] for r in requests}) == 300
    assert len({(r["client_address"], r["sender"], r["recipient"]) for r in requests}) == 300


def test_triplets_may_come_again_in_other_messages(programs: dict[str, Path], serve: Serve) -> None:
    requests = asked(programs, serve, "-i", "4096")

    assert [r["instance"].split(".")[1] for r in requests[:2]] == ["00001000", "00001001"]
    assert len({r["instance"] for r in requests}) == 900
    assert len({(r["client_address"], r["sender"], r["recipient"]) for r in requests}) == 300


def test_each_request_may_be_of_a_new_triplet(programs: dict[str, Path], serve: Serve) -> None:
    requests = asked(programs, serve, "-r", "65536")

    assert requests[1]["recipient"].startswith("person00010001@")
    assert len({r["instance"] for r in requests}) == 900
    assert len({r["recipient"] for r in requests}) == 900
    assert len({r["sender"] for r in requests}) == 300


@pytest.mark.parametrize("name", NULL_SERVERS)
def test_a_null_responder_finds_requests_however_they_are_cut(
    null_policy: Callable[[str], str], name: str
) -> None:
    host, port = null_policy(name).removeprefix("inet:").split(":")
    request = b"request=smtpd_access_policy\nprotocol_state=RCPT\n\n"
    with socket.create_connection((host, int(port)), timeout=5) as connection:
        connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        connection.sendall(request * 3 + request[:-1])
        time.sleep(0.05)
        for octet in request[-1:] + request:
            connection.sendall(bytes([octet]))
        connection.shutdown(socket.SHUT_WR)
        answers = b""
        while octets := connection.recv(4096):
            answers += octets

    assert answers == b"action=DUNNO\n\n" * 5


@pytest.mark.parametrize("options", [("-c", "0"), ("-c", "1001"), ("-t", "x"), ("-z",)])
def test_a_wrong_option_ends_it_with_the_status_of_wrong_usage(
    programs: dict[str, Path], options: tuple[str, ...]
) -> None:
    with pytest.raises(ProgramError, match="policy_load ended with 2"):
        run(programs, "inet:127.0.0.1:1", *options)


@pytest.mark.parametrize("address", ["127.0.0.1:10040", "inet:localhost:10040", "unix:relative"])
def test_an_address_is_written_in_postfix_notation(programs: dict[str, Path], address: str) -> None:
    with pytest.raises(ProgramError, match="need inet:HOST:PORT or unix:/path"):
        run(programs, address)

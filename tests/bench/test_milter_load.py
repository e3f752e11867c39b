"""The milter load speaks as Postfix does and honours what a milter negotiates away."""

import collections
import socket
import struct
import sys
import threading
import time
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path

import pytest

from bench.field import callbacks_of
from bench.programs import HERE, Load, load

pytestmark = pytest.mark.integration

Serve = Callable[[Callable[[socket.socket], None]], str]
Start = Callable[[list[str], str], None]

HEADERS = 11
PER_MESSAGE = {
    "connect": 1,
    "hello": 1,
    "envfrom": 1,
    "envrcpt": 2,
    "data": 1,
    "header": HEADERS,
    "eoh": 1,
    "body": 1,
}
EVENT_OF = {
    "connect": "CONNECT",
    "hello": "HELO",
    "envfrom": "MAIL",
    "envrcpt": "RCPT",
    "data": "DATA",
    "header": "HEADER",
    "eoh": "EOH",
    "body": "BODY",
}


def run(programs: dict[str, Path], address: str, *options: str, **limits: float) -> Load:
    return load(
        programs["milter_load"],
        address,
        at_once=int(limits.get("at_once", 1)),
        seconds=limits.get("seconds", 10),
        options=options,
        grace=limits.get("grace", 1),
    )


def packets_of(connection: socket.socket) -> Iterator[tuple[str, bytes]]:
    """Read commands (SMFIC_*) and their data until the peer closes."""
    stream = connection.makefile("rb")
    while head := stream.read(5):
        size, command = struct.unpack("!Ic", head)
        yield command.decode(), stream.read(size - 1)


def packet(command: str, data: bytes = b"") -> bytes:
    return struct.pack("!I", len(data) + 1) + command.encode() + data


@dataclass
class ScriptedMilter:
    """A milter that negotiates `steps`, answers as told, and keeps what it was sent."""

    steps: int = 0
    macros: bytes = b""
    replies: Mapping[str, bytes] = field(default_factory=dict)
    sent: list[tuple[str, bytes]] = field(default_factory=list)
    unanswered: str = "DAQ"
    ended: threading.Event = field(default_factory=threading.Event)

    def __call__(self, connection: socket.socket) -> None:
        try:
            for command, data in packets_of(connection):
                self.sent.append((command, data))
                if command == "O":
                    wanted = struct.pack("!III", 6, 0x1FF, self.steps) + self.macros
                    connection.sendall(packet("O", wanted))
                elif command not in self.unanswered:
                    connection.sendall(self.replies.get(command, packet("c")))
        finally:
            self.ended.set()

    @property
    def commands(self) -> str:
        """What it was sent, once the connection has ended: the last commands have no answer."""
        assert self.ended.wait(10)
        return "".join(command for command, _ in self.sent)

    def macros_of(self, command: str) -> list[dict[str, str]]:
        """Return the macros that came before each such event."""
        found = []
        for sent, data in self.sent:
            if sent == "D" and data[:1].decode() == command:
                words = data[1:].decode().split("\0")[:-1]
                found.append(dict(zip(words[::2], words[1::2], strict=True)))
        return found


@pytest.mark.parametrize(
    "callbacks",
    [
        None,
        (),
        ("envfrom", "envrcpt"),
        ("connect:noreply", "hello:noreply", "envfrom:noreply", "envrcpt:noreply"),
        ("envrcpt:noreply", "header:noreply", "body"),
        ("data:noreply", "eoh:noreply", "body:noreply"),
    ],
    ids=str,
)
def test_pymilter_is_called_for_what_it_asked_and_nothing_else(
    programs: dict[str, Path],
    start: Start,
    tmp_path: Path,
    callbacks: tuple[str, ...] | None,
) -> None:
    address, record = f"unix:{tmp_path}/null.sock", tmp_path / "record"
    asked = [] if callbacks is None else ["--callbacks", *callbacks]
    command = [sys.executable, str(HERE / "null_pymilter.py"), address]
    start([*command, "--record", str(record), *asked], address)
    done = run(programs, address, "-n", "30", at_once=3)
    names = list(PER_MESSAGE) if callbacks is None else [w.partition(":")[0] for w in callbacks]
    expected = {name: 30 * PER_MESSAGE[name] for name in names} | {"eom": 30}
    called = collections.Counter(record.read_text().split())

    assert done.answers == {"EOM:CONTINUE": 30}
    assert (done.unanswered, done.errors) == (0, {})
    for name in ("close", "abort"):  # libmilter calls these by itself, after the verdict
        called.pop(name, None)

    assert called == expected
    assert done.rest["events"] == {
        event: 30 * PER_MESSAGE[name] if name in names else 0 for name, event in EVENT_OF.items()
    } | {"EOM": 30}


def test_a_null_milter_can_be_matched_with_what_another_negotiated(
    programs: dict[str, Path], start: Start, tmp_path: Path
) -> None:
    wanted = ("connect:noreply", "envrcpt", "header:noreply", "body")
    address = f"unix:{tmp_path}/null.sock"
    start(
        [sys.executable, str(HERE / "null_pymilter.py"), address, "--callbacks", *wanted], address
    )
    done = run(programs, address, "-n", "1")

    assert set(callbacks_of(done.rest["steps"])) == set(wanted)


def test_a_session_is_postfixs_with_macros_before_each_event(
    programs: dict[str, Path], serve: Serve
) -> None:
    milter = ScriptedMilter()
    done = run(programs, serve(milter), "-n", "2", "-m", "2")
    message = "DM" + "DR" * 2 + "DT" + "DL" * HEADERS + "DN" + "DB" + "DE" + "A"

    assert milter.commands == "O" + "DC" + "DH" + message * 2 + "AQ"
    assert done.answers == {"EOM:CONTINUE": 2}
    assert done.rest["sessions"] == 1


def test_what_is_negotiated_away_is_not_sent_but_its_macros_are_as_postfix_does(
    programs: dict[str, Path], serve: Serve
) -> None:
    # NOHELO, NODATA, NOHDRS, NOEOH, NOBODY; NR_MAIL, NR_RCPT
    milter = ScriptedMilter(steps=0x2 | 0x200 | 0x20 | 0x40 | 0x10 | 0x4000 | 0x8000)
    milter.unanswered += "MR"
    done = run(programs, serve(milter), "-n", "1")

    assert milter.commands == "ODCD" + "DMDRDR" + "D" + "DE" + "AAQ"
    assert done.answers == {"EOM:CONTINUE": 1}


def test_what_postfix_offers_is_protocol_6_with_all_actions_and_steps(
    programs: dict[str, Path], serve: Serve
) -> None:
    milter = ScriptedMilter()
    run(programs, serve(milter), "-n", "1")

    assert struct.unpack("!III", milter.sent[0][1]) == (6, 0x1FF, 0x1FFFFF)


def test_the_macros_are_postfixs_defaults(programs: dict[str, Path], serve: Serve) -> None:
    milter = ScriptedMilter()
    run(programs, serve(milter), "-n", "1")
    first, second = milter.macros_of("R")

    assert list(milter.macros_of("C")[0]) == ["j", "{daemon_name}", "{daemon_addr}", "v", "_"]
    assert list(milter.macros_of("H")[0]) == ["{tls_version}", "{cipher}", "{cipher_bits}"]
    assert list(milter.macros_of("M")[0]) == ["{mail_addr}", "{mail_host}", "{mail_mailer}"]
    assert list(first) == ["{rcpt_addr}", "{rcpt_host}", "{rcpt_mailer}"]
    assert list(second) == ["i", *first]
    assert all(macros == {"i": second["i"]} for c in "TLNBE" for macros in milter.macros_of(c))


def test_macros_that_a_milter_asks_for_replace_the_defaults_of_that_stage(
    programs: dict[str, Path], serve: Serve
) -> None:
    asked = b"\0\0\0\0{client_addr} {client_port} {no_such}\0" + b"\0\0\0\x05{client_ptr},i\0"
    milter = ScriptedMilter(macros=asked)
    run(programs, serve(milter), "-n", "1")

    assert list(milter.macros_of("C")[0]) == ["{client_addr}", "{client_port}"]
    assert list(milter.macros_of("E")[0]) == ["{client_ptr}", "i"]
    assert list(milter.macros_of("T")[0]) == ["i"]


def test_the_mail_has_what_postfix_shows_of_it(programs: dict[str, Path], serve: Serve) -> None:
    milter = ScriptedMilter()
    run(programs, serve(milter), "-n", "1")
    data = {command: [d for c, d in milter.sent if c == command] for command in "CHMRLB"}

    assert data["C"][0].startswith(b"mail.sender0.example\0004")
    assert data["C"][0].endswith(b"198.18.7.0\0")
    assert data["M"] == [b"<user0@sender0.example>\0SIZE=9500\0BODY=8BITMIME\0"]
    assert all(d.startswith(b"<person") and d.endswith(b"@example.org>\0") for d in data["R"])
    assert b"Subject\0Minutes of meeting 0\0" in data["L"]
    assert len(data["B"][0]) == 8192


def test_header_values_keep_their_blank_for_a_milter_that_wants_it(
    programs: dict[str, Path], serve: Serve
) -> None:
    milter = ScriptedMilter(steps=0x100000)  # SMFIP_HDR_LEADSPC
    run(programs, serve(milter), "-n", "1")

    assert ("L", b"MIME-Version\0 1.0\0") in milter.sent


@pytest.mark.parametrize(
    ("replies", "answer", "last"),
    [
        ({"C": packet("y", b"554 5.7.1 no\0")}, "CONNECT:REPLYCODE", "C"),
        ({"H": packet("t")}, "HELO:TEMPFAIL", "H"),
        ({"C": packet("d")}, "EOM:CONTINUE", "E"),
        ({"M": packet("r")}, "MAIL:REJECT", "M"),
        ({"M": packet("a")}, "MAIL:ACCEPT", "M"),
        ({"R": packet("y", b"550 5.1.1 no\0")}, "RCPT:REPLYCODE", "R"),
        ({"R": packet("d")}, "RCPT:DISCARD", "R"),
        ({"L": packet("r")}, "HEADER:REJECT", "L"),
        ({"B": packet("s")}, "EOM:CONTINUE", "E"),
        ({"E": packet("p") + packet("y", b"450 4.2.1 no\0")}, "EOM:REPLYCODE", "E"),
        ({"E": packet("h", b"X\0y\0") + packet("q", b"held\0") + packet("c")}, "EOM:CONTINUE", "E"),
    ],
    ids=str,
)
def test_a_message_ends_with_the_verdict_that_postfix_would_take(
    programs: dict[str, Path],
    serve: Serve,
    replies: dict[str, bytes],
    answer: str,
    last: str,
) -> None:
    milter = ScriptedMilter(replies=replies)
    done = run(programs, serve(milter), "-n", "1")

    assert done.answers == {answer: 1}
    assert done.errors == {}
    assert milter.commands.replace("D", "").removesuffix("AAQ")[-1] == last


def test_one_refused_recipient_leaves_the_other(programs: dict[str, Path], serve: Serve) -> None:
    class RefusesOnce(dict[str, bytes]):
        def get(self, command: str, default: bytes) -> bytes:  # type: ignore[override]
            return self.pop(command, default)

    milter = ScriptedMilter(replies=RefusesOnce({"R": packet("y", b"550 5.1.1 no\0")}))
    done = run(programs, serve(milter), "-n", "1")

    assert done.answers == {"EOM:CONTINUE": 1}


def test_skipped_headers_are_not_sent(programs: dict[str, Path], serve: Serve) -> None:
    milter = ScriptedMilter(replies={"L": packet("s")})
    run(programs, serve(milter), "-n", "1")

    assert milter.commands.count("L") == 1
    assert milter.commands.count("N") == 1


def test_changes_are_counted_apart_from_the_verdict(
    programs: dict[str, Path], serve: Serve
) -> None:
    changes = packet("h", b"X-A\0b\0") + packet("i", b"\0\0\0\1X-C\0d\0") + packet("c")
    done = run(programs, serve(ScriptedMilter(replies={"E": changes})), "-n", "3")

    assert done.rest["changes"] == {"ADDHEADER": 3, "INSHEADER": 3}
    assert done.answers == {"EOM:CONTINUE": 3}


@pytest.mark.parametrize(
    ("reply", "error"),
    [
        (packet("Z"), "unexpected-reply"),
        (packet("h", b"X\0y\0"), "unexpected-reply"),
        (struct.pack("!I", 0) + b"c", "malformed"),
        (struct.pack("!I", 2**31) + b"c", "malformed"),
    ],
)
def test_what_postfix_would_not_take_for_a_reply_is_an_error(
    programs: dict[str, Path], serve: Serve, reply: bytes, error: str
) -> None:
    done = run(programs, serve(ScriptedMilter(replies={"M": reply})), at_once=2, seconds=30)

    assert done.errors == {error: 2}
    assert done.unanswered == 2


@pytest.mark.parametrize(
    "offer",
    [
        struct.pack("!III", 7, 0, 0),
        struct.pack("!III", 6, 0x200, 0),
        struct.pack("!II", 6, 0),
        struct.pack("!III", 6, 0, 0) + b"\0\0\0\0j",
    ],
)
def test_a_negotiation_that_postfix_would_refuse_is_an_error(
    programs: dict[str, Path], serve: Serve, offer: bytes
) -> None:
    def converse(connection: socket.socket) -> None:
        for _ in packets_of(connection):
            connection.sendall(packet("O", offer))

    done = run(programs, serve(converse), seconds=30)

    assert done.errors == {"negotiation": 1}


def test_a_milter_that_closes_is_an_error_and_the_run_ends(
    programs: dict[str, Path], serve: Serve
) -> None:
    def converse(connection: socket.socket) -> None:
        next(packets_of(connection))

    began = time.monotonic()
    done = run(programs, serve(converse), at_once=3, seconds=30)

    assert time.monotonic() - began < 10
    assert done.errors == {"closed": 3}
    assert (done.answered, done.unanswered) == (0, 3)


def test_a_silent_milter_costs_the_time_and_the_grace_no_more(
    programs: dict[str, Path], serve: Serve
) -> None:
    def silent(connection: socket.socket) -> None:
        for _ in packets_of(connection):
            pass

    began = time.monotonic()
    done = run(programs, serve(silent), at_once=3, seconds=0.5, grace=0.5)

    assert 1.0 <= time.monotonic() - began < 3
    assert (done.answered, done.unanswered, done.rate) == (0, 3, 0)


def test_it_begins_as_many_messages_as_it_is_told(programs: dict[str, Path], serve: Serve) -> None:
    milter = ScriptedMilter()
    done = run(programs, serve(milter), "-n", "25", "-m", "4", at_once=3)

    assert done.rest["messages"] == done.answered == 25
    assert milter.commands.count("E") == 25

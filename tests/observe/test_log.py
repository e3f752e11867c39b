"""The log: one bounded line a decision and one an event, whatever a sender put into it."""

import json
import logging
import os
import subprocess
import sys
from collections.abc import Iterator, Mapping
from datetime import UTC, datetime

import pytest
from hypothesis import given
from hypothesis import strategies as st

from policyd.observe.log import Format, Log, capture_logging
from policyd.observe.sink import Sink
from policyd.smtp.decision import Decision, Mode, RuleHit, Source, Verdict
from policyd.smtp.reply import Reply
from policyd.smtp.stage import FrontEnd, Stage

NOON = datetime(2026, 3, 4, 12, 0, 1, 250_000, tzinfo=UTC)
ATTRIBUTES = {
    "protocol_state": "RCPT",
    "protocol_name": "ESMTP",
    "client_address": "198.51.100.7",
    "client_name": "mail.example.net",
    "reverse_client_name": "mail.example.net",
    "helo_name": "mx.example.net",
    "sender": "a@example.net",
    "recipient": "nobody@example.org",
    "recipient_count": "0",
    "size": "12345",
    "queue_id": "",
    "instance": "1a2b.3c4d.0",
    "sasl_username": "",
    "encryption_protocol": "TLSv1.3",
}
REJECTED = Decision(
    "3f9c2a",
    Verdict.REJECT,
    Stage.RCPT,
    Source.RULE,
    reply=Reply(550, 1, 1, "No such mailbox here"),
    rule="mailbox-unknown",
    reason="recipient not in mailboxes",
    also=(RuleHit("greylist", Stage.RCPT, Verdict.DEFER, "450", "4.2.0", Mode.SHADOW),),
)
PASSED = Decision("3f9c2b", Verdict.PASS, Stage.RCPT, Source.DEFAULT)


class Written:
    """A log on a pipe, and what it wrote."""

    def __init__(self, form: Format, *, colours: bool = False) -> None:
        self._reader, writer = os.pipe()
        self.sink = Sink(writer, lambda count: pytest.fail(f"{count} dropped"))
        os.close(writer)
        self.log = Log(self.sink, form, colours=colours, clock=lambda: NOON)

    def line(self) -> bytes:
        octets = os.read(self._reader, 65536)
        assert octets.endswith(b"\n")
        assert octets.count(b"\n") == 1
        return octets

    def close(self) -> None:
        self.sink.close(0)
        os.close(self._reader)


@pytest.fixture(scope="module")
def as_json() -> Iterator[Written]:
    written = Written("json")
    yield written
    written.close()


@pytest.fixture(scope="module")
def on_console() -> Iterator[Written]:
    written = Written("console")
    yield written
    written.close()


@pytest.fixture(autouse=True)
def utc(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TZ", "UTC")


def test_a_decision_in_json_says_all_and_leaves_out_what_is_empty(as_json: Written) -> None:
    as_json.log.decision(REJECTED, ATTRIBUTES, FrontEnd.POLICY, 0.000125)
    line = json.loads(as_json.line())
    assert line == {
        "timestamp": "2026-03-04T12:00:01.250000Z",
        "level": "info",
        "event": "decision",
        "id": "3f9c2a",
        "frontend": "policy",
        "stage": "rcpt",
        "verdict": "reject",
        "code": "550",
        "enhanced": "5.1.1",
        "text": "No such mailbox here",
        "rule": "mailbox-unknown",
        "source": "rule",
        "reason": "recipient not in mailboxes",
        "also": [
            {
                "rule": "greylist",
                "stage": "rcpt",
                "verdict": "defer",
                "code": "450",
                "enhanced": "4.2.0",
                "mode": "shadow",
            }
        ],
        "protocol_state": "RCPT",
        "client_address": "198.51.100.7",
        "client_name": "mail.example.net",
        "reverse_client_name": "mail.example.net",
        "helo_name": "mx.example.net",
        "sender": "a@example.net",
        "recipient": "nobody@example.org",
        "size": 12345,
        "instance": "1a2b.3c4d.0",
        "encryption_protocol": "TLSv1.3",
        "seconds": 0.000125,
    }
    assert list(line)[:3] == ["timestamp", "level", "event"]


def test_a_decision_nobody_made_has_no_codes(as_json: Written) -> None:
    as_json.log.decision(PASSED, {}, FrontEnd.MILTER, 0.001)
    line = json.loads(as_json.line())
    assert line["source"] == "default"
    assert not {"code", "enhanced", "text", "rule", "sender"} & set(line)


def test_a_verbs_argument_is_told(as_json: Written) -> None:
    held = Decision("1", Verdict.HOLD, Stage.RCPT, Source.RULE, argument="looks odd", rule="r")
    as_json.log.decision(held, {}, FrontEnd.POLICY, 0.001)
    assert json.loads(as_json.line())["argument"] == "looks odd"


def test_a_fault_of_our_own_is_an_error(as_json: Written) -> None:
    fault = Decision("1", Verdict.DEFER, Stage.RCPT, Source.ERROR, reply=Reply(451, 3, 0, "Fault"))
    as_json.log.decision(fault, {}, FrontEnd.POLICY, 0.001)
    assert json.loads(as_json.line())["level"] == "error"


def test_a_decision_on_a_console_reads_as_its_reply(on_console: Written) -> None:
    on_console.log.decision(REJECTED, ATTRIBUTES, FrontEnd.POLICY, 0.000125)
    line = on_console.line().decode()
    assert line.partition(" ")[2].startswith("rcpt reject 550 5.1.1 rule=mailbox-unknown ")
    assert line[2] == line[5] == ":"
    for part in (
        " client=mail.example.net[198.51.100.7] ",
        " sender=a@example.net ",
        " recipient=nobody@example.org ",
        " id=3f9c2a ",
        ' text="No such mailbox here"',
    ):
        assert part in line


def test_colours_only_where_they_are_wanted(on_console: Written) -> None:
    coloured = Written("console", colours=True)
    for written in (coloured, on_console):
        written.log.decision(REJECTED, ATTRIBUTES, FrontEnd.POLICY, 0.1)
    assert b"\x1b[31mreject\x1b[0m" in coloured.line()
    assert b"\x1b" not in on_console.line()
    coloured.close()


def test_an_event_in_json(as_json: Written) -> None:
    as_json.log.event("warning", "list.failed", file="mailboxes.txt", line=3, kinds=["a", "b"])
    assert json.loads(as_json.line()) == {
        "timestamp": "2026-03-04T12:00:01.250000Z",
        "level": "warning",
        "event": "list.failed",
        "file": "mailboxes.txt",
        "line": 3,
        "kinds": ["a", "b"],
    }


def test_an_event_on_a_console(on_console: Written) -> None:
    on_console.log.event("warning", "list.failed", file="mail boxes.txt", line=3)
    assert on_console.line().endswith(b' warning list.failed file="mail boxes.txt" line=3\n')


def test_an_exception_is_told_with_its_place(as_json: Written) -> None:
    try:
        json.loads("{")
    except ValueError as error:
        as_json.log.event("error", "decision.failed", exception=error)
    said = json.loads(as_json.line())["exception"]
    assert said.startswith("JSONDecodeError: Expecting property name")
    assert "(decoder.py:" in said


def test_a_field_cannot_pose_as_the_lines_own(as_json: Written) -> None:
    as_json.log.event("info", "seen", event="decision", level="debug", timestamp=0)
    assert json.loads(as_json.line()) == {
        "timestamp": "2026-03-04T12:00:01.250000Z",
        "level": "info",
        "event": "seen",
    }


HOSTILE = (
    "\udcff\udcfe",  # octets that are no UTF-8, as surrogateescape reads them
    "\ud800",
    "a\0b",
    'quote " backslash \\ newline \r\n tab \t',
    "\x1b[2Jwipes a terminal",
    "\x9b31m\u202egnirts",
    "line\u2028paragraph\u2029",
    "x" * 256 * 1024,
    "\0" * 256 * 1024,
    "\udc80" * 256 * 1024,
    "\U0001f4a9" * 70_000,
    "9" * 400_000,
    "-1",
    "٣",  # a digit, not of ours
)


@pytest.mark.parametrize("form", ["as_json", "on_console"])
@pytest.mark.parametrize("value", HOSTILE, ids=range(len(HOSTILE)))
def test_any_value_in_every_place_leaves_one_line_within_4_kib(
    form: str, value: str, request: pytest.FixtureRequest
) -> None:
    written: Written = request.getfixturevalue(form)
    told = Decision(
        "3f9c2a",
        Verdict.REJECT,
        Stage.RCPT,
        Source.RULE,
        reply=Reply(550, 1, 1, "text"),
        rule=value,
        reason=value,
        argument=value,
        also=(RuleHit("r" * 99, Stage.RCPT, Verdict.DEFER, "450", "4.2.0", Mode.SHADOW),) * 500,
    )
    attributes = dict.fromkeys([*ATTRIBUTES, "policy_context", "service"], value)
    written.log.decision(told, attributes, FrontEnd.POLICY, 0.1)
    whole(written.line(), json_form=form == "as_json", identity="3f9c2a")
    written.log.event("warning", "seen", **attributes, more=[value] * 100, deep={value: value})
    whole(written.line(), json_form=form == "as_json")


def whole(line: bytes, *, json_form: bool, identity: str = "") -> None:
    assert len(line) <= 4096
    text = line.decode("utf-8")
    if json_form:
        assert json.loads(text).get("id", "") == identity
    else:
        assert text[:-1].isprintable()
        assert identity in text


anything = st.text(st.characters(codec=None, exclude_categories=())) | st.sampled_from(HOSTILE)


@given(
    attributes=st.dictionaries(st.sampled_from([*ATTRIBUTES, "service", "x"]), anything),
    reason=anything,
)
def test_a_decision_is_one_line_within_4_kib_and_reads_back(
    as_json: Written, on_console: Written, attributes: Mapping[str, str], reason: str
) -> None:
    told = Decision("3f9c2a", Verdict.PASS, Stage.MAIL, Source.DEFAULT, reason=reason)
    as_json.log.decision(told, attributes, FrontEnd.POLICY, 0.1)
    whole(as_json.line(), json_form=True, identity="3f9c2a")
    on_console.log.decision(told, attributes, FrontEnd.POLICY, 0.1)
    whole(on_console.line(), json_form=False, identity="3f9c2a")


json_like = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | anything | st.binary(),
    lambda inner: st.lists(inner) | st.dictionaries(anything, inner),
    max_leaves=10,
)


@given(fields=st.dictionaries(st.sampled_from(["a", "event", "level", "count"]), json_like))
def test_an_event_is_one_line_within_4_kib_and_reads_back(
    as_json: Written, on_console: Written, fields: dict[str, object]
) -> None:
    as_json.log.event("info", "seen", **fields)
    whole(as_json.line(), json_form=True)
    on_console.log.event("info", "seen", **fields)
    whole(on_console.line(), json_form=False)


def test_an_event_with_far_too_many_fields_keeps_its_name(as_json: Written) -> None:
    as_json.log.event("info", "seen", **{f"field{number}": "x" * 99 for number in range(1000)})
    assert json.loads(as_json.line())["event"] == "seen"


def test_values_that_fit_are_not_cut(as_json: Written) -> None:
    sender = "x" * 2000
    as_json.log.decision(PASSED, {"sender": sender}, FrontEnd.POLICY, 0.1)
    assert json.loads(as_json.line())["sender"] == sender


def test_a_value_that_is_too_long_is_cut_and_says_so(as_json: Written) -> None:
    attributes = {**ATTRIBUTES, "sender": "x" * 5000}
    as_json.log.decision(PASSED, attributes, FrontEnd.POLICY, 0.1)
    line = json.loads(as_json.line())
    assert line["sender"] == "x" * 512 + "..."
    assert line["recipient"] == ATTRIBUTES["recipient"]


@pytest.fixture
def root_logger() -> Iterator[logging.Logger]:
    root = logging.getLogger()
    handlers, level = root.handlers[:], root.level
    yield root
    root.handlers[:] = handlers
    root.setLevel(level)


def test_an_event_says_whose_it_is_where_several_processes_share_the_log(
    as_json: Written,
) -> None:
    log = Log(as_json.sink, "json", worker="2")
    log.event("warning", "list.failed", list="users")
    event = json.loads(as_json.line())
    log.decision(PASSED, ATTRIBUTES, FrontEnd.POLICY, 0.1)
    decision = json.loads(as_json.line())
    assert list(event) == ["timestamp", "level", "event", "worker", "list"]
    assert event["worker"] == "2"
    assert "worker" not in decision, "decisions have ids"


def test_what_libraries_log_becomes_events(as_json: Written, root_logger: logging.Logger) -> None:
    capture_logging(as_json.log)
    assert root_logger.isEnabledFor(logging.WARNING)
    try:
        _ = ATTRIBUTES["gone"]
    except KeyError:
        logging.getLogger("asyncio").exception("Exception in %s", "callback")
    line = json.loads(as_json.line())
    assert line["event"] == "library.logged"
    assert line["level"] == "error"
    assert line["logger"] == "asyncio"
    assert line["message"] == "Exception in callback"
    assert line["exception"].startswith("KeyError: 'gone' (test_log.py:")


def run_and_log(redirect: str) -> subprocess.CompletedProcess[bytes]:
    program = (
        "import os\n"
        "from policyd.observe.log import open_log\n"
        "taken = os.open('/dev/null', os.O_RDONLY)\n"
        "lost = []\n"
        "log = open_log('auto', lost.append)\n"
        "log.event('info', 'started')\n"
        "log.sink.close(1)\n"
        "print(taken, sum(lost))\n"
    )
    return subprocess.run(
        ["/bin/sh", "-c", f'exec "$0" -c "$1" {redirect}', sys.executable, program],
        capture_output=True,
        check=True,
    )


def test_standard_error_that_is_no_terminal_takes_json() -> None:
    done = run_and_log("")
    assert json.loads(done.stderr)["event"] == "started"
    assert done.stdout == b"3 0\n"


def test_with_a_closed_standard_error_what_took_its_number_is_left_alone() -> None:
    done = run_and_log("2>&-")
    assert done.stdout == b"2 1\n"


def test_a_terminal_takes_lines_for_a_reader() -> None:
    controller, terminal = os.openpty()
    program = "from policyd.observe.log import open_log\nopen_log('auto', print).event('info', 'x')"
    try:
        subprocess.run([sys.executable, "-c", program], stderr=terminal, check=True)
        assert os.read(controller, 4096).endswith(b" info x\r\n")
    finally:
        os.close(terminal)
        os.close(controller)

"""Results above messages, through the milter's socket: what is added, what goes, and where not."""

import contextlib
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from policyd.protocol.milter import Actions, Steps
from tests.serve.milter_running import RunningMilter
from tools.milter_client import Answer, Ended, MilterClient

RESULTS, SPF = "Authentication-Results", "Received-SPF"
ID = "mx.example.org"
BY_SESSION = '[authentication]\nresults = ["auth", "iprev"]\nreceived_spf = false\n'
"""What the session alone tells: nothing is asked, and no message is kept."""

Run = Callable[..., RunningMilter]


@pytest.fixture
def run(tmp_path: Path) -> Iterator[Run]:
    with contextlib.ExitStack() as stack:

        def start(*rules: dict[str, Any], **given: Any) -> RunningMilter:
            return stack.enter_context(RunningMilter(tmp_path, *rules, **given))

        yield start


def rule(then: str, when: str = "", stage: str = "end-of-data") -> dict[str, str]:
    return {"stage": stage, "then": then, "when": when}


def session(milter: RunningMilter, **macros: str) -> MilterClient:
    return milter.client(**{"j": ID, "client_resolve": "OK", **macros})


def sent(client: MilterClient, *headers: tuple[bytes, bytes]) -> Ended:
    client.connect(), client.helo(), client.mail(), client.rcpt()
    return client.message(headers or ((b"Subject", b" x"),))


def insertion(name: str, value: str) -> Answer:
    return Answer("insert header", b"\0\0\0\0" + f"{name}\0{value}\0".encode())


def removal(place: int, name: str = RESULTS) -> Answer:
    return Answer("change header", place.to_bytes(4, "big") + f"{name}\0\0".encode())


IPREV = f"{ID}; iprev=pass policy.iprev=192.0.2.1"


class TestNegotiation:
    def test_what_is_to_be_known_is_asked_for_without_a_reply(self, run: Run) -> None:
        milter = run(tables="[authentication]\n")
        with session(milter) as client:
            steps = client.negotiated.steps
            assert not steps & (Steps.NO_CONNECT | Steps.NO_HELO | Steps.NO_MAIL)
            assert not steps & (Steps.NO_HEADER | Steps.NO_BODY)
            assert steps & Steps.NO_RCPT
            silent = Steps.SILENT_CONNECT | Steps.SILENT_HELO | Steps.SILENT_MAIL
            silent |= Steps.SILENT_HEADER | Steps.SILENT_BODY | Steps.LEADING_SPACE
            assert steps & silent == silent
            assert client.negotiated.actions & Actions.CHANGE_HEADERS
            assert client.negotiated.actions & Actions.ADD_HEADERS
            assert set(client.negotiated.macros[0].split()) == {"v", "j", "{client_resolve}"}

    def test_without_what_reads_messages_none_is_kept(self, run: Run) -> None:
        milter = run(tables=BY_SESSION)
        with session(milter) as client:
            assert client.negotiated.steps & Steps.NO_BODY
            assert not client.negotiated.steps & Steps.LEADING_SPACE

    def test_without_the_table_nothing_is_asked_for(self, run: Run) -> None:
        milter = run()
        with session(milter) as client:
            assert not client.negotiated.actions & Actions.CHANGE_HEADERS
            assert client.negotiated.steps & Steps.NO_HEADER


class TestWhatIsWritten:
    def test_without_rules_too_and_nothing_is_counted_for_it(self, run: Run) -> None:
        milter = run(tables=BY_SESSION)
        with session(milter) as client:
            assert sent(client).changes == (insertion(RESULTS, IPREV),)
        assert milter.rest() == []

    def test_what_nobody_finds_out_is_a_temporary_error(self, run: Run) -> None:
        milter = run(tables="[authentication]\n")
        with session(milter) as client:
            spf, results = sent(client).changes
        assert results == insertion(
            RESULTS,
            f" {ID}; spf=temperror\n    smtp.mailfrom=sender@example.net;\n"
            f"  dkim=temperror;\n  dmarc=temperror;\n  arc=temperror;\n  {IPREV[len(ID) + 2 :]}",
        )
        assert spf.text.startswith("\0\0\0\0Received-SPF\0 temperror client-ip=192.0.2.1;")

    def test_the_configured_name_is_the_one(self, run: Run) -> None:
        milter = run(tables=BY_SESSION + 'authserv_id = "example.org"\n')
        with session(milter) as client:
            (added,) = sent(client, (RESULTS.encode(), f"{ID}; none".encode())).changes
        assert added == insertion(RESULTS, IPREV.replace(ID, "example.org"))

    def test_results_stand_above_what_rules_prepend(self, run: Run) -> None:
        milter = run(rule("prepend X-Seen: yes"), tables=BY_SESSION)
        with session(milter) as client:
            changes = sent(client).changes
        assert changes == (insertion("X-Seen", "yes"), insertion(RESULTS, IPREV))

    @pytest.mark.parametrize(
        "then", ["accept", "pass", "warn x", "hold x", "bcc a@x.example", "redirect a@x.example"]
    )
    def test_they_are_added_where_the_message_goes_on(self, run: Run, then: str) -> None:
        milter = run(rule(then), tables=BY_SESSION)
        with session(milter) as client:
            assert insertion(RESULTS, IPREV) in sent(client).changes

    @pytest.mark.parametrize("then", ["550 5.7.1 No", "450 4.7.1 Later", "discard x"])
    def test_nothing_is_changed_where_it_does_not(self, run: Run, then: str) -> None:
        milter = run(rule(then), tables=BY_SESSION)
        with session(milter) as client:
            assert sent(client, (RESULTS.encode(), f"{ID}; none".encode())).changes == ()

    def test_a_session_keeps_what_it_negotiated_over_a_reload(self, run: Run) -> None:
        milter = run(tables=BY_SESSION, more=[])
        with session(milter) as client:
            milter.order("reload")
            assert sent(client).changes == (insertion(RESULTS, IPREV),)
        with session(milter) as client:
            assert sent(client).changes == ()


FORGED = (
    (b"Authentication-Results", b"other.example; none"),
    (b"AUTHENTICATION-RESULTS", b"MX.example.org; none"),
    (b"Received-SPF", b"pass receiver=mx.example.org"),
    (b"Subject", b"x"),
    (b"Authentication-Results", b"mx.example.org (;"),
)
REMOVED = (removal(3), removal(1, SPF), removal(2, RESULTS.upper()))


class TestForgedResults:
    def test_they_go_before_ours_are_added_the_last_one_first(self, run: Run) -> None:
        milter = run(tables=BY_SESSION)
        with session(milter) as client:
            assert sent(client, *FORGED).changes == (*REMOVED, insertion(RESULTS, IPREV))

    def test_they_go_where_none_are_added(self, run: Run) -> None:
        milter = run(tables="[authentication]\nresults = []\nreceived_spf = false\n")
        with session(milter) as client:
            assert sent(client, *FORGED).changes == REMOVED

    def test_the_space_after_the_colon_hides_nothing(self, run: Run) -> None:
        milter = run(tables="[authentication]\n")
        with session(milter) as client:
            spaced = tuple((name, b" " + value) for name, value in FORGED)
            assert sent(client, *spaced).changes[:3] == REMOVED


class TestLogins:
    def test_nothing_is_added_and_what_is_forged_goes(self, run: Run) -> None:
        milter = run(tables=BY_SESSION)
        with session(milter, auth_authen="jo") as client:
            assert sent(client, *FORGED).changes == REMOVED

    def test_unless_the_configuration_says_otherwise(self, run: Run) -> None:
        milter = run(tables=BY_SESSION + "skip_logins = false\n")
        with session(milter, auth_authen="jo") as client:
            value = f"{IPREV};\n  auth=pass smtp.auth=jo"
            assert sent(client).changes == (insertion(RESULTS, value),)

    def test_what_did_not_come_by_smtp_is_left_alone(self, run: Run) -> None:
        milter = run(tables="[authentication]\n")
        with session(milter) as client:
            client.connect(b"localhost", "127.0.0.1", 0)
            client.helo(), client.mail(), client.rcpt()
            assert client.message(FORGED).changes == ()


def test_hostile_names_make_no_other_field(run: Run) -> None:
    milter = run(tables="[authentication]\nskip_logins = false\n")
    with session(milter, auth_authen="a\r\nX: y\0", client_resolve="; dkim=pass") as client:
        client.connect(), client.helo(b'a\r\nX: y\\"); dmarc=pass')
        client.mail(b'<"a\r\nX: y; dkim=pass"@x.example\\">'), client.rcpt()
        for change in client.message().changes:
            _, value = change.text[4:].split("\0")
            assert all(line.startswith("  ") for line in value.split("\n")[1:])
            assert value.replace("\n", "").isprintable()
            assert "=pass;" not in value
            assert "dkim=temperror" in value or "client-ip" in value

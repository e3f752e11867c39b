"""A private Postfix asks policy servers and milters, receives mail and shows what became of it."""

import time
from collections.abc import Callable, Iterator

import pytest

from tests.integration.throw_away import (
    MilterHandler,
    PolicyServer,
    ThrowAwayServer,
    asking_everywhere,
    policy_service,
    serving,
)
from tools.postfix_instance import PostfixError, PostfixInstance
from tools.smtp_dialogue import Reply, SmtpDialogue

pytestmark = pytest.mark.integration


@pytest.fixture(scope="module")
def policy() -> Iterator[PolicyServer]:
    server = PolicyServer()
    with serving(server):
        yield server


@pytest.fixture(scope="module")
def milter_port() -> Iterator[int]:
    server = ThrowAwayServer(MilterHandler)
    with serving(server):
        yield server.port


@pytest.fixture(scope="module")
def postfix(
    postfix_factory: Callable[..., PostfixInstance], policy: PolicyServer, milter_port: int
) -> PostfixInstance:
    everywhere = asking_everywhere(policy.port)
    milter = f"{{ inet:127.0.0.1:{milter_port}, default_action=tempfail }}"
    return postfix_factory(
        services={
            "plain": {},
            "trusting": {"mynetworks": "127.0.0.0/8"},
            "asking": {"smtpd_recipient_restrictions": policy_service(policy.port, "x")},
            "delayed": {"smtpd_delay_reject": "yes", **everywhere},
            "undelayed": {"smtpd_delay_reject": "no", **everywhere},
            "filtered": {"smtpd_milters": milter},
        },
        main={"non_smtpd_milters": milter},
        mailboxes=("@policyd.test", "user@other.test"),
    )


@pytest.fixture
def connect(postfix: PostfixInstance) -> Iterator[Callable[..., SmtpDialogue]]:
    """Open a greeted session with a service of the shared instance."""
    opened: list[SmtpDialogue] = []

    def connect(service: str, source: str | None = None) -> SmtpDialogue:
        dialogue = SmtpDialogue(postfix.ports[service], source=source)
        opened.append(dialogue)
        assert dialogue.banner().code == 220
        assert dialogue.ehlo().code == 250
        return dialogue

    yield connect
    for dialogue in opened:
        dialogue.close()


class TestPolicyService:
    def asked_at_each_command(
        self, dialogue: SmtpDialogue, policy: PolicyServer
    ) -> dict[str, list[tuple[str, str]]]:
        steps: dict[str, Callable[[], Reply]] = {
            "banner": dialogue.banner,
            "EHLO": dialogue.ehlo,
            "MAIL": lambda: dialogue.mail("a@client.test"),
            "RCPT": lambda: dialogue.rcpt("lists@policyd.test"),
            "DATA": dialogue.data,
            "end of data": lambda: dialogue.body("Subject: lists\n\n"),
            "VRFY": lambda: dialogue.vrfy("lists@policyd.test"),
            "ETRN": lambda: dialogue.etrn("policyd.test"),
        }
        policy.asked()
        asked = {}
        for step, speak in steps.items():
            assert speak().code < 400, step
            asked[step] = policy.asked()
        return asked

    def test_with_delay_reject_all_lists_up_to_recipient_are_asked_at_rcpt(
        self, postfix: PostfixInstance, policy: PolicyServer
    ) -> None:
        with SmtpDialogue(postfix.ports["delayed"]) as dialogue:
            asked = self.asked_at_each_command(dialogue, policy)

        at_rcpt = ("client", "helo", "sender", "relay", "recipient")
        assert asked == {
            "banner": [],
            "EHLO": [],
            "MAIL": [],
            "RCPT": [("RCPT", f"list={name}") for name in at_rcpt],
            "DATA": [("DATA", "list=data")],
            "end of data": [("END-OF-MESSAGE", "list=end_of_data")],
            "VRFY": [("VRFY", f"list={name}") for name in ("client", "helo", "relay", "recipient")],
            "ETRN": [("ETRN", f"list={name}") for name in ("client", "helo", "etrn")],
        }

    def test_without_delay_reject_each_list_is_asked_at_its_own_command(
        self, postfix: PostfixInstance, policy: PolicyServer
    ) -> None:
        with SmtpDialogue(postfix.ports["undelayed"]) as dialogue:
            asked = self.asked_at_each_command(dialogue, policy)

        assert asked == {
            "banner": [("CONNECT", "list=client")],
            "EHLO": [("EHLO", "list=helo")],
            "MAIL": [("MAIL", "list=sender")],
            "RCPT": [("RCPT", "list=relay"), ("RCPT", "list=recipient")],
            "DATA": [("DATA", "list=data")],
            "end of data": [("END-OF-MESSAGE", "list=end_of_data")],
            "VRFY": [("VRFY", "list=relay"), ("VRFY", "list=recipient")],
            "ETRN": [("ETRN", "list=etrn")],
        }

    @pytest.mark.parametrize("source", ["127.0.0.1", "127.1.2.3", "127.255.255.254"])
    def test_the_client_is_seen_with_its_own_address(
        self, connect: Callable[..., SmtpDialogue], policy: PolicyServer, source: str
    ) -> None:
        client = connect("asking", source)
        client.mail("a@client.test")
        client.rcpt("b@policyd.test")

        request = policy.requests[-1]
        assert request["client_address"] == source
        assert request["client_port"] == str(client.source_port)
        assert request["client_name"] == "unknown"

    def test_a_held_message_stands_in_the_queue(
        self, connect: Callable[..., SmtpDialogue], postfix: PostfixInstance
    ) -> None:
        client = connect("asking")
        client.mail("holder@client.test")
        client.rcpt("hold@policyd.test")
        client.data()
        queue_id = client.body("Subject: held\n\n").text.rpartition(" ")[2]

        (entry,) = [entry for entry in postfix.queue() if entry["queue_id"] == queue_id]
        assert entry["queue_name"] == "hold"
        assert entry["sender"] == "holder@client.test"
        assert [r["address"] for r in entry["recipients"]] == ["hold@policyd.test"]

    def test_refused_sessions_in_a_row_are_not_throttled(
        self,
        postfix: PostfixInstance,
        policy: PolicyServer,
        record_testsuite_property: Callable[[str, object], None],
    ) -> None:
        sessions = 200
        policy.asked()
        began = time.monotonic()
        for _ in range(sessions):
            with SmtpDialogue(postfix.ports["asking"]) as client:
                client.banner()
                client.ehlo()
                client.mail("a@client.test")
                assert client.rcpt("grey@policyd.test").pair == "450 4.2.1"
                client.quit()
        seconds = time.monotonic() - began

        assert len(policy.asked()) == sessions
        assert seconds < 60  # Postfix's smtpd_error_sleep_time would make it 200
        record_testsuite_property(f"{sessions} refused sessions, seconds", round(seconds, 2))

    def test_errors_within_one_session_are_not_throttled(
        self, connect: Callable[..., SmtpDialogue]
    ) -> None:
        client = connect("asking")
        client.mail("a@client.test")

        replies = {client.rcpt("grey@policyd.test").pair for _ in range(150)}

        assert replies == {"450 4.2.1"}


class TestMail:
    def send(self, client: SmtpDialogue, recipient: str, message: bytes) -> Reply:
        client.mail("a@client.test")
        client.rcpt(recipient)
        client.data()
        return client.body(message)

    def test_a_delivered_message_is_read_back_with_its_headers(
        self, connect: Callable[..., SmtpDialogue], postfix: PostfixInstance
    ) -> None:
        client = connect("plain", "127.9.8.7")
        reply = self.send(client, "Read-Back@policyd.test", b"Subject: x\n\n.dot\n..\nlast\n")

        assert reply.pair == "250 2.0.0"
        (message,) = postfix.wait_delivered("read-back@policyd.test")
        header, _, body = message.partition(b"\n\n")
        assert b"Return-Path: <a@client.test>\n" in header
        assert b"from client.test (unknown [127.9.8.7])\n" in header
        assert body == b".dot\n..\nlast\n"

    def test_messages_are_told_apart_by_recipient_and_come_in_order(
        self, connect: Callable[..., SmtpDialogue], postfix: PostfixInstance
    ) -> None:
        client = connect("plain")
        for number in (b"1", b"2", b"3"):
            self.send(client, "ordered@policyd.test", b"Subject: " + number + b"\n\n")
            postfix.wait_delivered("ordered@policyd.test", int(number))
        self.send(client, "user@other.test", b"Subject: 4\n\n")

        messages = postfix.wait_delivered("ordered@policyd.test", 3)
        assert [m.partition(b"\nSubject: ")[2][:1] for m in messages] == [b"1", b"2", b"3"]
        (other,) = postfix.wait_delivered("user@other.test")
        assert b"\nSubject: 4" in other

    def test_an_unknown_mailbox_is_refused_by_postfix_itself(
        self, connect: Callable[..., SmtpDialogue], postfix: PostfixInstance
    ) -> None:
        client = connect("plain")
        client.mail("a@client.test")

        assert client.rcpt("nobody@other.test").pair == "550 5.1.1"
        with pytest.raises(ValueError, match="no such mailbox"):
            postfix.delivered("nobody@other.test")

    def test_no_client_is_trusted_unless_mynetworks_says_so(
        self, connect: Callable[..., SmtpDialogue]
    ) -> None:
        for service, expected in (("plain", "554 5.7.1"), ("trusting", "250 2.1.5")):
            client = connect(service, "127.0.0.1")
            client.mail("a@client.test")
            assert client.rcpt("b@elsewhere.test").pair == expected

    def test_mail_for_elsewhere_is_discarded(
        self, connect: Callable[..., SmtpDialogue], postfix: PostfixInstance
    ) -> None:
        self.send(connect("trusting"), "gone@elsewhere.test", b"Subject: x\n\n")

        assert "postfix/discard[" in postfix.wait_log(r"to=<gone@elsewhere\.test>.*status=sent")

    def test_a_local_submission_is_delivered(self, postfix: PostfixInstance) -> None:
        postfix.submit("", "submitted@policyd.test", "Subject: by sendmail\n\n.\nafter a dot\n")

        (message,) = postfix.wait_delivered("submitted@policyd.test")
        assert message.startswith(b"Return-Path: <>\n")
        assert message.endswith(b"\n\n.\nafter a dot\n")

    def test_a_submission_that_cannot_be_made_is_told_in_sendmails_words(
        self, postfix: PostfixInstance
    ) -> None:
        with pytest.raises(PostfixError, match="message file too big"):
            postfix.submit("a@policyd.test", "b@policyd.test", b"x\n" * 6_000_000)


class TestMilter:
    def test_it_is_asked_in_an_smtp_session(self, connect: Callable[..., SmtpDialogue]) -> None:
        client = connect("filtered")

        assert client.mail("refused@client.test").pair == "550 5.7.1"
        assert client.mail("a@client.test").pair == "250 2.1.0"

    def test_it_is_asked_for_a_local_submission(self, postfix: PostfixInstance) -> None:
        postfix.submit("refused@policyd.test", "by-milter@policyd.test", "Subject: x\n\n")

        (bounce,) = postfix.wait_delivered("refused@policyd.test")
        assert b"Not from you" in bounce
        assert postfix.delivered("by-milter@policyd.test") == []


class TestLog:
    def test_lines_name_the_service(
        self, connect: Callable[..., SmtpDialogue], postfix: PostfixInstance
    ) -> None:
        connect("plain", "127.77.77.77").quit()

        line = postfix.wait_log(r"disconnect from unknown\[127\.77\.77\.77\]")
        assert " postfix/plain/smtpd[" in line
        assert line in postfix.log_lines()

    def test_waiting_can_leave_out_what_was_there_before(
        self, connect: Callable[..., SmtpDialogue], postfix: PostfixInstance
    ) -> None:
        connect("plain", "127.66.66.66").quit()
        postfix.wait_log(r"disconnect from unknown\[127\.66\.66\.66\]")

        with pytest.raises(TimeoutError, match="no log line with"):
            postfix.wait_log(
                r"connect from unknown\[127\.66\.66\.66\]",
                after=len(postfix.log_lines()),
                timeout=0.1,
            )

"""The milter and a real Postfix: what a client sees, what becomes of a message, what is known."""

import contextlib
import shutil
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.integration.conftest import short_directory
from tests.integration.throw_away import PolicyServer, policy_service, serving
from tests.serve.milter_running import RunningMilter, listen
from tools.postfix_instance import PostfixInstance
from tools.smtp_dialogue import Reply, SmtpDialogue

pytestmark = pytest.mark.integration

FACTS = (
    *("client_name", "reverse_client_name", "server_address", "helo_name", "sender", "sasl_method"),
    *("sasl_username", "sasl_sender", "encryption_protocol", "queue_id", "mail_version"),
)
SHOWN = " ".join(f"{{{fact}}}" for fact in (*FACTS, "client_port", "server_port", "size"))

REMOTE = "127.0.0.9"
"""Not one of local_header_rewrite_clients, for which cleanup(8) adds headers that are missing."""

AT_CONNECT = {"127.1.0.1": "550 5.7.1 foo", "127.1.0.2": "450 4.2.1 foo"}
AT_CONNECT |= {"127.1.0.3": "421 4.3.2 foo", "127.1.0.4": "521 5.3.2 foo"}
NAMES = {"5.test": "550 5.7.1 foo", "4.test": "450 4.2.1 foo", "421.test": "421 4.3.2 foo"}


def rule(stage: str, then: str, when: str, **rest: Any) -> dict[str, Any]:
    return {"stage": stage, "then": then, "when": when, **rest}


RULES = (
    *(rule("connect", then, f"client_address == '{a}'") for a, then in AT_CONNECT.items()),
    *(rule("helo", then, f"helo_name == '{name}'") for name, then in NAMES.items()),
    rule("helo", "550 5.7.1 Not {helo_name}", "helo_name == 'caf?.test'"),
    rule("mail", "550 5.7.1 At MAIL, 100%", "sender == 'refused@mail.test'"),
    rule("mail", "hold for a look", "sender == 'hold@mail.test'"),
    rule("rcpt", "450 4.2.1 At RCPT", "recipient_local == 'refused'"),
    rule("rcpt", "bcc copy@policyd.test", "recipient_local == 'copied'", whole_message=True),
    rule("rcpt", f"550 5.7.1 {SHOWN}", "recipient == 'never@policyd.test'"),
    rule("data", "550 5.7.1 At DATA", "sender == 'refused@data.test'"),
    rule("data", "redirect target@policyd.test", "sender == 'redirect@data.test'"),
    rule("end-of-data", "554 5.7.1 At the end", "sender == 'refused@end.test'"),
    rule("end-of-data", "451 4.7.1 Later", "header('X-Test') == 'defer'"),
    rule("end-of-data", "discard spam", "sender == 'discard@end.test'"),
    rule("end-of-data", "prepend X-Note: {client_address} {size}", "sender == 'note@end.test'"),
    rule("end-of-data", "550 5.7.1 Programs", "any_in(attachments, programs)"),
    rule("end-of-data", "550 5.7.1 Ours", "local_submission and sender == 'refused@local.test'"),
    rule("end-of-data", f"550 5.7.1 {SHOWN} {{body_size}}", "sender == 'never@x.test'"),
)


@pytest.fixture(scope="module")
def policy() -> Iterator[PolicyServer]:
    server = PolicyServer()
    with serving(server):
        yield server


@pytest.fixture(scope="module")
def directory() -> Iterator[Path]:
    directory = short_directory()
    yield directory
    shutil.rmtree(directory)


@pytest.fixture(scope="module")
def milter(directory: Path) -> Iterator[RunningMilter]:
    with (
        listen(directory, mode=0o666) as open_to_postfix,
        RunningMilter(directory, *RULES, listener=open_to_postfix) as milter,
    ):
        yield milter


@pytest.fixture(scope="module")
def postfix(
    postfix_factory: Callable[..., PostfixInstance], policy: PolicyServer, milter: RunningMilter
) -> PostfixInstance:
    asking = {
        "smtpd_recipient_restrictions": policy_service(policy.port, "x"),
        "smtpd_end_of_data_restrictions": policy_service(policy.port, "x"),
    }
    return postfix_factory(
        services={
            "smtp": {},
            "asking": asking,
            "trusting": {"smtpd_authorized_xclient_hosts": "127.0.0.0/8"},
            "bytes": {"smtputf8_enable": "no", **asking},
        },
        main=dict.fromkeys(("smtpd_milters", "non_smtpd_milters"), f"unix:{milter.path}"),
    )


@pytest.fixture
def connect(postfix: PostfixInstance) -> Iterator[Callable[..., SmtpDialogue]]:
    with contextlib.ExitStack() as opened:

        def connect(service: str = "smtp", source: str = "127.0.0.1") -> SmtpDialogue:
            return opened.enter_context(SmtpDialogue(postfix.ports[service], source=source))

        yield connect


Connect = Callable[..., SmtpDialogue]


def greeted(connect: Connect, name: str | bytes = "client.test", **where: str) -> SmtpDialogue:
    client = connect(**where)
    assert client.banner().code == 220
    assert client.ehlo(name).code == 250
    return client


def send(
    client: SmtpDialogue, sender: str, *recipients: str, message: bytes = b"Subject: x\n\nHello\n"
) -> Reply:
    assert client.mail(sender).code == 250
    for recipient in recipients:
        assert client.rcpt(recipient).code == 250
    assert client.data().code == 354
    return client.body(message)


def said(reply: Reply) -> str:
    return f"{reply.pair} {reply.text}"


class TestWhatTheClientSees:
    def test_550_at_connect_refuses_the_banner_and_each_mail(self, connect: Connect) -> None:
        client = connect(source="127.1.0.1")
        assert client.banner().code == 554
        assert client.ehlo().code == 250
        for _ in range(2):
            assert said(client.mail("a@x.test")) == "550 5.7.1 foo"

    def test_450_at_connect_waits_for_mail(self, connect: Connect) -> None:
        client = greeted(connect, source="127.1.0.2")
        assert said(client.mail("a@x.test")) == "450 4.2.1 foo"

    def test_421_at_connect_closes_in_postfixs_words(self, connect: Connect) -> None:
        client = connect(source="127.1.0.3")
        assert client.banner().code == 421
        assert client.wait_closed(5)

    def test_521_at_connect_closes_at_mail(self, connect: Connect) -> None:
        client = connect(source="127.1.0.4")
        assert client.banner().code == 554
        client.ehlo()
        assert said(client.mail("a@x.test")) == "521 5.3.2 foo"
        assert client.wait_closed(5)

    @pytest.mark.parametrize("name", ["5.test", "4.test"])
    def test_a_reply_at_helo_waits_for_mail(self, connect: Connect, name: str) -> None:
        client = greeted(connect, name)
        for _ in range(2):
            assert said(client.mail("a@x.test")) == NAMES[name]

    def test_421_at_helo_closes(self, connect: Connect) -> None:
        client = connect()
        client.banner()
        assert said(client.ehlo("421.test")) == NAMES["421.test"]
        assert client.wait_closed(5)

    def test_a_helo_name_that_is_not_utf_8_is_refused_at_mail_too(self, connect: Connect) -> None:
        client = greeted(connect, b"caf\xe9.test", service="bytes")
        assert said(client.mail("a@x.test")) == "550 5.7.1 Not caf?.test"

    def test_mail_rcpt_data_and_the_end_have_their_own_replies(self, connect: Connect) -> None:
        client = greeted(connect)
        assert said(client.mail("refused@mail.test")) == "550 5.7.1 At MAIL, 100%"
        client.mail("refused@data.test")
        assert said(client.rcpt("refused@policyd.test")) == "450 4.2.1 At RCPT"
        assert client.rcpt("accepted@policyd.test").code == 250
        assert said(client.data()) == "550 5.7.1 At DATA"
        client.rset()
        reply = send(client, "refused@end.test", "a@policyd.test")
        assert said(reply) == "554 5.7.1 At the end"
        reply = send(client, "a@x.test", "a@policyd.test", message=b"X-Test: defer\n\n")
        assert said(reply) == "451 4.7.1 Later"
        assert send(client, "a@x.test", "a@policyd.test").code == 250

    def test_a_bare_postmaster_is_accepted(self, connect: Connect) -> None:
        client = greeted(connect)
        client.mail("a@x.test")
        assert client.rcpt("postmaster").code == 250

    def test_an_attachment_is_seen_by_its_name(self, connect: Connect) -> None:
        message = (
            b"MIME-Version: 1.0\nContent-Type: multipart/mixed;\n\tboundary=b\n\n"
            b"--b\n\nHello\n--b\nContent-Type: application/x;\n name=a.exe\n\nTVo=\n--b--\n"
        )
        client = greeted(connect)
        assert said(send(client, "a@x.test", "a@policyd.test", message=message)) == (
            "550 5.7.1 Programs"
        )


class TestWhatBecomesOfAMessage:
    def test_a_held_message_stands_in_the_queue(
        self, connect: Connect, postfix: PostfixInstance
    ) -> None:
        reply = send(greeted(connect), "hold@mail.test", "held@policyd.test")
        queue_id = reply.text.rpartition(" ")[2]
        (entry,) = [entry for entry in postfix.queue() if entry["queue_id"] == queue_id]
        assert entry["queue_name"] == "hold"

    def test_a_hold_is_forgotten_with_its_message(
        self, connect: Connect, postfix: PostfixInstance
    ) -> None:
        client = greeted(connect)
        client.mail("hold@mail.test")
        client.rcpt("a@policyd.test")
        client.rset()
        assert send(client, "a@x.test", "forgotten@policyd.test").code == 250
        postfix.wait_delivered("forgotten@policyd.test")

    def test_a_discarded_message_is_accepted_and_goes_nowhere(
        self, connect: Connect, postfix: PostfixInstance
    ) -> None:
        reply = send(greeted(connect), "discard@end.test", "discarded@policyd.test")
        assert reply.code == 250
        postfix.wait_log("milter-discard.*from=<discard@end.test>")
        assert postfix.delivered("discarded@policyd.test") == []

    def test_a_redirected_message_reaches_one_address_alone(
        self, connect: Connect, postfix: PostfixInstance
    ) -> None:
        recipients = ("one@policyd.test", '"q q"@policyd.test', "target@policyd.test")
        reply = send(greeted(connect), "redirect@data.test", *recipients)
        assert reply.code == 250
        postfix.wait_delivered("target@policyd.test")
        queue_id = reply.text.rpartition(" ")[2]
        postfix.wait_log(f"{queue_id}: removed")
        sent = [line for line in postfix.log_lines() if queue_id in line and "status=" in line]
        assert len(sent) == 1
        assert "to=<target@policyd.test>" in sent[0]

    def test_a_source_route_is_redirected_too(
        self, connect: Connect, postfix: PostfixInstance
    ) -> None:
        reply = send(greeted(connect), "redirect@data.test", "@relay.test:routed@policyd.test")
        queue_id = reply.text.rpartition(" ")[2]
        postfix.wait_log(f"{queue_id}: removed")
        sent = [line for line in postfix.log_lines() if queue_id in line and "status=" in line]
        assert ["to=<target@policyd.test>" in line for line in sent] == [True]

    def test_a_blind_copy_is_delivered_beside_the_original(
        self, connect: Connect, postfix: PostfixInstance
    ) -> None:
        assert send(greeted(connect), "a@x.test", "copied@policyd.test").code == 250
        postfix.wait_delivered("copied@policyd.test")
        postfix.wait_delivered("copy@policyd.test")

    def test_a_prepended_header_stands_before_all_others(
        self, connect: Connect, postfix: PostfixInstance
    ) -> None:
        message = b"Received: by a.test\nSubject: x\n\nHello\n"
        send(greeted(connect, source=REMOTE), "note@end.test", "note@policyd.test", message=message)
        (delivered,) = postfix.wait_delivered("note@policyd.test")
        names = [line.partition(b":")[0] for line in delivered.split(b"\n\n")[0].splitlines()]
        size = len(message) + message.count(b"\n")
        assert f"\nX-Note: {REMOTE} {size}\n".encode() in delivered
        assert names.index(b"X-Note") < names.index(b"Received")

    @pytest.mark.parametrize("sender", ["", "user@local.test"])
    def test_a_local_submission_passes(self, postfix: PostfixInstance, sender: str) -> None:
        mailbox = f"submitted-{len(sender)}@policyd.test"
        postfix.submit(sender, mailbox, "Subject: x\n\nHello\n")
        postfix.wait_delivered(mailbox)

    def test_a_local_submission_that_a_rule_rejects_is_bounced(
        self, postfix: PostfixInstance
    ) -> None:
        before = len(postfix.log_lines())
        postfix.submit("refused@local.test", "a@policyd.test", "Subject: x\n\nHello\n")
        line = postfix.wait_log("milter-reject: END-OF-MESSAGE.*Ours", after=before)
        assert "from=<refused@local.test>" in line


class TestWhatIsKnown:
    def last(self, milter: RunningMilter, stage: str) -> dict[str, Any]:
        (found,) = [line for line in milter.rest() if line["stage"] == stage][-1:]
        return dict(found["attributes"])

    @pytest.mark.parametrize(
        ("sender", "recipient"),
        [
            ("never@x.test", "b@policyd.test"),
            ("", "B+Tag@Policyd.Test"),
            ('"a b"@x.test', '"q \\"q\\" (no)"@policyd.test'),
            ("@r.test,@s.test:never@x.test", "@relay.test:u@policyd.test"),
            ("never\\ @x.test", "u@[127.0.0.1]"),
            ("(comment)never@x.test", "u(comment)@policyd.test"),
            ("never", "postmaster@policyd.test"),
        ],
    )
    def test_the_attributes_at_rcpt_are_those_of_a_policy_request(
        self,
        connect: Connect,
        milter: RunningMilter,
        policy: PolicyServer,
        sender: str,
        recipient: str,
    ) -> None:
        client = greeted(connect, "he<l>o.test", service="asking", source=REMOTE)
        client.mail(sender, "SIZE=123")
        milter.rest()
        if client.rcpt(recipient).code != 250:
            pytest.skip("Postfix refused the address itself")
        request = policy.requests[-1]
        known = self.last(milter, "rcpt")
        for fact in (*FACTS[:-1], "recipient", "client_address", "client_port", "server_port"):
            assert known.get(fact, "") == request[fact], fact
        assert known["size"] == request["size"] == "123"
        assert str(known["mail_version"]).startswith("3.")

    def test_size_and_count_at_the_end_are_those_of_a_policy_request(
        self, connect: Connect, milter: RunningMilter, policy: PolicyServer
    ) -> None:
        client = greeted(connect, service="asking", source=REMOTE)
        message = b"Subject: folded\n and long\nFrom: a@x.test\n\n" + b"line\n" * 30_000
        reply = send(client, "never@x.test", "a@policyd.test", "b@policyd.test", message=message)
        assert reply.pair == "550 5.7.1"
        known, request = self.last(milter, "end-of-data"), policy.requests[-1]
        assert request["protocol_state"] == "END-OF-MESSAGE"
        assert str(known["size"]) == request["size"]
        assert str(known["recipient_count"]) == request["recipient_count"] == "2"
        assert known["queue_id"] == request["queue_id"] != ""
        assert known["recipients"] == ["a@policyd.test", "b@policyd.test"]

    def test_a_local_submission_is_told_by_its_client(
        self, postfix: PostfixInstance, milter: RunningMilter
    ) -> None:
        milter.rest()
        postfix.submit("never@x.test", "known@policyd.test", "Subject: x\n\nHello\n")
        postfix.wait_delivered("known@policyd.test")
        known = self.last(milter, "end-of-data")
        assert known["local_submission"] is True
        assert (known["client_name"], known["client_port"]) == ("localhost", "0")
        assert known["queue_id"]

    def test_a_client_of_which_xclient_tells_no_port_is_no_local_submission(
        self, connect: Connect, milter: RunningMilter
    ) -> None:
        client = greeted(connect, service="trusting")
        milter.rest()
        assert client.command("XCLIENT ADDR=192.0.2.7 PORT=[UNAVAILABLE]").code == 220
        client.ehlo()
        client.mail("a@x.test")
        client.rcpt("b@policyd.test")
        known = self.last(milter, "rcpt")
        assert (known["client_address"], known["client_port"]) == ("192.0.2.7", "0")
        assert known["local_submission"] is False

"""The policy protocol: bytes to requests, contexts to questions, decisions to actions."""

import string
import time
from collections.abc import Callable, Iterable

import pytest
from hypothesis import given
from hypothesis import strategies as st

from policyd.facts.table import FACTS
from policyd.protocol.delegation import (
    ATTRIBUTES,
    MAX_REQUEST,
    REASONS,
    SINCE,
    Asked,
    ProtocolError,
    Reason,
    Request,
    RequestParser,
    action,
    encode_action,
    read_context,
)
from policyd.smtp.decision import Decision, Source, Verdict
from policyd.smtp.reply import Reply
from policyd.smtp.stage import FrontEnd, RestrictionList, Stage

# smtpd_check.c's order; what a 3.12 sends about an authenticated client with a certificate
SENT = {
    "protocol_state": "RCPT",
    "protocol_name": "ESMTP",
    "client_address": "2001:db8::7",
    "client_name": "mail.sender.example",
    "client_port": "51234",
    "reverse_client_name": "mail.sender.example",
    "server_address": "2001:db8::25",
    "server_port": "25",
    "helo_name": "mail.sender.example",
    "sender": 'a b=c"d@sender.example',
    "recipient": "postmaster+x=y@example.org",
    "recipient_count": "0",
    "queue_id": "4Xyz1A2b3Cz4",
    "instance": "3f2.6551f0aa.b1d2c.0",
    "size": "12345",
    "etrn_domain": "",
    "stress": "",
    "sasl_method": "PLAIN",
    "sasl_username": "jörg@example.org",
    "sasl_sender": "",
    "ccert_subject": "J+C3+B6rg+20Doe",
    "ccert_issuer": "CA+2B+20One",
    "ccert_fingerprint": "C2:9D:F4:87:71:73:73:D9:18:E7:C2:F3:C1:DA:6E:04",
    "ccert_pubkey_fingerprint": "68:B3:29:DA:98:93:E3:40:99:C7:D8:AD:5C:B9:C9:40",
    "encryption_protocol": "TLSv1.3",
    "encryption_cipher": "TLS_AES_256_GCM_SHA384",
    "encryption_keysize": "256",
    "policy_context": "",
    "compatibility_level": "3.8",
    "mail_version": "3.12-20260821",
    "tls_sni": "mx.example.org",
}
READ = SENT | {"ccert_subject": "Jörg Doe", "ccert_issuer": "CA+ One"}


def wire(attributes: dict[str, str], *, first: str = "request=smtpd_access_policy") -> bytes:
    lines = [first, *(f"{name}={value}" for name, value in attributes.items())]
    return "\n".join(lines).encode("utf-8", "surrogateescape") + b"\n\n"


def as_sent_by(version: str) -> dict[str, str]:
    upto = list(SINCE)[: list(SINCE).index(version) + 1]
    names = {name for since in upto for name in SINCE[since]}
    return {name: value for name, value in SENT.items() if name in names}


def whole(data: bytes) -> Iterable[bytes]:
    return [data]


def bytewise(data: bytes) -> Iterable[bytes]:
    return (data[at : at + 1] for at in range(len(data)))


def parse(chunks: Iterable[bytes], *, end: bool = True) -> tuple[list[Request], Reason | None]:
    """Feed chunks to the end, as a server does: the requests, and what ended them."""
    parser = RequestParser()
    requests = []
    try:
        for chunk in chunks:
            parser.feed(chunk)
            while (request := parser.next_request()) is not None:
                requests.append(request)
        if end:
            parser.finish()
    except ProtocolError as error:
        return requests, error.reason
    return requests, None


def one(data: bytes) -> Request:
    requests, reason = parse([data])
    assert reason is None
    assert len(requests) == 1
    return requests[0]


feeding = pytest.mark.parametrize("feed", [whole, bytewise])
Feed = Callable[[bytes], Iterable[bytes]]

PLAIN = wire({"protocol_state": "RCPT", "sender": "a@b.example"})


class TestRequests:
    @feeding
    @pytest.mark.parametrize("version", SINCE)
    def test_the_attributes_of_every_postfix_are_read(self, version: str, feed: Feed) -> None:
        sent = as_sent_by(version)
        requests, reason = parse(feed(wire(sent)))
        assert reason is None
        assert [request.attributes for request in requests] == [{name: READ[name] for name in sent}]
        assert requests[0].stage is Stage.RCPT

    def test_the_newest_postfix_sends_every_attribute(self) -> None:
        assert set(SENT) == ATTRIBUTES

    def test_attributes_are_the_facts_that_policy_delegation_is_told(self) -> None:
        derived = {
            *("sender_local", "sender_domain", "recipient_local", "recipient_domain"),
            *("helo_is_address", "service", "now", "score"),
        }
        known = {name for name, fact in FACTS.items() if fact.known[FrontEnd.POLICY]}
        assert known - derived == ATTRIBUTES

    @pytest.mark.parametrize(
        "name",
        [
            *("service", "score", "now", "recipients", "headers", "local_submission", "body_size"),
            *("attachments", "sender_domain", "helo_is_address", "request", "future", "", "Sender"),
        ],
    )
    def test_an_unknown_attribute_is_left_out(self, name: str) -> None:
        data = wire(SENT).replace(b"\n\n", f"\n{name}=x\n\n".encode())
        if name == "request":
            data = data.replace(b"request=x", b"request=smtpd_access_policy")
        assert one(data).attributes == READ

    @pytest.mark.parametrize(
        ("state", "stage"),
        [
            ("CONNECT", Stage.CONNECT),
            ("HELO", Stage.HELO),
            ("EHLO", Stage.HELO),
            ("MAIL", Stage.MAIL),
            ("RCPT", Stage.RCPT),
            ("DATA", Stage.DATA),
            ("END-OF-MESSAGE", Stage.END_OF_DATA),
            ("VRFY", Stage.VRFY),
            ("ETRN", Stage.ETRN),
            ("", None),
            ("rcpt", None),
            ("XFORWARD", None),
        ],
    )
    def test_protocol_state_names_the_stage(self, state: str, stage: Stage | None) -> None:
        request = one(wire({"protocol_state": state}))
        assert (request.stage, request.state) == (stage, state)

    def test_a_request_without_protocol_state_has_no_stage(self) -> None:
        assert one(wire({"sender": ""})).stage is None

    def test_the_order_of_attributes_does_not_matter(self) -> None:
        lines = wire(SENT).removesuffix(b"\n\n").split(b"\n")
        assert one(b"\n".join(reversed(lines)) + b"\n\n").attributes == READ

    def test_the_last_of_two_attributes_counts(self) -> None:
        data = b"request=smtpd_access_policy\nsender=a\nsender=b\n\n"
        assert one(data).attributes == {"sender": "b"}

    def test_the_first_equals_sign_ends_the_name(self) -> None:
        assert one(wire({"sender": "=a==b="})).attributes["sender"] == "=a==b="

    def test_bytes_that_are_no_utf8_become_lone_surrogates(self) -> None:
        data = b"request=smtpd_access_policy\nhelo_name=caf\xe9\n\n"
        assert one(data).attributes["helo_name"] == "caf\udce9"

    def test_line_ends_of_other_worlds_do_not_end_a_line(self) -> None:
        odd = "a\rb\x0bc\x0cd\x1ce\x85f\u2028g\r"
        assert one(wire({"helo_name": odd})).attributes["helo_name"] == odd

    @pytest.mark.parametrize(
        ("coded", "plain"),
        [
            ("J+C3+B6rg", "Jörg"),
            ("A+2BB", "A+B"),
            ("A+2bB", "A+B"),
            ("+E9", "\udce9"),
            ("no code", "no code"),
            ("1+1", "1+1"),
            ("A+2BB+", "A+2BB+"),
            ("+", "+"),
            ("", ""),
            ("+0A+00", "\n\0"),
        ],
    )
    def test_certificate_names_are_xtext(self, coded: str, plain: str) -> None:
        read = one(wire({"ccert_subject": coded, "ccert_issuer": coded})).attributes
        assert (read["ccert_subject"], read["ccert_issuer"]) == (plain, plain)

    def test_no_other_attribute_is_xtext(self) -> None:
        sent = {name: "user+2Btag" for name in ATTRIBUTES if not name.startswith("ccert_")}
        assert one(wire(sent)).attributes == sent

    @given(
        st.dictionaries(
            st.sampled_from(sorted(ATTRIBUTES - {"ccert_subject", "ccert_issuer"})),
            st.binary(max_size=200).map(lambda raw: raw.replace(b"\n", b"").replace(b"\0", b"")),
        )
    )
    def test_whatever_values_are_sent_are_read(self, values: dict[str, bytes]) -> None:
        lines = [b"%b=%b" % (name.encode(), value) for name, value in values.items()]
        request = one(b"\n".join([b"request=smtpd_access_policy", *lines]) + b"\n\n")
        assert request.attributes == {
            name: value.decode("utf-8", "surrogateescape") for name, value in values.items()
        }


class TestStream:
    @feeding
    def test_several_requests_at_once_keep_their_order(self, feed: Feed) -> None:
        senders = [f"{number}@example.net" for number in range(50)]
        data = b"".join(wire({"sender": sender}) for sender in senders)
        requests, reason = parse(feed(data))
        assert reason is None
        assert [request.attributes["sender"] for request in requests] == senders

    @given(st.data())
    def test_chunks_make_no_difference(self, data: st.DataObject) -> None:
        pieces = data.draw(st.lists(st.sampled_from(PIECES), max_size=8).map(b"".join))
        cuts = data.draw(st.lists(st.integers(0, len(pieces)), max_size=20).map(sorted))
        chunks = [pieces[a:b] for a, b in zip([0, *cuts], [*cuts, len(pieces)], strict=True)]
        assert parse(filter(None, chunks)) == parse([pieces]) == parse(bytewise(pieces))

    @given(st.binary(max_size=300), st.booleans())
    def test_no_bytes_raise_anything_but_a_protocol_error(self, junk: bytes, after: bool) -> None:
        requests, reason = parse(whole(PLAIN + junk if after else junk))
        assert len(requests) >= after
        assert reason is None or reason in REASONS

    def test_nothing_is_a_request_before_its_empty_line(self) -> None:
        requests, reason = parse(bytewise(PLAIN[:-1]), end=False)
        assert (requests, reason) == ([], None)

    def test_an_error_stays(self) -> None:
        parser = RequestParser()
        parser.feed(b"no equals sign\n\n")
        for data in (b"", PLAIN):
            if data:
                parser.feed(data)
            with pytest.raises(ProtocolError, match="malformed-line"):
                parser.next_request()

    def test_partial_tells_of_an_unfinished_request(self) -> None:
        parser = RequestParser()
        seen = []
        for chunk in (PLAIN[:10], PLAIN[10:], PLAIN + b"r"):
            parser.feed(chunk)
            while parser.next_request() is not None:
                pass
            seen.append(parser.partial)
        assert seen == [True, False, True]

    @pytest.mark.parametrize("piece", [b"x", b"\r", b"\n", b"a=b\n", b"a\n\r"])
    def test_bytewise_feeding_of_the_longest_request_is_linear(self, piece: bytes) -> None:
        data = b"request=smtpd_access_policy\nsender=" + piece * (MAX_REQUEST // len(piece) - 20)
        data = data.replace(b"\n\n", b"\nx").replace(b"\n\r\n", b"\nx\n")
        began = time.process_time()
        parse(bytewise(data))
        # about 0.15 s; a search from the start for every byte takes more than ten times that
        assert time.process_time() - began < 3


REQUEST = b"request=smtpd_access_policy\n"
PIECES = [
    PLAIN,
    wire(SENT),
    REQUEST,
    *(b"\n", b"\n\n", b"\r", b"\r\n", b"\0", b"=", b"a", b"sender=x\n", b"sender\n", b"size=1\r\n"),
]


class TestMalformed:
    @feeding
    @pytest.mark.parametrize(
        ("data", "reason"),
        [
            pytest.param(b"\n", Reason.EMPTY, id="a lone empty line"),
            pytest.param(b"\n\n", Reason.EMPTY, id="two empty lines"),
            pytest.param(b"\n" + PLAIN, Reason.EMPTY, id="an empty first line"),
            pytest.param(PLAIN + b"\n", Reason.EMPTY, id="three line ends after a request"),
            pytest.param(PLAIN.replace(b"\n", b"\r\n"), Reason.CRLF, id="CR LF"),
            pytest.param(b"\r\n" + PLAIN, Reason.CRLF, id="CR LF first"),
            pytest.param(REQUEST + b"a=b\n\r\n", Reason.CRLF, id="the empty line alone has CR LF"),
            pytest.param(REQUEST + b"\r\n\n", Reason.CRLF, id="a line of CR alone"),
            pytest.param(
                b"request=smtpd_access_policy\r\na=b\r\n\n", Reason.CRLF, id="all but the empty one"
            ),
            pytest.param(REQUEST + b"sender=a\0b\n\n", Reason.NUL, id="NUL in a value"),
            pytest.param(b"\0" * 100 + b"\n\n", Reason.NUL, id="NULs alone"),
            pytest.param(REQUEST + b"sen\0der=a\n\n", Reason.NUL, id="NUL in a name"),
            pytest.param(REQUEST + b"sender\n\n", Reason.MALFORMED_LINE, id="no equals sign"),
            pytest.param(b"GET / HTTP/1.1\n\n", Reason.MALFORMED_LINE, id="another protocol"),
            pytest.param(b"\x16\x03\x01\n\n", Reason.MALFORMED_LINE, id="TLS"),
            pytest.param(
                PLAIN.removeprefix(REQUEST), Reason.NOT_A_REQUEST, id="no line of the request type"
            ),
            pytest.param(wire(SENT, first="request="), Reason.NOT_A_REQUEST, id="an empty type"),
            pytest.param(wire(SENT, first="request=junk"), Reason.NOT_A_REQUEST, id="another type"),
            pytest.param(
                wire(SENT, first=" request=smtpd_access_policy"), Reason.NOT_A_REQUEST, id="blank"
            ),
            pytest.param(PLAIN[:-1], Reason.TRUNCATED, id="end before the empty line"),
            pytest.param(PLAIN[:20], Reason.TRUNCATED, id="end inside a line"),
            pytest.param(b"\r", Reason.TRUNCATED, id="end after CR"),
            pytest.param(b"r", Reason.TRUNCATED, id="end after a byte"),
            pytest.param(b"x" * (MAX_REQUEST + 2), Reason.TOO_LONG, id="a line without end"),
            pytest.param(
                REQUEST + b"a=b\n" * (MAX_REQUEST // 4), Reason.TOO_LONG, id="lines without end"
            ),
        ],
    )
    def test_is_an_error_with_a_reason(self, data: bytes, reason: Reason, feed: Feed) -> None:
        assert parse(feed(data))[1] is reason

    @feeding
    def test_requests_before_it_are_read(self, feed: Feed) -> None:
        requests, reason = parse(feed(PLAIN + PLAIN + b"junk\n\n" + PLAIN))
        assert (len(requests), reason) == (2, Reason.MALFORMED_LINE)

    @feeding
    @pytest.mark.parametrize("before", [b"", PLAIN])
    @pytest.mark.parametrize(("spare", "reason"), [(0, None), (1, Reason.TOO_LONG)])
    def test_256_kib_of_lines_are_the_most(
        self, feed: Feed, before: bytes, spare: int, reason: Reason | None
    ) -> None:
        head = REQUEST + b"sender="
        length = MAX_REQUEST - len(head) - 1 + spare
        requests, found = parse(feed(before + head + b"x" * length + b"\n\n"))
        assert found is reason
        if reason is None:
            assert len(requests[-1].attributes["sender"]) == length

    def test_an_endless_line_is_refused_before_it_ends(self) -> None:
        fed = iter([b"x" * 1024] * 1000)
        assert parse(fed)[1] is Reason.TOO_LONG
        assert len(list(fed)) == 1000 - 257

    def test_the_detail_shows_what_came_in_ascii_and_short(self) -> None:
        parser = RequestParser()
        parser.feed(b"caf\xe9\x1b[2J" * 1000 + b"\n\n")
        with pytest.raises(ProtocolError) as caught:
            parser.next_request()
        assert caught.value.detail.isascii()
        assert caught.value.detail.isprintable()
        assert len(caught.value.detail) < 500


def ask(state: str, context: str) -> tuple[Request, Asked | ProtocolError]:
    request = one(wire({"protocol_state": state, "policy_context": context}))
    return request, read_context(request)


STATES = ("CONNECT", "HELO", "EHLO", "MAIL", "RCPT", "DATA", "END-OF-MESSAGE", "VRFY", "ETRN")
STAGE_OF = {state: one(wire({"protocol_state": state})).stage for state in STATES}


class TestContext:
    @pytest.mark.parametrize("state", STATES)
    def test_without_one_the_state_decides(self, state: str) -> None:
        request, asked = ask(state, "")
        assert isinstance(asked, Asked)
        assert asked.stage is STAGE_OF[state]
        assert not asked.alone
        assert request.attributes["service"] == ""

    @pytest.mark.parametrize(
        ("state", "context", "asked"),
        [
            ("RCPT", "stage=rcpt", Asked(Stage.RCPT, True, RestrictionList.RECIPIENT)),
            ("RCPT", "stage=helo", Asked(Stage.HELO, True, RestrictionList.HELO)),
            ("RCPT", "stage=connect", Asked(Stage.CONNECT, True, RestrictionList.CLIENT)),
            ("RCPT", "stage=mail;list=sender", Asked(Stage.MAIL, True, RestrictionList.SENDER)),
            ("RCPT", "list=relay", Asked(Stage.RCPT, False, RestrictionList.RELAY)),
            ("RCPT", "stage=mail;list=relay", Asked(Stage.MAIL, True, RestrictionList.RELAY)),
            ("RCPT", " Stage = HELO ; LIST=x", Asked(Stage.RCPT, False, RestrictionList.RECIPIENT)),
            ("RCPT", " stage = HELO ;list=Client", Asked(Stage.HELO, True, RestrictionList.CLIENT)),
            ("DATA", "stage=mail", Asked(Stage.MAIL, True, RestrictionList.SENDER)),
            ("DATA", "", Asked(Stage.DATA, False, RestrictionList.DATA)),
            (
                "END-OF-MESSAGE",
                "stage=end-of-data;list=end-of-data",
                Asked(Stage.END_OF_DATA, True, RestrictionList.END_OF_DATA),
            ),
            ("VRFY", "", Asked(Stage.VRFY, False, RestrictionList.RECIPIENT)),
            ("VRFY", "stage=rcpt", Asked(Stage.VRFY, True, RestrictionList.RECIPIENT)),
            (
                "VRFY",
                "stage=end-of-data;list=client",
                Asked(Stage.VRFY, True, RestrictionList.CLIENT),
            ),
            ("ETRN", "stage=connect", Asked(Stage.ETRN, True, RestrictionList.ETRN)),
            ("ETRN", "stage=helo;list=helo", Asked(Stage.ETRN, True, RestrictionList.HELO)),
        ],
    )
    def test_says_stage_and_list(self, state: str, context: str, asked: Asked) -> None:
        assert ask(state, context)[1] == asked

    @pytest.mark.parametrize(
        ("context", "service", "rest"),
        [
            ("service=submission", "submission", ""),
            ("stage=rcpt;service=mx;list=relay", "mx", ""),
            ("service=a=b", "a=b", ""),
            ("submission", "", "submission"),
            ("submission;port 587", "", "submission;port 587"),
            ("stage=rcpt;submission", "", "submission"),
            ("colour=blue;stage=rcpt;x", "", "colour=blue;x"),
            ("stage=rcpt;", "", ""),
            (";;service=mx;;", "mx", ""),
            ("stage", "", "stage"),
            ("service=" + "x" * 5000, "x" * 5000, ""),
        ],
    )
    def test_service_and_other_text_become_facts(
        self, context: str, service: str, rest: str
    ) -> None:
        attributes = ask("RCPT", context)[0].attributes
        assert (attributes["service"], attributes["policy_context"]) == (service, rest)

    @pytest.mark.parametrize(
        ("state", "context", "reason"),
        [
            ("XFORWARD", "", Reason.UNKNOWN_STATE),
            ("", "stage=rcpt", Reason.UNKNOWN_STATE),
            ("RCPT", "stage=banner", Reason.UNKNOWN_STAGE),
            ("RCPT", "stage=", Reason.UNKNOWN_STAGE),
            ("VRFY", "stage=banner", Reason.UNKNOWN_STAGE),
            ("RCPT", "list=rcpt", Reason.UNKNOWN_LIST),
            ("RCPT", "list=", Reason.UNKNOWN_LIST),
            ("RCPT", "stage=vrfy", Reason.LATER_STAGE),
            ("END-OF-MESSAGE", "stage=etrn", Reason.LATER_STAGE),
        ],
    )
    def test_what_cannot_be_is_given_back_as_an_error(
        self, state: str, context: str, reason: Reason
    ) -> None:
        asked = ask(state, context)[1]
        assert isinstance(asked, ProtocolError)
        assert asked.reason is reason

    @pytest.mark.parametrize("state", STATES[:7])
    @pytest.mark.parametrize("reached", STATES[:7])
    def test_a_stage_after_the_state_is_an_error(self, state: str, reached: str) -> None:
        order = list(Stage)
        stage, limit = STAGE_OF[state], STAGE_OF[reached]
        assert stage is not None
        assert limit is not None
        asked = ask(reached, f"stage={stage}")[1]
        if order.index(stage) <= order.index(limit):
            assert isinstance(asked, Asked)
            assert (asked.stage, asked.alone) == (stage, True)
        else:
            assert isinstance(asked, ProtocolError)
            assert asked.reason is Reason.LATER_STAGE

    @given(st.sampled_from(STATES), st.text(alphabet="stagelivc=; xé\udce9", max_size=40))
    def test_whatever_a_context_holds_gives_an_answer(self, state: str, context: str) -> None:
        asked = ask(state, context)[1]
        assert isinstance(asked, Asked) or asked.reason in REASONS


def decide(verdict: Verdict, **said: object) -> Decision:
    return Decision(id="i", verdict=verdict, stage=Stage.RCPT, source=Source.RULE, **said)  # type: ignore[arg-type]


ANSWERS = [verdict for verdict in Verdict if verdict is not Verdict.SCORE]
WORDS = {
    *("DUNNO", "DEFER_IF_PERMIT", "HOLD", "DISCARD", "WARN"),
    *("REDIRECT", "BCC", "FILTER", "PREPEND"),
}


class TestActions:
    @pytest.mark.parametrize(
        ("decision", "expected"),
        [
            (decide(Verdict.ACCEPT), "DUNNO"),
            (decide(Verdict.PASS, argument="x", rule="r"), "DUNNO"),
            (
                decide(Verdict.DEFER, reply=Reply(450, 2, 0, "Greylisted: 50% done")),
                "450 4.2.0 Greylisted: 50% done",
            ),
            (decide(Verdict.REJECT, reply=Reply(550, 1, 1, "No")), "550 5.1.1 No"),
            (decide(Verdict.REJECT, reply=Reply(521, 3, 2, "No")), "521 5.3.2 No"),
            (decide(Verdict.DEFER, reply=Reply(421, 3, 2, "No")), "421 4.3.2 No"),
            (decide(Verdict.DEFER, reply=Reply(450, 7, 25, "  No  ")), "450 4.7.25 No"),
            (decide(Verdict.REJECT, reply=Reply(550, 1, 1, "\x01")), "550 5.1.1 no reason given"),
            (
                decide(Verdict.DEFER, reply=Reply(450, 2, 0, "Later"), if_permitted=True),
                "DEFER_IF_PERMIT 4.2.0 Later",
            ),
            (
                decide(Verdict.REJECT, reply=Reply(550, 2, 0, "Never"), if_permitted=True),
                "550 5.2.0 Never",
            ),
            (decide(Verdict.HOLD, argument="look at it"), "HOLD look at it"),
            (decide(Verdict.HOLD, rule="suspects"), "HOLD rule suspects"),
            (decide(Verdict.DISCARD, argument=" \r\n"), "DISCARD no reason given"),
            (decide(Verdict.DISCARD, rule="spam"), "DISCARD rule spam"),
            (decide(Verdict.WARN, argument="odd\nHELO"), "WARN odd HELO"),
            (decide(Verdict.WARN, rule="odd"), "WARN rule odd"),
            (decide(Verdict.REDIRECT, argument="a@b.example"), "REDIRECT a@b.example"),
            (decide(Verdict.BCC, argument="a@b.example"), "BCC a@b.example"),
            (decide(Verdict.FILTER, argument="smtp:[::1]:10025"), "FILTER smtp:[::1]:10025"),
            (decide(Verdict.FILTER, argument="scan:"), "FILTER scan:"),
            (decide(Verdict.PREPEND, argument="X-Policy: 5%"), "PREPEND X-Policy: 5%"),
        ],
    )
    def test_says_what_was_decided(self, decision: Decision, expected: str) -> None:
        assert action(decision) == expected
        assert encode_action(decision) == f"action={expected}\n\n".encode()

    @pytest.mark.parametrize(
        "decision",
        [
            decide(Verdict.REJECT),
            decide(Verdict.DEFER),
            decide(Verdict.REJECT, reply=Reply(250, 0, 0, "Fine")),
            decide(Verdict.REDIRECT),
            decide(Verdict.REDIRECT, argument="nobody"),
            decide(Verdict.BCC, argument=" "),
            decide(Verdict.FILTER, argument="smtp"),
            decide(Verdict.FILTER, argument=":x"),
            decide(Verdict.PREPEND),
            decide(Verdict.PREPEND, argument="no header"),
            decide(Verdict.PREPEND, argument=": x"),
            decide(Verdict.PREPEND, argument="Two Words: x"),
            decide(Verdict.SCORE, argument="5"),
        ],
    )
    def test_what_postfix_would_let_pass_is_no_action(self, decision: Decision) -> None:
        with pytest.raises(
            ValueError, match=r"Postfix would not take|has a 4yz or 5yz reply|no answer"
        ):
            encode_action(decision)

    def test_utf8_is_sent_as_it_is(self) -> None:
        decision = decide(Verdict.REJECT, reply=Reply(550, 1, 1, "Müller \udce9"))
        assert encode_action(decision) == "action=550 5.1.1 Müller ?\n\n".encode()

    @given(st.sampled_from(ANSWERS), st.text(max_size=60), st.text(max_size=60), st.booleans())
    def test_is_one_line_with_a_known_word_and_a_text(
        self, verdict: Verdict, text: str, rule: str, if_permitted: bool
    ) -> None:
        kept = text.replace("\r", " ").replace("\n", " ").replace("\0", " ").strip() or "."
        code = 450 if verdict is Verdict.DEFER else 550
        argument = {
            Verdict.REDIRECT: "a@b",
            Verdict.BCC: "a@b",
            Verdict.FILTER: "a:",
            Verdict.PREPEND: "A: ",
        }.get(verdict, "") + text
        reply = Reply(code, 7, 1, kept) if verdict in (Verdict.DEFER, Verdict.REJECT) else None
        decision = decide(
            verdict, argument=argument, rule=rule, reply=reply, if_permitted=if_permitted
        )
        sent = encode_action(decision)
        assert sent.startswith(b"action=")
        assert sent.endswith(b"\n\n")
        line = sent[len(b"action=") : -2].decode()
        assert line.isprintable()
        assert "%" not in text.strip() or verdict in (Verdict.ACCEPT, Verdict.PASS) or "%" in line
        word, _, rest = line.partition(" ")
        if word in ("450", "550"):
            assert rest.startswith(f"{word[0]}.7.1 ")
            rest = rest[len("4.7.1 ") :]
        else:
            assert word in WORDS
        assert word == "DUNNO" or rest.strip(string.whitespace) == rest != ""

"""What is written above messages: the fields' forms, and that nothing in them becomes another."""

import re
from email.policy import default

import authres
import pytest
from hypothesis import given
from hypothesis import strategies as st

from policyd.mail.arc import ArcAnswer
from policyd.mail.author import Author
from policyd.mail.dkim import DkimAnswer, Signature
from policyd.mail.dmarc import DmarcAnswer
from policyd.mail.results import Envelope, Results, authentication_results, received_spf
from policyd.mail.spf import Identity, SpfAnswer
from policyd.mail.stamping import Method

ID = "mx.example.org"
ENVELOPE = Envelope(
    client_address="192.0.2.1",
    helo="mail.example.net",
    sender="jo@example.net",
    login="",
    resolved="OK",
)
AUTHOR = Author("example.net", domains=("example.net",))


def spf(result: str, reason: str = "") -> SpfAnswer:
    return SpfAnswer(result, Identity.MAIL_FROM, "example.net", reason)


def signature(**given: str) -> Signature:
    known = {
        "domain": "example.net",
        "selector": "s1",
        "identity": "@example.net",
        "algorithm": "rsa-sha256",
        "result": "pass",
    }
    return Signature(**{**known, **given})


GOOD = Results(
    spf("pass", "ip4:192.0.2.0/24"),
    DkimAnswer((signature(),), AUTHOR),
    DmarcAnswer("pass", "example.net", "reject", aligned_dkim=True),
    ArcAnswer("pass", sealer="list.example", instances=2),
)


def unfolded(value: str) -> str:
    return re.sub(r"\n +", " ", value)


def line(*methods: Method, envelope: Envelope = ENVELOPE, results: Results = GOOD) -> str:
    return unfolded(authentication_results(ID, methods, envelope, results))


def fails(answer: DmarcAnswer) -> str:
    return line(Method.DMARC, results=Results(dmarc=answer))


class TestResults:
    def test_every_method_has_its_clause(self) -> None:
        assert authentication_results(ID, Method, ENVELOPE, GOOD) == (
            "mx.example.org; spf=pass smtp.mailfrom=jo@example.net;\n"
            "  dkim=pass header.d=example.net header.i=@example.net header.s=s1\n"
            "    header.a=rsa-sha256;\n"
            "  dmarc=pass header.from=example.net;\n"
            "  arc=pass (i=2 by list.example);\n"
            "  iprev=pass policy.iprev=192.0.2.1"
        )

    def test_without_results_it_says_none(self) -> None:
        assert line() == "mx.example.org; none"
        assert line(Method.AUTH) == "mx.example.org; none"

    def test_what_could_not_be_found_out_is_a_temporary_error(self) -> None:
        assert line(Method.SPF, Method.DKIM, Method.DMARC, Method.ARC, results=Results()) == (
            "mx.example.org; spf=temperror smtp.mailfrom=jo@example.net;"
            " dkim=temperror; dmarc=temperror; arc=temperror"
        )

    def test_the_null_senders_identity_is_the_helo_name(self) -> None:
        envelope = Envelope(helo="mail.example.net")
        assert line(Method.SPF, envelope=envelope) == (
            "mx.example.org; spf=pass smtp.helo=mail.example.net"
        )

    def test_a_reason_is_given_for_what_is_no_good(self) -> None:
        results = Results(spf=spf("fail", 'the "-all" \\ mechanism'))
        assert line(Method.SPF, results=results) == (
            r'mx.example.org; spf=fail reason="the \"-all\" \\ mechanism"'
            " smtp.mailfrom=jo@example.net"
        )

    def test_each_signature_has_a_clause_up_to_ten(self) -> None:
        many = tuple(signature(selector=f"s{n}") for n in range(12))
        made = line(Method.DKIM, results=Results(dkim=DkimAnswer(many, AUTHOR)))
        assert re.findall(r"header\.s=(\w+)", made) == [f"s{n}" for n in range(10)]
        unsigned = Results(dkim=DkimAnswer((), AUTHOR))
        assert line(Method.DKIM, results=unsigned) == "mx.example.org; dkim=none"

    @pytest.mark.parametrize(
        ("answer", "clause"),
        [
            (DmarcAnswer("reject", "a.example", "reject"), "fail policy.dmarc=reject"),
            (DmarcAnswer("quarantine", "a.example", "reject"), "fail policy.dmarc=quarantine"),
            (DmarcAnswer("none", "a.example", "none"), "fail policy.dmarc=none"),
            (DmarcAnswer("none", "a.example"), "none"),
            (DmarcAnswer("pass", "a.example", "none"), "pass"),
            (DmarcAnswer("temperror", "a.example"), "temperror"),
            (DmarcAnswer("permerror", "a.example"), "permerror"),
        ],
    )
    def test_dmarc_says_whether_it_failed_and_what_is_asked_then(
        self, answer: DmarcAnswer, clause: str
    ) -> None:
        assert fails(answer) == f"mx.example.org; dmarc={clause} header.from=a.example"

    @pytest.mark.parametrize(
        ("resolved", "result"),
        [("OK", "pass"), ("FORGED", "fail"), ("TEMP", "temperror"), ("FAIL", "permerror")],
    )
    def test_the_clients_name_is_what_postfix_found(self, resolved: str, result: str) -> None:
        envelope = Envelope(client_address="2001:db8::1", resolved=resolved)
        assert line(Method.IPREV, envelope=envelope) == (
            f'mx.example.org; iprev={result} policy.iprev="2001:db8::1"'
        )

    def test_a_login_is_named(self) -> None:
        assert line(Method.AUTH, envelope=Envelope(login="jo")) == (
            "mx.example.org; auth=pass smtp.auth=jo"
        )
        assert line(Method.AUTH, envelope=Envelope(login="jo; dmarc=pass")) == (
            'mx.example.org; auth=pass smtp.auth="jo; dmarc=pass"'
        )

    @pytest.mark.parametrize(
        ("sender", "shown"),
        [
            ("jo+tag@Example.NET", "smtp.mailfrom=jo+tag@example.net"),
            ("jo@bücher.example", "smtp.mailfrom=jo@xn--bcher-kva.example"),
            ("a b@example.net", "smtp.mailfrom=example.net"),
            ('x"; dmarc=pass@example.net', "smtp.mailfrom=example.net"),
            ("jö@example.net", "smtp.mailfrom=example.net"),
            ("jo@exa mple.net", ""),
            ("jo@[192.0.2.1]", ""),
            ("jo", "smtp.mailfrom=jo"),
            ("x" * 80 + "@example.net", "smtp.mailfrom=example.net"),
        ],
    )
    def test_an_address_that_is_not_plain_is_shown_by_its_domain(
        self, sender: str, shown: str
    ) -> None:
        assert line(Method.SPF, envelope=Envelope(sender=sender)) == (
            f"mx.example.org; spf=pass {shown}".rstrip()
        )


class TestReceivedSpf:
    def test_it_says_what_was_asked_and_by_whom(self) -> None:
        assert unfolded(received_spf(ID, ENVELOPE, spf("pass", "ip4:192.0.2.0/24"))) == (
            'pass client-ip=192.0.2.1; envelope-from="jo@example.net"; helo=mail.example.net; '
            'receiver=mx.example.org; identity=mailfrom; mechanism="ip4:192.0.2.0/24"'
        )

    @pytest.mark.parametrize("result", ["temperror", "permerror"])
    def test_an_error_is_a_problem(self, result: str) -> None:
        assert 'problem="two records"' in received_spf(ID, ENVELOPE, spf(result, "two records"))

    def test_without_an_answer_it_is_a_temporary_error(self) -> None:
        made = received_spf(ID, Envelope(helo="a.example"), None)
        assert made.startswith('temperror envelope-from="postmaster@a.example"; helo=a.example;')


WORDS = st.text(max_size=120) | st.sampled_from(
    ['"', "\\", ";", "=", "(", ")", "\r\n", "\n", "\0", " ", "a.example", "a@b.example", "x" * 3000]
)
ANSWERS = st.builds(
    Results,
    spf=st.none() | st.builds(SpfAnswer, WORDS, st.just(Identity.MAIL_FROM), WORDS, WORDS),
    dkim=st.none()
    | st.builds(
        DkimAnswer,
        st.lists(st.builds(Signature, WORDS, WORDS, WORDS, WORDS, WORDS, WORDS), max_size=3).map(
            tuple
        ),
        st.just(AUTHOR),
    ),
    dmarc=st.none() | st.builds(DmarcAnswer, WORDS, WORDS, WORDS, WORDS),
    arc=st.none() | st.builds(ArcAnswer, WORDS, WORDS, WORDS, st.integers(0, 50)),
)
ENVELOPES = st.builds(Envelope, WORDS, WORDS, WORDS, WORDS, WORDS)


def is_one_field(name: str, value: str) -> bool:
    """Whether it is printable ASCII on lines of at most 998 octets, each folded by blanks."""
    lines = f"{name}: {value}".split("\n")
    return (
        all(re.fullmatch(r"[ -~]{1,998}", each) and each.strip() for each in lines)
        and all(each.startswith(" ") for each in lines[1:])
        and value.strip(" ") == value
    )


class TestWhateverASenderWrites:
    @given(st.sets(st.sampled_from(Method)), ENVELOPES, ANSWERS)
    def test_it_is_one_field_with_these_results_alone(
        self, methods: set[Method], envelope: Envelope, results: Results
    ) -> None:
        ordered = [method for method in Method if method in methods]
        value = authentication_results(ID, ordered, envelope, results)
        assert is_one_field("Authentication-Results", value)
        parsed = authres.parse_value(value.replace("\n", ""))
        assert parsed.authserv_id == ID
        signatures = results.dkim.signatures if results.dkim is not None else ()
        named = [each.method for each in parsed.results]
        assert named.count("dkim") == ("dkim" in methods) * max(1, len(signatures))
        assert set(named) <= {str(method) for method in methods}
        for each in (Method.SPF, Method.DMARC, Method.ARC):
            assert named.count(each) == (each in methods)

    @given(ENVELOPES, st.builds(SpfAnswer, st.just("pass"), st.just(Identity.HELO), WORDS, WORDS))
    def test_received_spf_is_one_field_of_these_pairs(
        self, envelope: Envelope, answer: SpfAnswer
    ) -> None:
        value = received_spf(ID, envelope, answer)
        assert is_one_field("Received-SPF", value)
        default.header_factory("Received-SPF", value.replace("\n", ""))
        result, _, pairs = value.replace("\n", "").partition(" ")
        assert result == "pass"
        pair = r'\s*([a-z-]+)=("(?:[^"\\]|\\.)*"|[^\s;"()]+)'
        assert re.fullmatch(rf"{pair}(?:;{pair})*", pairs)

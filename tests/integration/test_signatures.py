"""DKIM, DMARC and ARC on the wire: a real Postfix, a real name server, really signed messages."""

import shutil
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Final

import dkim
import pytest

from policyd.mail.dkim import RESULTS
from policyd.mail.dmarc import RESULTS as DMARC_RESULTS
from policyd.smtp.catalogue import named
from tests.integration.changing import rule
from tests.integration.conftest import short_directory
from tests.integration.remembering import XCLIENT, Remembering, arriving, send
from tests.mail.signed import ED25519, ED25519_RECORD, RSA, RSA_RECORD, SHORT_RSA, SHORT_RSA_RECORD
from tools.dns_servers import NameServer
from tools.postfix_instance import PostfixInstance
from tools.smtp_dialogue import Reply

pytestmark = pytest.mark.integration


def txt(name: str, text: str) -> str:
    """Write a TXT record, whose strings have at most 255 octets (RFC 1035 section 3.3.14)."""
    parts = (f'"{text[at : at + 255]}"' for at in range(0, len(text), 255))
    return f"{name} TXT {' '.join(parts)}\n"


DOMAINS: Final = ("reject", "quarantine", "monitor", "strict", "sampled", "twice", "none")
ZONE: Final = (
    "".join(txt(f"ed._domainkey.{name}", ED25519_RECORD) for name in DOMAINS)
    + "".join(txt(f"rsa._domainkey.{name}", RSA_RECORD) for name in DOMAINS)
    + txt("ed._domainkey.news.reject", ED25519_RECORD)
    + txt("short._domainkey.reject", SHORT_RSA_RECORD)
    + txt("revoked._domainkey.reject", "v=DKIM1; p=")
    + txt("_dmarc.reject", "v=DMARC1; p=reject; sp=quarantine")
    + txt("_dmarc.quarantine", "v=DMARC1; p=quarantine; pct=100")
    + txt("_dmarc.monitor", "v=DMARC1; p=none; rua=mailto:dmarc@monitor.test")
    + txt("_dmarc.strict", "v=DMARC1; p=reject; adkim=s; aspf=s")
    + txt("_dmarc.sampled", "v=DMARC1; p=reject; pct=0")
    + txt("_dmarc.twice", "v=DMARC1; p=reject")
    + txt("_dmarc.twice", "v=DMARC1; p=none")
    + txt("reject", "v=spf1 ip4:192.0.2.1 -all")
    + txt("news.reject", "v=spf1 ip4:192.0.2.1 -all")
)
"""Names outside the zone are refused by the server: no answer."""
NOBODY: Final = "nobody.answers.example"
CLIENT: Final = "192.0.2.1"
OTHER: Final = "198.51.100.1"


def rules() -> str:
    """Write rules that tell each result to messages that say what is to be asked."""
    return "".join(
        rule(name, then, f"header('X-Ask') == '{asks}' and {when}", "end-of-data")
        for name, asks, when, then in (
            ("dkim-temperror", "dkim", "dkim() == 'temperror'", "dkim-temperror"),
            ("dkim-none", "dkim", "dkim() == 'none'", "dkim-none"),
            (
                "dkim-bad",
                "dkim",
                "dkim() != 'pass'",
                "dkim-unacceptable: {dkim_domain} {dkim_selector}: {dkim_reason}",
            ),
            ("author", "author", "not dkim_aligned()", "dkim-author-mismatch"),
            ("of", "of", "dkim_of('none.test') != 'pass'", "550 5.7.21 No signature of none.test"),
            ("arc-fail", "arc", "arc() == 'fail'", "arc-fail: {arc_reason}"),
            ("arc-other", "arc", "arc_sealer() not in ['none.test', 'x.test']", "550 5.7.29 Who?"),
            ("dmarc-temperror", "dmarc", "dmarc() == 'temperror'", "dmarc-temperror"),
            (
                "dmarc-reject",
                "dmarc",
                "dmarc() == 'reject'",
                "dmarc-fail: {dmarc_domain} asks for {dmarc_policy}: {dmarc_reason}",
            ),
            ("dmarc-both", "dmarc", "dmarc() == 'quarantine'", "authentication-failed"),
            ("dmarc-permerror", "dmarc", "dmarc() == 'permerror'", "550 5.7.1 {dmarc_reason}"),
        )
    )  # fmt: skip


@pytest.fixture(scope="module")
def folder() -> Iterator[Path]:
    made = short_directory()
    yield made
    shutil.rmtree(made)


@pytest.fixture(scope="module")
def policyd(folder: Path) -> Iterator[Remembering]:
    with NameServer(folder / "dns", {"test": ZONE}) as dns:
        body = f'[dns]\nservers = ["{dns.address}"]\n' + rules()
        with Remembering(folder, body, policy=None, milter=("end-of-data",), workers=1) as running:
            yield running


@pytest.fixture(scope="module")
def postfix(
    policyd: Remembering, postfix_factory: Callable[..., PostfixInstance]
) -> PostfixInstance:
    main = XCLIENT | {"message_size_limit": "60000000"}
    return postfix_factory(services={"smtp": {"smtpd_milters": policyd.filters}}, main=main)


def message(asks: str, domain: str, *, more: bytes = b"", body: bytes = b"Hello\r\n") -> bytes:
    return (
        b"From: Jo <jo@%b>\r\nTo: b@policyd.test\r\nSubject: x\r\nX-Ask: %b\r\n"
        b"Date: Fri, 11 Jul 2003 21:00:37 -0700\r\nMessage-ID: <1@example.test>\r\n%b\r\n%b"
        % (domain.encode(), asks.encode(), more, body)
    )


def signed(
    content: bytes,
    domain: str,
    selector: str = "ed",
    key: bytes = ED25519,
    algorithm: str = "ed25519-sha256",
) -> bytes:
    line = dkim.sign(
        content, selector.encode(), domain.encode(), key, signature_algorithm=algorithm.encode()
    )
    return line + content


def sealed(content: bytes, domain: str) -> bytes:
    found = b"Authentication-Results: lists.test; arc=none\r\n" + content
    return b"".join(dkim.arc_sign(found, b"rsa", domain.encode(), RSA, b"lists.test")) + content


def said(
    postfix: PostfixInstance, content: bytes, sender: str = "jo@none.test", client: str = CLIENT
) -> Reply:
    with arriving(postfix, "smtp", client) as session:
        return send(session, sender, "b@policyd.test", message=content)


def expect(reply: Reply, refused: str) -> None:
    if not refused:
        assert reply.code == 250, reply
        return
    code, enhanced, text = refused.split(" ", 2)
    assert (reply.code, reply.enhanced) == (int(code), enhanced), reply
    assert text in reply.text, reply


ASK: Final = message("dkim", "reject.test")


@pytest.mark.parametrize(
    ("content", "refused"),
    [
        (signed(ASK, "reject.test"), ""),
        (signed(ASK, "reject.test", "rsa", RSA, "rsa-sha256"), ""),
        (signed(ASK.replace(b"Hello", b"Hello  \t\r\n.dot\r\n\r\n\r\n"), "reject.test"), ""),
        (ASK, f"550 5.7.20 {named('dkim-none').text}"),
        (
            signed(ASK, "reject.test").replace(b"Hello", b"Hullo"),
            "550 5.7.21 reject.test ed: the body has been changed",
        ),
        (
            signed(ASK, "reject.test").replace(b"Subject: x", b"Subject: y"),
            "550 5.7.21 reject.test ed: the signature does not match the header",
        ),
        (
            signed(ASK, "reject.test", "missing"),
            "550 5.7.21 reject.test missing: no key in the DNS",
        ),
        (
            signed(ASK, "reject.test", "revoked"),
            "550 5.7.21 reject.test revoked: the key has been revoked",
        ),
        (
            signed(ASK, "reject.test", "short", SHORT_RSA, "rsa-sha256"),
            "550 5.7.21 reject.test short: an RSA key of 512 bits",
        ),
        (signed(ASK, NOBODY), f"451 4.7.5 {named('dkim-temperror').text}"),
        (signed(signed(ASK, NOBODY), "reject.test"), ""),
    ],
)
def test_what_dkim_says(postfix: PostfixInstance, content: bytes, refused: str) -> None:
    expect(said(postfix, content), refused)


@pytest.mark.parametrize(
    ("asks", "author", "signer", "refused"),
    [
        ("author", "reject.test", "reject.test", ""),
        ("author", "reject.test", "news.reject.test", ""),
        ("author", "reject.test", "none.test", "550 5.7.22 "),
        ("of", "reject.test", "none.test", ""),
        ("of", "reject.test", "reject.test", "550 5.7.21 No signature of none.test"),
    ],
)
def test_whose_signature_is_asked_for(
    postfix: PostfixInstance, asks: str, author: str, signer: str, refused: str
) -> None:
    expect(said(postfix, signed(message(asks, author), signer)), refused)


def test_what_arc_says(postfix: PostfixInstance) -> None:
    content = message("arc", "reject.test")
    expect(said(postfix, sealed(content, "none.test")), "")
    changed = sealed(content, "none.test").replace(b"Hello", b"Hullo")
    expect(said(postfix, changed), "550 5.7.29 Most recent ARC-Message-Signature did not validate")
    expect(said(postfix, content), "550 5.7.29 Who?")
    expect(said(postfix, sealed(content, "monitor.test")), "550 5.7.29 Who?")


@pytest.mark.parametrize(
    ("author", "signer", "sender", "client", "refused"),
    [
        ("reject.test", "reject.test", "jo@none.test", OTHER, ""),
        ("reject.test", "news.reject.test", "jo@none.test", OTHER, ""),
        ("reject.test", "", "jo@reject.test", CLIENT, ""),
        ("reject.test", "", "jo@news.reject.test", CLIENT, ""),
        (
            "reject.test",
            "none.test",
            "jo@none.test",
            CLIENT,
            "550 5.7.1 reject.test asks for reject: SPF none for none.test",
        ),
        (
            "reject.test",
            "",
            "jo@reject.test",
            OTHER,
            "550 5.7.1 reject.test asks for reject: SPF fail for reject.test",
        ),
        ("news.reject.test", "", "jo@none.test", CLIENT, "550 5.7.26 "),
        ("quarantine.test", "", "jo@none.test", CLIENT, "550 5.7.26 "),
        ("monitor.test", "", "jo@none.test", CLIENT, ""),
        ("sampled.test", "", "jo@none.test", CLIENT, "550 5.7.26 "),
        ("twice.test", "", "jo@none.test", CLIENT, ""),
        ("none.test", "", "jo@none.test", CLIENT, ""),
        ("strict.test", "strict.test", "jo@none.test", CLIENT, ""),
        ("news.strict.test", "strict.test", "jo@none.test", CLIENT, "550 5.7.1 news.strict.test"),
        (NOBODY, "", "jo@none.test", CLIENT, f"451 4.7.1 {named('dmarc-temperror').text}"),
        ("reject.test, x@none.test", "", "jo@none.test", CLIENT, "550 5.7.1 From has addresses"),
    ],
)
def test_what_dmarc_asks_for(  # noqa: PLR0917 -- a row of the table
    postfix: PostfixInstance, author: str, signer: str, sender: str, client: str, refused: str
) -> None:
    content = message("dmarc", author).replace(
        b"Jo <jo@%b>" % author.encode(), b"jo@%b" % author.encode()
    )
    expect(said(postfix, signed(content, signer) if signer else content, sender, client), refused)


def test_a_large_message_is_verified_in_a_process_of_its_own(postfix: PostfixInstance) -> None:
    content = message("dkim", "reject.test", body=b"0123456789\r\n" * 1_700_000)
    started = time.monotonic()
    expect(said(postfix, signed(content, "reject.test")), "")
    assert time.monotonic() - started < 15  # 20 MB over SMTP and milter take nearly all of it


def test_signatures_without_end_are_answered(postfix: PostfixInstance) -> None:
    line = b"DKIM-Signature: v=1; a=rsa-sha256; d=%d.reject.test; s=x; h=from; bh=AAAA; b=AAAA\r\n"
    content = b"".join(line % number for number in range(100)) + ASK
    expect(said(postfix, content), "550 5.7.21 10.reject.test x: not one of the newest 10")
    expect(said(postfix, signed(content, "reject.test")), "")


def test_each_result_is_counted(postfix: PostfixInstance, policyd: Remembering) -> None:
    def counted(check: str, results: tuple[str, ...]) -> dict[str, float]:
        return {r: policyd.counted("policyd_checks_total", check=check, result=r) for r in results}

    before = counted("dkim", RESULTS), counted("dmarc", DMARC_RESULTS)
    said(postfix, signed(ASK, "reject.test"))
    said(postfix, message("dmarc", "monitor.test"))
    after = counted("dkim", RESULTS), counted("dmarc", DMARC_RESULTS)
    assert after[0]["pass"] - before[0]["pass"] == 1
    assert after[1]["none"] - before[1]["none"] == 1
    assert after[0]["none"] == before[0]["none"]

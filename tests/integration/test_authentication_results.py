"""Results above delivered messages: a real Postfix, a real name server, really signed messages."""

import base64
import re
import shutil
from collections.abc import Callable, Iterator
from email import message_from_bytes
from email.policy import compat32
from pathlib import Path
from typing import Final

import dkim
import nacl.signing
import pytest

from tests.integration.changing import rule
from tests.integration.conftest import short_directory
from tests.integration.remembering import XCLIENT, Remembering, arriving, said, send
from tools.dns_servers import NameServer
from tools.postfix_instance import PostfixInstance

pytestmark = pytest.mark.integration

KEY: Final = nacl.signing.SigningKey(b"\x07" * 32)
PUBLIC: Final = base64.b64encode(bytes(KEY.verify_key)).decode()
ZONE: Final = f"""\
good TXT "v=spf1 ip4:192.0.2.1 -all"
s1._domainkey.good TXT "v=DKIM1; k=ed25519; p={PUBLIC}"
_dmarc.good TXT "v=DMARC1; p=reject"
other TXT "v=spf1 ip4:192.0.2.0/24 ip6:2001:db8::/32 -all"
s1._domainkey.other TXT "v=DKIM1; k=ed25519; p={PUBLIC}"
"""
NOBODY: Final = "elsewhere.example"
"""A domain for which the server does not answer."""
CLIENT: Final = "192.0.2.1"
OURS: Final = "mx.policyd.test"
ASKING: Final = "header('Subject') == 'ask' and dkim() != 'pass'"
BODY: Final = "".join(
    (
        rule("refused", "550 5.7.1 No", "header('Subject') == 'refuse'", "end-of-data"),
        rule("asking", "550 5.7.26 {dkim_reason}", ASKING, "end-of-data"),
    )
)
CONTENT: Final = (
    b"From: Jo <jo@good.test>\r\n"
    b"To:b@policyd.test\r\n"
    b"Subject:   spaces   and\r\n"
    b"\tfolding \r\n"
    b"  of  every kind\t\r\n"
    b"X-Empty:\r\n"
    b"X-First-Line-Empty:\r\n"
    b" continued\r\n"
    b"X-Raw: caf\xe9\r\n"
    b"Message-ID: <1@good.test>\r\n"
    b"Date: Fri, 11 Jul 2003 21:00:37 -0700\r\n"
    b"\r\n"
    b"Hello  \r\n\r\n.\r\n..two dots\t \r\n\r\n\r\n"
)


@pytest.fixture(scope="module")
def folder() -> Iterator[Path]:
    made = short_directory()
    yield made
    shutil.rmtree(made)


@pytest.fixture(scope="module")
def policyd(folder: Path) -> Iterator[Remembering]:
    with NameServer(folder / "dns", {"test": ZONE}) as dns:
        tables = f'[dns]\nservers = ["{dns.address}"]\n[authentication]\n'
        running = Remembering(
            folder, tables + BODY, policy=None, milter=("end-of-data",), workers=1
        )
        large = folder / "large"
        large.mkdir()
        running.environment["TMPDIR"] = str(large)
        with running:
            yield running


@pytest.fixture(scope="module")
def postfix(
    policyd: Remembering, postfix_factory: Callable[..., PostfixInstance]
) -> PostfixInstance:
    limits = {"message_size_limit": "60000000", "virtual_mailbox_limit": "0"}
    main = XCLIENT | limits | {"non_smtpd_milters": policyd.filters}
    return postfix_factory(services={"smtp": {"smtpd_milters": policyd.filters}}, main=main)


def signed(
    message: bytes = CONTENT, domain: str = "good.test", how: str = "relaxed/relaxed"
) -> bytes:
    header, body = how.encode().split(b"/")
    line = dkim.sign(
        message,
        b"s1",
        domain.encode(),
        base64.b64encode(bytes(KEY)),
        canonicalize=(header, body),
        signature_algorithm=b"ed25519-sha256",
        include_headers=[name for name, _ in fields(message) if name != b"DKIM-Signature"],
    )
    return bytes(line) + message


def fields(message: bytes) -> list[tuple[bytes, str]]:
    """Give the fields of a message, unfolded, in order."""
    parsed = message_from_bytes(message, policy=compat32)
    return [(name.encode(), re.sub(r"\s+", " ", str(v)).strip()) for name, v in parsed.items()]


def delivered(
    postfix: PostfixInstance,
    box: str,
    message: bytes,
    sender: str = "jo@good.test",
    *,
    client: str = CLIENT,
    name: str = "client.test",
    login: str = "",
) -> list[tuple[str, str]]:
    """Send a message, and give the fields above Postfix's own and those below, as delivered."""
    with arriving(postfix, "smtp", client, name, login=login) as session:
        reply = send(session, sender, f"{box}@policyd.test", message=message)
    assert reply.code == 250, said(reply)
    (whole,) = postfix.wait_delivered(f"{box}@policyd.test")
    return [(name.decode(), value) for name, value in fields(whole)]


def above(found: list[tuple[str, str]]) -> list[tuple[str, str]]:
    """Give the fields above the Received of this Postfix, without those of local delivery."""
    names = [name for name, _ in found]
    return [
        (name, value)
        for name, value in found[: names.index("Received")]
        if name not in ("Return-Path", "X-Original-To", "Delivered-To")
    ]


@pytest.mark.parametrize(
    ("number", "how"),
    list(enumerate(("simple/simple", "relaxed/relaxed", "simple/relaxed", "relaxed/simple"))),
)
def test_a_good_message_bears_its_results(postfix: PostfixInstance, number: int, how: str) -> None:
    found = delivered(postfix, f"good{number}", signed(how=how))
    results = (
        f"{OURS}; spf=pass smtp.mailfrom=jo@good.test; dkim=pass header.d=good.test "
        "header.i=@good.test header.s=s1 header.a=ed25519-sha256; "
        "dmarc=pass header.from=good.test; arc=none; iprev=pass policy.iprev=192.0.2.1"
    )
    spf = (
        'pass client-ip=192.0.2.1; envelope-from="jo@good.test"; helo=client.test; '
        f'receiver={OURS}; identity=mailfrom; mechanism="ip4:192.0.2.1"'
    )
    assert above(found) == [("Authentication-Results", results), ("Received-SPF", spf)]


def test_a_bad_message_bears_them_too(postfix: PostfixInstance) -> None:
    changed = signed().replace(b"Hello", b"Hullo")
    (results, spf) = above(
        delivered(postfix, "bad", changed, client="192.0.2.9", name="[UNAVAILABLE]")
    )
    assert re.fullmatch(
        rf'{OURS}; spf=fail reason="-all" smtp.mailfrom=jo@good\.test; '
        r'dkim=fail reason="[^"]+" header\.d=good\.test .*; '
        r'dmarc=fail reason="[^"]+" policy\.dmarc=reject header\.from=good\.test; arc=none; '
        r"iprev=permerror policy\.iprev=192\.0\.2\.9",
        results[1],
    )
    assert spf[1].startswith("fail client-ip=192.0.2.9;")


def test_what_the_dns_does_not_answer_is_a_temporary_error_and_the_mail_goes_on(
    postfix: PostfixInstance,
) -> None:
    message = signed(CONTENT.replace(b"good.test", NOBODY.encode()), NOBODY)
    (results, spf) = above(delivered(postfix, "later", message, f"jo@{NOBODY}"))
    assert re.search(rf"; spf=temperror .*smtp\.mailfrom=jo@{NOBODY}; dkim=temperror ", results[1])
    assert "; dmarc=temperror" in results[1]
    assert spf[1].startswith("temperror ")


def test_forged_results_go_and_those_of_others_stay(postfix: PostfixInstance) -> None:
    forged = (
        b"Authentication-Results: other.example; spf=none\r\n"
        b"Authentication-Results: mx.policyd.test; dmarc=pass header.from=bank.example\r\n"
        b"X-First: 1\r\n"
        b'authentication-results: (x) "MX.Policyd\\.Test"\r\n ; dkim=pass\r\n'
        b"Received-SPF: pass receiver=other.example\r\n"
        b"Received-SPF: pass (x) receiver=mx.policyd.test; client-ip=192.0.2.1\r\n"
        b"AUTHENTICATION-RESULTS: third.example; spf=pass\r\n"
        b"Authentication-Results: mx.policyd.test (\r\n"
    )
    found = delivered(postfix, "forged", forged + signed())
    own = above(found)
    assert [name for name, _ in own] == ["Authentication-Results", "Received-SPF"]
    assert "dkim=pass" in own[0][1]
    rest = found[found.index(own[-1]) + 1 :]
    looked_at = ("authentication-results", "received-spf", "x-first")
    assert [each for each in rest if each[0].lower() in looked_at] == [
        ("Authentication-Results", "other.example; spf=none"),
        ("X-First", "1"),
        ("Received-SPF", "pass receiver=other.example"),
        ("AUTHENTICATION-RESULTS", "third.example; spf=pass"),
    ]


def test_for_a_login_nothing_is_written_and_what_is_forged_goes(postfix: PostfixInstance) -> None:
    forged = b"Authentication-Results: mx.policyd.test; dmarc=pass\r\nX-First: 1\r\n"
    found = delivered(postfix, "login", forged + signed(), login="jo")
    assert above(found) == []
    assert "Authentication-Results" not in dict(found)
    assert dict(found)["X-First"] == "1"


def test_what_does_not_come_by_smtp_is_left_alone(postfix: PostfixInstance) -> None:
    forged = b"Authentication-Results: mx.policyd.test; dmarc=pass\n"
    postfix.submit("root@policyd.test", "local@policyd.test", forged + b"Subject: x\n\nHello\n")
    (whole,) = postfix.wait_delivered("local@policyd.test")
    found = [value for name, value in fields(whole) if name == b"Authentication-Results"]
    assert found == ["mx.policyd.test; dmarc=pass"]
    assert b"Received-SPF" not in whole


def test_a_rule_and_the_results_tell_the_same(postfix: PostfixInstance) -> None:
    asking = CONTENT.replace(
        b"Subject:   spaces   and\r\n\tfolding \r\n  of  every kind\t", b"Subject: ask"
    )
    found = delivered(postfix, "asked", signed(asking, how="simple/simple"))
    assert "dkim=pass" in above(found)[0][1]
    with arriving(postfix, "smtp", CLIENT) as session:
        changed = signed(asking).replace(b"Hello", b"Hullo")
        reply = send(session, "jo@good.test", "b@policyd.test", message=changed)
    assert reply.pair == "550 5.7.26"


def test_messages_of_one_session_keep_apart(postfix: PostfixInstance) -> None:
    other = CONTENT.replace(b"good.test", b"other.test")
    with arriving(postfix, "smtp", CLIENT, "client.test") as session:
        for box, message, sender in (
            ("apart0", signed(), "jo@good.test"),
            ("apart1", signed(other, "other.test"), "jo@other.test"),
            ("apart2", b"Subject: refuse\r\n\r\n", "jo@good.test"),
            ("apart3", CONTENT, ""),
            ("apart4", signed(signed(), "other.test"), "jo@good.test"),
        ):
            reply = send(session, sender, f"{box}@policyd.test", message=message)
            assert reply.code == (550 if box == "apart2" else 250), said(reply)
    results = {}
    for box in ("apart0", "apart1", "apart3", "apart4"):
        (whole,) = postfix.wait_delivered(f"{box}@policyd.test")
        (results[box],) = (v for name, v in fields(whole) if name == b"Authentication-Results")
    assert re.findall(r"header\.d=(\S+)|(dkim=none)", results["apart0"]) == [("good.test", "")]
    assert re.findall(r"header\.d=(\S+)|(dkim=none)", results["apart1"]) == [("other.test", "")]
    assert re.findall(r"header\.d=(\S+)|(dkim=none)", results["apart3"]) == [("", "dkim=none")]
    both = re.findall(r"dkim=pass header\.d=(\S+)", results["apart4"])
    assert both == ["other.test", "good.test"]
    assert "smtp.helo=client.test" in results["apart3"]


def resident(policyd: Remembering) -> int:
    """Give the worker's resident memory, in octets."""
    (worker,) = policyd.worker_pids()
    status = Path(f"/proc/{worker}/status").read_text()
    return int(re.findall(r"VmRSS:\s+(\d+) kB", status)[0]) * 1024


def test_large_messages_are_signed_too_and_take_no_memory_of_the_worker(
    postfix: PostfixInstance, policyd: Remembering
) -> None:
    message = signed(CONTENT + (b"x" * 76 + b"\r\n") * 270_000, how="simple/simple")
    assert len(message) > 20 * 2**20
    with arriving(postfix, "smtp", CLIENT, "client.test") as session:
        assert send(session, "jo@good.test", "large@policyd.test", message=message).code == 250
        before = resident(policyd)
        for _ in range(2):
            assert send(session, "jo@good.test", "large@policyd.test", message=message).code == 250
        assert resident(policyd) - before < 5 * 2**20
    for whole in postfix.wait_delivered("large@policyd.test", 3, timeout=20):
        assert b"dkim=pass" in whole[:2000]
    assert list((policyd.directory / "large").iterdir()) == []

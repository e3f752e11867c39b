"""Content on the wire: a real Postfix hands messages to the milter, and says what it is told."""

import gzip
import shutil
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Final

import pytest

from policyd.mail.sniffing import PE
from policyd.smtp.catalogue import named
from tests.integration.changing import rule
from tests.integration.conftest import short_directory
from tests.integration.remembering import Remembering, said, send
from tests.mail.containers import WINDOWS, attached, mail, tarred, zipped
from tools.postfix_instance import PostfixInstance
from tools.smtp_dialogue import Reply, SmtpDialogue

pytestmark = pytest.mark.integration

DEFECTS: Final = ["no-boundary", "bad-base64", "nul", "duplicate-header"]
RULES: Final = (
    ("no-from", "header_count('From') == 0", "header-malformed"),
    ("two-from", "header_count('From') > 1", "554 5.6.0 Two authors"),
    ("utf8", "utf8_headers", "utf8-header-not-transferable"),
    ("deep", "'too-deep' in mime_defects()", "554 5.6.0 Too deep"),
    ("bomb", "'archive-bomb' in mime_defects()", "554 5.6.0 Is this {mime_defects}"),
    ("name", "any_in(attachments, programs)", "attachment-banned"),
    ("within", "any_in(archived(), programs)", "attachment-banned: No {archived}"),
    ("type", f"any_in(file_types(), ['{PE}'])", "550 5.7.1 No {file_types}"),
    ("defects", f"any_in(mime_defects(), {DEFECTS})", "554 5.6.0 Malformed: {mime_defects}"),
)
BODY: Final = "[lists.programs]\npatterns = ['(?i)\\.(exe|js)$']\n" + "".join(
    rule(name, then, when, "end-of-data") for name, when, then in RULES
)


@pytest.fixture(scope="module")
def directory() -> Iterator[Path]:
    made = short_directory()
    yield made
    shutil.rmtree(made)


@pytest.fixture(scope="module")
def policyd(directory: Path) -> Iterator[Remembering]:
    with Remembering(directory, BODY, policy=None, milter=(), workers=1) as running:
        yield running


@pytest.fixture(scope="module")
def postfix(
    policyd: Remembering, postfix_factory: Callable[..., PostfixInstance]
) -> PostfixInstance:
    return postfix_factory(main={"smtpd_milters": policyd.filters})


def sent(postfix: PostfixInstance, message: bytes) -> Reply:
    """Send from an address that is not one of local_header_rewrite_clients: no header is added."""
    with SmtpDialogue(postfix.ports["smtp"], source="127.0.0.9") as session:
        assert session.banner().code == 220
        assert session.ehlo().code == 250
        return send(session, "a@example.net", "b@policyd.test", message=message)


TEXT: Final = b"\r\nHello\r\n"
PLAIN: Final = mail(TEXT, attached(b"%PDF-1.7\n", "a.pdf"))
PROGRAM: Final = zipped({"setup.exe": WINDOWS})
BANNED: Final = f"550 5.7.1 {named('attachment-banned').text}"


def gzips() -> bytes:
    made = b"x" * 2000
    for _ in range(20):
        made = gzip.compress(made)
    return made


def nested() -> bytes:
    head = b'From: a@example.net\r\nContent-Type: multipart/mixed; boundary="<0>"\r\n\r\n'
    return head + b"".join(
        b'--<%d>\r\nContent-Type: multipart/mixed; boundary="<%d>"\r\n\r\n' % (n, n + 1)
        for n in range(1000)
    )


@pytest.mark.parametrize(
    ("message", "reply"),
    [
        pytest.param(PLAIN, "", id="honest"),
        pytest.param(
            PLAIN.replace(b"From:", b"X-From:"),
            f"554 5.6.0 {named('header-malformed').text}",
            id="no From",
        ),
        pytest.param(b"From: c@example.net\r\n" + PLAIN, "554 5.6.0 Two authors", id="two From"),
        pytest.param(
            PLAIN.replace(b"Subject: x", "Subject: Grüße".encode()),
            f"554 5.6.9 {named('utf8-header-not-transferable').text}",
            id="UTF-8",
        ),
        pytest.param(mail(TEXT, attached(b"MZ", "a.exe")), BANNED, id="by name"),
        pytest.param(
            mail(TEXT, attached(PROGRAM, "offer.zip")),
            "550 5.7.1 No offer.zip/setup.exe",
            id="in a zip",
        ),
        pytest.param(
            mail(TEXT, attached(tarred({"i.zip": PROGRAM}, compressed="gz"), "x.tgz")),
            "550 5.7.1 No x.tgz/x.tar, x.tgz/x.tar/i.zip, x.tgz/x.tar/i.zip/setup.exe",
            id="in a zip in a tar",
        ),
        pytest.param(
            mail(attached(WINDOWS, "invoice.pdf", "application/pdf")),
            f"550 5.7.1 No {PE}",
            id="by type",
        ),
        pytest.param(
            mail(TEXT, attached(b"%PDF-1.7\n", "a.pdf") + b"*"),
            "554 5.6.0 Malformed: bad-base64",
            id="base64",
        ),
        pytest.param(
            PLAIN.replace(b"; boundary=limit", b"").replace(b"Subject: x", b"Subject: x\r\nTo: c"),
            "554 5.6.0 Malformed: duplicate-header, no-boundary",
            id="no boundary",
        ),
        pytest.param(nested(), "554 5.6.0 Too deep", id="nested 1,000 deep"),
        pytest.param(
            mail(attached(gzips(), "a.gz")),
            "554 5.6.0 Is this archive-bomb",
            id="bomb",
        ),
    ],
)
def test_each_content_has_its_reply(postfix: PostfixInstance, message: bytes, reply: str) -> None:
    answer = sent(postfix, message)
    if reply:
        assert said(answer) == reply
    else:
        assert answer.code == 250, answer


def test_what_is_found_is_counted(postfix: PostfixInstance, policyd: Remembering) -> None:
    def counted() -> list[float]:
        return [
            policyd.counted("policyd_checks_total", check=check, result=result)
            for check in ("file_types", "archived", "mime_defects")
            for result in ("some", "none", "failed")
        ]

    before = counted()
    assert sent(postfix, PLAIN).code == 250
    grown = [after - told for after, told in zip(counted(), before, strict=True)]
    assert grown == [1, 0, 0, 0, 1, 0, 0, 1, 0]

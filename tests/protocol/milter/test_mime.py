"""The names and types of attachments, from a body that is fed in parts and never stored."""

import email
import re
from email.message import EmailMessage, Message
from email.policy import compat32
from email.policy import default as modern

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from policyd.protocol.milter.mime import MOST, UNREADABLE, Skeleton
from policyd.protocol.mime.fields import described, kind_of, unfolded


def fed(message: bytes, chunk: int = 65535) -> Skeleton:
    """Feed a message as libmilter does: headers one by one, then the body in chunks."""
    head, _, body = message.partition(b"\r\n\r\n")
    skeleton = Skeleton()
    for line in re.split(rb"\r\n(?![ \t])", head):
        name, colon, value = line.decode().partition(":")
        if colon:
            skeleton.header(name, value.removeprefix(" "))
    for start in range(0, len(body), chunk):
        skeleton.body(body[start : start + chunk])
    return skeleton


def attachments(message: bytes | str, chunk: int = 65535) -> tuple[str, ...]:
    raw = message.encode() if isinstance(message, str) else message
    return fed(raw.replace(b"\r\n", b"\n").replace(b"\n", b"\r\n"), chunk).attachments()


def multipart(*parts: str, boundary: str = "b") -> str:
    body = "".join(f"--{boundary}\n{part}\n" for part in parts)
    return f'Content-Type: multipart/mixed; boundary="{boundary}"\n\n{body}--{boundary}--\n'


def test_a_mail_of_text_has_no_attachments() -> None:
    assert attachments("Subject: test\n\nHello\n-- \nA signature: with a colon\n") == ()


def test_each_attachment_gives_its_name_and_type() -> None:
    message = EmailMessage()
    message.set_content("Hello")
    message.add_alternative("<p>Hello</p>", subtype="html")
    message.add_attachment(b"MZ" * 500, maintype="application", subtype="zip", filename="a.zip")
    message.add_attachment("notes", filename="notes.txt")
    raw = message.as_bytes(policy=modern.clone(linesep="\r\n"))
    assert attachments(raw) == ("a.zip", "application/zip", "notes.txt", "text/plain")


@pytest.mark.parametrize(
    ("headers", "found"),
    [
        ("Content-Type: application/pdf", ("application/pdf",)),
        ("Content-Type: text/plain; name=a.exe", ("a.exe", "text/plain")),
        ("Content-Disposition: attachment", ("text/plain",)),
        ("Content-Disposition: inline; filename=a.js", ("a.js", "text/plain")),
        ("content-disposition : attachment; FILENAME = a.js", ("a.js", "text/plain")),
        ("Content-Disposition: attachment; FILENAME = a.js", ("a.js", "text/plain")),
        (
            'Content-Type: application/x; name="b.exe"\nContent-Disposition: x; filename="a.txt"',
            ("a.txt", "b.exe", "application/x"),
        ),
        (
            "Content-Type: image/x;\n name=c.exe\nContent-Disposition: x;\n\tfilename=c.exe",
            ("c.exe", "image/x"),
        ),
        (
            "Content-Disposition: attachment; filename*=utf-8''%E2%82%AC.exe",
            ("€.exe", "text/plain"),
        ),
        (
            "Content-Disposition: attachment; filename*0=a; filename*1=.exe",
            ("a.exe", "text/plain"),
        ),
        (
            'Content-Disposition: attachment; filename="=?utf-8?B?YS5leGU=?="',
            ("a.exe", "text/plain"),
        ),
        (
            'Content-Disposition: attachment; filename="=?no-such?B?YS5leGU=?="',
            ("a.exe", "text/plain"),
        ),
        (
            'Content-Disposition: attachment; filename="größe.exe"',
            ("größe.exe", "text/plain"),
        ),
        ("Content-Type: nonsense; name=x", ("x", "text/plain")),
    ],
)
def test_names_are_found_wherever_they_are_written(headers: str, found: tuple[str, ...]) -> None:
    assert attachments(f"{headers}\n\ncontent\n") == found
    assert attachments(multipart("\nHello", f"{headers}\n\ncontent")) == found


def test_parts_of_attached_messages_count() -> None:
    inner = "Subject: inner\n" + multipart("Content-Type: application/zip; name=in.zip\n\nUEsD")
    outer = multipart("\nSee below", f"Content-Type: message/rfc822\n\n{inner}", boundary="outer")
    assert attachments(outer) == ("message/rfc822", "in.zip", "application/zip")
    assert attachments(f"Content-Type: message/rfc822\n\n{inner}") == (
        "message/rfc822",
        "in.zip",
        "application/zip",
    )


def test_a_delivery_report_has_its_report_and_the_message_as_attachments() -> None:
    status = "Reporting-MTA: dns; mx.example.org\n\nFinal-Recipient: rfc822; a@example.org"
    report = multipart(
        "\nIt failed",
        f"Content-Type: message/delivery-status\n\n{status}",
        "Content-Type: message/rfc822\n\nSubject: hello\n\nHello",
    )
    assert attachments(report) == ("message/delivery-status", "message/rfc822")


def test_content_that_looks_like_headers_or_boundaries_changes_nothing() -> None:
    text = "\n--no boundary\nContent-Type: application/zip; name=x.zip\n\n--- a/file\n+++ b/file"
    assert attachments(multipart(text, "Content-Type: image/png\n\nX")) == ("image/png",)


def described_by_email(part: Message) -> tuple[str, ...]:
    """What is made of a part as Python's own parser finds it."""
    fields = {name.lower(): tuple(map(unfolded, part.get_all(name, failobj=()))) for name in part}
    return described(fields, kind_of(fields, part.get_default_type()))


# Without message/delivery-status, whose blocks of fields (RFC 3464) are parts to the parser, and
# can have no attachments.
PIECES = st.sampled_from(
    [
        b"--b\r\n",
        b"--b--\r\n",
        b"--c\r\n",
        b"--",
        b"\r\n",
        b"\n",
        b"\r",
        b"\r\n\r\n",
        b"text\r\n",
        b"Content-Type: multipart/mixed; boundary=c\r\n",
        b"Content-Type: message/rfc822\r\n",
        b"Content-Type: message/rfc822\r\n\r\nContent-Type: multipart/mixed; boundary=c\r\n",
        b"Content-Type: application/zip; name=a.zip\r\n",
        b"Content-Type: text/plain;\r\n\tname=b.txt\r\n",
        b"Content-Disposition: attachment; filename=c.js\r\n",
        b"Subject: hello\r\n",
        b"\xff\xfe\r\n",
        b" folded\r\n",
        b"From someone\r\n",
        b":\r\n",
    ]
)


@settings(max_examples=500)
@given(st.lists(PIECES, max_size=30).map(b"".join), st.integers(1, 40))
def test_the_skeleton_has_the_structure_of_the_message(body: bytes, chunk: int) -> None:
    head = b"Content-Type: multipart/mixed; boundary=b\r\n\r\n"
    text = (head + body).decode("utf-8", "replace")
    whole: Message = email.message_from_string(text, policy=compat32)
    expected = tuple(found for part in whole.walk() for found in described_by_email(part))
    assert fed(head + body, chunk).attachments() == expected


@given(st.binary(max_size=2000), st.integers(1, 500))
def test_no_body_is_beyond_reading(body: bytes, chunk: int) -> None:
    head = b"Content-Type: multipart/mixed; boundary=\r\n\r\n"
    assert all(isinstance(text, str) for text in fed(head + body, chunk).attachments())


@given(st.text(st.characters(exclude_categories=["Cs"]), max_size=200))
def test_no_name_is_beyond_reading(name: str) -> None:
    skeleton = Skeleton()
    skeleton.header("Content-Disposition", f"attachment; filename={name}")
    assert skeleton.attachments()[-1] == "text/plain"


def test_a_large_body_is_not_kept() -> None:
    skeleton = fed(b"Content-Type: application/zip\r\n\r\n")
    line = b"A" * 76 + b"\r\n"
    for _ in range(300):
        skeleton.body(line * 840)
    skeleton.body(b"x" * 1_000_000)
    assert skeleton.attachments() == ("application/zip",)
    assert len(skeleton._kept) + len(skeleton._rest) < 1000


@pytest.mark.parametrize(
    "body",
    [
        b"--b\r\n\r\n" * (MOST // 5),
        b"--b\r\nX: " + b"x" * 100_000,
        b"--b\r\n" + b"X: y\r\n" * (MOST // 6),
    ],
)
def test_a_body_of_nothing_but_structure_is_said_to_be_unreadable(body: bytes) -> None:
    zip_ = b"--b\r\nContent-Type: application/zip; name=a.zip\r\n\r\n"
    skeleton = fed(b"Content-Type: multipart/mixed; boundary=b\r\n\r\n" + zip_ + body)
    assert skeleton.attachments() == ("a.zip", "application/zip", UNREADABLE)


def test_parts_within_parts_without_end_are_said_to_be_unreadable() -> None:
    inner = "\n".join(
        f'--{n}\nContent-Type: multipart/mixed; boundary="{n + 1}"\n' for n in range(2000)
    )
    whole = f'Content-Type: multipart/mixed; boundary="0"\n\n{inner}\n'
    assert attachments(whole) == (UNREADABLE,)

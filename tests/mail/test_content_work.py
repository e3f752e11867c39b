"""What is found in whole messages, and what the worst of them take of time and memory."""

import base64
import io
import json
import lzma
import os
import subprocess
import sys
import tempfile
import zipfile
from collections.abc import Callable, Iterator
from pathlib import Path

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from policyd.mail import content_work
from policyd.mail.content import Content
from policyd.mail.content_work import PATIENCE, examined, work
from policyd.processes.work import Ask
from policyd.protocol.mime.defects import Defect
from policyd.protocol.mime.structure import MOST_PARTS
from tests.mail.containers import WINDOWS, attached, mail, tarred, zipped

HEAD = b"From: a@example.net\r\n"
PE = "application/vnd.microsoft.portable-executable"
TEXT = b"\r\nHello\r\n"


def nobody(_: bytes) -> bytes:
    raise AssertionError("nothing is asked")


def worked(message: bytes, ask: Ask = nobody) -> Content:
    with tempfile.TemporaryFile() as file:
        file.write(message)
        file.flush()
        return msgspec.msgpack.decode(work(b"", [file.fileno()], ask), type=Content)


def test_types_names_and_defects_are_found_in_one_message() -> None:
    message = mail(
        TEXT,
        attached(zipped({"setup.exe": WINDOWS}), "offer.zip"),
        attached(WINDOWS, "invoice.pdf") + b"*",
    )
    assert worked(message) == Content(
        ("text/plain", "application/zip", PE), ("offer.zip/setup.exe",), (Defect.BAD_BASE64,)
    )


def test_an_honest_mail_has_no_defect() -> None:
    assert worked(mail(TEXT, attached(b"%PDF-1.7\n", "a.pdf"))) == Content(
        ("text/plain", "application/pdf")
    )


def test_no_message_at_all_has_nothing() -> None:
    assert worked(b"") == Content()


def test_what_is_attached_as_a_message_is_looked_into() -> None:
    inner = mail(attached(zipped({"x.exe": WINDOWS})))
    plain = b"Content-Type: message/rfc822\r\n\r\n" + inner
    head = b"Content-Type: message/rfc822\r\nContent-Transfer-Encoding: base64\r\n\r\n"
    assert worked(mail(plain)).archived == ("a.zip/x.exe",)
    found = worked(mail(head + base64.encodebytes(inner).replace(b"\n", b"\r\n")))
    assert found.archived == ("a.zip/x.exe",)
    assert found.defects == (Defect.BAD_ENCODING,)


def test_messages_encoded_within_each_other_end_at_a_depth() -> None:
    message = HEAD + TEXT
    for _ in range(10):
        head = b"Content-Type: message/rfc822\r\nContent-Transfer-Encoding: base64\r\n\r\n"
        message = head + base64.encodebytes(message).replace(b"\n", b"\r\n")
    assert worked(message).defects == (Defect.TOO_DEEP, Defect.BAD_ENCODING)


@pytest.mark.parametrize(
    ("message", "defect"),
    [
        (HEAD + b"From: b\r\n" + TEXT, Defect.DUPLICATE_HEADER),
        (HEAD + b"Subject: a\r\nsubject : b\r\n" + TEXT, Defect.DUPLICATE_HEADER),
        (HEAD + b"MIME-Version: 1.0\r\nMIME-Version: 1.0\r\n" + TEXT, Defect.DUPLICATE_HEADER),
        (HEAD + b"\r\nHello\rworld\r\n", Defect.BARE_CR),
        (HEAD + b"\r\nHello\0\r\n", Defect.NUL),
        (HEAD + b"Content-Type: multipart/mixed\r\n" + TEXT, Defect.NO_BOUNDARY),
        (HEAD + b"Content-Transfer-Encoding: zip\r\n" + TEXT, Defect.BAD_ENCODING),
    ],
)
def test_what_is_wrong_with_a_message_has_its_word(message: bytes, defect: Defect) -> None:
    assert defect in worked(message).defects


@pytest.mark.parametrize(
    "message",
    [
        HEAD + TEXT + b"From: not a header any more\r\n",
        HEAD + b"Received: a\r\nReceived: b\r\nX-From: a\r\n" + TEXT,
        HEAD + b"Subject: a\r\n From: folded\r\n" + TEXT,
    ],
)
def test_headers_that_may_stand_twice_do_no_harm(message: bytes) -> None:
    assert worked(message).defects == ()


def test_of_a_larger_message_the_beginning_is_looked_at(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(content_work, "LARGEST", 2**16)
    message = mail(attached(WINDOWS), attached(bytes(2**16), "zeros"))
    assert worked(message) == Content((PE, "application/octet-stream"), (), (Defect.TOO_LARGE,))


def test_parts_of_encoded_messages_count_with_the_others() -> None:
    inner = base64.encodebytes(mail(*[TEXT] * (MOST_PARTS - 10))).replace(b"\n", b"\r\n")
    head = b"Content-Type: message/rfc822\r\nContent-Transfer-Encoding: base64\r\n\r\n"
    found = worked(mail(head + inner, head + inner))
    assert Defect.TOO_MANY_PARTS in found.defects


def ticking(step: float) -> Callable[[], float]:
    """A clock that goes on by a step whenever it is read."""
    times: Iterator[float] = iter([step * n for n in range(100_000)])
    return lambda: next(times)


def test_what_is_left_when_time_is_up_is_not_looked_at() -> None:
    message = mail(*[attached(b"%PDF-1.7\n", "a.pdf")] * 3, attached(WINDOWS))
    assert examined(message, clock=ticking(PATIENCE / 100)).defects == ()
    found = examined(message, clock=ticking(PATIENCE / 3))
    assert found.types == ("application/pdf",)
    assert found.defects == (Defect.TOO_COSTLY,)


PIECES = st.sampled_from(
    [
        *(HEAD, b"--limit\r\n", b"--limit--\r\n", b"--x\r\n", b"\r\n", b"\r", b"\n", b"\0", b"="),
        *(b"Content-Type: multipart/mixed; boundary=x\r\n", b"Content-Type: message/rfc822\r\n"),
        *(b"Content-Transfer-Encoding: base64\r\n", b"\xff\xfe", b"UEsDBA", b"H4sIAAAA"),
        *(attached(zipped({"a": b"b"})), attached(tarred({"a": b"b"}, compressed="gz"))),
    ]
)


@given(st.one_of(st.binary(max_size=2000), st.lists(PIECES, max_size=30).map(b"".join)))
def test_any_octets_have_an_answer(message: bytes) -> None:
    for each in (message, mail(message), mail(attached(message))):
        found = examined(each)
        assert len(found.types) <= 2 * MOST_PARTS
        assert all(name.isprintable() for name in found.archived)


MIB = 2**20
MOST_TIME = 4.5
"""Seconds of the processor; the worst of these takes 2.2."""
MOST_MEMORY = 192 * MIB
"""Octets at the peak; it is 145 MiB, of which 64 are the message itself, in the page cache."""
HELPER = r"""
import re, sys, time, json
from policyd.mail.content_work import work
started = time.process_time()
with open(sys.argv[1], "rb") as file:
    found = work(b"", [file.fileno()], None).hex()
took = time.process_time() - started
with open("/proc/self/status") as status:
    peak = int(re.search(r"VmHWM:\s+(\d+) kB", status.read())[1]) * 1024
print(json.dumps([took, peak, found]))
"""


def zip_of_zeros() -> bytes:
    made = io.BytesIO()
    with zipfile.ZipFile(made, "w", zipfile.ZIP_DEFLATED) as archive:
        for name, begin in (("zeros", b""), ("bomb.zip", zipped({"x.exe": WINDOWS}))):
            with archive.open(name, "w", force_zip64=True) as file:
                file.write(begin)
                for _ in range(100):
                    file.write(bytes(MIB))
    return made.getvalue()


def nested() -> bytes:
    return b'Content-Type: multipart/mixed; boundary="<0>"\r\n\r\n' + b"".join(
        b'--<%d>\r\nContent-Type: multipart/mixed; boundary="<%d>"\r\n\r\n' % (n, n + 1)
        for n in range(1000)
    )


WORST: dict[str, tuple[Callable[[], bytes], Defect | None]] = {
    "100 MiB of text": (lambda: HEAD + b"\r\n" + b"hello, world\r\n" * (7 * MIB), Defect.TOO_LARGE),
    "100 MiB of base64": (lambda: mail(attached(os.urandom(73 * MIB))), Defect.TOO_LARGE),
    "a zip of 45 MiB": (lambda: mail(attached(zipped({"a": os.urandom(45 * MIB)}, 0))), None),
    "a tar of 45 MiB": (
        lambda: mail(attached(tarred({str(n): b"" for n in range(45_000)}))),
        Defect.ARCHIVE_BOMB,
    ),
    "zips that are full of names": (
        lambda: mail(*[attached(zipped({str(n): b"" for n in range(30_000)}))] * 12),
        Defect.ARCHIVE_BOMB,
    ),
    "zeros": (lambda: mail(attached(zip_of_zeros())), Defect.ARCHIVE_BOMB),
    "xz of zeros": (
        lambda: mail(attached(lzma.compress(tarred({"a": bytes(60 * MIB)})))),
        Defect.ARCHIVE_BOMB,
    ),
    "100,000 parts": (lambda: mail(*[b"\r\n\1\2\3\4"] * 100_000), Defect.TOO_MANY_PARTS),
    "nested 1,000 deep": (nested, Defect.TOO_DEEP),
    "headers alone": (lambda: b"a:\r\n" * (15 * MIB), Defect.LARGE_HEADER),
    "a compound file": (
        lambda: mail(attached(bytes.fromhex("d0cf11e0a1b11ae1") + bytes(45 * MIB))),
        None,
    ),
}


@pytest.mark.parametrize("name", WORST)
def test_the_worst_messages_have_an_answer_in_time_and_in_bounded_memory(
    name: str, tmp_path: Path
) -> None:
    make, defect = WORST[name]
    path = tmp_path / "message"
    path.write_bytes(make())
    done = subprocess.run(
        [sys.executable, "-c", HELPER, path], capture_output=True, text=True, check=True
    )
    took, peak, found = json.loads(done.stdout)
    content = msgspec.msgpack.decode(bytes.fromhex(found), type=Content)
    assert (defect is None) == (not content.defects)
    assert defect is None or defect in content.defects
    assert took < MOST_TIME
    assert peak < MOST_MEMORY

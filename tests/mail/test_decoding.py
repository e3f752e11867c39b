"""Transfer encodings: what comes out, and what is wrong with what went in."""

import base64
import quopri

import pytest
from hypothesis import given
from hypothesis import strategies as st

from policyd.mail.decoding import decoded
from policyd.protocol.mime.defects import Defect

BASE64 = {Defect.BAD_BASE64}


def taken_off(data: bytes, encoding: str) -> tuple[bytes, set[Defect]]:
    defects: set[Defect] = set()
    return decoded(b"<" + data + b">", 1, len(data) + 1, encoding, defects), defects


@pytest.mark.parametrize(
    ("encoding", "data", "content", "wrong"),
    [
        ("base64", b"aGVsbG8=", b"hello", set()),
        ("base64", b"aGVs\r\nbG8=\r\n", b"hello", set()),
        ("base64", b" aG Vs\tbG8=", b"hello", set()),
        ("base64", b"", b"", set()),
        ("base64", b"aGVsbG8", b"hello", BASE64),  # cut short
        ("base64", b"aGVsb", b"hel", BASE64),
        ("base64", b"aGVs*bG8=", b"hello", BASE64),
        ("base64", b"aGVsbG8=\r\nd29ybGQ=", b"helloworld", BASE64),
        ("base64", b"aGVsbG8=\r\n--\r\nA list's footer", b"hello", BASE64),
        ("base64", b"\0a\0GVs", b"hel", BASE64),
        ("quoted-printable", b"a=20b=\r\nc", b"a bc", set()),
        ("quoted-printable", b"a=zz", b"a=zz", set()),
        ("7bit", b"aGVs", b"aGVs", set()),
        ("8bit", b"\xff", b"\xff", set()),
        ("binary", b"\0", b"\0", set()),
        ("", b"aGVs", b"aGVs", set()),
        ("x-uuencode", b"aGVs", b"aGVs", {Defect.BAD_ENCODING}),
        ("base 64", b"aGVs", b"aGVs", {Defect.BAD_ENCODING}),
    ],
)
def test_an_encoding_is_taken_off(
    encoding: str, data: bytes, content: bytes, wrong: set[Defect]
) -> None:
    found, defects = taken_off(data, encoding)
    assert found.startswith(content) if b"footer" in data else found == content
    assert defects == wrong


def test_base64_with_ends_beyond_number_is_read_no_further() -> None:
    found, defects = taken_off(b"QQ==" * 500_000, "base64")
    assert found == b"A" * 1000
    assert defects == BASE64


@given(st.binary(max_size=3000), st.sampled_from(["encodebytes", "b64encode"]))
def test_what_base64_wrote_comes_out_again(content: bytes, how: str) -> None:
    assert taken_off(getattr(base64, how)(content), "base64") == (content, set())


def test_what_is_longer_than_a_chunk_comes_out_whole() -> None:
    content = bytes(range(256)) * 20_000
    assert taken_off(base64.encodebytes(content), "base64") == (content, set())
    assert taken_off(quopri.encodestring(content), "quoted-printable") == (content, set())


@given(st.binary(max_size=500), st.sampled_from(["base64", "quoted-printable", "7bit", "x"]))
def test_anything_can_be_taken_off(data: bytes, encoding: str) -> None:
    found, _ = taken_off(data, encoding)
    assert len(found) <= len(data)

"""Bodies in the canonical forms of RFC 6376 section 3.4, whatever the pieces they come in."""

import hashlib
import itertools
import os
import time

import pytest
from dkim.canonicalization import Relaxed, Simple
from hypothesis import given
from hypothesis import strategies as st

from policyd.mail.body import Body, Form, body_hash, canonical
from tests.mail.signed import Message

OF_DKIMPY: dict[Form, type[Simple | Relaxed]] = {Form.SIMPLE: Simple, Form.RELAXED: Relaxed}
BODIES = st.lists(
    st.sampled_from([b"\r\n", b" ", b"\t", b"a", b"bc", b"\r", b"\n", b"\0", b"\xff"])
)


def whole(body: bytes, form: Form, size: int = 1_000_000) -> bytes:
    pieces = [body[at : at + size] for at in range(0, len(body), size)]
    return b"".join(canonical(pieces, form))


@pytest.mark.parametrize(
    ("body", "simple", "relaxed"),
    [
        # RFC 6376 section 3.4.5
        (b" C \r\nD \t E\r\n\r\n\r\n", b" C \r\nD \t E\r\n", b" C\r\nD E\r\n"),
        (b"", b"\r\n", b""),
        (b"\r\n\r\n", b"\r\n", b""),
        (b" \t\r\n \r\n", b" \t\r\n \r\n", b""),
        (b"a", b"a\r\n", b"a\r\n"),
        (b"a \t", b"a \t\r\n", b"a\r\n"),
        (b"a\r\n\r\n b\r\n", b"a\r\n\r\n b\r\n", b"a\r\n\r\n b\r\n"),
        (b"a\nb\n\n", b"a\r\nb\r\n", b"a\r\nb\r\n"),
        (b"a\r", b"a\r\r\n", b"a\r\r\n"),
        (b"a  \r", b"a  \r\r\n", b"a \r\r\n"),
        (b"\r\n\r\n\r", b"\r\n\r\n\r\r\n", b"\r\n\r\n\r\r\n"),
        (b"a\rb\r\r\n", b"a\rb\r\r\n", b"a\rb\r\r\n"),
    ],
)
def test_the_forms_of_a_body(body: bytes, simple: bytes, relaxed: bytes) -> None:
    assert whole(body, Form.SIMPLE) == simple
    assert whole(body, Form.RELAXED) == relaxed


@given(BODIES, st.integers(1, 5), st.sampled_from(Form))
def test_pieces_make_no_difference(parts: list[bytes], size: int, form: Form) -> None:
    body = b"".join(parts)
    assert whole(body, form, size) == whole(body, form)


@given(BODIES, st.sampled_from(Form))
def test_dkimpy_makes_the_same_of_lines(parts: list[bytes], form: Form) -> None:
    lines = (b"".join(parts) + b"\r\n").replace(b"\r\n", b"\n").replace(b"\n", b"\r\n")
    assert whole(lines, form) == OF_DKIMPY[form].canonicalize_body(lines)


@given(BODIES, st.lists(st.integers(0, 20)), st.sampled_from(Form))
def test_beginnings_have_hashes_of_their_own(
    parts: list[bytes], lengths: list[int], form: Form
) -> None:
    body = whole(b"".join(parts), form)
    with Message(b"".join(parts)) as message:
        hashed = body_hash(message.descriptor(), 0, form, lengths)
    assert (hashed.octets, hashed.whole) == (len(body), hashlib.sha256(body).digest())
    assert hashed.beginnings == {
        length: hashlib.sha256(body[:length]).digest() for length in lengths if length <= len(body)
    }


def test_a_body_is_read_once_for_each_form(monkeypatch: pytest.MonkeyPatch) -> None:
    reads = itertools.count()
    read = os.pread

    def counted(descriptor: int, size: int, at: int) -> bytes:
        next(reads)
        return read(descriptor, size, at)

    with Message(b"x\r\n") as message:
        body = Body(message.descriptor(), 0, {})
        assert next(reads) == 0
        monkeypatch.setattr(os, "pread", counted)
        for form in (*Form, *Form):
            body.hashed(form)
    assert next(reads) == 1 + 2 * len(Form)  # the last of each finds the end


@pytest.mark.parametrize(
    "unit", [b" ", b"\t ", b"\r\n", b" \r\n", b"a ", b"\r", b"\n", b"  a\r\n", b"x" * 70 + b"\r\n"]
)
@pytest.mark.parametrize("end", [b"", b"x\r\n"])
def test_time_grows_with_the_size_alone(unit: bytes, end: bytes) -> None:
    with Message(unit * (8_000_000 // len(unit)) + end) as message:
        started = time.process_time()
        for form in Form:
            body_hash(message.descriptor(), 0, form)
        assert time.process_time() - started < 1.5  # 0.2 s, alone on the machine

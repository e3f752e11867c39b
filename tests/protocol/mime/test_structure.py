"""Where parts begin and end, what is wrong with them, and how long it takes to find out."""

import time

import pytest
from hypothesis import given
from hypothesis import strategies as st

from policyd.protocol.mime.defects import SAYS, Defect
from policyd.protocol.mime.structure import DEEPEST, MOST_PARTS, Structure

HEAD = b"Content-Type: multipart/mixed; boundary=b\r\n\r\n"


def contents(data: bytes) -> list[bytes]:
    return [data[part.start : part.end] for part in Structure(data).parts() if part.leaf]


def defects(data: bytes) -> set[Defect]:
    structure = Structure(data)
    for _ in structure.parts():
        pass
    return structure.defects


@pytest.mark.parametrize(
    ("message", "leaves"),
    [
        (b"", [b""]),
        (b"Subject: x\r\n\r\nHello\r\n", [b"Hello\r\n"]),
        (b"Subject: x\n\nHello\n", [b"Hello\n"]),
        (b"\r\nHello", [b"Hello"]),
        (HEAD + b"--b\r\n\r\none\r\n--b\r\n\r\ntwo\r\n--b--\r\n", [b"one", b"two"]),
        (HEAD + b"before\r\n--b\r\n\r\none\r\n--b--\r\nbehind", [b"one"]),
        (HEAD + b"--b\r\n\r\none\r\n--b  \t\r\n\r\ntwo\r\n--b-- \r\n", [b"one", b"two"]),
        (HEAD + b"--b\r\n\r\none", [b"one"]),
        (HEAD + b"--b\n\none\n--b--", [b"one"]),
        (HEAD + b"--b\r\n\r\none\r\n--bb\r\n\r\n-- b\r\n--b--", [b"one\r\n--bb\r\n\r\n-- b"]),
        (HEAD + b"--b\r\nContent-Type: text/html\r\n--b--\r\n", [b""]),
        (HEAD + b"no part at all", []),
    ],
)
def test_leaves_are_what_stands_between_boundaries(message: bytes, leaves: list[bytes]) -> None:
    assert contents(message) == leaves


def nested(outer: bytes, inner: bytes) -> bytes:
    return (
        b"Content-Type: multipart/mixed; boundary=" + outer + b"\r\n\r\n--" + outer + b"\r\n"
        b"Content-Type: multipart/mixed; boundary=" + inner + b"\r\n\r\n--" + inner + b"\r\n\r\n"
        b"one\r\n--" + inner + b"--\r\n--" + outer + b"\r\n\r\ntwo\r\n--" + outer + b"--\r\n"
    )


@pytest.mark.parametrize(("outer", "inner"), [(b"a", b"b"), (b"a", b"ab"), (b"ab", b"a")])
def test_a_boundary_may_begin_as_another_does(outer: bytes, inner: bytes) -> None:
    message = nested(outer, inner)
    assert contents(message) == [b"one", b"two"]
    assert defects(message) == set()


@pytest.mark.parametrize(
    ("message", "wrong"),
    [
        (b"Subject: x\r\n\r\n", set()),
        (HEAD + b"--b\r\n\r\n--b--\r\n", set()),
        (b"Subject: x\r\nno header\r\n\r\n", {Defect.MALFORMED_HEADER}),
        (b": x\r\n\r\n", {Defect.MALFORMED_HEADER}),
        (b"Subject : x\r\n\r\n", {Defect.MALFORMED_HEADER}),
        (b" x\r\nSubject: y\r\n\r\n", {Defect.MALFORMED_HEADER}),
        (b"Content-Type: a/b\r\nContent-Type: c/d\r\n\r\n", {Defect.DUPLICATE_HEADER}),
        (b"X: " + b"y" * 1024 * 1024 + b"\r\n\r\n", {Defect.LARGE_HEADER}),
        (b"Content-Type: multipart/mixed\r\n\r\n", {Defect.NO_BOUNDARY}),
        (b'Content-Type: multipart/mixed; boundary=""\r\n\r\n', {Defect.NO_BOUNDARY}),
        (HEAD, {Defect.BOUNDARY_MISSING}),
        (HEAD + b"--b--\r\n", {Defect.BOUNDARY_MISSING}),
        (HEAD + b"--b\r\n\r\nx\r\n", {Defect.BOUNDARY_MISSING}),
        (HEAD + b"--b\r\n\r\n--bx\r\n--b--\r\n", {Defect.BOUNDARY_AMBIGUOUS}),
        (
            b"Content-Type: multipart/mixed; boundary=a; boundary=b\r\n\r\n--a\r\n\r\n--a--",
            {Defect.BOUNDARY_AMBIGUOUS},
        ),
        (nested(b"a", b"a"), {Defect.BOUNDARY_AMBIGUOUS, Defect.BOUNDARY_MISSING}),
        (
            b"Content-Type: message/rfc822\r\nContent-Transfer-Encoding: base64\r\n\r\n",
            {Defect.BAD_ENCODING},
        ),
        (
            b"Content-Transfer-Encoding: base64\r\n" + HEAD + b"--b\r\n\r\n--b--",
            {Defect.BAD_ENCODING},
        ),
    ],
)
def test_what_is_wrong_has_its_word(message: bytes, wrong: set[Defect]) -> None:
    assert defects(message) == wrong


def test_a_digest_has_messages_in_it() -> None:
    digest = HEAD.replace(b"mixed", b"digest") + b"--b\r\n\r\nSubject: x\r\n\r\nHello\r\n--b--\r\n"
    kinds = [(part.kind, part.leaf) for part in Structure(digest).parts()]
    assert kinds == [
        ("multipart/digest", False),
        ("message/rfc822", False),
        ("text/plain", True),
    ]


def deep(levels: int) -> bytes:
    head = b'Content-Type: multipart/mixed; boundary="<0>"\r\n\r\n'
    return head + b"".join(
        b'--<%d>\r\nContent-Type: multipart/mixed; boundary="<%d>"\r\n\r\n' % (n, n + 1)
        for n in range(levels)
    )


def test_parts_within_parts_are_read_as_deep_as_postfix_reads_them() -> None:
    assert Defect.TOO_DEEP not in defects(deep(DEEPEST - 1))
    assert Defect.TOO_DEEP in defects(deep(DEEPEST + 1))
    assert Defect.TOO_DEEP in defects(b"Content-Type: message/rfc822\r\n\r\n" * 1000)


def test_parts_beyond_the_most_are_not_looked_at() -> None:
    exact = HEAD + b"--b\r\n\r\nx\r\n" * (MOST_PARTS - 1) + b"--b--\r\n"
    assert defects(exact) == set()
    assert defects(exact.replace(b"--b--", b"--b\r\n\r\n--b--")) == {Defect.TOO_MANY_PARTS}


MIB = 2**20
DEEP = deep(DEEPEST - 2)


@pytest.mark.parametrize(
    "message",
    [
        pytest.param(deep(1000), id="nested 1,000 deep"),
        pytest.param(DEEP + b"hello, world\r\n" * (4 * MIB), id="text in 98 multiparts"),
        pytest.param(DEEP + b"--x\r\n" * (10 * MIB), id="lines like boundaries"),
        pytest.param(HEAD + b"--bx\r\n" * (10 * MIB), id="lines that begin as one"),
        pytest.param(HEAD + b"--b\r\n" * (10 * MIB), id="boundaries alone"),
        pytest.param(HEAD + b"--b\r\n\r\n" * 100_000, id="100,000 parts"),
        pytest.param(b"a:\r\n" * (12 * MIB), id="headers alone"),
        pytest.param(b"a:\r\n" + b" \r\n" * (16 * MIB), id="one header, folded"),
        pytest.param(HEAD + b"--b\r\nX: " + b";" * (48 * MIB), id="one line"),
        pytest.param(HEAD + b"\r" * (48 * MIB), id="CR alone"),
        pytest.param(b"Content-Type: message/rfc822\r\n\r\n" * MIB, id="messages alone"),
    ],
)
def test_no_message_takes_longer_than_its_size_does(message: bytes) -> None:
    started = time.process_time()
    defects(message)
    assert time.process_time() - started < 4


@given(
    st.lists(
        st.sampled_from(
            [HEAD, b"--b", b"--", b"\r\n", b"\r", b"\n", b" ", b":", b"x", b"Content-Type:", b"\0"]
        ),
        max_size=40,
    )
)
def test_parts_never_overlap_and_never_leave_the_message(pieces: list[bytes]) -> None:
    message = b"".join(pieces)
    end = 0
    for part in Structure(message).parts():
        assert end <= part.begin <= part.start <= part.end <= len(message)
        end = part.end if part.leaf else part.start


def test_every_defect_says_what_it_means() -> None:
    assert list(SAYS) == list(Defect)

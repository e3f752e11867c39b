"""
The hash of a message's body in the forms that signatures are over (RFC 6376 sections 3.4, 3.7).

A body is read in pieces, once for each canonicalisation: memory is that of a piece whatever the
body's size, and the time grows with the size alone. dkimpy takes a body whole, in 5 to 35 times its
size, and 64 KiB of blanks in a row cost it 9 s, twice as many four times that.
"""

import os
from collections.abc import Collection, Iterable, Iterator, Mapping
from enum import StrEnum
from hashlib import sha256
from typing import Final

import msgspec

_PIECE: Final = 256 * 1024


class Form(StrEnum):
    """How a body is made canonical (RFC 6376 section 3.4)."""

    SIMPLE = "simple"
    RELAXED = "relaxed"


class Hashed(msgspec.Struct, frozen=True):
    """
    What a body hashes to in one form: its octets, the hash of all, and of beginnings by length.

    A beginning that would be longer than the whole is not among them.
    """

    octets: int
    whole: bytes
    beginnings: Mapping[int, bytes]


def body_hash(descriptor: int, begins: int, form: Form, lengths: Iterable[int] = ()) -> Hashed:
    """Hash a body by SHA-256, and its first octets, as many as each of `lengths` (`l=`)."""
    wanted = sorted(set(lengths), reverse=True)
    beginnings: dict[int, bytes] = {}
    hasher = sha256()
    octets = 0
    for piece in canonical(_pieces(descriptor, begins), form):
        taken = 0
        while wanted and wanted[-1] <= octets + len(piece):
            length = wanted.pop()
            hasher.update(memoryview(piece)[taken : length - octets])
            taken = length - octets
            beginnings[length] = hasher.digest()
        hasher.update(memoryview(piece)[taken:])
        octets += len(piece)
    if 0 in wanted:  # of a body without octets
        beginnings[0] = hasher.digest()
    return Hashed(octets, hasher.digest(), beginnings)


def _pieces(descriptor: int, begins: int) -> Iterator[bytes]:
    while piece := os.pread(descriptor, _PIECE, begins):
        begins += len(piece)
        yield piece


def canonical(pieces: Iterable[bytes], form: Form) -> Iterator[bytes]:
    """
    Give a body in a canonical form, in pieces.

    Lines that end in LF alone end in CR LF here, as Postfix sends them; a CR alone is an octet.
    """
    narrow = _relaxed if form is Form.RELAXED else _as_it_is
    empty_lines = 0  # LFs that are left out if nothing follows
    held = b""  # what the next piece decides about: a CR, or a blank
    empty = True
    for piece in pieces:
        text, held = narrow(_cut_cr(held + piece))
        kept = text.rstrip(b"\n")
        if kept:
            yield from _line_ends(empty_lines)
            yield kept.replace(b"\n", b"\r\n")
            empty_lines = 0
            empty = False
        empty_lines += len(text) - len(kept)
    if held.endswith(b"\r"):  # no line end after all
        yield from _line_ends(empty_lines)
        yield held
        empty = False
    if not empty or form is Form.SIMPLE:
        yield b"\r\n"


Split = tuple[bytes, bytes]
"""A piece with LF for line ends, and what of it the next one decides about."""


def _cut_cr(text: bytes) -> Split:
    text = text.replace(b"\r\n", b"\n")
    return (text[:-1], b"\r") if text.endswith(b"\r") else (text, b"")


def _as_it_is(split: Split) -> Split:
    return split


def _relaxed(split: Split) -> Split:
    """Make one blank of several, and none at the end of a line (RFC 6376 section 3.4.4)."""
    text, held = split
    text = text.replace(b"\t", b" ")
    while b"  " in text:  # each turn halves the longest run
        text = text.replace(b"  ", b" ")
    text = text.replace(b" \n", b"\n")
    return (text[:-1], b" " + held) if text.endswith(b" ") else (text, held)


def _line_ends(number: int) -> Iterator[bytes]:
    """Give so many line ends, at most a piece at a time."""
    most = _PIECE // 2
    for _ in range(number // most):
        yield b"\r\n" * most
    yield b"\r\n" * (number % most)


class Body:
    """A message's body, which is read when its hash in a form is first asked for."""

    def __init__(
        self, descriptor: int, begins: int, lengths: Mapping[Form, Collection[int]]
    ) -> None:
        """`lengths` are those that signatures name, by form."""
        self._descriptor = descriptor
        self._begins = begins
        self._lengths = lengths
        self._hashed: dict[Form, Hashed] = {}

    def hashed(self, form: Form) -> Hashed:
        """Give its hashes in a form."""
        found = self._hashed.get(form)
        if found is None:
            lengths = self._lengths.get(form, ())
            found = self._hashed[form] = body_hash(self._descriptor, self._begins, form, lengths)
        return found

"""Transfer encodings taken off (RFC 2045 section 6), as far as they can be."""

import binascii
import io
import re
from collections.abc import Iterator
from typing import Final

from policyd.protocol.mime.defects import Defect
from policyd.protocol.mime.structure import Octets

_CHUNK: Final = 1024 * 1024
_MOST_PIECES: Final = 1000
"""Ends that one part's base64 may have; honest mail has one."""
_BLANK: Final = b" \t\r\n"
_ALPHABET: Final = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/="
_OTHERS: Final = bytes(set(range(256)) - set(_ALPHABET))
_PADDING: Final = re.compile(b"=+")


def decoded(data: Octets, start: int, end: int, encoding: str, defects: set[Defect]) -> bytes:
    """
    Give the content of a part; what is not known stays as it is.

    Base64 is read on behind an end that is not the last, for some readers do so too.
    """
    match encoding:
        case "base64":
            return _base64(data, start, end, defects)
        case "quoted-printable":
            return _quoted_printable(data, start, end)
        case "" | "7bit" | "8bit" | "binary":
            pass
        case _:
            defects.add(Defect.BAD_ENCODING)
    return bytes(data[start:end])


def _chunks(data: Octets, start: int, end: int) -> Iterator[bytes]:
    for position in range(start, end, _CHUNK):
        yield bytes(data[position : min(position + _CHUNK, end)])


def _base64(data: Octets, start: int, end: int, defects: set[Defect]) -> bytes:
    found = io.BytesIO()
    rest = b""
    ends = 0
    for chunk in _chunks(data, start, end):
        text = chunk.translate(None, _BLANK)
        clean = text.translate(None, _OTHERS)
        if len(clean) != len(text):
            defects.add(Defect.BAD_BASE64)
        if ends and clean.strip(b"="):
            defects.add(Defect.BAD_BASE64)
        *whole, rest = _PADDING.split(rest + clean, _MOST_PIECES - ends)
        ends += len(whole)
        for piece in whole:
            found.write(_quanta(piece, defects))
        if any(whole[1:]) or (whole and rest):
            defects.add(Defect.BAD_BASE64)
        if ends >= _MOST_PIECES:
            return found.getvalue()
        cut = len(rest) - len(rest) % 4
        found.write(binascii.a2b_base64(rest[:cut]))
        rest = rest[cut:]
    if rest:
        defects.add(Defect.BAD_BASE64)
        found.write(_quanta(rest, defects))
    return found.getvalue()


def _quanta(piece: bytes, defects: set[Defect]) -> bytes:
    """Decode what stands before an end, which pads it to whole quanta."""
    if len(piece) % 4 == 1:
        defects.add(Defect.BAD_BASE64)
        piece = piece[:-1]
    return binascii.a2b_base64(piece + b"=" * (-len(piece) % 4))


def _quoted_printable(data: Octets, start: int, end: int) -> bytes:
    found = io.BytesIO()
    rest = b""
    for chunk in _chunks(data, start, end):
        text = rest + chunk
        # "=3D" and a soft line break stay in one piece
        cut = text.rfind(b"=", max(0, len(text) - 3))
        cut = cut if cut >= 0 else len(text)
        found.write(binascii.a2b_qp(text[:cut]))
        rest = text[cut:]
    found.write(binascii.a2b_qp(rest))
    return found.getvalue()

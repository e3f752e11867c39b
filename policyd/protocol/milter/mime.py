"""
The names and types of a message's attachments, from its MIME structure (RFC 2045, 2183, 2231).

Of a body only the skeleton is kept, the lines that can be boundaries and the headers after them,
as the message arrives: nothing has to be stored, and a large message costs a search for line
ends. The skeleton has the same structure.
"""

import re
from typing import Final

from policyd.protocol.mime.defects import Defect
from policyd.protocol.mime.fields import described
from policyd.protocol.mime.structure import Structure

MOST: Final = 1024 * 1024
"""The octets of a skeleton that are read; that of honest mail takes a few KiB."""

_LONGEST: Final = 64 * 1024
"""The octets of one line that are looked at; RFC 5322 section 2.1.1 allows 998."""

_HEADER: Final = re.compile(rb"[!-9;-~]*[ \t]*:|[ \t]|From ")  # see protocol.mime.structure
_MESSAGE: Final = re.compile(rb"^content-type[ \t]*:\s*message/", re.IGNORECASE | re.MULTILINE)
_NO_ATTACHMENT: Final = re.compile(
    rb"(?:content-type:[ \t]*text/(?:plain|html)"
    rb"(?:;[ \t\r\n]*(?:charset|format|delsp)=[^;\r\n]*)*;?[ \t]*\r\n"
    rb"|content-(?:transfer-encoding|language|id)[ \t]*:[^\r\n]*\r\n)*",
    re.IGNORECASE,
)
"""The MIME headers of most mail, plain text: then there is nothing to parse."""

_LINE_END: Final = re.compile(rb"\r\n|\r|\n")
_BEYOND: Final = frozenset({Defect.TOO_DEEP, Defect.TOO_MANY_PARTS, Defect.TOO_COSTLY})

UNREADABLE: Final = "unreadable"
"""What stands for the attachments that are not found, for the structure is beyond all measure."""


class Skeleton:
    """
    The MIME structure of one message, fed as it arrives.

    Lines end in CR LF, LF or CR, as Python's email package has it.
    """

    def __init__(self) -> None:
        self._kept = bytearray()
        self._too_much = False
        self._rest = b""
        self._headers = 0
        self._block = 0
        self._in_headers = False
        self._in_body = False

    def header(self, name: str, value: str) -> None:
        """Take a header of the message; those of other than MIME do not count."""
        if name[:8].lower() == "content-":
            self._keep(f"{name}: {value}".encode("utf-8", "surrogateescape"))

    def body(self, chunk: bytes) -> None:
        """Take the next part of the body."""
        self._begin_body()
        if self._too_much:
            return
        data = self._rest + chunk
        end = max(data.rfind(b"\n"), data.rfind(b"\r", 0, -1)) + 1
        self._read(data, end)
        self._rest = data[end:]
        if len(self._rest) > _LONGEST:
            if self._in_headers or self._rest.startswith(b"--"):
                self._too_much = True
            self._rest = b"."  # within a line of content

    def attachments(self) -> tuple[str, ...]:
        """
        Give the names and types of all attachments, for each its file names and `type/subtype`.

        An attachment is every part that has a name, is marked as one, or is neither plain text
        nor HTML; parts of attached messages count too. UNREADABLE comes last if not all of them
        are found: a boundary or header line has more than 64 KiB, all of them together more than
        1 MiB, or parts are too many or too deep (see protocol.mime.structure).
        """
        self._begin_body()
        if _NO_ATTACHMENT.fullmatch(self._kept, 0, self._headers):
            return ()
        if self._rest:
            last, self._rest = self._rest + b"\n", b""
            self._read(last, len(last))
        structure = Structure(self._kept)
        found = tuple(
            text for part in structure.parts() for text in described(part.fields, part.kind)
        )
        return (*found, UNREADABLE) if self._too_much or structure.defects & _BEYOND else found

    def _begin_body(self) -> None:
        if not self._in_body:
            self._in_body = True
            self._headers = len(self._kept)
            self._end_block(b"")

    def _read(self, data: bytes, end: int) -> None:
        position = 0
        while position < end:
            if not self._in_headers:
                position = _next_boundary(data, position, end)
                if position < 0:
                    return
            found = _LINE_END.search(data, position, end)
            assert found is not None  # data[:end] ends in a line end
            self._line(data[position : found.start()])
            position = found.end()

    def _line(self, line: bytes) -> None:
        if line.startswith(b"--"):
            self._keep(line)
            self._block = len(self._kept)
            self._in_headers = True
        elif not self._in_headers:
            return
        elif line and _HEADER.match(line):
            self._keep(line)
        else:
            self._end_block(line)

    def _end_block(self, line: bytes) -> None:
        # the headers of an attached message follow those that announce it
        self._in_headers = _MESSAGE.search(self._kept, self._block) is not None
        self._keep(line)
        self._block = len(self._kept)

    def _keep(self, line: bytes) -> None:
        if len(self._kept) + len(line) > MOST:
            self._too_much = True
        else:
            self._kept += line + b"\r\n"


def _next_boundary(data: bytes, position: int, end: int) -> int:
    if data.startswith(b"--", position):
        return position
    after_lf = data.find(b"\n--", position, end)
    after_cr = data.find(b"\r--", position, after_lf if after_lf >= 0 else end)
    found = after_cr if after_cr >= 0 else after_lf
    return found + 1 if found >= 0 else -1

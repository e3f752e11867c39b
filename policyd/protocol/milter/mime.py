"""
The names and types of a message's attachments, from its MIME structure (RFC 2045, 2183, 2231).

Of a body only the skeleton is kept, the lines that can be boundaries and the headers after them,
as the message arrives: nothing has to be stored, and a large message costs a search for line
ends. The standard library's parser then reads the skeleton, which has the same structure.
"""

import re
from collections.abc import Iterator
from email.errors import HeaderParseError
from email.feedparser import FeedParser
from email.header import decode_header, make_header
from email.message import Message
from email.policy import compat32
from email.utils import collapse_rfc2231_value
from typing import Final

from policyd.protocol.text import safe

MOST: Final = 1024 * 1024
"""The octets of a skeleton that are read; that of honest mail takes a few KiB."""

_LONGEST: Final = 64 * 1024
"""The octets of one line that are looked at; RFC 5322 section 2.1.1 allows 998."""

_HEADER: Final = re.compile(rb"[!-9;-~]*:|[ \t]|From ")  # as email.feedparser has it
_MESSAGE: Final = re.compile(rb"^content-type:\s*message/", re.IGNORECASE | re.MULTILINE)
_NO_ATTACHMENT: Final = re.compile(
    rb"(?:content-type:[ \t]*text/(?:plain|html)"
    rb"(?:;[ \t\r\n]*(?:charset|format|delsp)=[^;\r\n]*)*;?[ \t]*\r\n"
    rb"|content-(?:transfer-encoding|language|id)[ \t]*:[^\r\n]*\r\n)*",
    re.IGNORECASE,
)
"""The MIME headers of most mail, plain text: then there is nothing to parse."""

_LINE_END: Final = re.compile(rb"\r\n|\r|\n")
_TEXTS: Final = frozenset({"text/plain", "text/html"})


class TooMuchStructureError(Exception):
    """A message has boundaries and part headers beyond all measure."""


class Skeleton:
    """
    The MIME structure of one message, fed as it arrives.

    Lines end in CR LF, LF or CR, as Python's email package has it.
    """

    def __init__(self) -> None:
        self._kept = bytearray()
        self._too_much = ""
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
                self._too_much = "a boundary or header has more than 64 KiB"
            self._rest = b"."  # within a line of content

    def attachments(self) -> tuple[str, ...]:
        """
        Give the names and types of all attachments, for each its file names and `type/subtype`.

        An attachment is every part that has a name, is marked as one, or is neither plain text
        nor HTML; parts of attached messages count too.
        """
        self._begin_body()
        if _NO_ATTACHMENT.fullmatch(self._kept, 0, self._headers):
            return ()
        if self._rest:
            last, self._rest = self._rest + b"\n", b""
            self._read(last, len(last))
        if self._too_much:
            raise TooMuchStructureError(self._too_much)
        parser = FeedParser(policy=compat32)
        try:
            parser.feed(self._kept.decode("utf-8", "replace"))
            message = parser.close()
            return tuple(text for part in message.walk() for text in _described(part))
        except RecursionError as error:
            raise TooMuchStructureError("parts are nested too deeply") from error

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
            self._too_much = "the MIME structure has more than 1 MiB"
        else:
            self._kept += line + b"\r\n"


def _next_boundary(data: bytes, position: int, end: int) -> int:
    if data.startswith(b"--", position):
        return position
    after_lf = data.find(b"\n--", position, end)
    after_cr = data.find(b"\r--", position, after_lf if after_lf >= 0 else end)
    found = after_cr if after_cr >= 0 else after_lf
    return found + 1 if found >= 0 else -1


def _described(part: Message) -> Iterator[str]:
    if part.get_content_maintype() == "multipart":
        return
    names = dict.fromkeys(_names(part))
    kind = part.get_content_type()
    if names or kind not in _TEXTS or part.get_content_disposition() == "attachment":
        yield from names
        yield kind


def _names(part: Message) -> Iterator[str]:
    for parameter, header in (("filename", "content-disposition"), ("name", "content-type")):
        value = part.get_param(parameter, header=header)
        if value is not None:
            name = safe(_word(collapse_rfc2231_value(value)), utf8=True)
            if name:
                yield name


def _word(name: str) -> str:
    # many senders write a name as an encoded word, which RFC 2047 section 5 forbids
    try:
        return str(make_header(decode_header(name)))
    except (HeaderParseError, LookupError, ValueError):
        return name

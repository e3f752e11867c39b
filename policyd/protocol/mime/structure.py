"""
The parts of a message (RFC 2046 section 5.1), one after the other, in bounded time.

Where a message breaks the rules, parts begin and end where Python's email package has them. But
lines end in LF or CR LF, and a blank may stand before a header's colon (RFC 5322 section 4.5).
Nothing here recurs, however deeply parts are nested. Of each boundary only the stretch in which it
counts is searched, so that all searches together read the message once for each level of it.
"""

import re
from collections.abc import Iterator
from typing import Final, NamedTuple

from policyd.protocol.mime.defects import Defect
from policyd.protocol.mime.fields import (
    PLAIN,
    Fields,
    first_word,
    kind_of,
    parameter,
    unfolded,
)

Octets = bytes | bytearray
"""A message; or what is like it, such as a file that is mapped (mmap(2))."""

DEEPEST: Final = 100
"""Parts within parts; as many as Postfix takes (mime_nesting_limit, postconf(5))."""
MOST_PARTS: Final = 1000
"""Parts of one message; those after them are not looked at."""
MOST_LINES: Final = 20_000
"""Lines that begin with a boundary; the message is not looked at beyond them."""
MOST_SEARCHED: Final = 1024 * 1024 * 1024
"""Octets in which boundaries are looked for: those of the message, once for each open multipart."""
LARGEST_HEADER: Final = 1024 * 1024
"""Octets of the headers of one part that are looked at."""

_HEADERS: Final = re.compile(rb"(?:(?:[!-9;-~]*+[ \t]*+:|[ \t]|From )[^\n]*+(?:\n|\Z))*+")
_FIELD: Final = re.compile(
    rb"^(content-(?:type|disposition|transfer-encoding))[ \t]*+:([^\n]*+(?:\n[ \t][^\n]*+)*+)",
    re.IGNORECASE | re.MULTILINE,
)
_ODD: Final = re.compile(rb"^(?::|[!-9;-~]++[ \t]++:)", re.MULTILINE)
_END: Final = re.compile(rb"(--)?[ \t]*+\r?(?:\n|\Z)")
_DOUBTFUL: Final = 300
"""Octets that are kept of a line that begins with a boundary and goes on."""
_IDENTITY: Final = frozenset({"", "7bit", "8bit", "binary"})


class Part(NamedTuple):
    """
    A part: its MIME fields, its type, and where its headers and its content are.

    `encoding` is its Content-Transfer-Encoding. A part that is no `leaf` is a multipart or a
    message whose own parts follow.
    """

    fields: Fields
    kind: str
    encoding: str
    begin: int
    start: int
    end: int
    depth: int
    leaf: bool


class _Delimiter(NamedTuple):
    begin: int
    after: int
    closes: bool


class _Level:
    """A multipart that has begun, and where its next boundary is."""

    def __init__(self, boundary: bytes, kind: str, depth: int, position: int) -> None:
        self.line = b"--" + boundary
        self.kind = kind
        self.depth = depth
        self.started = False
        self.next: _Delimiter | None = None
        self.searched = position
        """Up to here there is none but `next`."""


class Structure:
    """The parts of one message; what is wrong with it is in `defects` when all have been read."""

    def __init__(
        self,
        data: Octets,
        *,
        most_parts: int = MOST_PARTS,
    ) -> None:
        """Take a message; its headers are at the beginning."""
        self.defects: set[Defect] = set()
        self._data = data
        self._size = len(data)
        self._most_parts = most_parts
        self._lines_left = MOST_LINES
        self._search_left = MOST_SEARCHED
        self._levels: list[_Level] = []
        self._known: set[bytes] = set()
        self._doubtful: set[bytes] = set()

    def parts(self) -> Iterator[Part]:
        """Give every part in order, what contains others before them."""
        yield from self._parts()
        if any(
            line not in self._known and line.removesuffix(b"--") not in self._known
            for line in self._doubtful
        ):
            self.defects.add(Defect.BOUNDARY_AMBIGUOUS)

    def _parts(self) -> Iterator[Part]:
        begin: int | None = 0
        depth, count, default = 0, 0, PLAIN
        while begin is not None:
            following = self._next(begin)
            limit = self._size if following is None else following[1].begin
            part = self._part(begin, limit, depth, default)
            count += 1
            if count > self._most_parts:
                self.defects.add(Defect.TOO_MANY_PARTS)
                return
            yield part
            if not part.leaf and part.kind.startswith("message/"):
                begin, depth, default = part.start, depth + 1, PLAIN
                continue
            if not part.leaf:
                following = self._next(part.start)
            begin = self._begin_next(following)
            if begin is not None:
                level = self._levels[-1]
                depth = level.depth + 1
                default = "message/rfc822" if level.kind == "multipart/digest" else PLAIN

    def _part(self, begin: int, limit: int, depth: int, default: str) -> Part:
        """Read the headers of a part, and begin a multipart."""
        fields, start = self._headers(begin, limit)
        kind = kind_of(fields, default)
        encoding = first_word(fields.get("content-transfer-encoding", ("",))[0])
        leaf = not kind.startswith(("multipart/", "message/")) or kind == "message/delivery-status"
        if not leaf and encoding not in _IDENTITY:
            self.defects.add(Defect.BAD_ENCODING)
            leaf = kind.startswith("message/")
        if not leaf and depth >= DEEPEST:
            self.defects.add(Defect.TOO_DEEP)
            leaf = True
        if not leaf and kind.startswith("multipart/"):
            self._open(fields, kind, depth, start)
        return Part(
            fields, kind, encoding, begin, start, self._content_end(start, limit), depth, leaf
        )

    def _content_end(self, start: int, limit: int) -> int:
        """Leave out the line end that belongs to the boundary behind it."""
        if limit == self._size:
            return limit
        end = limit - 2 if self._data[limit - 2 : limit] == b"\r\n" else limit - 1
        return max(start, end)

    def _headers(self, begin: int, limit: int) -> tuple[Fields, int]:
        """Read a part's headers; give those of MIME, and where its content begins."""
        data = self._data
        found = _HEADERS.match(data, begin, limit)
        end = begin if found is None else found.end()
        block = data[begin : min(end, begin + LARGEST_HEADER)]
        if end - begin > LARGEST_HEADER:
            self.defects.add(Defect.LARGE_HEADER)
        if block.startswith((b" ", b"\t")) or _ODD.search(block):
            self.defects.add(Defect.MALFORMED_HEADER)
        fields: dict[str, tuple[str, ...]] = {}
        for field in _FIELD.finditer(block):
            name = field[1].decode("ascii").lower()
            value = unfolded(field[2].decode("utf-8", "surrogateescape"))
            if name in fields:
                self.defects.add(Defect.DUPLICATE_HEADER)
            fields[name] = (*fields.get(name, ()), value)
        if end >= limit:
            return fields, limit
        for line_end in (b"\r\n", b"\n"):
            if data[end : end + len(line_end)] == line_end:
                return fields, end + len(line_end)
        self.defects.add(Defect.MALFORMED_HEADER)
        return fields, end

    def _open(self, fields: Fields, kind: str, depth: int, position: int) -> None:
        """Begin a multipart, unless it has no boundary of its own."""
        found = parameter(fields["content-type"][0], "boundary")
        boundary = found[0].rstrip() if found else ""
        if not boundary:
            self.defects.add(Defect.NO_BOUNDARY)
            return
        level = _Level(boundary.encode("utf-8", "surrogateescape"), kind, depth, position)
        if any(level.line == open_.line for open_ in self._levels):
            self.defects |= {Defect.BOUNDARY_AMBIGUOUS, Defect.BOUNDARY_MISSING}
            return  # the boundary is the outer one's
        if len(found) > 1:
            self.defects.add(Defect.BOUNDARY_AMBIGUOUS)
        self._levels.append(level)
        self._known.add(level.line[:_DOUBTFUL])

    def _begin_next(self, following: tuple[int, _Delimiter] | None) -> int | None:
        """End what a boundary line ends; give where the next part begins, None for the end."""
        while following is not None:
            number, line = following
            if number + 1 < len(self._levels):
                self.defects.add(Defect.BOUNDARY_MISSING)
                del self._levels[number + 1 :]
            level = self._levels[number]
            if not line.closes:
                level.started = True
                return self._after_repeated(number, line.after)
            if not level.started:
                self.defects.add(Defect.BOUNDARY_MISSING)
            self._levels.pop()
            following = self._next(line.after)
        if self._levels:
            self.defects.add(Defect.BOUNDARY_MISSING)
        return None

    def _after_repeated(self, number: int, position: int) -> int:
        """Skip boundary lines that follow one of the same multipart at once."""
        while True:
            following = self._next(position)
            if following is None or following[0] != number or following[1].begin != position:
                return position
            position = following[1].after

    def _next(self, position: int) -> tuple[int, _Delimiter] | None:
        """Give the next boundary line of any open multipart, and whose it is."""
        best: tuple[int, _Delimiter] | None = None
        limit = self._size
        for number, level in enumerate(self._levels):
            found = self._next_of(level, position, limit)
            if found is not None and found.begin < limit:
                best, limit = (number, found), found.begin
        return best

    def _next_of(self, level: _Level, position: int, limit: int) -> _Delimiter | None:
        """Give the next boundary line of one multipart, if one begins before the limit."""
        if level.next is not None and level.next.begin >= position:
            return level.next
        level.next = None
        data, line = self._data, level.line
        line_end = max(position, level.searched) - 1  # of the line before
        while self._search_left > 0:
            started = line_end
            line_end = data.find(b"\n" + line, line_end, limit + len(line))
            self._search_left -= max(0, (line_end if line_end >= 0 else limit) - started)
            if line_end < 0:
                break
            if not self._lines_left:
                self.defects.add(Defect.TOO_MANY_PARTS)
                break
            self._lines_left -= 1
            begin = line_end + 1
            end = _END.match(data, begin + len(line))
            if end is not None:
                level.searched = end.end()
                level.next = _Delimiter(begin, end.end(), end[1] is not None)
                return level.next
            doubtful = bytes(data[begin : begin + _DOUBTFUL]).partition(b"\n")[0]
            self._doubtful.add(doubtful.rstrip(b" \t\r"))
            line_end = begin
        level.searched = max(level.searched, limit)
        if self._search_left <= 0:
            self.defects.add(Defect.TOO_COSTLY)
        return None

"""
What a message consists of, found out in a process of its own (see processes.work).

The message is hostile. It is mapped and not read; of its parts one at a time is in memory, at most
48 MiB of base64 taken off, and what archives within it hold, at most 32 MiB decompressed.
"""

import mmap
import os
import re
import time
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from typing import Final, cast

import msgspec

from policyd.mail.archives import Budget, SpentError, archived, zip_members
from policyd.mail.content import LARGEST, Content
from policyd.mail.decoding import decoded
from policyd.mail.sniffing import sniffed
from policyd.processes.work import Ask
from policyd.protocol.mime.defects import Defect
from policyd.protocol.mime.fields import names
from policyd.protocol.mime.structure import LARGEST_HEADER, MOST_PARTS, Octets, Part, Structure

PATIENCE: Final = 3.0
"""Seconds after which what is left is not looked at."""
_ENCODED_MESSAGES: Final = 3
"""Messages that are encoded as a whole, within each other."""
_MOST_FIELDS: Final = 10_000
_BARE_CR: Final = re.compile(rb"\r(?!\n)")
_END_OF_HEADERS: Final = re.compile(rb"\A\r?\n|\n\r?\n")
_SINGLE: Final = re.compile(
    rb"^(date|from|sender|reply-to|to|cc|bcc|message-id|in-reply-to|references|subject"
    rb"|mime-version)[ \t]*:",
    re.IGNORECASE | re.MULTILINE,
)
"""Those that may stand once (RFC 5322 section 3.6, RFC 2045 section 4)."""


def work(_payload: bytes, descriptors: Sequence[int], _ask: Ask) -> bytes:
    """Look at the message of the one descriptor; gives a Content as MessagePack."""
    (descriptor,) = descriptors
    size = os.fstat(descriptor).st_size
    if not size:
        return msgspec.msgpack.encode(Content())
    with mmap.mmap(descriptor, min(size, LARGEST), prot=mmap.PROT_READ) as mapped:
        data = cast("bytes", mapped)  # sliced, searched and matched like them
        found = examined(data, too_large=size > LARGEST)
    return msgspec.msgpack.encode(found)


def examined(
    data: Octets, *, too_large: bool = False, clock: Callable[[], float] = time.monotonic
) -> Content:
    """Look at a message, for PATIENCE and one more step; `clock` gives seconds."""
    deadline = clock() + PATIENCE
    return _Examination(lambda: clock() > deadline).of(data, too_large=too_large)


class _Examination:
    """What is found in one message."""

    def __init__(self, expired: Callable[[], bool]) -> None:
        self._expired = expired
        self._types: dict[str, None] = {}
        self._archived: dict[str, None] = {}
        self._defects: set[Defect] = set()
        self._budget = Budget(self._defects, expired)
        self._archives_end = False
        self._parts_left = MOST_PARTS

    def of(self, data: Octets, *, too_large: bool) -> Content:
        if too_large:
            self._defects.add(Defect.TOO_LARGE)
        if _BARE_CR.search(data) is not None:
            self._defects.add(Defect.BARE_CR)
        if data.find(b"\0") >= 0:
            self._defects.add(Defect.NUL)
        if _has_duplicates(data):
            self._defects.add(Defect.DUPLICATE_HEADER)
        self._message(data, 0)
        if too_large:
            # what is cut off has no end, and says nothing of what there is
            self._defects -= {Defect.BOUNDARY_MISSING, Defect.BAD_BASE64}
        return Content(
            tuple(self._types),
            tuple(self._archived),
            tuple(defect for defect in Defect if defect in self._defects),
        )

    def _message(self, data: Octets, within: int) -> None:
        structure = Structure(data, most_parts=self._parts_left)
        for part in self._counted(structure):
            if not part.leaf:
                continue
            if self._expired():
                self._defects.add(Defect.TOO_COSTLY)
                break
            content = decoded(data, part.start, part.end, part.encoding, self._defects)
            if part.kind == "message/rfc822" and part.encoding:
                if within < _ENCODED_MESSAGES:
                    self._message(content, within + 1)
                else:
                    self._defects.add(Defect.TOO_DEEP)
            else:
                self._leaf(part, content)
        self._defects |= structure.defects

    def _counted(self, structure: Structure) -> Iterator[Part]:
        for part in structure.parts():
            self._parts_left -= 1
            yield part

    def _leaf(self, part: Part, content: bytes) -> None:
        self._types.update(dict.fromkeys(sniffed(content, zip_members(content))))
        if self._archives_end:
            return
        name = next(iter(names(part.fields)), "")
        try:
            for each in archived(content, name, self._budget):
                self._archived[each] = None
        except SpentError as spent:
            self._defects.add(spent.defect)
            self._archives_end = True


def _has_duplicates(data: Octets) -> bool:
    found = _END_OF_HEADERS.search(data, 0, LARGEST_HEADER)
    end = LARGEST_HEADER if found is None else found.end()
    counts: Counter[bytes] = Counter()
    for number, field in enumerate(_SINGLE.finditer(data, 0, end)):
        counts[field[1].lower()] += 1
        if counts[field[1].lower()] > 1 or number > _MOST_FIELDS:
            return True
    return False

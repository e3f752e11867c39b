"""
The names of files within archives: zip, tar, gzip, bzip2 and xz, and those within these.

Nothing is decompressed but what is an archive itself, and never more than a Budget has.
"""

import bz2
import io
import lzma
import re
import struct
import zipfile
import zlib
from collections.abc import Callable, Iterator
from typing import Final, Protocol

from policyd.mail.content import LONGEST_NAME
from policyd.protocol.mime.defects import Defect
from policyd.protocol.text import safe

MOST_DECOMPRESSED: Final = 32 * 1024 * 1024
"""Octets decompressed of one message."""
MOST_NAMES: Final = 10_000
"""Names of one message."""
DEEPEST: Final = 5
"""Archives within archives."""
_LARGEST_DIRECTORY: Final = 2 * 1024 * 1024
"""Octets of a zip's directory that are read into memory."""
_MEMORY: Final = 64 * 1024 * 1024
"""Octets that decompressing xz may take; its files say how much they want."""
_START: Final = 1024
"""Octets by which a member is known for an archive."""
_STEP: Final = 64 * 1024
_MOST_STREAMS: Final = 100
"""Streams behind each other in one file; honest ones have one, or one for each core."""

_END_OF_ZIP: Final = b"PK\x05\x06"
_LONGEST_END: Final = 65_557
_LOCAL: Final = b"PK\x03\x04"
_READ: Final = frozenset({zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED})
"""Methods of zip whose output zipfile bounds."""
_BLOCK: Final = 512
_PATH: Final = re.compile(rb"(?:\A|\n)[0-9]{1,9} path=([^\n]*)\n")
_SUFFIXES: Final = ((".tgz", ".tar"), (".tbz2", ".tar"), (".tbz", ".tar"), (".txz", ".tar"))


class SpentError(Exception):
    """There is no more of what archives may use up."""

    def __init__(self, defect: Defect) -> None:
        """Keep the word for it."""
        super().__init__(str(defect))
        self.defect = defect


class Budget:
    """What all archives of one message may use up, and what was found wrong with them."""

    def __init__(self, defects: set[Defect], expired: Callable[[], bool]) -> None:
        """Begin with everything; `expired` tells whether time is up."""
        self.defects = defects
        self._expired = expired
        self._octets = MOST_DECOMPRESSED
        self._names = MOST_NAMES

    def decompressed(self, octets: int) -> bool:
        """Take off what was decompressed, and tell whether there may be more."""
        self._octets -= octets
        if self._octets <= 0:
            self.defects.add(Defect.ARCHIVE_BOMB)
        return self._octets > 0

    def named(self) -> None:
        """Take off a name; SpentError if there is none left, or no time."""
        self._names -= 1
        if self._names < 0:
            raise SpentError(Defect.ARCHIVE_BOMB)
        if self._expired():
            raise SpentError(Defect.TOO_COSTLY)


def is_zip(data: bytes) -> bool:
    """Tell whether something is a zip, which may begin with anything."""
    return data.startswith(_LOCAL) or data.find(_END_OF_ZIP, max(0, len(data) - _LONGEST_END)) >= 0


def zip_members(data: bytes) -> tuple[str, ...]:
    """Give the names in a zip as they stand there, for telling what it is; none if it is none."""
    if not is_zip(data) or _directory_size(data) > _LARGEST_DIRECTORY:
        return ()
    try:
        with zipfile.ZipFile(io.BytesIO(data)) as archive:
            return tuple(archive.namelist()[:MOST_NAMES])
    except _FAULTS:
        return ()


def archived(data: bytes, name: str, budget: Budget, depth: int = 0) -> Iterator[str]:
    """
    Give the names of files within an archive called `name`, itself not; nothing if it is none.

    SpentError if there are too many, or time is up: what came before was found.
    """
    reader = _reader(data)
    if reader is None:
        return
    if depth >= DEEPEST:
        budget.defects.add(Defect.ARCHIVE_BOMB)
        return
    for member, inner in reader(data, name, budget):
        budget.named()
        path = _path(name, member)
        if path:
            yield path
        if inner:
            yield from archived(inner, path, budget, depth + 1)


_Member = tuple[str, bytes]
_Reader = Callable[[bytes, str, Budget], Iterator[_Member]]
_FAULTS: Final = (
    *(zipfile.BadZipFile, zlib.error, lzma.LZMAError, EOFError, OSError, struct.error),
    *(ValueError, NotImplementedError, RuntimeError, IndexError, OverflowError),
)
"""What the standard library raises for archives that are damaged."""


def _reader(data: bytes) -> _Reader | None:
    if data.startswith(b"\x1f\x8b"):
        return _gzip
    if data.startswith(b"BZh"):
        return _bzip2
    if data.startswith(b"\xfd7zXZ\0"):
        return _xz
    if _checked(data, 0):
        return _tar
    return _zip if is_zip(data) else None


def _path(name: str, member: str) -> str:
    shown = safe(member, utf8=True)
    return (f"{name}/{shown}" if name and shown else shown)[-LONGEST_NAME:]


def _is_archive(start: bytes) -> bool:
    return _reader(start) is not None


# zip ------------------------------------------------------------------------------------------


def _zip(data: bytes, _name: str, budget: Budget) -> Iterator[_Member]:
    if _directory_size(data) > _LARGEST_DIRECTORY:
        budget.defects.add(Defect.ARCHIVE_BOMB)
        yield from _local_names(data)
        return
    try:
        archive = zipfile.ZipFile(io.BytesIO(data))
    except _FAULTS:
        if data.startswith(_LOCAL):  # else it only looked like a zip
            budget.defects.add(Defect.UNREADABLE_ARCHIVE)
            yield from _local_names(data)
        return
    with archive:
        for info in archive.infolist():
            yield info.filename, _inner(archive, info, budget)


def _directory_size(data: bytes) -> int:
    end = data.rfind(_END_OF_ZIP, max(0, len(data) - _LONGEST_END))
    if end < 0 or len(data) < end + 22:
        return 0
    size: int = struct.unpack_from("<I", data, end + 12)[0]
    return min(size, len(data))  # all ones in the largest zips; then the whole bounds it


def _inner(archive: zipfile.ZipFile, info: zipfile.ZipInfo, budget: Budget) -> bytes:
    """Give a member that is an archive itself; else nothing."""
    if info.flag_bits & 1:
        budget.defects.add(Defect.ENCRYPTED_ARCHIVE)
        return b""
    if info.is_dir():
        return b""
    if info.compress_type not in _READ:
        budget.defects.add(Defect.UNREADABLE_ARCHIVE)
        return b""
    try:
        with archive.open(info) as file:
            start = file.read(_START)
            named_so = info.filename.lower().endswith(".zip")  # it may begin with anything
            return _all(start, file, budget) if named_so or _is_archive(start) else b""
    except _FAULTS:
        budget.defects.add(Defect.UNREADABLE_ARCHIVE)
        return b""


def _local_names(data: bytes) -> Iterator[_Member]:
    """Give the names before the files of a zip whose directory is damaged."""
    position = data.find(_LOCAL)
    while position >= 0 and len(data) >= position + 30:
        (flags,) = struct.unpack_from("<H", data, position + 6)
        (length,) = struct.unpack_from("<H", data, position + 26)
        name = bytes(data[position + 30 : position + 30 + length])
        yield name.decode("utf-8" if flags & 0x800 else "cp437", "replace"), b""
        position = data.find(_LOCAL, position + 30)


# gzip, bzip2, xz ------------------------------------------------------------------------------


class _Stream(Protocol):
    """What zlib, bz2 and lzma have for reading piece by piece."""

    @property
    def eof(self) -> bool: ...

    @property
    def unused_data(self) -> bytes: ...

    def decompress(self, data: bytes, max_length: int = ...) -> bytes: ...


class _Decompressed:
    """Compressed streams to read from, one behind the other as gunzip(1) and the like take them."""

    def __init__(self, data: bytes, begin: Callable[[], _Stream]) -> None:
        self._rest = memoryview(data)
        self._magic = bytes(data[:2])
        self._begin = begin
        self._stream = begin()
        self._streams_left = _MOST_STREAMS

    def read(self, size: int) -> bytes:
        """Give up to `size` octets, nothing at the end."""
        found = b""
        while not found and not self._ended():
            tail = getattr(self._stream, "unconsumed_tail", b"")  # zlib hands back what is left
            given = tail or bytes(self._rest[:_STEP])
            if not tail:
                self._rest = self._rest[_STEP:]
            found = self._stream.decompress(given, size)
            if not (given or found or self._stream.eof):
                raise EOFError
        return found

    def _ended(self) -> bool:
        """Tell whether all has been read; begin the next stream if there is one."""
        if not self._stream.eof:
            return False
        behind = self._rest.nbytes + len(self._stream.unused_data)
        whole = self._rest.obj
        assert isinstance(whole, bytes)  # it was made of one
        start = len(whole) - behind
        if whole[start : start + len(self._magic)] != self._magic:
            return True
        if not self._streams_left:
            raise EOFError
        self._streams_left -= 1
        self._rest = memoryview(whole)[start:]
        self._stream = self._begin()
        return False


def _gzip(data: bytes, name: str, budget: Budget) -> Iterator[_Member]:
    own = _gzip_name(bytes(data[:_STEP]))
    inner = _streamed(data, lambda: zlib.decompressobj(wbits=31), budget)
    yield own or _without_suffix(name, ".gz"), inner


def _bzip2(data: bytes, name: str, budget: Budget) -> Iterator[_Member]:
    yield _without_suffix(name, ".bz2"), _streamed(data, bz2.BZ2Decompressor, budget)


def _xz(data: bytes, name: str, budget: Budget) -> Iterator[_Member]:
    inner = _streamed(data, lambda: lzma.LZMADecompressor(memlimit=_MEMORY), budget)
    yield _without_suffix(name, ".xz"), inner


def _gzip_name(start: bytes) -> str:
    """Give the name that a gzip file has for what is in it (RFC 1952 section 2.3)."""
    flags = start[3] if len(start) > 10 else 0
    position = 10
    if flags & 4:
        position += 2 + int.from_bytes(start[10:12], "little")
    if not flags & 8:
        return ""
    return start[position:].partition(b"\0")[0].decode("latin-1")


def _without_suffix(name: str, suffix: str) -> str:
    last = name.rpartition("/")[2]
    for short, long in (*_SUFFIXES, (suffix, "")):
        if last.lower().endswith(short):
            return last[: -len(short)] + long
    return last


def _streamed(data: bytes, begin: Callable[[], _Stream], budget: Budget) -> bytes:
    file = _Decompressed(data, begin)
    start = b""
    try:
        while len(start) < _START and (more := file.read(_START)):
            start += more
    except _FAULTS:
        budget.defects.add(Defect.UNREADABLE_ARCHIVE)
    return _all(start, file, budget) if _is_archive(start) else b""


class _File(Protocol):
    def read(self, size: int, /) -> bytes: ...


def _all(start: bytes, file: _File, budget: Budget) -> bytes:
    """Read on to the end, or as far as the file is good and the budget goes."""
    found = io.BytesIO()
    more = start
    try:
        while more:
            found.write(more)
            more = file.read(_STEP) if budget.decompressed(len(more)) else b""
    except _FAULTS:
        budget.defects.add(Defect.UNREADABLE_ARCHIVE)
    return found.getvalue()


# tar ------------------------------------------------------------------------------------------


def _checked(data: bytes, position: int) -> bool:
    """Tell whether a block is the header of a tar's file: its sum is right (pax(1), ustar)."""
    header = bytes(data[position : position + _BLOCK])
    if len(header) < _BLOCK or not header[0]:
        return False
    try:
        told = int(header[148:156].strip(b"\0 "), 8)
    except ValueError:
        return False
    return told == sum(header) - sum(header[148:156]) + 8 * ord(" ")


def _tar(data: bytes, _name: str, budget: Budget) -> Iterator[_Member]:
    """
    Read a tar's headers, in the formats of ustar, GNU and pax.

    The standard library's reader takes quadratic time for some that are made for it.
    """
    position = 0
    long_name = b""
    while _checked(data, position):
        header = bytes(data[position : position + _BLOCK])
        size = _tar_size(header[124:136])
        kind = header[156:157]
        start = position + _BLOCK
        position = start + (size + _BLOCK - 1) // _BLOCK * _BLOCK
        if size < 0 or position > len(data) + _BLOCK:
            budget.defects.add(Defect.UNREADABLE_ARCHIVE)
            size, position = 0, len(data)
        if kind in (b"L", b"x", b"K", b"g"):  # about the file that follows, or all of them
            budget.named()
            long_name = _long_name(kind, bytes(data[start : start + min(size, _STEP)])) or long_name
            continue
        name = long_name or _ustar_name(header)
        long_name = b""
        inner = data[start : start + size] if _is_archive(data[start : start + _START]) else b""
        yield name.decode("utf-8", "replace"), inner
    if position < len(data) and any(data[position : position + _BLOCK]):
        budget.defects.add(Defect.UNREADABLE_ARCHIVE)


def _long_name(kind: bytes, content: bytes) -> bytes:
    if kind == b"L":
        return content.partition(b"\0")[0]
    found = _PATH.search(content) if kind == b"x" else None
    return b"" if found is None else found[1]


def _ustar_name(header: bytes) -> bytes:
    name = header[:100].partition(b"\0")[0]
    prefix = header[345:500].partition(b"\0")[0] if header[257:263] == b"ustar\0" else b""
    return prefix + b"/" + name if prefix else name


def _tar_size(field: bytes) -> int:
    """Read a size: octal digits, or with the first bit set a number in base 256."""
    if field[0] & 0x80:
        return int.from_bytes(field[1:], "big")
    digits = field.strip(b"\0 ")
    try:
        return int(digits or b"0", 8)
    except ValueError:
        return -1

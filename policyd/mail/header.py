"""The header of a message as octets, for what verifies signatures (RFC 5322 section 2.2)."""

import os
import re
from typing import Final

import msgspec

LONGEST: Final = 1024 * 1024
"""Octets of a header; what signs and verifies reads it several times over."""
MOST_FIELDS: Final = 5000

_END: Final = re.compile(rb"(?:\A|\n)(?=\r?\n)")
_BLANK: Final = re.compile(rb"\r?\n")
_NAME: Final = re.compile(rb"([!-9;-~]+)[ \t]*:")

Field = tuple[bytes, bytes]
"""A field: its name, and all that follows the colon with the line end, folded as it was."""


class Header(msgspec.Struct, frozen=True):
    """
    The fields, the first line's first, and where the body begins.

    `fault` says in a few words what keeps signatures from being verified; it is `too_much` if
    there is more than is read: the fields are then not all. Lines that are of no field are left
    out, and are a fault.
    """

    fields: tuple[Field, ...]
    body_at: int
    fault: str = ""
    too_much: bool = False

    def named(self, name: bytes) -> tuple[bytes, ...]:
        """Give the values of the fields of a name, which is in lower case."""
        return tuple(value for each, value in self.fields if each.lower() == name)


def read_header(descriptor: int) -> Header:
    """Read the header of a message that a descriptor is of; its lines may end in LF alone."""
    data = _beginning(descriptor)
    end = _END.search(data)
    if end is None and len(data) > LONGEST:
        fields, _ = _fields(data[:LONGEST])
        return Header(fields, len(data), f"a header of more than {LONGEST >> 20} MiB", True)
    head, body_at = data, len(data)
    if end is not None:
        head = data[: end.end()]
        blank = _BLANK.match(data, end.end())
        body_at = end.end() if blank is None else blank.end()
    fields, fault = _fields(head)
    if len(fields) > MOST_FIELDS:
        return Header(fields[:MOST_FIELDS], body_at, f"more than {MOST_FIELDS} fields", True)
    return Header(fields, body_at, fault)


def _beginning(descriptor: int) -> bytes:
    """Read what may be header, and the blank line behind it."""
    parts = []
    at = 0
    while at < LONGEST + 4 and (part := os.pread(descriptor, LONGEST + 4 - at, at)):
        parts.append(part)
        at += len(part)
    return b"".join(parts)


def _fields(head: bytes) -> tuple[tuple[Field, ...], str]:
    """Take a header apart; a bare CR is an octet like others, as it is to dkimpy."""
    fields: list[tuple[bytes, list[bytes]]] = []
    fault = ""
    lines = _BLANK.split(head)
    if not lines[-1]:
        lines.pop()
    for number, line in enumerate(lines, 1):
        name = _NAME.match(line)
        if line[:1] in (b" ", b"\t") and fields:
            fields[-1][1].append(line)
        elif name is not None:
            fields.append((name[1], [line[name.end() :]]))
        else:
            fault = fault or f"line {number} of its header is of no field"
    return tuple((name, b"\r\n".join((*parts, b""))) for name, parts in fields), fault

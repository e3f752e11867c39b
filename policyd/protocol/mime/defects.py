"""What can be wrong with a message: the vocabulary of mime_defects()."""

from collections.abc import Mapping
from enum import StrEnum
from typing import Final


class Defect(StrEnum):
    """A word for something that is wrong."""

    MALFORMED_HEADER = "malformed-header"
    DUPLICATE_HEADER = "duplicate-header"
    LARGE_HEADER = "large-header"
    NO_BOUNDARY = "no-boundary"
    BOUNDARY_MISSING = "boundary-missing"
    BOUNDARY_AMBIGUOUS = "boundary-ambiguous"
    TOO_DEEP = "too-deep"
    TOO_MANY_PARTS = "too-many-parts"
    BAD_BASE64 = "bad-base64"
    BAD_ENCODING = "bad-encoding"
    BARE_CR = "bare-cr"
    NUL = "nul"
    TOO_LARGE = "too-large"
    UNREADABLE_ARCHIVE = "unreadable-archive"
    ENCRYPTED_ARCHIVE = "encrypted-archive"
    ARCHIVE_BOMB = "archive-bomb"
    TOO_COSTLY = "too-costly"


SAYS: Final[Mapping[Defect, str]] = {
    Defect.MALFORMED_HEADER: "a line among headers is none, or not for all who read it: it has "
    "no colon, no name, a blank before the colon, or continues nothing",
    Defect.DUPLICATE_HEADER: "a header that may stand once stands twice: From, Date, Subject … "
    "(RFC 5322 section 3.6), or in a part one of MIME",
    Defect.LARGE_HEADER: "the headers of the message or of a part have more than 1 MiB",
    Defect.NO_BOUNDARY: "a multipart names no boundary",
    Defect.BOUNDARY_MISSING: "a multipart does not begin, or does not end",
    Defect.BOUNDARY_AMBIGUOUS: "where parts end depends on who reads: two boundaries in one "
    "header, one boundary for two multiparts, a line that begins with a boundary and goes on",
    Defect.TOO_DEEP: "parts within parts, more than 100 deep",
    Defect.TOO_MANY_PARTS: "more than 1,000 parts, or 20,000 lines that begin with a boundary",
    Defect.BAD_BASE64: "base64 is cut short, goes on behind its end, or holds other characters",
    Defect.BAD_ENCODING: "a Content-Transfer-Encoding is not known, or is one of a multipart or "
    "message (RFC 2045 section 6.4)",
    Defect.BARE_CR: "a CR without LF, which some take for the end of a line",
    Defect.NUL: "an octet 0",
    Defect.TOO_LARGE: "the message has more than 64 MiB; what follows is not looked at",
    Defect.UNREADABLE_ARCHIVE: "an archive is damaged, or does not show its names: cut short, "
    "encrypted as a whole, in a manner that is not known",
    Defect.ENCRYPTED_ARCHIVE: "a zip has files that need a password",
    Defect.ARCHIVE_BOMB: "archives hold more than is looked at: 32 MiB decompressed, 10,000 "
    "names, archives 5 deep within each other",
    Defect.TOO_COSTLY: "reading was given up after 3 seconds",
}
"""What each word means."""

"""
SMTP replies: a basic code, an enhanced code of the same class, and a text.

The class digit is stored once, in the basic code; the enhanced code's is derived from it, so a
mispaired reply cannot be made (RFC 2034 section 4).
"""

import re
from typing import Final, Self

import msgspec

_ENHANCED: Final = re.compile(r"([245])\.(0|[1-9][0-9]{0,2})\.(0|[1-9][0-9]{0,2})", re.ASCII)


class EnhancedCode(msgspec.Struct, frozen=True, order=True):
    """An enhanced status code, class.subject.detail (RFC 3463 section 2)."""

    class_: int
    subject: int
    detail: int

    def __post_init__(self) -> None:
        """Refuse what RFC 3463 section 2 does not allow."""
        if self.class_ not in (2, 4, 5):
            raise ValueError(f"an enhanced code's class is 2, 4 or 5, not {self.class_}")
        if not (0 <= self.subject <= 999 and 0 <= self.detail <= 999):
            raise ValueError("subject and detail of an enhanced code are 0 to 999")

    @classmethod
    def parse(cls, text: str) -> Self:
        """Read `4.2.1`; ValueError for any other form (no blanks, no leading zeros)."""
        found = _ENHANCED.fullmatch(text)
        if found is None:
            raise ValueError(f"{text!r} is not an enhanced code such as 4.2.1 or 5.7.25")
        return cls(*map(int, found.groups()))

    def __str__(self) -> str:
        """Give the form on the wire."""
        return f"{self.class_}.{self.subject}.{self.detail}"


class Reply(msgspec.Struct, frozen=True):
    """
    A reply: `code`, the `subject` and `detail` of its enhanced code, and a text of one line.

    ValueError when the code can take no enhanced code (RFC 2034 section 4: only 2yz, 4yz and 5yz
    do) or when the text is empty or not one line.
    """

    code: int
    subject: int
    detail: int
    text: str

    def __post_init__(self) -> None:
        """Refuse a reply that could not stand on one line with a pair of codes."""
        if self.code // 100 not in (2, 4, 5) or self.code % 100 > 59:
            raise ValueError(f"{self.code} is not a 2yz, 4yz or 5yz reply code")
        if not (0 <= self.subject <= 999 and 0 <= self.detail <= 999):
            raise ValueError("subject and detail of an enhanced code are 0 to 999")
        if not self.text.strip():
            raise ValueError("a reply has a text")
        if "\r" in self.text or "\n" in self.text or "\0" in self.text:
            raise ValueError("a reply's text is one line")

    @property
    def enhanced(self) -> EnhancedCode:
        """The enhanced code, its class taken from the basic code."""
        return EnhancedCode(self.code // 100, self.subject, self.detail)

    def __str__(self) -> str:
        """Give the reply as it is written: `450 4.2.1 text`."""
        return f"{self.code} {self.code // 100}.{self.subject}.{self.detail} {self.text}"

"""Parts of a store's keys, made of what a client could choose."""

from typing import Final

LONGEST: Final = 256
"""Characters of a part; a path of SMTP has at most 256 octets (RFC 5321 section 4.5.3.1.3)."""


def key_part(text: str) -> str:
    """
    Give a text as it may stand in a key: what no store could keep, or would mistake, is `?`.

    Those are the characters that are not printable, so the one that joins the parts of keys, line
    ends and what was no UTF-8 (a lone surrogate). What is longer than LONGEST is cut.
    """
    text = text[:LONGEST]
    if text.isprintable():
        return text
    return "".join(each if each.isprintable() else "?" for each in text)

"""
Texts that can go on the wire, whatever a sender put into them.

A reply's text is one line of printable characters (RFC 5321 section 4.2), US-ASCII unless the
client asked for SMTPUTF8 (RFC 6531 section 3.7.4), which a policy request does not tell. Lengths
are octets of UTF-8, since that is what a line limit counts (RFC 5321 section 4.5.3.1.5).
"""

import unicodedata


def safe(text: str, *, utf8: bool) -> str:
    """
    Make `text` one line of printable characters, without blanks at either end.

    Control characters, line ends and every kind of space become a space; whatever else cannot be
    shown (lone surrogates, invisible format characters, and without `utf8` all that is not ASCII)
    becomes `?`. The result is empty when nothing but blanks was given.
    """
    if not (text.isprintable() and (utf8 or text.isascii())):
        text = "".join(_shown(character, utf8) for character in text)
    return text.strip(" ")


def fit(text: str, room: int, *, tail: str = "") -> str:
    """
    Cut `text`, which `safe` has made, at a character: it and `tail` take at most `room` octets.

    `tail`, such as ` (id 7f3a)`, follows the text and is kept whole. Where it would leave no room
    for a single character of text, the text is worth more and the tail goes. A cut text ends in
    no blank. The result is empty only if not even the first character of `text` fits.
    """
    if octets(text) + octets(tail) <= room:
        return text + tail
    cut = _cut(text, room - octets(tail))
    return cut + tail if cut else _cut(text, room)


def octets(text: str) -> int:
    """Count the octets of `text` in UTF-8; a lone surrogate stands for the one it was read from."""
    return len(text) if text.isascii() else len(text.encode("utf-8", "replace"))


def _cut(text: str, room: int) -> str:
    return text.encode("utf-8", "replace")[: max(room, 0)].decode("utf-8", "ignore").rstrip(" ")


def _shown(character: str, utf8: bool) -> str:
    if character.isprintable() and (utf8 or character.isascii()):
        return character
    kind = unicodedata.category(character)
    return " " if kind == "Cc" or kind.startswith("Z") else "?"

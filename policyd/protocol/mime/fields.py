"""
Header fields of a part and their parameters (RFC 2045 section 5.1, RFC 2231, RFC 2183).

The standard library has all of this, but takes seconds for a hostile field of 64 KiB, and fails
for some; here everything is in linear time and everything has an answer.
"""

import re
from collections.abc import Iterator, Mapping
from email.errors import HeaderParseError
from email.header import decode_header
from typing import Final

from policyd.protocol.text import safe

Fields = Mapping[str, tuple[str, ...]]
"""The values of fields by name in lower case; octets that are not UTF-8 are lone surrogates."""

PLAIN: Final = "text/plain"
_TEXTS: Final = frozenset({PLAIN, "text/html"})
_NAMES: Final = (("content-disposition", "filename"), ("content-type", "name"))
_PIECE: Final = re.compile(r'(?:[^;"]|"(?:[^"\\]|\\.)*+"?)*+', re.DOTALL)
_CONTINUED: Final = re.compile(r"([^*]+)\*(?:([0-9]{1,4})(\*?))?")
_PERCENT: Final = re.compile(rb"%([0-9a-fA-F]{2})")
_FOLD: Final = re.compile(r"\r?\n")
_ESCAPED: Final = re.compile(r"\\(.)", re.DOTALL)
_CHARSET: Final = re.compile(r"[a-z0-9][a-z0-9_.:-]{0,39}", re.IGNORECASE)
_NO_CHARSETS: Final = frozenset({"idna", "punycode", "unicode_escape", "raw_unicode_escape"})
"""Codecs of Python that are no charsets, and take quadratic time."""


def unfolded(value: str) -> str:
    """Give a field's value on one line."""
    return _FOLD.sub("", value).strip()


def first_word(value: str) -> str:
    """Give what stands before the parameters, in lower case."""
    return value.partition(";")[0].strip().lower()


def kind_of(fields: Fields, default: str = PLAIN) -> str:
    """Give the declared type as `type/subtype`, plain text for what is none."""
    values = fields.get("content-type")
    if values is None:
        return default
    word = first_word(values[0])
    return word if word.count("/") == 1 else PLAIN


def parameter(value: str, name: str) -> tuple[str, ...]:
    """
    Give the values of a parameter: each that stands there, then what RFC 2231 makes of the rest.

    One that is well-formed has one; where there are more, programs differ in which they take.
    """
    plain: list[str] = []
    whole: list[str] = []
    pieces: dict[int, tuple[str, bool]] = {}
    for key, given in _parameters(value):
        if key == name:
            plain.append(given)
            continue
        found = _CONTINUED.fullmatch(key)
        if found is None or found[1] != name:
            continue
        if found[2] is None:
            whole.append(_joined([(given, True)]))
        else:
            pieces.setdefault(int(found[2]), (given, bool(found[3])))
    if pieces:
        ordered = [pieces[number] for number in sorted(pieces)]
        whole.append(_joined(ordered))
    return tuple(dict.fromkeys((*plain, *whole)))


def _parameters(value: str) -> Iterator[tuple[str, str]]:
    position = 0
    while True:
        found = _PIECE.match(value, position)
        assert found is not None  # it matches the empty text
        key, equals, given = found[0].partition("=")
        if position and equals:
            yield key.strip().lower(), _unquoted(given.strip())
        position = found.end() + 1
        if position > len(value):
            return


def _unquoted(value: str) -> str:
    if value.startswith('"'):
        value = value[1 : -1 if len(value) > 1 and value.endswith('"') else None]
        return _ESCAPED.sub(r"\1", value)
    return value


def _joined(pieces: list[tuple[str, bool]]) -> str:
    """Join continuations; the first says the charset of all that are encoded."""
    text, encoded = pieces[0]
    charset = ""
    if encoded and text.count("'") >= 2:
        charset, _language, text = text.split("'", 2)
    octets = b"".join(
        _percent(given) if is_encoded else _octets(given)
        for given, is_encoded in ((text, encoded), *pieces[1:])
    )
    return text_of(octets, charset)


def _percent(value: str) -> bytes:
    return _PERCENT.sub(lambda found: bytes([int(found[1], 16)]), _octets(value))


def _octets(value: str) -> bytes:
    return value.encode("utf-8", "surrogateescape")


def text_of(octets: bytes, charset: str) -> str:
    """Decode by a charset that somebody names; by UTF-8 where it is none."""
    name = charset.lower().replace("-", "_")
    if _CHARSET.fullmatch(charset) and name not in _NO_CHARSETS:
        try:
            return octets.decode(charset, "replace")
        except (LookupError, ValueError):
            pass
    return octets.decode("utf-8", "replace")


def names(fields: Fields) -> tuple[str, ...]:
    """Give the file names of a part, safe to show, each once; from every place that has one."""
    found = (
        safe(_word(name), utf8=True)
        for field, key in _NAMES
        for value in fields.get(field, ())
        for name in parameter(value, key)
    )
    return tuple(dict.fromkeys(filter(None, found)))


def described(fields: Fields, kind: str) -> tuple[str, ...]:
    """
    Give the names and the type of a part that is an attachment; nothing for others.

    That is every part, multiparts aside, that has a name, is marked as one, or is neither plain
    text nor HTML.
    """
    if kind.startswith("multipart/"):
        return ()
    found = names(fields)
    marked = any(first_word(v) == "attachment" for v in fields.get("content-disposition", ()))
    return (*found, kind) if found or marked or kind not in _TEXTS else ()


def _word(name: str) -> str:
    # many senders write a name as an encoded word, which RFC 2047 section 5 forbids
    if "=?" not in name:
        return name
    try:
        pieces = decode_header(name)
    except (HeaderParseError, ValueError):
        return name
    word = "".join(
        piece if isinstance(piece, str) else text_of(piece, charset or "utf-8")
        for piece, charset in pieces
    )
    return word or name

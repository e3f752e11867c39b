"""
Fields of a message that pretend to be our own results (RFC 8601 section 5).

What others read our results from stands on top of a message that has come through us; all else that
bears our name is somebody's forgery, and goes. So in doubt does a field that no parser can read and
that seems to name us: whoever reads it anyway may read that. The results of others stay.
"""

import re
from collections import Counter
from collections.abc import Iterable, Sequence
from typing import Final

import authres

from policyd.facts import read
from policyd.mail.results import AUTHENTICATION_RESULTS, RECEIVED_SPF

_SPACE: Final = " \t\r\n"
_WORD: Final = re.compile(r"[^\s()\";]+")
_LONGEST_PARSED: Final = 4_096
"""Characters up to which a field is given to the parser, whose time grows with their square."""
_RECEIVER: Final = re.compile(r"receiver\s*=\s*(\"(?:[^\"\\]|\\.)*\"|[^\s;]+)", re.IGNORECASE)


def forged(headers: Iterable[tuple[str, str]], authserv_id: str) -> Sequence[tuple[str, int]]:
    """
    Give the name of each such field, and the how manyth of its name it is, the last one first.

    `headers` are all of a message's, with the values unfolded or not.
    """
    seen: Counter[str] = Counter()
    found = []
    for name, value in headers:
        kind = name.lower()
        seen[kind] += 1
        judge = _JUDGES.get(kind)
        if judge is not None and judge(value, authserv_id):
            found.append((name, seen[kind]))
    return found[::-1]


def _results_are_ours(value: str, authserv_id: str) -> bool:
    first = _first_word(value)
    if first is not None and _same(first, authserv_id):
        return True
    if first is not None and len(value) <= _LONGEST_PARSED:
        try:
            authres.parse_value(_line(value))
        except Exception:  # noqa: BLE001 -- whatever it stumbles over is no field that it can read
            return _names(value.partition(";")[0], authserv_id)
        return False
    return _names(value if first is None else value.partition(";")[0], authserv_id)


def _spf_is_ours(value: str, authserv_id: str) -> bool:
    return any(_same(_unquoted(each), authserv_id) for each in _RECEIVER.findall(value))


_JUDGES: Final = {
    AUTHENTICATION_RESULTS.lower(): _results_are_ours,
    RECEIVED_SPF.lower(): _spf_is_ours,
}


def _first_word(value: str) -> str | None:
    """Give the authserv-id: a token or a quoted string behind comments; None if there is none."""
    depth, place = 0, 0
    while place < len(value):
        character = value[place]
        if depth and character == "\\":
            place += 1
        elif character == "(":
            depth += 1
        elif depth and character == ")":
            depth -= 1
        elif not depth and character not in _SPACE:
            break
        place += 1
    quoted = re.compile(r'"((?:[^"\\]|\\.)*)"', re.DOTALL).match(value, place)
    if quoted is not None:
        return _unquoted(quoted[0])
    word = _WORD.match(value, place)
    return None if word is None else word[0]


def _unquoted(word: str) -> str:
    if not word.startswith('"'):
        return word
    return re.sub(r"\\(.)", r"\1", word[1:-1], flags=re.DOTALL)


def _same(word: str, authserv_id: str) -> bool:
    """Compare as domains are: without case, spaces and version number, as A-labels."""
    names = {word, word.partition("/")[0]}
    return any(read.domain(_bare(name)) == read.domain(authserv_id) for name in names)


def _bare(text: str) -> str:
    return "".join(text.split()).replace("\\", "").replace('"', "")


def _names(text: str, authserv_id: str) -> bool:
    """Tell whether a name stands anywhere in a text, whatever is strewn in between."""
    wanted = re.escape(authserv_id.lower())
    plain = _bare(re.sub(r"\([^()]*\)", "", text)).lower()
    return any(
        re.search(rf"(?<![\w.-]){wanted}(?![\w-]|\.\w)", each) is not None
        for each in (plain, text.lower(), _bare(text).lower())
    )


def _line(value: str) -> str:
    return value.replace("\r", "").replace("\n", "")

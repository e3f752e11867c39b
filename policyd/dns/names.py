"""Names of domains as they are asked for (RFC 1035 section 2.3.4), and as answers give them."""

import re
from typing import Final

_MOST: Final = 253
"""Octets of a name as text: 255 on the wire."""
_LONGEST_LABEL: Final = 63
_USUAL: Final = re.compile(r"(?:[a-z0-9_*/-]{1,63}\.)*[a-z0-9_*/-]{1,63}", re.IGNORECASE)


def labels(name: str) -> tuple[bytes, ...] | None:
    """Give the labels of a name; None if it cannot be in the DNS. The root has none."""
    if not name:
        return ()
    found = tuple(name.encode("utf-8", "surrogateescape").split(b"."))
    fits = sum(map(len, found)) + len(found) - 1 <= _MOST
    return found if fits and all(0 < len(each) <= _LONGEST_LABEL for each in found) else None


def is_usual(name: str) -> bool:
    """
    Tell whether c-ares asks for a name.

    Its labels have the characters that hosts, service names, reverse zones (RFC 2317) and wildcards
    have. Others come from macros of SPF, into which senders' local parts go.
    """
    return not name or (len(name) <= _MOST and _USUAL.fullmatch(name) is not None)


def read(name: str) -> str:
    """Read a name of an answer: lower case, no final dot, the root empty."""
    return name.lower().removesuffix(".")

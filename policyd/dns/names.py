"""Names of domains as they are asked for (RFC 1035 section 2.3.4), and as answers give them."""

import re
from typing import Final

_MOST: Final = 253
"""Octets of a name as text: 255 on the wire."""
_NAME: Final = re.compile(r"(?:[a-z0-9_*/-]{1,63}\.)*[a-z0-9_*/-]{1,63}", re.IGNORECASE)


def askable(name: str) -> bool:
    """
    Tell whether a name can be asked for.

    Labels have 1 to 63 of the characters that hosts, service names, reverse zones (RFC 2317) and
    wildcards have. The DNS could hold others, but neither c-ares nor Postfix (dns_lookup.c) asks.
    """
    return not name or (len(name) <= _MOST and _NAME.fullmatch(name) is not None)


def read(name: str) -> str:
    """Read a name of an answer: lower case, no final dot, the root empty."""
    return name.lower().removesuffix(".")

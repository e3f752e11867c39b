"""
Durations and sizes as they are written in a configuration: `5m`, `1h30m`, `25 MiB`.

Durations take the units of Postfix's time parameters (postconf(5)): s m h d w. Sizes take the
decimal prefixes of SI and the binary ones of IEC 80000-13.
"""

import re
from itertools import pairwise
from typing import Final

_SECONDS: Final = {"w": 604_800, "d": 86_400, "h": 3_600, "m": 60, "s": 1}
_PART: Final = re.compile(r"([0-9]{1,9}) ?([wdhms])", re.ASCII)
_DURATION: Final = re.compile(rf"{_PART.pattern}(?: ?{_PART.pattern})*", re.ASCII)

_BYTES: Final = {
    "": 1,
    "b": 1,
    "kb": 10**3,
    "mb": 10**6,
    "gb": 10**9,
    "tb": 10**12,
    "kib": 2**10,
    "mib": 2**20,
    "gib": 2**30,
    "tib": 2**40,
}
_SIZE: Final = re.compile(r"([0-9]{1,15})(?: ?([a-z]+))?", re.ASCII | re.IGNORECASE)


def parse_duration(text: str) -> float:
    """Read a duration such as `8s`, `5m` or `1h30m` in seconds; ValueError says what would do."""
    if _DURATION.fullmatch(text) is None:
        raise ValueError(f"{text!r} is no duration; write it as 8s, 5m, 1h30m, 2d or 1w")
    parts = [(int(count), unit) for count, unit in _PART.findall(text)]
    sizes = [_SECONDS[unit] for _, unit in parts]
    if any(left <= right for left, right in pairwise(sizes)):
        raise ValueError(f"the units of {text!r} do not stand from large to small, each once")
    return float(sum(count * _SECONDS[unit] for count, unit in parts))


def parse_size(text: str) -> int:
    """Read a size such as `1024`, `10 MB` or `25 MiB` in bytes; ValueError says what would do."""
    found = _SIZE.fullmatch(text)
    unit = None if found is None else _BYTES.get((found[2] or "").lower())
    if found is None or unit is None:
        raise ValueError(
            f"{text!r} is no size; write it in bytes (1024), in powers of 1000 (10 MB) "
            "or of 1024 (25 MiB)"
        )
    return int(found[1]) * unit

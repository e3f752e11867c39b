"""Decision ids: short, in order of time, unambiguous when read aloud."""

from collections.abc import Callable
from threading import Lock
from typing import Final

_DIGITS: Final = "0123456789ABCDEFGHJKMNPQRSTVWXYZ"  # Crockford's base 32: no I, L, O, U
_PAIRS: Final = tuple(a + b for a in _DIGITS for b in _DIGITS)
_EPOCH: Final = 1577836800  # 2020-01-01; 40 bits of milliseconds from it last until 2054
_TAIL_BITS: Final = 20


class Ids:
    """
    Makes ids such as `6KQ2-81ZM-T3VA`: 40 bits of milliseconds, 20 of chance.

    Ids of one maker rise strictly, also within a millisecond, when the clock steps back, and for
    several threads.
    `randbits` is random.getrandbits or the like: ids are names, not secrets.
    """

    def __init__(self, randbits: Callable[[int], int]) -> None:
        """Start with a source of chance."""
        self._randbits = randbits
        self._last = 0
        self._high = -1
        self._start = ""
        self._lock = Lock()

    def next(self, now: float) -> str:
        """Give the next id at a time in seconds since the epoch."""
        with self._lock:
            value = (int((now - _EPOCH) * 1000) << _TAIL_BITS) | self._randbits(_TAIL_BITS)
            if value <= self._last:
                value = self._last + 1
            self._last = value
            high = value >> _TAIL_BITS
            if high != self._high:  # many ids of a busy time share their millisecond
                self._high = high
                p = _PAIRS
                self._start = (
                    f"{p[high >> 30 & 1023]}{p[high >> 20 & 1023]}-"
                    f"{p[high >> 10 & 1023]}{p[high & 1023]}-"
                )
            return self._start + _PAIRS[value >> 10 & 1023] + _PAIRS[value & 1023]

"""What may be said again and again is said once a minute, with how often it was left out."""

from typing import Final

QUIET: Final = 60.0
"""Seconds in which the same is said once."""
_MOST: Final = 1_000
"""Things remembered; they come from the configuration, so there are hardly as many."""


class Throttle:
    """Says when to speak; `now` is a reading of any clock that does not go back."""

    def __init__(self, quiet: float = QUIET) -> None:
        """Start with nothing said."""
        self._quiet = quiet
        self._said: dict[str, tuple[float, int]] = {}

    def left_out(self, what: str, now: float) -> int | None:
        """Give how often it was left out since it was said last; None if it is to be left out."""
        said = self._said.get(what)
        if said is not None and now - said[0] < self._quiet:
            self._said[what] = (said[0], said[1] + 1)
            return None
        if len(self._said) >= _MOST:
            self._said.clear()
        self._said[what] = (now, 0)
        return 0 if said is None else said[1]

"""How long something takes, in the words of replies."""

from typing import Final

_SECOND: Final = 1_000
_MINUTE: Final = 60
_HOUR: Final = 3_600
_DAY: Final = 86_400


def duration_text(ms: int) -> str:
    """
    Give milliseconds as a configuration would write them: `58s`, `4m58s`, `2h10m`, `3d4h`.

    At most two units, rounded up, so that who waits as long does not come too early. What is 0 or
    less is `0s`.
    """
    seconds = -(-max(ms, 0) // _SECOND)
    if seconds < _HOUR:
        return _two(seconds, "m", _MINUTE, "s", 1)
    minutes = -(-seconds // _MINUTE)
    if minutes * _MINUTE < _DAY:
        return _two(minutes * _MINUTE, "h", _HOUR, "m", _MINUTE)
    hours = -(-seconds // _HOUR)
    return _two(hours * _HOUR, "d", _DAY, "h", _HOUR)


def _two(seconds: int, large: str, of_large: int, small: str, of_small: int) -> str:
    whole, rest = divmod(seconds, of_large)
    parts = f"{whole}{large}" if whole else ""
    if rest or not whole:
        parts += f"{rest // of_small}{small}"
    return parts

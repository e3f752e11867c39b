"""Durations in replies are short, and never too short for who waits as long."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from policyd.checks.wording import duration_text
from policyd.facts.units import parse_duration

SECOND, MINUTE, HOUR, DAY = 1_000, 60_000, 3_600_000, 86_400_000


@pytest.mark.parametrize(
    ("ms", "text"),
    [
        (-1, "0s"),
        (0, "0s"),
        (1, "1s"),
        (58 * SECOND, "58s"),
        (MINUTE - 1, "1m"),
        (MINUTE, "1m"),
        (4 * MINUTE + 58 * SECOND, "4m58s"),
        (5 * MINUTE - 1, "5m"),
        (HOUR - 1, "1h"),
        (2 * HOUR + 10 * MINUTE, "2h10m"),
        (2 * HOUR + 10 * MINUTE + 1, "2h11m"),
        (DAY - 1, "1d"),
        (3 * DAY + 4 * HOUR, "3d4h"),
        (35 * DAY, "35d"),
        (35 * DAY + 1, "35d1h"),
    ],
)
def test_a_duration_has_two_units_at_most_and_is_rounded_up(ms: int, text: str) -> None:
    assert duration_text(ms) == text


@given(st.integers(1, 400 * DAY))
def test_who_waits_as_long_as_the_text_says_is_not_early(ms: int) -> None:
    said = parse_duration(duration_text(ms)) * SECOND
    assert ms <= said < max(ms + SECOND, ms * 1.05)

"""How fast workers that die at once are replaced."""

import pytest

from policyd.serve.crew import delay_after


@pytest.mark.parametrize(
    ("short_lives", "seconds"), [(1, 0.1), (2, 0.2), (3, 0.4), (7, 6.4), (8, 10), (100_000, 10)]
)
def test_each_short_life_doubles_the_delay_up_to_ten_seconds(
    short_lives: int, seconds: float
) -> None:
    assert delay_after(short_lives) == pytest.approx(seconds)

"""Durations and sizes as they are written in a configuration."""

from collections.abc import Callable
from contextlib import suppress

import pytest
from hypothesis import given
from hypothesis import strategies as st

from policyd.facts.units import parse_duration, parse_size


@pytest.mark.parametrize(
    ("text", "seconds"),
    [
        ("8s", 8),
        ("5m", 300),
        ("1h30m", 5400),
        ("1h 30m", 5400),
        ("2 d", 172_800),
        ("1w", 604_800),
        ("1w2d3h4m5s", 788_645),
        ("0s", 0),
    ],
)
def test_a_duration_is_read_in_seconds(text: str, seconds: float) -> None:
    assert parse_duration(text) == seconds


@pytest.mark.parametrize(
    "text",
    ["", "5", "m", "5 minutes", "-5m", "1.5h", "5M", " 5m", "5m\n", "٥m", "1h,30m", "9999999999s"],
)
def test_what_is_no_duration_is_refused_with_the_form_that_would_do(text: str) -> None:
    with pytest.raises(ValueError, match="is no duration; write it as 8s, 5m, 1h30m"):
        parse_duration(text)


@pytest.mark.parametrize("text", ["30m1h", "1h1h", "5s5m"])
def test_units_out_of_order_or_twice_are_refused(text: str) -> None:
    with pytest.raises(ValueError, match="from large to small"):
        parse_duration(text)


@given(st.lists(st.integers(0, 999_999_999), min_size=5, max_size=5))
def test_a_duration_is_the_sum_of_its_parts(counts: list[int]) -> None:
    text = "".join(f"{count}{unit}" for count, unit in zip(counts, "wdhms", strict=True))
    weeks, days, hours, minutes, seconds = counts
    assert parse_duration(text) == (
        (((weeks * 7 + days) * 24 + hours) * 60 + minutes) * 60 + seconds
    )


@pytest.mark.parametrize(
    ("text", "size"),
    [
        ("0", 0),
        ("1024", 1024),
        ("12 B", 12),
        ("10 MB", 10_000_000),
        ("25 MiB", 26_214_400),
        ("25MiB", 26_214_400),
        ("1 kB", 1000),
        ("1 KiB", 1024),
        ("2 gb", 2_000_000_000),
        ("3 TiB", 3_298_534_883_328),
    ],
)
def test_a_size_is_read_in_bytes(text: str, size: int) -> None:
    assert parse_size(text) == size


@pytest.mark.parametrize(
    "text", ["", "MB", "10 M", "10K", "1.5 MiB", "-1", "1e3", " 1", "1 ", "1\n", "10  MB", "٣ MB"]
)
def test_what_is_no_size_is_refused_with_the_forms_that_would_do(text: str) -> None:
    with pytest.raises(ValueError, match=r"is no size; write it in bytes \(1024\)"):
        parse_size(text)


@given(st.text(), st.sampled_from([parse_duration, parse_size]))
def test_any_text_is_read_or_refused_with_its_own_kind_of_error(
    text: str, parse: Callable[[str], float]
) -> None:
    with suppress(ValueError):
        assert parse(text) >= 0

"""What a client chose can stand in a store's key."""

from hypothesis import example, given
from hypothesis import strategies as st

from policyd.checks.keys import LONGEST, key_part


@given(st.text())
@example("a\x1fb")
@example("a\nb")
@example("caf\udce9")
def test_every_store_can_keep_a_part_and_nothing_in_it_joins(text: str) -> None:
    part = key_part(text)
    assert part.isprintable()
    assert part.encode().decode() == part
    assert len(part) == min(len(text), LONGEST)


def test_what_can_be_kept_stays_as_it_is() -> None:
    assert key_part("") == ""
    assert key_part("Jürgen+x@example.org") == "Jürgen+x@example.org"
    assert key_part("a\x1fb\udce9") == "a?b?"


def test_a_part_is_no_longer_than_a_path() -> None:
    assert key_part("a" * 10_000) == "a" * LONGEST

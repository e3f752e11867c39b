"""Texts for the wire: one printable line within its octets, whatever goes in."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from policyd.protocol.text import fit, octets, safe

ANY_TEXT = st.text(st.characters(exclude_categories=()))  # lone surrogates too
TAILS = st.sampled_from(["", " (id 7f3a09)"])


@given(ANY_TEXT, st.booleans())
def test_a_safe_text_is_one_printable_line_without_blanks_around_it(text: str, utf8: bool) -> None:
    made = safe(text, utf8=utf8)
    assert made.isprintable()
    assert made == made.strip()
    assert len(made.splitlines()) <= 1
    made.encode("utf-8")  # no lone surrogate is left


@given(ANY_TEXT)
def test_without_utf8_a_safe_text_is_ascii(text: str) -> None:
    assert safe(text, utf8=False).isascii()


@given(ANY_TEXT, st.booleans())
def test_making_a_text_safe_twice_changes_nothing_more(text: str, utf8: bool) -> None:
    once = safe(text, utf8=utf8)
    assert safe(once, utf8=utf8) == once


@given(st.text(st.characters(min_codepoint=0x20, max_codepoint=0x7E)), st.booleans())
def test_printable_ascii_is_left_as_it_is(text: str, utf8: bool) -> None:
    assert safe(text, utf8=utf8) == text.strip(" ")


@pytest.mark.parametrize(
    ("given", "plain", "utf8"),
    [
        ("550 ok\r\n250 injected", "550 ok  250 injected", "550 ok  250 injected"),
        ("a\0b\x01c\x7fd\te", "a b c d e", "a b c d e"),
        ("caf\u00e9 \u65e5\u672c", "caf? ??", "caf\u00e9 \u65e5\u672c"),
        ("caf\udce9", "caf?", "caf?"),
        ("a\u0085b\u2028c\u2029d\u00a0e\u3000f", "a b c d e f", "a b c d e f"),
        ("a\u202eb\u200bc\ufeffd", "a?b?c?d", "a?b?c?d"),
        ("100% of {quota}", "100% of {quota}", "100% of {quota}"),
        (" \r\n\t ", "", ""),
        ("", "", ""),
    ],
)
def test_what_becomes_of_hostile_text(given: str, plain: str, utf8: str) -> None:
    assert safe(given, utf8=False) == plain
    assert safe(given, utf8=True) == utf8


@given(ANY_TEXT, st.integers(-5, 60), TAILS)
def test_a_fitted_text_takes_no_more_octets_than_there_are(text: str, room: int, tail: str) -> None:
    assert octets(fit(safe(text, utf8=True), room, tail=tail)) <= max(room, 0)


@given(ANY_TEXT, st.integers(0, 60))
def test_a_text_is_cut_between_characters(text: str, room: int) -> None:
    whole = safe(text, utf8=True)
    cut = fit(whole, room)
    assert whole.startswith(cut)
    if cut != whole:
        following = whole[len(cut) :].lstrip(" ")
        blanks = len(whole[len(cut) :]) - len(following)
        assert octets(cut) + blanks + octets(following[:1]) > room  # and no sooner than it must


@given(ANY_TEXT, st.integers(0, 60), st.booleans())
def test_fitting_a_text_twice_changes_nothing_more(text: str, room: int, utf8: bool) -> None:
    once = fit(safe(text, utf8=utf8), room)
    assert fit(once, room) == once


@given(ANY_TEXT, st.integers(20, 60), TAILS)
def test_the_tail_is_kept_when_the_text_is_cut(text: str, room: int, tail: str) -> None:
    assert fit(safe(text, utf8=True), room, tail=tail).endswith(tail)


@given(ANY_TEXT, st.integers(4, 60), TAILS)
def test_a_text_is_never_cut_to_nothing_where_one_character_has_room(
    text: str, room: int, tail: str
) -> None:
    whole = safe(text, utf8=True)
    assert fit(whole, room, tail=tail).strip() or not whole


@pytest.mark.parametrize(
    ("text", "room", "tail", "made"),
    [
        ("No such mailbox", 15, "", "No such mailbox"),
        ("No such mailbox", 14, "", "No such mailbo"),
        ("No such mailbox", 8, "", "No such"),
        ("No such mailbox", 14, " (7f3a)", "No such (7f3a)"),
        ("No such mailbox", 8, " (7f3a)", "N (7f3a)"),
        ("No such mailbox", 7, " (7f3a)", "No such"),
        ("caf\u00e9", 4, "", "caf"),
        ("caf\u00e9", 5, "", "caf\u00e9"),
        ("\u00e9", 1, "", ""),
    ],
)
def test_how_a_text_is_fitted(text: str, room: int, tail: str, made: str) -> None:
    assert fit(text, room, tail=tail) == made


def test_octets_are_those_of_utf8_and_of_what_was_read() -> None:
    assert octets("caf\u00e9 \u65e5") == 9
    assert octets(b"caf\xe9".decode("utf-8", "surrogateescape")) == 4

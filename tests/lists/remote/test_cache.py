"""Answers are kept until they expire, and no more than there is room for."""

from hypothesis import given
from hypothesis import strategies as st

from policyd.lists.remote.cache import Answers

A, B, C = ("a",), ("b",), ("c",)


def test_an_answer_is_fresh_then_stale_then_gone() -> None:
    answers = Answers(fresh=60, stale=10, most=5)
    answers.put(A, False, 100)
    assert answers.fresh(A, 159.9) is False
    assert answers.fresh(A, 160) is None
    assert answers.stale(A, 160) is False
    assert answers.stale(A, 169.9) is False
    assert answers.stale(A, 170) is None
    assert len(answers) == 0


def test_what_was_never_asked_has_no_answer() -> None:
    answers = Answers(fresh=60, stale=10, most=5)
    assert answers.fresh(A, 0) is None
    assert answers.stale(A, 0) is None


def test_a_later_answer_takes_the_place_of_an_earlier_one() -> None:
    answers = Answers(fresh=60, stale=0, most=5)
    answers.put(A, False, 0)
    answers.put(A, True, 30)
    assert answers.fresh(A, 89) is True
    assert len(answers) == 1


def test_the_least_recently_used_goes_when_there_is_no_room() -> None:
    answers = Answers(fresh=60, stale=0, most=2)
    answers.put(A, True, 0)
    answers.put(B, True, 0)
    assert answers.fresh(A, 1)
    answers.put(C, True, 1)
    assert answers.fresh(B, 1) is None
    assert answers.fresh(A, 1)
    assert answers.fresh(C, 1)


def test_without_a_time_to_keep_them_answers_serve_in_need_alone() -> None:
    answers = Answers(fresh=0, stale=5, most=2)
    answers.put(A, True, 0)
    assert answers.fresh(A, 0) is None
    assert answers.stale(A, 0) is True


@given(st.lists(st.tuples(st.sampled_from("abcdefgh"), st.booleans()), max_size=60))
def test_there_are_never_more_than_there_is_room_for_and_the_last_one_is_there(
    puts: list[tuple[str, bool]],
) -> None:
    answers = Answers(fresh=10, stale=0, most=3)
    for now, (key, found) in enumerate(puts):
        answers.put((key,), found, now / 100)
        assert len(answers) <= 3
        assert answers.fresh((key,), now / 100) is found

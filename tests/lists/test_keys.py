"""A trie answers as a set does, whatever is asked."""

import gc
import pickle

from hypothesis import given
from hypothesis import strategies as st

from policyd.lists.keys import FEW, Trie, keys_of
from policyd.lists.networks import Networks, number_of
from policyd.lists.patterns import Patterns

ANY = st.characters()  # lone surrogates too
TEXTS = st.one_of(
    st.text(ANY, max_size=8),
    st.text("ab\0\x1f@.é\udcc3\udca9\ud800", max_size=6),
)


def trie_of(texts: list[str]) -> Trie:
    return Trie.of(text.encode("utf-8", "surrogatepass") for text in texts)


@given(st.lists(TEXTS, max_size=30), st.lists(TEXTS, max_size=30))
def test_a_trie_and_a_frozenset_answer_alike(held: list[str], asked: list[str]) -> None:
    few, many = frozenset(held), trie_of(held)
    assert len(many) == len(few)
    for text in [*held, *asked, *(text[:-1] for text in held), *(text + "\0" for text in held)]:
        assert (text in many) is (text in few)
    for texts in (asked, held, [*asked, *held]):
        assert many.isdisjoint(texts) is few.isdisjoint(texts)


def test_octets_that_no_utf8_has_are_not_taken_for_the_text_they_would_make() -> None:
    assert "é" in trie_of(["é"])
    assert "\udcc3\udca9" not in trie_of(["é"])


@given(st.lists(st.binary(max_size=5), max_size=20), st.binary(max_size=8))
def test_a_trie_knows_what_octets_begin_with(held: list[bytes], asked: bytes) -> None:
    assert Trie.of(held).begins(asked) is asked.startswith(tuple(held))


def test_few_texts_are_a_set_and_many_a_trie_that_counts_each_once() -> None:
    few = keys_of([str(number) for number in range(FEW)])
    assert isinstance(few, frozenset)
    many = keys_of([str(number // 2) for number in range(2 * FEW + 2)])
    assert isinstance(many, Trie)
    assert len(many) == FEW + 1


def test_a_pickled_trie_holds_what_it_held() -> None:
    again = pickle.loads(pickle.dumps(trie_of(["a", "b", ""])))
    assert isinstance(again, Trie)
    assert [text in again for text in ("a", "b", "", "c")] == [True, True, True, False]


@given(st.text(ANY) | st.from_regex(r"[0-9a-f.:]{0,30}", fullmatch=True))
def test_only_an_ip_address_is_in_a_network(text: str) -> None:
    every = Networks([(4, 0, 0), (6, 0, 0)])
    assert every.holds(text) is bool(number_of(text))
    assert not Networks().holds(text)


def test_a_list_is_freed_without_the_garbage_collector() -> None:
    gc.collect()
    gc.disable()
    try:
        made = (Patterns(["a"]), trie_of(["a"]), Networks([(4, 8, 10)] * 20))
        made[0].match("a")
        del made
        assert gc.collect() == 0
    finally:
        gc.enable()

"""Replies and enhanced codes: what can be made, and that a mispaired reply cannot."""

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from policyd.smtp.reply import EnhancedCode, Reply

CLASSES = st.sampled_from((2, 4, 5))
NUMBERS = st.integers(0, 999)
CODES = st.builds(lambda class_, rest: 100 * class_ + rest, CLASSES, st.integers(0, 59))
TEXTS = st.text().filter(
    lambda text: text.strip() != "" and not any(char in text for char in "\r\n\0")
)


@given(CLASSES, NUMBERS, NUMBERS)
def test_an_enhanced_code_is_read_back_as_it_was_written(
    class_: int, subject: int, detail: int
) -> None:
    code = EnhancedCode(class_, subject, detail)
    assert EnhancedCode.parse(str(code)) == code
    assert str(code) == f"{class_}.{subject}.{detail}"


@given(st.text(alphabet="0123456789. -xX+٣", max_size=12))
def test_what_is_read_as_an_enhanced_code_is_written_the_same(text: str) -> None:
    try:
        code = EnhancedCode.parse(text)
    except ValueError:
        return
    assert str(code) == text


@pytest.mark.parametrize(
    "text",
    [
        "",
        "4",
        "4.2",
        "4.2.",
        "4.2.1.0",
        "4.02.1",
        "4.2.01",
        " 4.2.1",
        "4.2.1 ",
        "4.2.1\n",
        "4. 2.1",
        "4,2,1",
        "1.2.1",
        "3.2.1",
        "6.2.1",
        "4.1000.1",
        "4.2.1000",
        "4.-2.1",
        "4.٣.1",
        "x.2.1",
    ],
)
def test_any_other_form_is_no_enhanced_code(text: str) -> None:
    with pytest.raises(ValueError, match="is not an enhanced code"):
        EnhancedCode.parse(text)


@pytest.mark.parametrize(
    ("class_", "subject", "detail"),
    [(3, 0, 0), (0, 0, 0), (6, 0, 0), (4, -1, 0), (4, 0, -1), (4, 1000, 0), (4, 0, 1000)],
)
def test_an_enhanced_code_out_of_range_cannot_be_made(
    class_: int, subject: int, detail: int
) -> None:
    with pytest.raises(ValueError, match="enhanced code"):
        EnhancedCode(class_, subject, detail)


@given(CODES, NUMBERS, NUMBERS, TEXTS)
def test_a_reply_never_shows_differing_classes(
    code: int, subject: int, detail: int, text: str
) -> None:
    reply = Reply(code, subject, detail, text)
    basic, enhanced, shown = str(reply).split(" ", 2)
    assert basic[0] == enhanced[0] == str(reply.enhanced)[0]
    assert reply.enhanced == EnhancedCode(code // 100, subject, detail)
    assert shown == text


@given(st.integers(), st.integers(), st.integers(), st.text())
def test_a_reply_is_one_line_with_a_pair_or_is_not_made(
    code: int, subject: int, detail: int, text: str
) -> None:
    try:
        reply = Reply(code, subject, detail, text)
    except ValueError:
        return
    assert code // 100 in (2, 4, 5)
    assert "\n" not in str(reply)
    assert EnhancedCode.parse(str(reply).split(" ", 2)[1]).class_ == code // 100


@pytest.mark.parametrize("code", [-450, 0, 45, 199, 334, 354, 399, 460, 599, 600, 4500])
def test_a_code_that_takes_no_enhanced_code_makes_no_reply(code: int) -> None:
    with pytest.raises(ValueError, match="is not a 2yz, 4yz or 5yz reply code"):
        Reply(code, 2, 1, "text")


@pytest.mark.parametrize(("subject", "detail"), [(-1, 0), (0, -1), (1000, 0), (0, 1000)])
def test_a_reply_with_a_detail_out_of_range_cannot_be_made(subject: int, detail: int) -> None:
    with pytest.raises(ValueError, match="0 to 999"):
        Reply(450, subject, detail, "text")


@pytest.mark.parametrize("text", ["", " ", "\t"])
def test_a_reply_has_a_text(text: str) -> None:
    with pytest.raises(ValueError, match="has a text"):
        Reply(450, 2, 1, text)


@pytest.mark.parametrize("text", ["a\nb", "a\rb", "a\0b"])
def test_a_reply_is_one_line(text: str) -> None:
    with pytest.raises(ValueError, match="one line"):
        Reply(450, 2, 1, text)


def test_the_class_of_a_reply_s_enhanced_code_follows_its_code() -> None:
    transient = Reply(450, 2, 1, "text")
    final = msgspec.structs.replace(transient, code=550)
    assert str(transient) == "450 4.2.1 text"
    assert str(final) == "550 5.2.1 text"


def test_a_reply_cannot_be_changed() -> None:
    with pytest.raises(AttributeError):
        Reply(450, 2, 1, "text").code = 550  # type: ignore[misc]  # that is the point


def test_enhanced_codes_are_ordered_as_numbers() -> None:
    codes = [EnhancedCode.parse(text) for text in ("5.7.10", "5.7.9", "4.7.30", "5.1.1")]
    assert [str(code) for code in sorted(codes)] == ["4.7.30", "5.1.1", "5.7.9", "5.7.10"]

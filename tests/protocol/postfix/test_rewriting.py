"""Prefixes, lengths and rewritten codes, as a Postfix 3.7.11 was measured to make them."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from policyd.protocol.postfix import (
    LINE_LIMIT,
    asked_at,
    longest_prefix,
    prefix,
    rewrite,
    room,
    usual_list,
)
from policyd.smtp.reply import EnhancedCode
from policyd.smtp.stage import RestrictionList, Stage

KNOWN = {
    "client_name": "localhost",
    "client_address": "127.0.0.1",
    "helo_name": "c.example",
    "sender": "s@a.example",
    "recipient": "r1@d.example",
    "etrn_domain": "d.example",
}

LISTS = st.sampled_from(RestrictionList)
ENHANCED = st.builds(
    EnhancedCode, st.sampled_from((4, 5)), st.integers(0, 999), st.integers(0, 999)
)
CODES = st.sampled_from((421, 450, 451, 521, 550, 556))


@pytest.mark.parametrize(
    ("restriction", "expected"),
    [
        ("client", "<localhost[127.0.0.1]>: Client host rejected: "),
        ("helo", "<c.example>: Helo command rejected: "),
        ("sender", "<s@a.example>: Sender address rejected: "),
        ("relay", "<r1@d.example>: Recipient address rejected: "),
        ("recipient", "<r1@d.example>: Recipient address rejected: "),
        ("data", "<DATA>: Data command rejected: "),
        ("end-of-data", "<END-OF-MESSAGE>: End-of-data rejected: "),
        ("etrn", "<d.example>: Etrn command rejected: "),
    ],
)
def test_each_list_puts_its_own_name_before_the_text(restriction: str, expected: str) -> None:
    assert prefix(RestrictionList(restriction), KNOWN) == expected


def test_the_null_sender_is_an_empty_name() -> None:
    assert prefix(RestrictionList.SENDER, KNOWN | {"sender": ""}) == (
        "<>: Sender address rejected: "
    )


def test_a_name_that_is_not_known_is_empty() -> None:
    assert prefix(RestrictionList.RECIPIENT, {}) == "<>: Recipient address rejected: "
    assert prefix(RestrictionList.CLIENT, {}) == "<[]>: Client host rejected: "


def test_an_ipv6_client_stands_in_its_bare_form() -> None:
    client = {"client_name": "unknown", "client_address": "2001:db8::1"}
    assert prefix(RestrictionList.CLIENT, client) == (
        "<unknown[2001:db8::1]>: Client host rejected: "
    )


@pytest.mark.parametrize(
    ("detail", "recipient", "sender"),
    [
        (0, 0, 0),
        (1, 1, 7),
        (2, 2, 8),
        (3, 3, 7),
        (4, 4, 7),
        (5, 5, 0),
        (6, 6, 7),
        (7, 3, 7),
        (8, 2, 8),
        (9, 0, 0),
        (10, 0, 0),
        (11, 0, 0),
        (999, 0, 0),
    ],
)
@pytest.mark.parametrize("code", [450, 550])
def test_address_codes_follow_the_list_that_asks(
    code: int, detail: int, recipient: int, sender: int
) -> None:
    given, class_ = EnhancedCode(code // 100, 1, detail), code // 100
    for restriction in RestrictionList:
        sent = rewrite(given, code, restriction)
        if restriction in (RestrictionList.RECIPIENT, RestrictionList.RELAY):
            assert sent == EnhancedCode(class_, 1, recipient)
        elif restriction is RestrictionList.SENDER:
            assert sent == EnhancedCode(class_, 1, sender)
        else:
            assert sent == EnhancedCode(class_, 0, 0)


@given(ENHANCED, CODES, LISTS)
def test_the_class_is_always_that_of_the_basic_code(
    enhanced: EnhancedCode, code: int, restriction: RestrictionList
) -> None:
    assert rewrite(enhanced, code, restriction).class_ == code // 100


@given(ENHANCED.filter(lambda code: code.subject != 1), LISTS)
def test_codes_that_are_not_about_addresses_are_kept(
    enhanced: EnhancedCode, restriction: RestrictionList
) -> None:
    assert rewrite(enhanced, enhanced.class_ * 100 + 50, restriction) == enhanced


@given(ENHANCED, CODES, LISTS)
def test_rewriting_what_was_rewritten_changes_nothing_more(
    enhanced: EnhancedCode, code: int, restriction: RestrictionList
) -> None:
    once = rewrite(enhanced, code, restriction)
    assert rewrite(once, code, restriction) == once


@given(
    ENHANCED,
    CODES,
    LISTS.filter(lambda restriction: restriction is not RestrictionList.CLIENT),
    st.text(max_size=100),
)
def test_a_text_that_fills_its_room_fills_the_line(
    enhanced: EnhancedCode, code: int, restriction: RestrictionList, name: str
) -> None:
    attributes = dict.fromkeys(KNOWN, name)
    text = "x" * room(code, enhanced, restriction, attributes)
    line = f"{code} {rewrite(enhanced, code, restriction)} {prefix(restriction, attributes)}{text}"
    assert len(line.encode()) == LINE_LIMIT


def test_the_client_list_leaves_room_for_a_port() -> None:
    enhanced = EnhancedCode(5, 7, 1)
    text = "x" * room(550, enhanced, RestrictionList.CLIENT, KNOWN)
    line = f"550 5.7.1 <localhost[127.0.0.1]:65535>: Client host rejected: {text}"
    assert len(line) == LINE_LIMIT


def test_a_milter_reply_has_no_prefix() -> None:
    assert room(550, EnhancedCode(5, 7, 25), None, KNOWN) == LINE_LIMIT - len("550 5.7.25 ")


def test_there_is_room_for_a_character_behind_the_longest_command() -> None:
    endless = {"recipient": "a" * 2040}
    assert room(550, EnhancedCode(5, 1, 1), RestrictionList.RECIPIENT, endless) == 4


@pytest.mark.parametrize(
    ("restriction", "attributes"),
    [
        ("client", {"client_name": "n" * 255, "client_address": f"{'ffff:' * 6}255.255.255.255"}),
        ("helo", {"helo_name": "h" * 255}),
        ("sender", {"sender": "s" * 254}),
        ("relay", {"recipient": "r" * 254}),
        ("recipient", {"recipient": "r" * 254}),
        ("data", {}),
        ("end-of-data", {}),
        ("etrn", {"etrn_domain": "e" * 255}),
    ],
)
def test_the_longest_prefix_is_that_of_the_longest_names(
    restriction: str, attributes: dict[str, str]
) -> None:
    one = RestrictionList(restriction)
    port = len(":65535") if one is RestrictionList.CLIENT else 0
    assert longest_prefix(one) == len(prefix(one, attributes)) + port


@pytest.mark.parametrize(
    ("stage", "restriction"),
    [
        ("connect", "client"),
        ("helo", "helo"),
        ("mail", "sender"),
        ("rcpt", "recipient"),
        ("data", "data"),
        ("end-of-data", "end-of-data"),
        ("vrfy", "recipient"),
        ("etrn", "etrn"),
    ],
)
def test_each_stage_has_its_usual_list(stage: str, restriction: str) -> None:
    assert usual_list(Stage(stage)) is RestrictionList(restriction)


@pytest.mark.parametrize(
    ("restriction", "at_once", "delayed"),
    [
        ("client", "connect", "rcpt"),
        ("helo", "helo", "rcpt"),
        ("sender", "mail", "rcpt"),
        ("relay", "rcpt", "rcpt"),
        ("recipient", "rcpt", "rcpt"),
        ("data", "data", "data"),
        ("end-of-data", "end-of-data", "end-of-data"),
        ("etrn", "etrn", "etrn"),
    ],
)
def test_delayed_lists_are_asked_at_rcpt(restriction: str, at_once: str, delayed: str) -> None:
    assert asked_at(RestrictionList(restriction), delay_reject=False) is Stage(at_once)
    assert asked_at(RestrictionList(restriction), delay_reject=True) is Stage(delayed)

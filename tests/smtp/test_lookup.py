"""What a query of the catalogue finds."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from policyd.smtp.catalogue import BASIC, COMMANDS, ENHANCED, NAMED, answers
from policyd.smtp.lookup import Found, look_up
from policyd.smtp.stage import Stage


def _codes(found: Found) -> set[int]:
    return {each.code for each in found.basic}


def _enhanced(found: Found) -> set[str]:
    return {str(each) for each in found.enhanced}


def _names(found: Found) -> set[str]:
    return {each.name for each in found.replies}


def test_nothing_asked_finds_the_whole_catalogue() -> None:
    found = look_up("")
    assert len(found.basic) == len(BASIC)
    assert len(found.commands) == sum(map(len, COMMANDS.values()))
    assert len(found.enhanced) == len(ENHANCED)
    assert len(found.replies) == len(NAMED)
    assert found.pair is None


@pytest.mark.parametrize("code", BASIC)
def test_every_basic_code_is_found_with_all_that_holds_it(code: int) -> None:
    found = look_up(str(code))
    assert _codes(found) == {code}
    assert {row.command for row in found.commands} == {
        command for command, codes in COMMANDS.items() if code in codes
    }
    assert _names(found) == {name for name, each in NAMED.items() if each.code == code}
    assert all(code in each.associated.codes for each in found.enhanced)


@pytest.mark.parametrize("entry", ENHANCED.values(), ids=str)
def test_every_enhanced_code_is_found_in_each_class(entry: object) -> None:
    for class_ in "X245x":
        query = str(entry).replace("X", class_)
        assert _enhanced(look_up(query)) == {str(entry)}


@pytest.mark.parametrize("name", NAMED)
def test_every_named_reply_is_found_with_its_codes(name: str) -> None:
    found = look_up(name)
    assert _names(found) == {name}
    assert _codes(found) == {NAMED[name].code}
    assert _enhanced(found) == {f"X.{NAMED[name].subject}.{NAMED[name].detail}"}


@pytest.mark.parametrize("command", COMMANDS)
def test_every_command_is_found_in_either_case(command: str) -> None:
    for query in (command, command.lower(), command.upper()):
        found = look_up(query)
        assert {row.command for row in found.commands} == {command}
        assert _codes(found) == set(COMMANDS[command])


def test_an_enhanced_code_is_found_with_the_basic_codes_that_go_with_it() -> None:
    assert _codes(look_up("5.1.10")) == {556}
    assert _codes(look_up("X.7.24")) == {451, 550}
    assert _codes(look_up("4.7.24")) == {451}


def test_a_subject_finds_all_its_details() -> None:
    assert _enhanced(look_up("X.3")) == {f"X.3.{detail}" for detail in range(7)}
    assert "greylisted" in _names(look_up("4.2"))
    assert "mailbox-disabled" not in _names(look_up("4.2"))


@pytest.mark.parametrize(
    ("query", "name"),
    [
        ("mailbox full", "mailbox-full"),
        ("MAILBOX  Full", "mailbox-full"),
        ("no such user", "mailbox-unknown"),
        ("reject_unknown_sender_domain", "sender-domain-unknown"),
        ("rfc 7505", "recipient-null-mx"),
        ("null mx", "sender-null-mx"),
    ],
)
def test_words_find_a_named_reply(query: str, name: str) -> None:
    assert name in _names(look_up(query))


@pytest.mark.parametrize(
    ("query", "code"),
    [
        ("machine does not accept mail", 521),
        ("password transition", 432),
        ("you have no mail", 453),
        ("nonstandard", 200),
        ("unrecognised", 500),
    ],
)
def test_words_find_a_basic_code_by_any_of_its_wordings(query: str, code: int) -> None:
    assert code in _codes(look_up(query))


def test_words_find_an_enhanced_code_by_any_of_its_wordings() -> None:
    assert _enhanced(look_up("network congestion")) == {"X.4.5"}
    assert "X.4.5" in _enhanced(look_up("mail system congestion"))


@pytest.mark.parametrize("query", ["450 4.2.1", "450  4.2.1", " 450 4.2.1 ", "450-4.2.1"])
def test_a_pair_is_explained_and_judged(query: str) -> None:
    found = look_up(query)
    assert _codes(found) == {450}
    assert _enhanced(found) == {"X.2.1"}
    assert _names(found) == {"mailbox-unavailable", "recipient-rate-limited"}
    assert found.pair is not None
    assert found.pair.findings == ()
    assert found.pair.stages[Stage.RCPT] == "ok"
    assert found.pair.stages[Stage.CONNECT] == "warning"


def test_a_stage_is_not_blamed_for_what_is_said_of_the_pair_anywhere() -> None:
    found = look_up("450 4.7.1")
    assert found.pair is not None
    assert {each.severity for each in found.pair.findings} == {"warning"}
    assert found.pair.stages[Stage.RCPT] == "ok"
    assert found.pair.stages[Stage.MAIL] == "warning"


def test_a_mispaired_pair_is_judged_wrong_at_every_stage() -> None:
    found = look_up("550 4.2.1")
    assert found.pair is not None
    assert [each.severity for each in found.pair.findings] == ["error"]
    assert set(found.pair.stages.values()) == {"error"}


def test_a_pair_may_come_with_its_text() -> None:
    found = look_up("550 5.1.1 please try again later")
    assert found.pair is not None
    assert "try again later" in found.pair.findings[0].what


def test_a_pair_with_a_malformed_enhanced_code_is_judged() -> None:
    found = look_up("550 5.07.1")
    assert found.pair is not None
    assert "not an enhanced code" in found.pair.findings[0].what
    assert _codes(found) == {550}


def test_a_pair_is_judged_for_the_stage_that_is_given() -> None:
    found = look_up("450 4.2.0", Stage.HELO)
    assert found.pair is not None
    assert "does not list 450 at helo" in found.pair.findings[0].what
    assert {row.command for row in found.commands} == {"HELO", "EHLO"}


@pytest.mark.parametrize("stage", Stage)
def test_a_stage_alone_finds_what_may_be_answered_there(stage: Stage) -> None:
    found = look_up("", stage)
    assert set(found.commands) == set(answers(stage))
    assert _codes(found) == {row.code for row in answers(stage)}
    assert _names(found) == {name for name, each in NAMED.items() if stage in each.stages}
    assert found.enhanced == ()


def test_a_command_alone_finds_what_it_is_answered_with() -> None:
    found = look_up("", command="RCPT")
    assert {row.command for row in found.commands} == {"RCPT"}
    assert _codes(found) == set(COMMANDS["RCPT"])
    assert "greylisted" in _names(found)
    assert "spam" not in _names(found)


def test_a_command_narrows_a_query() -> None:
    found = look_up("550", command="EHLO")
    assert [(row.command, row.code) for row in found.commands] == [("EHLO", 550)]
    assert not look_up("432", command="RCPT").basic


@pytest.mark.parametrize("query", ["xyzzy", "599", "4.99.99", "mailbox full of bees"])
def test_what_is_not_there_is_not_found(query: str) -> None:
    assert not look_up(query)


@given(st.text(), st.none() | st.sampled_from(Stage), st.sampled_from(["", *COMMANDS]))
def test_no_query_breaks_the_search(query: str, stage: Stage | None, command: str) -> None:
    assert isinstance(look_up(query, stage, command), Found)


@given(st.from_regex(r"[0-9]{3}[ -][0-9][0-9.]*\.\S*( .+)?"))
def test_no_pair_breaks_the_search(query: str) -> None:
    assert isinstance(look_up(query), Found)

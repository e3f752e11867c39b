"""The catalogue: complete, without doubles, and its named replies right."""

import csv
from importlib.resources import files

import pytest

from policyd.smtp.catalogue import (
    BASIC,
    COMMANDS,
    ENHANCED,
    NAMED,
    Association,
    NamedReply,
    Status,
    UnknownNameError,
    answers,
    named,
)
from policyd.smtp.pairing import Finding, judge, judge_named
from policyd.smtp.reply import Reply
from policyd.smtp.stage import TRANSACTION, Stage


def _rows(name: str) -> list[dict[str | None, str | list[str]]]:
    table = files("policyd.smtp").joinpath("data", name).read_text(encoding="utf-8")
    return list(csv.DictReader(table.splitlines()))


@pytest.mark.parametrize(
    ("name", "count", "keys"),
    [
        ("basic.csv", 47, ("code",)),
        ("commands.csv", 205, ("command", "code")),
        ("enhanced.csv", 81, ("code",)),
        ("replies.csv", 94, ("name",)),
    ],
)
def test_a_table_is_complete_and_has_no_doubles(
    name: str, count: int, keys: tuple[str, ...]
) -> None:
    rows = _rows(name)
    assert len(rows) == count
    assert len({tuple(str(row[key]) for key in keys) for row in rows}) == count
    assert all(None not in row and None not in row.values() for row in rows)


def test_the_catalogue_holds_every_row_of_its_tables() -> None:
    assert len(BASIC) == 47
    assert sum(len(codes) for codes in COMMANDS.values()) == 205
    assert len(ENHANCED) == 81
    assert len(NAMED) == 94


def test_every_row_has_a_source() -> None:
    assert all(each.source for each in BASIC.values())
    assert all(row.source for codes in COMMANDS.values() for row in codes.values())
    assert all(each.reference for each in ENHANCED.values())
    assert all(each.source for each in NAMED.values())


def test_every_command_s_code_is_a_basic_code() -> None:
    assert {code for codes in COMMANDS.values() for code in codes} <= set(BASIC)


def test_every_basic_code_beside_an_enhanced_code_is_in_the_catalogue() -> None:
    assert {code for each in ENHANCED.values() for code in each.associated.codes} <= set(BASIC)


def test_a_code_s_own_enhanced_codes_are_registered_and_of_its_class() -> None:
    for basic in BASIC.values():
        for enhanced in filter(None, (basic.default, *basic.others)):
            assert enhanced.class_ == basic.code // 100
            assert ENHANCED[enhanced.subject, enhanced.detail].name


def test_only_intermediate_replies_go_without_an_enhanced_code() -> None:
    assert {code for code, each in BASIC.items() if each.default is None} == {334, 353, 354, 355}


def test_only_one_registered_code_is_without_a_name() -> None:
    assert [key for key, each in ENHANCED.items() if not each.name] == [(6, 10)]
    assert ENHANCED[6, 10].status is Status.OBSOLETE


@pytest.mark.parametrize(
    ("cell", "allowed", "refused"),
    [
        ("451, 550", {451, 550}, {450, 554}),
        ("250 or 251", {250, 251}, {252, 550}),
        ("451/550", {451, 550}, {450, 554}),
        ("5XX", {550, 599}, {450, 250}),
        ("450, 550 (other 4XX or 5XX codes are allowed)", {450, 452, 554}, {250}),
        ("Any", {250, 450, 550}, set()),
        ("Not given", {250, 450, 550}, set()),
        (".", {250, 450, 550}, set()),
        ("", {250, 450, 550}, set()),
    ],
)
def test_the_registry_s_cell_of_basic_codes_is_understood(
    cell: str, allowed: set[int], refused: set[int]
) -> None:
    association = Association.parse(cell)
    assert {code for code in allowed | refused if association.allows(code)} == allowed


def test_each_command_stage_can_be_answered_with_421_500_and_501() -> None:
    for stage in Stage:
        codes = {row.code for row in answers(stage)}
        assert 421 in codes
        assert {500, 501} <= codes or stage in {Stage.CONNECT, Stage.END_OF_DATA}


def test_an_entry_cannot_be_changed() -> None:
    with pytest.raises(AttributeError):
        BASIC[450].code = 550  # type: ignore[misc]  # that is the point
    with pytest.raises(TypeError):
        BASIC[450] = BASIC[550]  # type: ignore[index]  # likewise


# Named replies

# A finding is known by words of its `what`.
OTHER_CODES = "the registry names other basic codes"
LITTLE_USE = "of a class of little use"
NOT_LISTED = "does not list"

# The pair is Postfix's, or everybody's, or an RFC's own; the named reply's note says whose.
WARNED: dict[str, set[str]] = {
    "refused": {NOT_LISTED},
    "deferred": {OTHER_CODES, LITTLE_USE, NOT_LISTED},
    "greylisted-at-connect": {OTHER_CODES},
    "too-many-connections": {OTHER_CODES},
    "too-many-errors": {OTHER_CODES},
    "rate-limited": {OTHER_CODES, LITTLE_USE, NOT_LISTED},
    "login-limited": {OTHER_CODES, LITTLE_USE, NOT_LISTED},
    "mail-flood": {NOT_LISTED},
    "shutting-down": {OTHER_CODES},
    "overloaded": {OTHER_CODES},
    "busy": {OTHER_CODES},
    "internal-error": {NOT_LISTED},
    "configuration-error": {NOT_LISTED},
    "recipient-unverified": {OTHER_CODES, LITTLE_USE},
    "recipient-domain-deferred": {LITTLE_USE},
    "recipient-not-qualified": {OTHER_CODES, NOT_LISTED},
    "mailbox-name-not-allowed": {OTHER_CODES},
    "mailbox-full": {OTHER_CODES},
    "mailbox-full-final": {LITTLE_USE},
    "too-many-recipients": {OTHER_CODES},
    "too-many-recipients-final": {OTHER_CODES},
    "multi-recipient-bounce": {OTHER_CODES, NOT_LISTED},
    "sender-not-qualified": {OTHER_CODES, NOT_LISTED},
    "sender-domain-unknown": {OTHER_CODES},
    "sender-unverified": {NOT_LISTED},
    "tls-required-deferred": {OTHER_CODES, LITTLE_USE, NOT_LISTED},
    "priority-too-low": {NOT_LISTED},
    "helo-not-qualified": {OTHER_CODES, NOT_LISTED},
    "helo-unknown": {OTHER_CODES, LITTLE_USE, NOT_LISTED},
    "no-reverse-dns-deferred": {OTHER_CODES, NOT_LISTED},
    "reverse-dns-lookup-failed": {OTHER_CODES},
    "dnsbl-listed": {OTHER_CODES, NOT_LISTED},
    "client-blocked": {OTHER_CODES, NOT_LISTED},
    "dmarc-temperror": {LITTLE_USE},
    "mail-loop": {LITTLE_USE},
    "utf8-header-not-transferable": {OTHER_CODES},
}


def _judged(reply: NamedReply) -> tuple[Finding, ...]:
    stages = [stage for stage in Stage if stage in reply.stages]
    return judge(reply.code, str(reply.enhanced), reply.text, stages)


@pytest.mark.parametrize("reply", NAMED.values(), ids=NAMED)
def test_a_named_reply_is_a_registered_pair_and_legal_at_its_stages(reply: NamedReply) -> None:
    assert ENHANCED[reply.subject, reply.detail].status is Status.CURRENT
    assert BASIC[reply.code].status is Status.CURRENT
    assert reply.stages
    assert [each for each in _judged(reply) if each.severity == "error"] == []


@pytest.mark.parametrize("reply", NAMED.values(), ids=NAMED)
def test_a_named_reply_is_warned_of_only_where_its_note_says_why(reply: NamedReply) -> None:
    kinds = (OTHER_CODES, LITTLE_USE, NOT_LISTED)
    warned = {kind for each in _judged(reply) for kind in kinds if kind in each.what}
    assert warned == WARNED.get(reply.name, set())
    assert all(any(kind in each.what for kind in kinds) for each in _judged(reply))
    assert reply.note or not warned


@pytest.mark.parametrize("reply", NAMED.values(), ids=NAMED)
def test_a_named_reply_can_be_sent_as_it_stands(reply: NamedReply) -> None:
    assert reply.reply == Reply(reply.code, reply.subject, reply.detail, reply.text)
    assert str(reply.reply).startswith(f"{reply.code} {reply.code // 100}.")
    assert reply.text.isascii()
    assert "{" not in reply.text
    assert len(reply.text) <= 100


@pytest.mark.parametrize("reply", NAMED.values(), ids=NAMED)
def test_a_named_reply_used_where_it_belongs_is_not_found_fault_with(reply: NamedReply) -> None:
    assert judge_named(reply, reply.text, reply.stages) == ()


def test_a_policy_can_say_most_that_a_postmaster_needs() -> None:
    assert len(NAMED) >= 60
    pairs = {name: f"{each.code} {each.enhanced}" for name, each in NAMED.items()}
    assert pairs["greylisted"] == "450 4.2.0"
    assert pairs["mailbox-unknown"] == "550 5.1.1"
    assert pairs["mailbox-full"] == "452 4.2.2"
    assert pairs["mailbox-full-final"] == "552 5.2.2"
    assert pairs["sender-domain-unknown"] == "550 5.1.8"
    assert pairs["spf-fail"] == "550 5.7.23"
    assert pairs["no-reverse-dns"] == "550 5.7.25"
    assert pairs["rate-limited"] == "450 4.7.1"
    assert {stage for each in NAMED.values() for stage in each.stages} == set(Stage)
    assert all(any(stage in each.stages for each in NAMED.values()) for stage in TRANSACTION)


def test_a_name_is_found() -> None:
    assert named("greylisted") is NAMED["greylisted"]


@pytest.mark.parametrize(
    ("name", "nearest"),
    [
        ("greylistd", "greylisted"),
        ("mailbox-unkown", "mailbox-unknown"),
        ("spf_fail", "spf-fail"),
        ("xyzzy", ""),
        ("", ""),
    ],
)
def test_a_misspelt_name_is_answered_with_the_nearest(name: str, nearest: str) -> None:
    with pytest.raises(LookupError) as raised:
        named(name)
    assert isinstance(raised.value, UnknownNameError)
    assert raised.value.nearest == nearest
    assert (f'did you mean "{nearest}"' in str(raised.value)) == bool(nearest)


def test_names_are_words_joined_by_hyphens() -> None:
    assert all(name.replace("-", "").isalnum() and name == name.lower() for name in NAMED)

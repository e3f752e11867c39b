"""A policy handed to another process decides there as it does here, and goes when it is let go."""

import gc
import multiprocessing
import pickletools
import weakref
from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import ProcessPoolExecutor
from types import FunctionType
from typing import cast

import pytest
from hypothesis import given, settings

from policyd.checks.interface import Answer, Check
from policyd.facts.table import Attributes
from policyd.lists.named import NamedList
from policyd.lists.source import Kind
from policyd.rules.parcel import pack, unpack
from policyd.rules.policy import Policy, UntraceableError
from policyd.rules.source import RuleSource
from policyd.smtp.stage import FrontEnd, Stage
from tests.rules.answers import Request, answers, answers_of_parcel, everything
from tests.rules.drawn import REQUESTS, SOURCES
from tests.rules.world import (
    ALL_MILTER,
    CHECKS,
    LISTS,
    PLAIN_OWNERS,
    Recorder,
    compiled,
    named,
    rule,
)

Ask = Callable[[bytes, Sequence[Request]], list[object]]
RCPT, END = Stage.RCPT, Stage.END_OF_DATA

CONDITIONS = {
    RCPT: (
        "",
        "sender == 's@example.net'",
        "sender in mailboxes or sender not in ['a@x', 'b@x']",
        "sender in ['s@example.net']",
        "recipient_domain in local_domains and sender_domain not in ['example.net', '.x']",
        "client_address in ['192.0.2.0/24', '2001:db8::/32']",
        "client_address not in partners",
        "sasl_username in ['jo', 'mo']",
        "helo_name in bad_helo",
        "matches(client_name, '^dyn[0-9]+')",
        "size > '10 MiB' or (size + 1) // 2 % 3 == 1",
        "now > '22:30' and now < '2030-01-01T00:00'",
        "helo_is_address",
        "count(3) > 2 and needy() and yes()",
        "fails()",
        "fails_loudly()",
        "score >= 1",
    ),
    END: (
        "any_in(recipients, mailboxes) and not all_in(recipients, mailboxes)",
        "header('Subject') == 'hello'",
        "header_count('Subject') == 1",
        "utf8_headers",
        "any_in(attachments, ['application/zip'])",
        "body_size > 3",
        "local_submission",
    ),
}
THENS = ("score 1", "450 4.7.1 Wait, {sender}", "550 5.7.1 No", "pass", "accept", "warn x {size}")
REQUEST: Request = {
    "client_address": "192.0.2.1",
    "client_name": "dyn12.example.net",
    "helo_name": "localhost",
    "sender": "s@example.net",
    "recipient": "a@example.org",
    "recipients": ("a@example.org", "x@y"),
    "headers": (("Subject", "hello"),),
    "sasl_username": "jo",
    "size": "20000000",
    "body_size": 4,
    "utf8_headers": True,
    "attachments": ("a.zip", "application/zip"),
}
OTHER: Request = {"client_address": "2001:db8::1", "helo_name": "[::1]", "sender": ""}
TABLE = [
    (stage, when, then) for stage, whens in CONDITIONS.items() for when in whens for then in THENS
]


@pytest.fixture(scope="module")
def elsewhere() -> Iterator[Ask]:
    """Ask a packed policy in a process that has compiled none."""
    spawn = multiprocessing.get_context("spawn")
    with ProcessPoolExecutor(max_workers=1, mp_context=spawn) as pool:
        yield lambda octets, requests: pool.submit(answers_of_parcel, octets, requests).result()


def table_policy(stage: Stage, when: str, then: str) -> Policy:
    local = when == "local_submission"
    decides = rule("decides", stage, "550 5.7.1 No" if local else then, when)
    if not when and not then.startswith("score"):
        return compiled(decides)
    return compiled(decides, rule("else", stage, "550 5.7.2 Nobody else did"))


@pytest.fixture
def without_collector() -> Iterator[None]:
    gc.collect()
    gc.disable()
    yield
    gc.enable()


@given(SOURCES, REQUESTS)
def test_an_unpacked_policy_answers_as_the_one_that_was_packed(
    sources: list[RuleSource], request_: dict[str, object]
) -> None:
    policy = compiled(*sources)
    assert answers_of_parcel(pack(policy), [request_]) == answers(policy, [request_])


@settings(deadline=None, max_examples=25)
@given(SOURCES, REQUESTS)
def test_it_does_so_in_another_process(
    elsewhere: Ask,
    sources: list[RuleSource],
    request_: dict[str, object],
) -> None:
    policy = compiled(*sources)
    assert elsewhere(pack(policy), [request_]) == answers(policy, [request_])


@pytest.mark.parametrize(("stage", "when", "then"), TABLE)
def test_every_kind_of_condition_and_outcome_travels(stage: Stage, when: str, then: str) -> None:
    policy = table_policy(stage, when, then)
    requests = [REQUEST, OTHER, {**REQUEST, "local_submission": True}, {}]
    assert answers_of_parcel(pack(policy), requests) == answers(policy, requests)


def test_all_of_them_do_so_in_another_process(
    elsewhere: Ask,
) -> None:
    policy = compiled(
        *(
            rule(f"r{i}", stage, "550 5.7.1 No" if when == "local_submission" else "score 1", when)
            for i, (stage, when, then) in enumerate(TABLE)
            if then == "pass"
        )
    )
    found = elsewhere(pack(policy), [REQUEST, OTHER, {}])
    assert found == answers(policy, [REQUEST, OTHER, {}])


def test_a_question_with_remote_checks_stays_one() -> None:
    policy = compiled(rule("r", RCPT, "550 5.7.1 No", "sender == 's@example.net' and far()"))
    unpacked = unpack(pack(policy), LISTS, CHECKS)
    assert unpacked.delegation[RCPT].remote
    assert answers(unpacked, [REQUEST, OTHER]) == answers(policy, [REQUEST, OTHER])


def test_all_that_is_said_about_questions_travels() -> None:
    policy = compiled(
        rule("a", Stage.MAIL, "accept", "sender in mailboxes"),
        rule("r", (RCPT, END), "450 4.7.1 Wait, {sender}", "fails_loudly()"),
        owners=PLAIN_OWNERS | {Stage.MAIL: FrontEnd.MILTER},
    )
    unpacked = unpack(pack(policy), LISTS, CHECKS)
    assert unpacked.owners == policy.owners
    assert unpacked.hash == policy.hash
    assert unpacked.ruled == policy.ruled == {Stage.MAIL, RCPT, END}
    assert set(unpacked.milter) == set(policy.milter)
    for here, there in zip(policy.questions(), unpacked.questions(), strict=True):
        assert (there.front_end, there.stages, there.remote) == (
            here.front_end,
            here.stages,
            here.remote,
        )
        assert there.facts == here.facts
        assert list(map(everything, there.matches)) == list(map(everything, here.matches))


def test_what_comes_out_is_one_of_the_question_s_own_matches() -> None:
    policy = unpack(pack(compiled(rule("r", RCPT, "550 5.7.1 No"))), LISTS, CHECKS)
    for question in (policy.delegation[RCPT], policy.at_rcpt):
        assert question is not None
        assert question.matches == policy.delegation[RCPT].matches, "the same object in both"


def test_a_written_out_list_is_itself_at_the_other_end() -> None:
    policy = compiled(rule("r", RCPT, "550 5.7.1 No", "sender in ['s@example.net']"))
    asked = cast("FunctionType", unpack(pack(policy), LISTS, CHECKS).delegation[RCPT].ask)
    (held,) = (value for value in asked.__globals__.values() if isinstance(value, NamedList))
    assert held.kinds == {Kind.ADDRESSES}
    assert held.holds_mail("s+tag@example.net"), "its delimiters came along"
    assert not held.holds_mail("t@example.net")


class TestWhatTheReceiverHas:
    """Named lists and checks are the receiving process's own."""

    POLICY = compiled(rule("r", RCPT, "550 5.7.1 No", "sender in mailboxes and yes()"))

    def test_its_lists_and_checks_are_asked(self) -> None:
        asked = []

        def ask(attributes: Attributes) -> Answer:
            asked.append(attributes)
            return Answer(False, "false")

        lists = {"mailboxes": named("mailboxes", "addresses", "s@example.net")}
        policy = unpack(pack(self.POLICY), lists, {"yes": Check("yes", ask)})
        assert policy.delegation[RCPT].ask(REQUEST, Recorder()) is None
        assert asked == [REQUEST], "the sender is in this list only, so the check was asked"

    def test_a_list_that_is_read_again_is_seen(self) -> None:
        lists = {"mailboxes": named("mailboxes", "addresses", "a@example.org")}
        policy = unpack(pack(self.POLICY), lists, CHECKS)
        before = answers(policy, [REQUEST])
        lists["mailboxes"].snapshot = named("mailboxes", "addresses", "s@example.net").snapshot
        assert answers(policy, [REQUEST]) != before

    @pytest.mark.parametrize(
        ("lists", "checks", "missing"),
        [({}, CHECKS, "list mailboxes"), (LISTS, {}, "check yes")],
    )
    def test_what_it_lacks_is_told_by_name(
        self, lists: Mapping[str, NamedList], checks: Mapping[str, Check], missing: str
    ) -> None:
        with pytest.raises(LookupError, match=missing):
            unpack(pack(self.POLICY), lists, checks)


class TestWhatStaysBehind:
    SENT = pack(
        compiled(rule("r", RCPT, "550 5.7.1 No", "sender   in   mailboxes  and 1 < count( 77 )"))
    )

    def test_no_tree_of_a_rule_travels(self) -> None:
        words = [argument for _, argument, _ in pickletools.genops(self.SENT)]
        modules = {word for word in words if isinstance(word, str) and word.startswith("policyd.")}
        assert "policyd.rules.policy" in modules
        assert not modules & {"policyd.rules.nodes", "policyd.rules.source"}
        assert b"count( 77 )" not in self.SENT
        assert unpack(self.SENT, LISTS, CHECKS).rules == ()

    def test_no_entry_of_a_named_list_travels(self) -> None:
        assert b"b@example.org" not in self.SENT

    def test_so_it_cannot_be_traced_and_says_so(self) -> None:
        question = unpack(self.SENT, LISTS, CHECKS).delegation[RCPT]
        with pytest.raises(UntraceableError, match="compile it here"):
            question.trace()


class TestLettingGo:
    """No garbage collector is needed, which walks a whole heap while everybody waits."""

    SOURCES = tuple(
        rule(f"{stage} {i}", stage, "550 5.7.1 No" if i % 2 or stage is END else "score 1", when)
        for stage, whens in CONDITIONS.items()
        for i, when in enumerate(whens[1:])
    )

    @pytest.mark.parametrize("owners", [PLAIN_OWNERS, ALL_MILTER])
    @pytest.mark.usefixtures("without_collector")
    def test_a_compiled_policy_is_gone_at_once(self, owners: Mapping[Stage, FrontEnd]) -> None:
        policy = compiled(*self.SOURCES, owners=owners)
        traced = [question.trace() for question in policy.questions()]
        gc.collect()  # the parser leaves garbage, which is nobody's policy
        functions = [weakref.ref(question.ask) for question in policy.questions()]
        answers(policy, [REQUEST])
        del policy, traced
        assert [function() for function in functions] == [None] * len(functions)
        assert gc.collect() == 0

    @pytest.mark.usefixtures("without_collector")
    def test_an_unpacked_policy_is_gone_at_once(self) -> None:
        octets = pack(compiled(*self.SOURCES))
        gc.collect()
        policy = unpack(octets, LISTS, CHECKS)
        functions = [weakref.ref(question.ask) for question in policy.questions()]
        answers(policy, [REQUEST])
        del policy
        assert [function() for function in functions] == [None] * len(functions)
        assert gc.collect() == 0

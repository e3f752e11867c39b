"""Conditions: what they may say, what is refused, and what they mean."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from policyd.facts.table import FACTS
from policyd.rules.expression import parse
from policyd.rules.grammar import LONGEST
from policyd.smtp.stage import FrontEnd, Stage
from tests.rules.world import ALL_MILTER, ALL_POLICY, PLAIN_OWNERS, Recorder, compiled, rule, scope

RCPT = Stage.RCPT
REQUEST = {
    "client_address": "192.0.2.1",
    "client_name": "mx.example.net",
    "helo_name": "LOCALHOST.",
    "sender": "Jo@Example.Net",
    "recipient": "a@example.org",
    "size": "5242880",
    "sasl_username": "jo@example.net",
    "encryption_keysize": "256",
}


def holds(when: str, attributes: dict[str, object] | None = None, stage: Stage = RCPT) -> bool:
    owners = ALL_MILTER if stage is Stage.END_OF_DATA else ALL_POLICY
    policy = compiled(rule("r", stage, "550 5.7.1 no", when), owners=owners)
    question = policy.milter[stage] if stage is Stage.END_OF_DATA else policy.delegation[stage]
    found = question.ask({**REQUEST, **(attributes or {})}, Recorder())
    return found is not None


TRUE = [
    "client_address == '192.0.2.1'",
    "client_address == '::ffff:192.0.2.1'",
    "client_address in '192.0.2.1'",
    "client_address in partners",
    "'192.0.2.1' == client_address",
    "sender == 'jo@EXAMPLE.net'",
    "sender in ['jo@example.net', 'x@y']",
    "sender_domain == 'example.NET.'",
    "sender_local == 'jo'",
    "recipient_domain in local_domains and recipient in mailboxes",
    "not recipient not in mailboxes",
    "helo_name == 'localhost'",
    "helo_name in bad_helo",
    "size > '4 MiB' and size < '6 MiB'",
    "size >= '5 MiB' and size <= 5242880",
    "1 < size / 1024 / 1024 <= 5",
    "encryption_keysize - 128 == 128",
    "-encryption_keysize < 0",
    "sasl_username == sender",
    "sasl_username in ['jo@example.net']",
    "'example' in sasl_username",
    "encryption_keysize in [128, 256]",
    "yes()",
    "count(3) == 3",
    "no() or yes()",
    "matches(client_name, '^mx\\.[a-z\\d]+')",
    "matches(sender, 'EXAMPLE')",
    "True and not False",
    "now > '2026-12-01'",
    "now >= '2026-12-01T12:00'",
    "client_name != 'unknown'",
    "protocol_state == ''",
    "(size > 1\nand\nsize > 2)",
]
FALSE = [
    "client_address != '192.0.2.1'",
    "client_address in ['198.51.100.1']",
    "sender == ''",
    "no()",
    "not yes()",
    "size % 0 > 1",
    "size // 0 >= 0",
    "now < '2026-12-01'",
    "'nothing' in sasl_username",
]


@pytest.mark.parametrize("when", TRUE)
def test_is_true(when: str) -> None:
    assert holds(when)


@pytest.mark.parametrize("when", FALSE)
def test_is_false(when: str) -> None:
    assert not holds(when)


@pytest.mark.parametrize(
    "when",
    [
        "client_address == '192.0.2.1'",
        "client_address != '192.0.2.1'",
        "client_address in partners",
        "client_address not in partners",
        "client_address not in '10.0.0.0/8'",
        "client_address == server_address",
        "client_address != server_address",
    ],
)
def test_every_comparison_with_an_unknown_address_is_false(when: str) -> None:
    assert not holds(when, {"client_address": "unknown", "server_address": "192.0.2.9"})


def test_the_time_of_day_is_local() -> None:
    assert holds("now >= '00:00' and now <= '23:59' or now > '23:59'")
    assert not holds("now < '00:00'")


@pytest.mark.parametrize(
    ("when", "recipients", "expected"),
    [
        ("any_in(recipients, mailboxes)", ("x@y", "A@example.org"), True),
        ("any_in(recipients, mailboxes)", ("x@y",), False),
        ("all_in(recipients, mailboxes)", ("b@example.org", "a@example.org"), True),
        ("all_in(recipients, mailboxes)", ("b@example.org", "x@y"), False),
        ("all_in(recipients, mailboxes)", (), False),
    ],
)
def test_several_recipients(when: str, recipients: tuple[str, ...], expected: bool) -> None:
    assert holds(when, {"recipients": recipients}, Stage.END_OF_DATA) is expected


def test_headers_of_one_name_are_joined_by_newlines() -> None:
    headers = (("Subject", "one"), ("X", "y"), ("SUBJECT", "two"))
    assert holds("header('subject') == 'one\\ntwo'", {"headers": headers}, Stage.END_OF_DATA)
    assert holds("header('Nothing') == ''", {"headers": headers}, Stage.END_OF_DATA)
    assert (
        holds("any_in(headers, bad_helo)", {"headers": (("a", "b"),)}, Stage.END_OF_DATA) is False
    )


@pytest.mark.parametrize(
    ("when", "holding"),
    [
        ("header_count('from') == 2", True),
        ("header_count('To') == 0 and header_count('Subject') == 1", True),
        ("header_count('From') > 2", False),
        ("'a.zip' in attachments", True),
        ("'zip' in attachments", False),
        ("'b.zip' not in attachments", True),
        ("any_in(attachments, ['x', 'Application/ZIP'])", True),
        ("all_in(attachments, ['a.zip'])", False),
        ("utf8_headers", True),
        ("not utf8_headers", False),
    ],
)
def test_content_is_looked_at_by_number_and_name(when: str, holding: bool) -> None:
    content: dict[str, object] = {
        "headers": (("From", "a"), ("Subject", "b"), ("FROM", "c")),
        "attachments": ("a.zip", "application/zip"),
        "utf8_headers": True,
    }
    assert holds(when, content, Stage.END_OF_DATA) is holding


@pytest.mark.parametrize(
    "when",
    [
        "message",
        "message == ''",
        "message != message",
        "'a' in message",
        "message in mailboxes",
        "message in ['a']",
        "any_in(message, mailboxes)",
        "matches(message, 'a')",
        "count(message) == 1",
        "not message",
        "message + 1 > 2",
    ],
)
def test_the_message_is_for_checks_alone(when: str) -> None:
    found, faults = parse(when, scope(Stage.END_OF_DATA, ALL_MILTER))
    assert found is None
    assert {fault.what for fault in faults} == {"message is for checks to read"}


def test_no_header_is_there_where_nothing_is_known() -> None:
    assert holds("header_count('From') == 0 and not utf8_headers", {}, Stage.END_OF_DATA)


REFUSED = [
    ("sender.domain == 'x'", "a dot after a name"),
    ("sender[0] == 'x'", "a subscript"),
    ("[x for x in sender]", "a comprehension"),
    ("(lambda: 1)()", "a call of"),
    ("size ** 2 > 1", "the operator in size ** 2"),
    ("f'{sender}' == 'x'", "a string with f before it"),
    ("sender == 'a' 'b'", "two strings side by side"),
    ("sender == b'a'", "a string with b before it"),
    ("sender == '''a'''", "a triple-quoted string"),
    ("sender == 'a' # why", "a comment inside a condition"),
    ("(x := sender) == 'a@b'", ":= is not part"),
    ("sender is 'a'", "`is`"),
    ("sender if yes() else no()", "if ... else"),
    ("sender", "sender is a mail address, not a truth value"),
    ("size and yes()", "size is a size, not a truth value"),
    ("1", "not a truth value"),
    ("sendr == 'a@b'", "there is no fact sendr"),
    ("true", "there is no fact true"),
    ("mailboxes == 'a@b'", "mailboxes is a list"),
    ("yes == 1", "yes is called"),
    ("sender in mailbox", "there is no list mailbox"),
    ("sender in local_domains", "sender is a mail address, and the list local_domains has domains"),
    ("size in mailboxes", "a size cannot be in a list"),
    ("sender in []", "an empty list"),
    ("sender in [recipient]", "recipient in a list"),
    ("sender < 'a@b'", "has no order"),
    ("sender == 5", "cannot be compared"),
    ("size > 'big'", ""),
    ("client_address == '192.0.2.0/24'", "is no IP address"),
    ("client_address == sender", "compares an IP address with a mail address"),
    ("'a' == 'a'", "compares two literals"),
    ("yes() == True", "compares truth values"),
    ("greylistd()", "there is no check greylistd()"),
    ("count()", "count() takes 1 arguments, not 0"),
    ("count(sender) == 1", "count() takes a number, and sender is a mail address"),
    ("yes(a=1)", "yes() with a named argument"),
    ("header('X') == ''", "headers is not known at rcpt to policy delegation"),
    ("recipients == ''", "recipients is not known at rcpt to policy delegation"),
    ("any_in(sender, mailboxes)", "sender is one mail address"),
    ("header_count() == 1", "header_count() takes one name"),
    ("header_count('From') > 1", "headers is not known at rcpt"),
    ("any_in(recipients, [])", "any_in() takes several values and a list"),
    ("sender + 'x' == 'y'", "arithmetic on sender, a mail address"),
    ("a) or (b", "cannot be read"),
    ("a) or b", "closed twice"),
    ("sender == 'a", "ends too early"),
    ("sender == ", "cannot be read"),
    ("sender = 'a@b'", "a single = in the condition"),
    ("sender == 'a=b' sender", "cannot be read"),
    ("(sender == ''", "ends too early"),
    ("import os", "cannot be read"),
    ("__import__('os')", "there is no check __import__()"),
    ("matches(size, 'x')", "size is a size"),
    ("now > 'soon'", "neither a time of day"),
    ("sender == 'nobody'", "is no mail address"),
    ("not " * 100 + "yes()", "nested too deeply"),
    ("(" * 300 + "yes()" + ")" * 300, "cannot be read"),
    (" or ".join(["yes()"] * 2000), f"at most {LONGEST}"),
]


@pytest.mark.parametrize(("when", "what"), REFUSED, ids=[w[:30] for w, _ in REFUSED])
def test_is_refused(when: str, what: str) -> None:
    node, faults = parse(when, scope(RCPT, PLAIN_OWNERS))
    assert node is None
    assert any(what in fault.what for fault in faults), faults
    assert all(fault.mend for fault in faults)


def test_all_faults_of_a_condition_are_told() -> None:
    _, faults = parse("sendr == 'a@b' and size > 'x' or nobody()", scope(RCPT, PLAIN_OWNERS))
    assert len(faults) == 3


@pytest.mark.parametrize("name", FACTS)
@pytest.mark.parametrize("stage", Stage)
@pytest.mark.parametrize("front_end", FrontEnd)
def test_a_fact_can_be_named_only_where_it_is_known(
    name: str, stage: Stage, front_end: FrontEnd
) -> None:
    owners = {stage: front_end}
    _, faults = parse(f"{name} == {name}", scope(stage, owners))
    known = stage in FACTS[name].known[front_end]
    told = [fault for fault in faults if "is not known at" in fault.what]
    assert bool(told) is not known
    assert all("it is known" in fault.mend for fault in told)


@given(st.text(max_size=200))
def test_no_text_at_all_makes_the_parser_raise(text: str) -> None:
    node, faults = parse(text, scope(RCPT, PLAIN_OWNERS))
    assert (node is None) == bool(faults)

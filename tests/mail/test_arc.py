"""Chains of ARC: whole ones of every length, broken ones, and what is none."""

import time

import pytest
from hypothesis import given
from hypothesis import strategies as st

from policyd.mail.arc import RESULTS, ArcAnswer
from tests.mail.signed import (
    ED25519_RECORD,
    KEYS,
    PLAIN,
    SHORT_RSA,
    SHORT_RSA_RECORD,
    chained,
    sealed,
    surveyed,
)

NAME = "rsa._domainkey.example.org"
NOT_NEWEST = "Most recent ARC-Message-Signature did not validate"


@pytest.mark.parametrize("times", [1, 2, 3, 10])
def test_a_whole_chain_passes_and_names_the_newest_sealer(times: int) -> None:
    assert chained(sealed(PLAIN, times)) == ArcAnswer("pass", "", "example.org", times)


def test_fifty_instances_pass_in_good_time_and_one_more_fails() -> None:
    message = sealed(PLAIN, 50)
    started = time.process_time()
    assert chained(message).result == "pass"
    assert time.process_time() - started < 3  # 0.2 s, alone on the machine
    more = message.replace(b"i=50;", b"i=51;")
    assert chained(more) == ArcAnswer("fail", "instance 51, not one of 50")


def test_a_message_without_seals_has_no_chain() -> None:
    assert chained(PLAIN) == ArcAnswer("none", "the message is not sealed")
    assert not surveyed(PLAIN).sealed


def test_all_keys_that_are_needed_are_named_once() -> None:
    survey = surveyed(sealed(PLAIN, 3))
    assert survey.sealed
    assert survey.arc_keys == (NAME,)


@pytest.mark.parametrize(
    ("old", "new", "reason"),
    [
        (b"this is it", b"that is it", NOT_NEWEST),
        (b"Subject: Hello", b"Subject: Bye", NOT_NEWEST),
        (b"i=2; cv=pass", b"i=2; cv=none", "ARC-Seal[3] did not validate"),
        (b"i=1; lists.example.org", b"i=1; lists.example.com", "ARC-Seal[3] did not validate"),
        (b"ARC-Seal: i=2", b"X-Seal: i=2", "Incomplete ARC set for instance 2"),
        (b"ARC-Seal: i=2", b"ARC-Seal: i=3", "Duplicate ARC-Seal for instance 3"),
        (
            b"ARC-Seal: i=2;",
            b"ARC-Seal: i=2; h=from;",
            "h= tag not permitted in ARC-Seal header field",
        ),
        (b"a=rsa-sha256", b"a=ed25519-sha256", "unknown signature algorithm: b'ed25519-sha256'"),
        (b"ARC-Seal: i=2;", b"ARC-Seal: i=2;\0", "a field of ARC that cannot be read"),
        (b"ARC-Seal: i=2;", b"ARC-Seal: i=2;" + b" " * 600, "a field of ARC that cannot be read"),
        (b"Subject", b"no field\r\nSubject", "line 51 of its header is of no field"),
    ],
)
def test_what_breaks_a_chain(old: bytes, new: bytes, reason: str) -> None:
    message = sealed(PLAIN, 3)
    assert old in message
    answer = chained(message.replace(old, new))
    assert (answer.result, answer.reason, answer.sealer) == ("fail", reason, "")


def test_a_set_that_is_gone_breaks_the_chain() -> None:
    message = sealed(PLAIN, 3)
    second = message.index(b"ARC-Seal: i=2")
    assert chained(message[second:]).result == "pass"  # whoever held it then
    third = message[:second]
    assert chained(third + message[message.index(b"ARC-Seal: i=1") :]).result == "fail"


def test_a_chain_that_its_last_sealer_found_broken_has_failed() -> None:
    answer = chained(sealed(sealed(PLAIN, 1), 1, status=b"fail"))
    assert answer.result == "fail"


def test_later_changes_that_the_next_sealer_vouches_for_do_no_harm() -> None:
    listed = (
        sealed(PLAIN, 1).replace(b"Subject: Hello", b"Subject: [list] Hello") + b"-- \r\nlist\r\n"
    )
    assert chained(listed).result == "fail"
    found = sealed(listed, 1)
    assert chained(found.replace(b"i=2; cv=none", b"i=2; cv=pass")).result == "fail"
    assert chained(sealed(listed, 1, status=b"pass")) == ArcAnswer("pass", "", "example.org", 2)


def test_a_key_that_cannot_be_looked_up_is_a_temporary_error_unless_more_is_wrong() -> None:
    message = sealed(PLAIN, 2)
    answer = chained(message, failing=(NAME,))
    assert (answer.result, answer.reason) == ("temperror", "the key cannot be looked up: SERVFAIL")
    assert (
        chained(message.replace(b"ARC-Seal: i=1", b"X-Seal: i=1"), failing=(NAME,)).result == "fail"
    )
    assert chained(message, {}).result == "fail"


def test_short_keys_and_keys_of_another_kind_do_not_seal() -> None:
    short = sealed(PLAIN, 1, key=SHORT_RSA)
    assert chained(short, {NAME: SHORT_RSA_RECORD}).result == "fail"
    assert chained(sealed(PLAIN, 1), {NAME: ED25519_RECORD}).result == "fail"


def test_a_signature_over_the_beginning_of_the_body_alone_is_none() -> None:
    message = sealed(PLAIN, 1)
    whole = message.replace(b"c=relaxed/relaxed;", b"c=relaxed/relaxed; l=5;")
    assert chained(whole).result == "fail"


@pytest.mark.parametrize("unit", [b" b", b"i=9; ", b"; b=", b"=", b"\r\n b"])
def test_no_chain_takes_long(unit: bytes) -> None:
    fields = b"".join(
        b"ARC-%b: i=%d; %b\r\n" % (name, instance, (unit * 4000)[:8000])
        for instance in range(1, 51)
        for name in (b"Seal", b"Message-Signature", b"Authentication-Results")
    )
    started = time.process_time()
    assert chained(fields + PLAIN).result == "fail"
    assert time.process_time() - started < 2


FIELDS = st.lists(
    st.tuples(
        st.sampled_from([b"ARC-Seal", b"ARC-Message-Signature", b"ARC-Authentication-Results"]),
        st.integers(-1, 3),
        st.binary(max_size=30)
        | st.sampled_from(
            [
                b"a=rsa-sha256; b=AAAA; cv=none; d=example.org; s=rsa",
                b"a=rsa-sha256; b=AAAA; bh=AAAA; d=example.org; h=from; s=rsa",
                b"a=rsa-sha256; b=AAAA; bh=AAAA; d=example.org; h=from; s=rsa; l=%d" % 10**70,
                b"a=rsa-sha256; b=AAAA; bh=AAAA; d=example.org; h=; s=rsa; c=x/y; i=1",
            ]
        ),
    ),
    max_size=9,
)


@given(FIELDS)
def test_any_fields_come_to_something(fields: list[tuple[bytes, int, bytes]]) -> None:
    head = b"".join(b"%b: i=%d; %b\r\n" % field for field in fields)
    for message in (head + PLAIN, head, head.replace(b": i", b":i") + PLAIN):
        for keys in (KEYS, {}):
            answer = chained(message, keys)
            assert answer.result in RESULTS
            assert answer.result != "pass"

"""Questions to the DNS from processes without a loop: what crosses, both ways."""

import asyncio
from collections.abc import Coroutine
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from policyd.dns.answer import DnsError, Found, Kind, Record
from policyd.dns.questions import answering, asking

TEXTS = st.text(st.characters(codec=None), max_size=40)  # lone surrogates too
FOUND = st.builds(
    Found,
    st.lists(
        st.builds(Record, TEXTS, st.sampled_from(Kind), TEXTS, st.integers(0, 65535)), max_size=3
    ).map(tuple),
    st.booleans(),
    st.floats(0, 1e6),
)


class Zone:
    """A resolver that says what it is told to, and keeps what it was asked."""

    def __init__(self, outcome: Found | DnsError) -> None:
        self.outcome = outcome
        self.asked: list[tuple[str, Kind]] = []

    async def ask(self, name: str, kind: Kind) -> Found:
        self.asked.append((name, kind))
        if isinstance(self.outcome, DnsError):
            raise self.outcome
        return self.outcome


def done(work: Coroutine[Any, Any, bytes]) -> bytes:
    """Run what needs no loop: a resolver that answers at once."""
    with pytest.raises(StopIteration) as ended:
        work.send(None)
    result: bytes = ended.value.value
    return result


def across(zone: Zone, name: str, kind: Kind) -> Found:
    """Ask a resolver as work in another process does."""
    answer = answering(zone)

    async def answered(question: bytes) -> bytes:
        return await answer(question)

    return asking(lambda question: done(answered(question))).ask(name, kind)


@given(name=TEXTS, kind=st.sampled_from(Kind), found=FOUND)
def test_questions_and_answers_cross_as_they_are(name: str, kind: Kind, found: Found) -> None:
    zone = Zone(found)
    assert across(zone, name, kind) == found
    assert zone.asked == [(name, kind)]


@given(why=st.text(max_size=40), late=st.booleans())
def test_a_failure_crosses_as_one(why: str, late: bool) -> None:
    with pytest.raises(DnsError) as raised:
        across(Zone(DnsError(why, late=late)), "a.test", Kind.A)
    assert (str(raised.value), raised.value.late) == (why, late)


@pytest.mark.parametrize(
    "octets",
    [
        b"",
        b"www.example.test",
        b"\x90",
        b"\x92\xc4\x01a\xa2NS",  # a type that no check asks for
        b"\x92\xc4\x01\xff\xa1A",  # a name that is no text
        b"\x92\xc4\x01a\xa1A\x00",
    ],
)
def test_what_is_no_question_is_answered_as_a_failure(octets: bytes) -> None:
    zone = Zone(Found(()))
    with pytest.raises(DnsError, match="what was asked is no question"):
        asking(lambda _question: asyncio.run(_answer(zone, octets))).ask("a.test", Kind.A)
    assert not zone.asked


async def _answer(zone: Zone, octets: bytes) -> bytes:
    return await answering(zone)(octets)

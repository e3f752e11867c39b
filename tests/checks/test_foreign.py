"""Checks of other packages as they are asked: in processes and on the loop, held to their word."""

import asyncio
import math
import os
import time
from collections.abc import Iterator
from contextlib import asynccontextmanager
from importlib.metadata import EntryPoint
from typing import Any

import pytest
from msgspec.msgpack import encode

from policyd.checks.foreign import running
from policyd.checks.installed import ENTRY_POINTS, Installed, Package, installed
from policyd.checks.interface import Answer, Check, CheckFailedError, Counting
from policyd.facts.table import FactType
from policyd.processes.memory import kept, let_go
from policyd.processes.pool import Pool
from tests.checks.packages import install, put_on_path

MODULE = """
import os, time
from dataclasses import replace
from policyd.checks.interface import Answer, Check, CheckFailedError, Counting
from policyd.facts.table import FactType

ASKED = Counting("policyd_check_told_asked_total", "x", ("how",), (("loudly",),))

def tell(facts, *arguments):
    counts = ((ASKED, ("loudly",), 2),)
    return Answer(repr((facts, arguments)), "told", {"told_at": "x" * 300}, counts)

told = Check("told", tell, (FactType.TEXTS, FactType.NUMBER, FactType.TEXT),
    needs=("client_address", "sender_domain", "helo_is_address", "size", "recipients", "headers"),
    result=FactType.TEXT, results=("told",), values={"told_at": "x"}, countings=(ASKED,))

def read(facts):
    whole = facts["message"].read()
    return Answer(len(whole) == facts["message"].size and whole.startswith(b"From:"), "true")

message = Check("message", read, needs=("message",))

def act(facts, how):
    if how == "fail":
        raise CheckFailedError("not today", "somebody")
    if how == "raise":
        raise ValueError("a mistake")
    if how == "end":
        os._exit(1)
    if how == "hang":
        time.sleep(60)
    if how == "result":
        return Answer(True, "perhaps")
    if how == "value":
        return Answer("yes", "true")
    if how == "object":
        return Answer(object(), "true")
    if how == "nothing":
        return None
    return Answer(True, "true")

acting = Check("acting", act, (FactType.TEXT,), limit=0.5)

async def act_later(facts, how):
    if how == "hang":
        import asyncio
        await asyncio.sleep(60)
    return act(facts, how)

waiting = Check("waiting", act_later, (FactType.TEXT,), remote=True, limit=0.5)

async def read_later(facts):
    return read(facts)

message_later = Check("message_later", read_later, needs=("message",), remote=True)
"""
POINTS = ("told", "message", "acting", "waiting", "message_later")


class Message:
    """A message that has arrived (mail.arrived.Arrived)."""

    def __init__(self, octets: bytes) -> None:
        self.size = len(octets)
        self._descriptor = kept(octets, "test")

    def descriptor(self) -> int:
        return self._descriptor

    def close(self) -> None:
        let_go([self._descriptor])


@pytest.fixture(scope="module")
def found(tmp_path_factory: pytest.TempPathFactory) -> Iterator[dict[str, Installed]]:
    folder = tmp_path_factory.mktemp("packages")
    with pytest.MonkeyPatch.context() as patch:
        put_on_path(folder, patch)
        install(folder, "telling", MODULE, {point: point for point in POINTS})
        every, broken = installed()
        assert broken == ()
        yield {each.check.name: each for each in every}


@asynccontextmanager
async def pooled() -> Any:
    pool = Pool(processes=1, at_once=1)
    try:
        yield pool
    finally:
        await pool.close()


def ask(found: Installed, attributes: dict[str, object], *arguments: object) -> Answer:
    async def asked() -> Answer:
        async with pooled() as pool:
            answer = await running(found, pool).ask(attributes, *arguments)  # type: ignore[misc]
            assert isinstance(answer, Answer)
            return answer

    return asyncio.run(asked())


def test_it_is_given_the_facts_it_needs_as_conditions_see_them_and_its_arguments(
    found: dict[str, Installed],
) -> None:
    attributes: dict[str, object] = {
        "client_address": "::ffff:192.0.2.1",
        "sender": "Jo@BÜCHER.example",
        "helo_name": "[192.0.2.1]",
        "size": "1000",
        "recipients": ("A@example.org", "b@example.org"),
        "headers": (("Subject", "x"),),
        "sasl_username": "not asked for",
    }
    answer = ask(found["told"], attributes, ("a", "b"), 7, "text")
    facts = {
        "client_address": "192.0.2.1",
        "sender_domain": "xn--bcher-kva.example",
        "helo_is_address": True,
        "size": 1000,
        "recipients": ("a@example.org", "b@example.org"),
        "headers": ("Subject: x",),
    }
    assert answer.value == repr((facts, (("a", "b"), 7, "text")))
    assert answer.result == "told"
    assert answer.values == {"told_at": "x" * 200}
    assert [(c.name, labels, amount) for c, labels, amount in answer.counts] == [
        ("policyd_check_told_asked_total", ("loudly",), 2)
    ]


@pytest.mark.parametrize("name", ["message", "message_later"])
def test_it_reads_the_whole_message(found: dict[str, Installed], name: str) -> None:
    message = Message(b"From: a@example.org\r\n\r\n" + b"x" * 3_000_000)
    assert ask(found[name], {"message": message}).value is True
    message.close()
    with pytest.raises(CheckFailedError, match=r"there is no message here$"):
        ask(found[name], {})


@pytest.mark.parametrize("name", ["acting", "waiting"])
@pytest.mark.parametrize(
    ("how", "why"),
    [
        ("fail", "not today"),
        ("raise", r"ValueError: a mistake( \(telling.py:\d+\))?"),
        ("result", r"its result is 'perhaps', and should give one of \('true', 'false'\)"),
        ("value", "its value is 'yes', and should give a truth value"),
        ("object", "its value is <object .*>, and should give a truth value"),
        ("nothing", "it gives a NoneType, and should give an Answer"),
    ],
)
def test_whatever_it_does_is_its_failure(
    found: dict[str, Installed], name: str, how: str, why: str
) -> None:
    with pytest.raises(CheckFailedError, match=rf"^{name}\(\): {why}$") as raised:
        ask(found[name], {}, how)
    assert raised.value.dependency == ""


def test_one_that_ends_its_process_is_its_failure_too(found: dict[str, Installed]) -> None:
    with pytest.raises(CheckFailedError, match=r"^acting\(\): the process ended with status 1$"):
        ask(found["acting"], {}, "end")


@pytest.mark.parametrize("name", ["acting", "waiting"])
def test_it_may_take_no_longer_than_its_limit(found: dict[str, Installed], name: str) -> None:
    before = time.monotonic()
    with pytest.raises(CheckFailedError, match=rf"^{name}\(\) took longer than 0.5 s$"):
        ask(found[name], {}, "hang")
    assert time.monotonic() - before < 10


@pytest.mark.parametrize("name", ["told", "waiting"])
def test_where_a_configuration_is_only_loaded_nothing_is_asked(
    found: dict[str, Installed], name: str
) -> None:
    check = running(found[name], None)
    assert check.remote
    with pytest.raises(CheckFailedError, match="only loaded"):
        asyncio.run(check.ask({}, ""))  # type: ignore[arg-type]


class Liar:
    """What runs work and gives whatever it was told to."""

    def __init__(self, says: object) -> None:
        self.says = says if isinstance(says, bytes) else encode(says)

    async def run(self, *_: object, **__: object) -> bytes:
        return self.says


COUNTED = Counting("policyd_check_x_a_total", "x", ("kind",), (("a",),))


@pytest.mark.parametrize(
    "says",
    [
        b"",
        b"\xc1",
        os.urandom(2**20 + 1),
        {"value": True},
        {"value": True, "result": "other"},
        {"value": "yes", "result": "true"},
        {"value": None, "result": "true"},
        {"value": [1], "result": "true"},
        {"value": True, "result": "true", "values": {"y": "z"}},
        {"value": True, "result": "true", "values": {"x_at": 1}},
        {"value": True, "result": "true", "counts": [["unknown", [], 1]]},
        {"value": True, "result": "true", "counts": [[COUNTED.name, ["b"], 1]]},
        {"value": True, "result": "true", "counts": [[COUNTED.name, ["a"], -1]]},
        {"value": True, "result": "true", "counts": [[COUNTED.name, ["a"], math.inf]]},
        {"failed": "as it says"},
    ],
)
def test_a_process_cannot_say_what_its_check_may_not(says: object) -> None:
    check = Check("x", lambda _: Answer(True, "true"), values={"x_at": "x"}, countings=(COUNTED,))
    point = Installed(check, Package("p", "1"), EntryPoint("x", "x:x", ENTRY_POINTS))
    good = {"value": True, "result": "true", "counts": [[COUNTED.name, ["a"], 1.5]]}
    asyncio.run(running(point, Liar(good)).ask({}))  # type: ignore[arg-type]
    with pytest.raises(CheckFailedError, match=r"^x\(\): "):
        asyncio.run(running(point, Liar(says)).ask({}))  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("type_", "value", "read"),
    [
        (FactType.TRUTH, True, True),
        (FactType.TRUTH, 1, None),
        (FactType.NUMBER, 1.5, 1.5),
        (FactType.NUMBER, True, None),
        (FactType.NUMBER, math.nan, None),
        (FactType.SIZE, 10, 10),
        (FactType.SIZE, "10", None),
        (FactType.TEXT, "Text", "Text"),
        (FactType.TEXT, b"Text", None),
        (FactType.DOMAIN, "Example.ORG.", "example.org"),
        (FactType.MAIL, "Jo@Example.org", "jo@example.org"),
        (FactType.ADDRESS, "::ffff:192.0.2.1", "192.0.2.1"),
        (FactType.TEXTS, ["a", "b"], ("a", "b")),
        (FactType.TEXTS, (1,), None),
        (FactType.TEXTS, "ab", None),
        (FactType.MAILS, ("A@b",), ("a@b",)),
    ],
)
def test_a_value_is_read_as_conditions_compare_it(
    type_: FactType, value: object, read: object
) -> None:
    async def answer(_facts: object) -> Answer:
        return Answer(value, "true")

    check = Check("x", answer, result=type_, remote=True)
    point = Installed(check, Package("p", "1"), EntryPoint("x", "x:x", ENTRY_POINTS))
    asked = running(point, Liar(b"")).ask({})
    if read is None:
        with pytest.raises(CheckFailedError, match="its value is"):
            asyncio.run(asked)  # type: ignore[arg-type]
    else:
        assert asyncio.run(asked).value == read  # type: ignore[arg-type]

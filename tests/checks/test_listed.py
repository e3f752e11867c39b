"""Conditions over a remote list, from the configuration to the answer, on a SQLite file."""

import asyncio
import sqlite3
import time
from collections.abc import Mapping
from contextlib import closing
from pathlib import Path
from typing import cast

import pytest

from policyd.checks.interface import CheckFailedError
from policyd.checks.listed import NAME, listed
from policyd.config.policy import Loaded, load_policy
from policyd.lists.remote.lookups import Lookups
from policyd.rules import nodes
from policyd.rules.parcel import pack, unpack
from policyd.rules.policy import AskRemote, Match, Question
from policyd.smtp.stage import Stage
from tests.rules.world import Recorder

HEAD = """\
[policy_service]
listen = ["inet:127.0.0.1:10040"]
stages = ["mail", "rcpt", "data"]
[milter]
listen = ["inet:127.0.0.1:10041"]
stages = ["end-of-data"]
"""
ENTRIES = ("alice@example.org", "bob@example.org", "@example.com", "<>", "login", ".example.net")


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    with closing(sqlite3.connect(tmp_path / "lists.sqlite")) as database:
        database.execute("CREATE TABLE entries (entry TEXT)")
        database.executemany("INSERT INTO entries VALUES (?)", [(entry,) for entry in ENTRIES])
        database.commit()
    return tmp_path


def load(
    folder: Path, when: str, stage: str = "rcpt", then: str = "550 5.7.1 No", **more: str
) -> Loaded:
    tables = "".join(
        f"[lists.{name}]\nsql = 'sqlite:{folder}/lists.sqlite'\nholds = '{holds}'\n"
        "query = 'SELECT 1 FROM entries WHERE entry IN :keys'\n"
        for name, holds in (("boxes", "addresses"), ("domains_", "domains"), ("words", "texts"))
    )
    extra = "".join(f"{key} = '{value}'\n" for key, value in more.items())
    rule = f"[[rule]]\nname = 'r'\nstage = '{stage}'\nwhen = \"{when}\"\nthen = '{then}'\n{extra}"
    path = folder / "policyd.toml"
    path.write_text(HEAD + tables + rule)
    loaded = load_policy(path, checks={})
    assert loaded.policy is not None, loaded.problems
    return loaded


async def decide(
    question: Question, attributes: Mapping[str, object]
) -> tuple[Match | None, Recorder]:
    context = Recorder()
    return await cast("AskRemote", question.ask)(attributes, context), context


def matches(folder: Path, when: str, attributes: Mapping[str, object], stage: str = "rcpt") -> bool:
    """Compile, send to another process and decide there, as a worker does."""

    async def ask() -> bool:
        loaded = load(folder, when, stage)
        lookups = Lookups(time.monotonic)
        live = {**loaded.checks, NAME: listed(lookups)}
        policy = unpack(pack(loaded.policy_in_force), loaded.lists, live)
        questions = policy.milter if stage == "end-of-data" else policy.delegation
        match, context = await decide(questions[Stage(stage)], attributes)
        await lookups.close()
        assert context.failures == []
        return match is not None

    return asyncio.run(ask())


@pytest.mark.parametrize(
    ("when", "attributes", "expected"),
    [
        ("recipient in boxes", {"recipient": "Alice+tag@Example.org"}, True),
        ("recipient in boxes", {"recipient": "carol@example.org"}, False),
        ("recipient in boxes", {"recipient": "carol@example.com"}, True),
        ("recipient not in boxes", {"recipient": "alice@example.org"}, False),
        ("recipient not in boxes", {"recipient": "carol@example.org"}, True),
        ("not recipient in boxes", {"recipient": "carol@example.org"}, True),
        ("sender in boxes", {"sender": ""}, True),
        ("sasl_username in boxes", {"sasl_username": "Login"}, True),
        ("sasl_username in words", {"sasl_username": "LOGIN"}, True),
        ("sasl_username in words", {"sasl_username": ""}, False),
        ("sender_domain in domains_", {"sender": "x@a.b.example.net"}, True),
        ("sender_domain in domains_", {"sender": "x@example.net"}, False),
        ("sender_domain in domains_", {"sender": ""}, False),
        ("sender in boxes and recipient in boxes", {"recipient": "bob@example.org"}, True),
        ("sender_domain in domains_ or recipient in boxes", {"recipient": "x@example.com"}, True),
    ],
)
def test_membership(folder: Path, when: str, attributes: dict[str, object], expected: bool) -> None:
    request = {"recipient": "z@z.example", **attributes}
    assert matches(folder, when, request) is expected


ALICE, BOB, CAROL = "alice@example.org", "bob@example.org", "carol@example.org"


@pytest.mark.parametrize(
    ("recipients", "any_", "all_"),
    [
        ((ALICE, BOB), True, True),
        ((ALICE, CAROL), True, False),
        ((CAROL,), False, False),
        ((), False, False),
        ((*(f"{n}@example.org" for n in range(20)), ALICE), True, False),
        (tuple(f"{n}@example.com" for n in range(20)), True, True),
    ],
)
def test_of_several_values_any_or_all(
    folder: Path, recipients: tuple[str, ...], any_: bool, all_: bool
) -> None:
    for word, expected in (("any_in", any_), ("all_in", all_)):
        when = f"{word}(recipients, boxes)"
        found = matches(folder, when, {"recipients": recipients}, "end-of-data")
        assert found is expected, word


@pytest.mark.parametrize("when", ["recipient in boxes", "recipient not in boxes"])
def test_a_list_that_fails_matches_neither_way_and_its_rule_says_what_then(
    folder: Path, when: str
) -> None:
    async def ask(**more: str) -> tuple[Match | None, Recorder]:
        loaded = load(folder, when, **more)
        lookups = Lookups(time.monotonic)
        live = {**loaded.checks, NAME: listed(lookups)}
        policy = unpack(pack(loaded.policy_in_force), loaded.lists, live)
        question = policy.delegation[Stage.RCPT]
        found = await decide(question, {"recipient": "alice@example.org"})
        await lookups.close()
        return found

    loaded = load(folder, when)
    assert loaded.policy_in_force.dependencies == ("list boxes",)
    (folder / "lists.sqlite").unlink()
    match, context = asyncio.run(ask())
    assert match is None
    assert context.failures == ["r: list boxes: unable to open database file"]
    match, _ = asyncio.run(ask(on_error="451 4.3.0 Try again later"))
    assert match is not None
    assert match.code == 451


def test_the_failure_names_the_list_as_its_dependency(folder: Path) -> None:
    loaded = load(folder, "recipient in boxes")
    (rule,) = loaded.policy_in_force.rules
    assert rule.condition is not None
    (call,) = nodes.calls_of(rule.condition)
    assert call.dependencies == ("list boxes",)
    constant, _ = call.arguments
    assert isinstance(constant, nodes.Literal)

    async def ask() -> None:
        await listed(None).ask({}, constant.value, "x")  # type: ignore[misc] # a coroutine

    with pytest.raises(CheckFailedError) as raised:
        asyncio.run(ask())
    assert raised.value.dependency == "list boxes"


def test_an_accept_rule_carries_over_and_is_answered_from_what_is_kept(folder: Path) -> None:
    loaded = load(folder, "sender in boxes", "mail", "accept")
    assert [problem.what for problem in loaded.problems] == []

    async def ask() -> None:
        lookups = Lookups(time.monotonic)
        live = {**loaded.checks, NAME: listed(lookups)}
        policy = unpack(pack(loaded.policy_in_force), loaded.lists, live)
        request = {"sender": "alice@example.org", "recipient": "x@example.org"}
        assert (await decide(policy.delegation[Stage.MAIL], request))[0] is not None
        (folder / "lists.sqlite").unlink()
        match, context = await decide(policy.delegation[Stage.RCPT], request)
        assert match is not None
        assert context.failures == []
        await lookups.close()

    asyncio.run(ask())


def test_no_condition_can_call_the_check_itself(folder: Path) -> None:
    assert not NAME.isidentifier()
    assert NAME in load(folder, "recipient in boxes").checks

"""The checks of content, asked as conditions ask them, over a message and a real helper process."""

import asyncio
import sqlite3
import time
from collections.abc import Awaitable, Callable, Iterator, Mapping, Sequence
from contextlib import closing
from pathlib import Path
from typing import Any, cast

import pytest

from policyd.checks.content import LIMIT, checks
from policyd.checks.interface import Answer, Check, CheckFailedError
from policyd.checks.listed import NAME, listed
from policyd.config.policy import load_policy
from policyd.lists.remote.lookups import Lookups
from policyd.mail.spool import Spool
from policyd.processes.pool import Pool
from policyd.processes.work import Runner, WorkError
from policyd.rules.parcel import pack, unpack
from policyd.rules.policy import AskRemote
from policyd.smtp.stage import Stage
from tests.mail.containers import WINDOWS, attached, mail, zipped
from tests.rules.world import Recorder

BANNED = mail(attached(zipped({"setup.exe": WINDOWS}), "offer.zip") + b"*")


def spooled(message: bytes) -> Spool:
    spool = Spool()
    head, _, body = message.partition(b"\r\n\r\n")
    for line in head.replace(b"\r\n ", b" ").split(b"\r\n"):
        name, _, value = line.partition(b":")
        spool.header(name.decode(), value)
    spool.body(body)
    return spool


@pytest.fixture
def message() -> Iterator[Spool]:
    made = spooled(BANNED)
    yield made
    made.drop()


def named(runner: Runner | None) -> Mapping[str, Check]:
    return {check.name: check for check in checks(runner)}


async def ask(check: Check, attributes: Mapping[str, object]) -> Answer:
    return await cast("Awaitable[Answer]", check.ask(attributes))


class Counting:
    """A real pool, and how often it was asked."""

    def __init__(self) -> None:
        self.pool = Pool(processes=1, at_once=1)
        self.limits: list[float] = []

    async def run(
        self, work: str, payload: bytes, *, limit: float, descriptors: Sequence[int] = ()
    ) -> bytes:
        self.limits.append(limit)
        return await self.pool.run(work, payload, limit=limit, descriptors=descriptors)


def with_pool(scene: Callable[[Counting], Awaitable[None]]) -> None:
    async def play() -> None:
        counting = Counting()
        try:
            await scene(counting)
        finally:
            await counting.pool.close()

    asyncio.run(play())


def test_all_three_come_from_one_piece_of_work(message: Spool) -> None:
    async def scene(runner: Counting) -> None:
        found = named(runner)
        attributes = {"message": message}
        answers = await asyncio.gather(*(ask(check, attributes) for check in found.values()))
        assert dict(zip(found, (each.value for each in answers), strict=True)) == {
            "file_types": ("application/zip",),
            "archived": ("offer.zip/setup.exe",),
            "mime_defects": ("bad-base64",),
        }
        assert [each.result for each in answers] == ["some"] * 3
        assert answers[1].values == {"archived": "offer.zip/setup.exe"}
        assert runner.limits == [LIMIT]

    with_pool(scene)


def test_what_a_text_may_show_is_short() -> None:
    async def scene(runner: Counting) -> None:
        spool = spooled(mail(attached(zipped({f"{n}.exe": b"" for n in range(100)}))))
        answer = await ask(named(runner)["archived"], {"message": spool})
        spool.drop()
        assert len(cast("tuple[str, ...]", answer.value)) == 100
        assert len(answer.values["archived"]) == 200

    with_pool(scene)


class Killed:
    """A runner whose process has ended."""

    async def run(self, *_: object, **__: object) -> bytes:
        raise WorkError("it took too long and was killed")


@pytest.mark.parametrize("name", ["file_types", "archived", "mime_defects"])
@pytest.mark.parametrize("runner", [None, Killed()])
def test_without_a_process_that_looks_there_is_no_answer(
    name: str, runner: Runner | None, message: Spool
) -> None:
    with pytest.raises(CheckFailedError):
        asyncio.run(ask(named(runner)[name], {"message": message}))


def test_without_a_message_there_is_no_answer() -> None:
    with pytest.raises(CheckFailedError, match="no message"):
        asyncio.run(ask(named(Killed())["archived"], {}))


CONFIGURATION = """\
[milter]
listen = ["inet:127.0.0.1:10041"]
[lists.programs]
patterns = ['\\.exe$']
[lists.types]
addresses = ["application/zip"]
[lists.known]
sql = "sqlite:{folder}/lists.sqlite"
query = "SELECT 1 FROM entries WHERE entry IN :keys"
holds = "texts"
[[rule]]
name = "r"
stage = "end-of-data"
when = "{when}"
then = "550 5.7.1 {{{shown}}}"
"""


@pytest.mark.parametrize(
    ("when", "holds"),
    [
        ("any_in(archived(), programs)", True),
        ("all_in(archived(), programs)", True),
        ("any_in(file_types(), types)", True),
        ("any_in(file_types(), programs)", False),
        ("any_in(mime_defects(), ['too-deep', 'bad-base64'])", True),
        ("all_in(mime_defects(), ['too-deep'])", False),
        ("'bad-base64' in mime_defects()", True),
        ("'too-deep' not in mime_defects() and 'x' not in archived()", True),
        ("any_in(file_types(), known)", True),
        ("any_in(archived(), known)", False),
        ("all_in(file_types(), known)", True),
    ],
)
def test_conditions_look_for_what_is_found(
    when: str, holds: bool, message: Spool, tmp_path: Path
) -> None:
    with closing(sqlite3.connect(tmp_path / "lists.sqlite")) as database:
        database.execute("CREATE TABLE entries (entry TEXT)")
        database.execute("INSERT INTO entries VALUES ('application/zip')")
        database.commit()
    shown = next(name for name in ("archived", "file_types", "mime_defects") if name in when)
    path = tmp_path / "policyd.toml"
    path.write_text(CONFIGURATION.format(when=when, folder=tmp_path, shown=shown))
    loaded = load_policy(path)
    assert loaded.problems == ()

    async def scene(runner: Counting) -> None:
        lookups = Lookups(time.monotonic)
        live: dict[str, Any] = {**loaded.checks, **named(runner), NAME: listed(lookups)}
        policy = unpack(pack(loaded.policy_in_force), loaded.lists, live)
        question = policy.milter[Stage.END_OF_DATA]
        assert "message" in question.facts
        context = Recorder()
        match = await cast("AskRemote", question.ask)({"message": message}, context)
        await lookups.close()
        assert context.failures == []
        assert (match is not None) is holds

    with_pool(scene)

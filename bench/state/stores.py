"""A store with many triplets beside one with few: in one run, in turns."""

import asyncio
import random
import tempfile
from collections.abc import Mapping
from pathlib import Path
from statistics import mean
from typing import Any, Final

from bench.state.asker import Kind, Order
from bench.state.asking import AskerProcess, summed
from bench.state.fill import copied, fill_store, kept_file, octets_by_table
from bench.state.plan import Plan, Say, circumstances, kept_directory
from bench.state.results import Cell, Stores
from bench.state.triplets import triplet
from policyd.store.opening import open_store
from policyd.store.place import StateSettings
from tools.redis_servers import RedisServer

LOADS: Final[tuple[tuple[Kind, int], ...]] = (
    ("look-up", 1),
    ("new", 1),
    ("look-up", 20),
    ("new", 20),
    ("mixed", 20),
)
"""What is asked, and how many tasks ask at once."""

_SEED: Final = 5321
_FILLING: Final = 30.0
"""Seconds that one operation may take while a store is filled."""


def sqlite(plan: Plan, say: Say) -> Stores:
    """Compare files of SQLite; `octets` is the size of the file with many triplets."""
    kept = kept_directory()
    with tempfile.TemporaryDirectory(prefix="sqlite-", dir=kept) as scratch:
        many = copied(kept_file(kept, plan.sqlite, 0, say), Path(scratch, "many"))
        few = copied(kept_file(kept, plan.few, 0, say), Path(scratch, "few"))
        octets = many.stat().st_size
        tables = octets_by_table(many)
        say(f"sqlite: {octets:,} octets, {tables['triplet']:,} of them in the table of triplets")
        urls = {"few": f"sqlite:{few}", "many": f"sqlite:{many}"}
        return _compared(urls, plan, plan.sqlite, octets, say)


def redis(plan: Plan, say: Say) -> Stores:
    """Compare Redis servers; `octets` is the memory that the triplets took of one (INFO)."""
    with (
        tempfile.TemporaryDirectory(prefix="bench-") as scratch,
        RedisServer(Path(scratch, "few")) as few,
        RedisServer(Path(scratch, "many")) as many,
    ):
        _fill(few.url, plan.few)
        before = _memory(many)
        say(f"redis: {plan.redis:,} triplets are put in")
        _fill(many.url, plan.redis)
        octets = _memory(many) - before
        return _compared({"few": few.url, "many": many.url}, plan, plan.redis, octets, say)


def _compared(urls: Mapping[str, str], plan: Plan, count: int, octets: int, say: Say) -> Stores:
    measured = circumstances(plan.rounds, plan.seconds)
    with (
        AskerProcess(urls["few"], plan.few) as few,
        AskerProcess(urls["many"], count) as many,
    ):
        askers = {"few": few, "many": many}
        turns = [(load, name) for load in LOADS for name in askers]
        runs: dict[tuple[tuple[Kind, int], str], list[Any]] = {turn: [] for turn in turns}
        chance = random.Random(_SEED)
        for turn in chance.sample(turns, len(turns)):
            askers[turn[1]].ask(_order(turn[0], plan.seconds / 5, 0))
        for round_ in range(1, plan.rounds + 1):
            say(f"{urls['many'].partition(':')[0]}: round {round_} of {plan.rounds}")
            for turn in chance.sample(turns, len(turns)):
                runs[turn].append(askers[turn[1]].ask(_order(turn[0], plan.seconds, round_)))
    return Stores(
        measured=measured,
        cells=[
            Cell(*load, few=summed(runs[load, "few"]), many=summed(runs[load, "many"]))
            for load in LOADS
        ],
        triplets=count,
        octets=octets,
        text=mean(map(_text, range(min(count, 10_000)))),
        resident_few=max(run.resident for load in LOADS for run in runs[load, "few"]),
        resident_many=max(run.resident for load in LOADS for run in runs[load, "many"]),
    )


def _order(load: tuple[Kind, int], seconds: float, seed: int) -> Order:
    kind, tasks = load
    return Order(kind, tasks, seconds, seed)


def _text(number: int) -> int:
    made = triplet(number)
    return len(made.client + made.sender + made.recipient + made.instance)


def _fill(url: str, count: int) -> None:
    async def fill() -> None:
        store = open_store(StateSettings(url, timeout=_FILLING))
        await fill_store(store, count)
        await store.close()

    asyncio.run(fill())


def _memory(server: RedisServer) -> int:
    return int(server.ask("INFO", "memory")["used_memory"])

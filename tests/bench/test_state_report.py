"""The document on state says what was measured, and keeps what it does not measure anew."""

import datetime as dt
from pathlib import Path

import msgspec
import pytest

from bench.report import Row
from bench.state import report
from bench.state.asker import Asked
from bench.state.asking import share, summed
from bench.state.expiry import together
from bench.state.peers import LOADS, policy
from bench.state.results import Cell, Circumstances, Expiry, Peers, Results, Stores
from policyd.config.policy import load_policy

MEASURED = Circumstances(dt.date(2026, 11, 24).isoformat(), 0.25, 7, 1.5)


def asked(*milliseconds: int, seconds: float = 1.0) -> Asked:
    return Asked(seconds, [one * 1_000_000 for one in milliseconds], 0, 0, 40_000_000)


def stores(few: float, many: float) -> Stores:
    cells = [
        Cell(
            "look-up", 1, summed([asked(1, seconds=1 / few)]), summed([asked(1, seconds=1 / many)])
        ),
        Cell("new", 20, summed([asked(1)]), summed([asked(1)])),
    ]
    return Stores(MEASURED, cells, 1000, 150_000, 84.0, 40_000_000, 45_000_000)


def row(cell: str, contender: str, rate: float) -> Row:
    latencies = dict.fromkeys(("p50", "p90", "p99", "max"), 1.0)
    return Row(
        cell=cell,
        contender=contender,
        rate=rate,
        least=rate,
        most=rate,
        ratio=None,
        cpu_per_10k=None,
        resident_mb=30.0,
        failed=0,
        logged=None,
        answers={"DEFER_IF_PERMIT": 10},
        **latencies,
    )


RESULTS = Results(
    "a machine",
    {"Python": "3.11.7"},
    sqlite=stores(100, 90),
    redis=stores(100, 70),
    expiry=Expiry(
        MEASURED,
        2000,
        1000,
        12.0,
        4,
        0.004,
        together([asked(1, 1, 4), asked(1, 1, 9)]),
        together([asked(1, 1, 3)]),
        together([asked(1, 1, 5)]),
    ),
    peers=Peers(
        MEASURED,
        [
            row("new", "postgrey", 100),
            row("new", "policyd, SQLite, 1 worker", 1050),
            row("again", "policyd, SQLite, 1 worker", 10),
        ],
        ["sqlgrey (not installed)"],
        {"postgrey": "1.37-2"},
    ),
)


def test_rates_and_latencies_are_medians_of_runs_and_the_longest_is_kept() -> None:
    found = summed([asked(1, 2, 30), asked(1, 2, 3, 4), asked(2, 2, 2, 2, 2)])

    assert (found.rate, found.least, found.most) == (4, 3, 5)
    assert found.p50 == 2
    assert (found.max, found.asked) == (30, 12)


@pytest.mark.parametrize(("part", "latency"), [(0.0, 1), (0.5, 51), (0.99, 100), (1.0, 100)])
def test_so_many_latencies_lie_below_a_share(part: float, latency: float) -> None:
    assert share([one * 1_000_000 for one in range(1, 101)], part) == latency


def test_windows_of_a_kind_are_taken_as_one() -> None:
    found = together([asked(1, 2), asked(9, 1, 1)])

    assert (found.windows, found.asked, found.p50, found.max) == (2, 5, 1, 9)


def test_results_are_read_as_they_were_written() -> None:
    assert report.from_json(report.as_json(RESULTS)) == RESULTS


def test_a_full_store_is_compared_with_an_empty_one() -> None:
    text = report.document(RESULTS)

    assert "| look-up | 1 | 1,000 | 90 | 90–90 | 0.90 | 1.000 | 1.000 | 1.0 |" in text
    assert "A triplet takes **150 octets** (the goal is less than 200), 84 of them" in text
    assert "**0.70** (look-up, 1 at once); the goal is 0.80" in text


def test_what_dropping_adds_stands_beside_the_noise() -> None:
    text = report.document(RESULTS)

    assert "| dropping adds |  |  | +0.000 | +6.000 | +6.000 | +6.00 |" in text
    assert "| noise |  |  | +0.000 | +2.000 | +2.000 | +2.00 |" in text


def test_policyd_is_told_in_times_of_its_peers_where_they_were_measured() -> None:
    text = report.document(RESULTS)

    assert "| new | policyd, SQLite, 1 worker | 10.5 | – |" in text
    assert "| again | policyd, SQLite, 1 worker | – | – |" in text
    assert "Left out, as they did not start: sqlgrey (not installed)." in text


def test_a_part_that_was_not_measured_has_no_section() -> None:
    some = msgspec.structs.replace(RESULTS, redis=None, peers=None)

    assert len(report.sections(some)) == 2
    assert "Redis" not in report.document(some)


def test_loads_differ_in_what_comes_again() -> None:
    assert [load.options(5) for load in LOADS] == [
        ("-d", "2000", "-i", "5"),
        ("-d", "2000", "-u"),
        ("-d", "2000", "-r", "5"),
    ]


def test_policyd_is_configured_to_greylist_and_nothing_else(tmp_path: Path) -> None:
    file = tmp_path / "policyd.toml"
    file.write_text(policy("inet:127.0.0.1:10040", "127.0.0.1:9741", "memory:", 1))
    loaded = load_policy(file)

    assert loaded.policy is not None
    assert {rule.name for rule in loaded.policy.rules} == {"greylist"}

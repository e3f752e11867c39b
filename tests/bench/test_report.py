"""The table says medians, extremes and the ratio to the right null responder."""

import datetime as dt
import socket

import pytest

from bench.report import Report, Sample, machine, rows, table


def sample(contender: str, rate: float, *, cell: str = "20", **others: object) -> Sample:
    values: dict[str, object] = {
        "null": "null",
        "p50": 1.0,
        "p90": 2.0,
        "p99": 3.0,
        "max": 4.0,
        "cpu_per_10k": 0.5,
        "resident_mb": 30.0,
        "unanswered": 0,
        "errors": {},
        "answers": {"DUNNO": 10},
        "logged": None,
    }
    return Sample(contender=contender, rate=rate, cell=cell, **(values | others))  # type: ignore[arg-type]


SAMPLES = [
    sample("null", 100, cell="1"),
    sample("policyd", 50, cell="1"),
    sample("null", 1000),
    sample("policyd", 100, max=9.0, logged=1.0, errors={"closed": 2}, unanswered=3),
    sample("policyd", 400, resident_mb=40.0, logged=1.0, answers={"DUNNO": 9, "550": 1}),
    sample("policyd", 300, p99=30.0, logged=0.5),
]


def test_a_row_is_of_one_contender_in_one_cell() -> None:
    assert [(row.cell, row.contender) for row in rows(SAMPLES)] == [
        ("1", "null"),
        ("1", "policyd"),
        ("20", "null"),
        ("20", "policyd"),
    ]


def test_figures_are_medians_and_extremes_are_kept() -> None:
    row = rows(SAMPLES)[3]

    assert (row.rate, row.least, row.most) == (300, 100, 400)
    assert (row.p99, row.max) == (3.0, 9.0)
    assert row.resident_mb == 40.0
    assert row.logged == 1.0
    assert row.failed == 5
    assert row.answers == {"DUNNO": 29, "550": 1}


def test_the_ratio_is_of_medians_in_the_same_cell() -> None:
    assert [row.ratio for row in rows(SAMPLES)] == [1.0, 0.5, 1.0, 0.3]


def test_without_its_null_a_contender_has_no_ratio() -> None:
    assert rows([sample("policyd", 5)])[0].ratio is None


def test_a_contender_that_answered_nothing_has_a_row() -> None:
    silent = sample("policyd", 0, answers={}, cpu_per_10k=None, unanswered=20)
    line = table(rows([silent]), cell="connections", unit="requests").splitlines()[2]

    assert line.startswith("| 20 | policyd | 0 | 0–0 | – |")
    assert line.endswith("| 20 | – | – |")


def test_the_table_is_markdown() -> None:
    lines = table(rows(SAMPLES), cell="connections", unit="requests").splitlines()

    assert len(lines) == 2 + 4
    assert len({line.count("|") for line in lines}) == 1
    assert lines[0].startswith("| connections | contender | requests/s |")
    assert lines[5].startswith("| 20 | policyd | 300 | 100–400 | 0.30 |")
    assert lines[5].endswith("| DUNNO 96.7%, 550 3.3% |")


def test_the_document_says_how_it_was_made_and_what_is_missing() -> None:
    made = Report(
        date=dt.date(2026, 11, 23),
        rounds=5,
        seconds=2.0,
        command="python bench/run.py --write",
        load_average=0.4,
        policy=rows(SAMPLES),
        milter=[],
        left_out=["policyd, end-of-data"],
    )
    document = made.document()

    assert "23 November 2026" in document
    assert "`python bench/run.py --write` repeats it" in document
    assert "medians of 5 rounds" in document
    assert "Left out, as they did not start: policyd, end-of-data." in document
    assert machine() in document
    assert made.as_json()["policy"][3]["ratio"] == pytest.approx(0.3)


def test_the_machine_is_described_without_its_name() -> None:
    assert socket.gethostname() not in machine()
    assert "GiB" in machine()

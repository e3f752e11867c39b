"""The benchmark of state runs, quickly if asked to: on SQLite, for which nothing is installed."""

import json
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]

pytestmark = pytest.mark.integration


def test_the_quick_benchmark_compares_full_files_with_empty_ones_and_drops_all() -> None:
    done = subprocess.run(
        [sys.executable, "-m", "bench.state", "sqlite", "expiry", "--quick", "--json"],
        cwd=ROOT,
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    results = json.loads(done.stdout)
    cells = results["sqlite"]["cells"]

    assert {(cell["kind"], cell["tasks"]) for cell in cells} == {
        ("look-up", 1),
        ("new", 1),
        ("look-up", 20),
        ("new", 20),
        ("mixed", 20),
    }
    assert all(cell[size]["rate"] > 0 for cell in cells for size in ("few", "many"))
    assert 80 < results["sqlite"]["octets"] / results["sqlite"]["triplets"] < 400
    assert results["expiry"]["dropped"] == results["expiry"]["triplets"] / 2
    assert (results["redis"], results["peers"]) == (None, None)

"""The benchmark as a whole runs, quickly if asked to."""

import json
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]

pytestmark = pytest.mark.integration


def test_the_quick_benchmark_measures_every_contender_in_every_cell() -> None:
    done = subprocess.run(
        [sys.executable, "bench/run.py", "--quick", "--json"],
        cwd=ROOT,
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    results = json.loads(done.stdout)
    rows = [*results["policy"], *results["milter"]]

    assert {row["cell"] for row in results["policy"]} == {"1", "20", "100"}
    assert {row["cell"] for row in results["milter"]} == {"1 × 1", "10 × 1", "10 × 100"}
    assert {"null C", "null uvloop", "null uvloop, parsing"} <= {r["contender"] for r in rows}
    assert all(row["rate"] > 0 and row["failed"] == 0 for row in rows)

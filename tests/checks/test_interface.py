"""Checks of other packages are found by their entry point."""

import sys
from pathlib import Path

import pytest

from policyd.checks.installed import installed
from policyd.checks.interface import SKIP, Answer, Check

MODULE = """
from policyd.checks.interface import Answer, Check

def weekend(attributes):
    return Answer(True, "true", {"until": "Monday"})

check = Check("weekend", weekend, values={"until": "when it ends"})

def make():
    return Check("made", weekend)
"""


@pytest.fixture
def package(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Install a distribution with two checks, as pip would leave it."""
    (tmp_path / "weekend_check.py").write_text(MODULE)
    info = tmp_path / "weekend_check-1.0.dist-info"
    info.mkdir()
    (info / "METADATA").write_text("Metadata-Version: 2.1\nName: weekend-check\nVersion: 1.0\n")
    (info / "entry_points.txt").write_text(
        "[policyd.checks]\nweekend = weekend_check:check\nmade = weekend_check:make\n"
    )
    monkeypatch.syspath_prepend(str(tmp_path))
    sys.modules.pop("weekend_check", None)
    return tmp_path


def test_checks_and_makers_of_checks_are_found_by_name(package: Path) -> None:
    assert package.exists()
    found = installed()
    assert {"weekend", "made"} <= set(found)
    assert found["weekend"].ask({}) == Answer(True, "true", {"until": "Monday"})


def test_a_check_that_says_nothing_is_skipped_when_it_fails() -> None:
    assert Check("x", lambda _: Answer(True, "true")).on_error == SKIP

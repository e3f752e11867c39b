"""
Whole configurations and what `policyd check` says of them, word for word.

In bad/ each is refused: `expected` is what the command writes to standard error. In doubtful/ each
is good, with warnings: `expected` is those. After a message was changed on purpose, run
`policyd check -c policyd.toml 2>expected` (doubtful: `| grep ^warning: >expected`) in the case's
folder and read what it wrote.
"""

import re
from pathlib import Path

import pytest
from click.testing import CliRunner, Result

from policyd.cli.check import check

HERE = Path(__file__).parent
BAD = sorted((HERE / "bad").iterdir())
DOUBTFUL = sorted((HERE / "doubtful").iterdir())
MESSAGE = re.compile(r'[^:\s]+:[0-9]+: (?:rule ".+?": )?.+; .+')


def run(case: Path, monkeypatch: pytest.MonkeyPatch) -> Result:
    monkeypatch.chdir(case)
    return CliRunner().invoke(check, ["-c", "policyd.toml"])


def expected(case: Path) -> list[str]:
    return (case / "expected").read_text(encoding="utf-8").splitlines()


def name(case: Path) -> str:
    return case.name


@pytest.mark.parametrize("case", BAD, ids=name)
def test_a_wrong_configuration_is_refused_with_line_and_mend(
    case: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    result = run(case, monkeypatch)
    assert result.stderr.splitlines() == expected(case)
    assert result.exit_code == 78


@pytest.mark.parametrize("case", DOUBTFUL, ids=name)
def test_a_doubtful_configuration_is_taken_with_warnings(
    case: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    result = run(case, monkeypatch)
    warnings = [line for line in result.stdout.splitlines() if line.startswith("warning: ")]
    assert warnings == expected(case)
    assert (result.exit_code, result.stderr) == (0, "")


@pytest.mark.parametrize("case", [*BAD, *DOUBTFUL], ids=name)
def test_every_message_has_its_place_what_is_wrong_and_a_mend(case: Path) -> None:
    lines = expected(case)
    assert lines
    for line in lines:
        assert MESSAGE.fullmatch(line.removeprefix("warning: ")), line


def test_there_are_enough_wrong_configurations_each_with_a_number_of_its_own() -> None:
    numbers = [case.name.partition("-")[0] for case in BAD]
    assert len(set(numbers)) == len(numbers) >= 60

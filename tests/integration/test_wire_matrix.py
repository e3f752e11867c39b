"""
The wire matrix: policyd, asked by a real Postfix at every stage, and a client that is answered.

Each stage, each front end that can decide it, each class of reply and verb, wired by one line and
by a line a list, with smtpd_delay_reject both ways. What the client receives is what `predict`
says; what policyd counts is what it answered; what the verb table forbids is refused when loaded.
"""

import os
import re
import subprocess
import tempfile
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path

import pytest

from policyd.config.policy import load_policy
from policyd.smtp.stage import FrontEnd
from tests.integration.wire import postfix
from tests.integration.wire.cells import Cell, cells
from tests.integration.wire.daemon import Policyd, configuration
from tests.integration.wire.dialogue import Talk, talk_through, wrong_dialogues
from tests.integration.wire.document import document
from tests.integration.wire.effects import effects, wrong_effects
from tests.integration.wire.tap import MilterTap, Pair, PolicyTap

pytestmark = [pytest.mark.integration, pytest.mark.slow]

DOCUMENT = Path(__file__).parents[2] / "docs" / "wire-matrix.md"
_VERSION = re.compile(r"Postfix (\S+) asked policyd")

LOADED = [cell for cell in cells() if not cell.refused_because]
FORBIDDEN = [cell for cell in cells() if cell.refused_because and cell.delay_reject]


@dataclass(frozen=True)
class Matrix:
    """What was seen: the dialogues, what became of the messages, and three counts of answers."""

    talks: Sequence[Talk]
    became: Mapping[Cell, str]
    answered: Mapping[FrontEnd, Counter[Pair]]
    counted: Mapping[FrontEnd, Counter[Pair]]
    logged: Mapping[FrontEnd, Counter[Pair]]


@pytest.fixture(scope="module")
def matrix() -> Iterator[Matrix]:
    with ExitStack() as stack:
        directory = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="wire-")))
        directory.chmod(0o755)  # Postfix's users have to reach the sockets in it
        daemons, taps = {}, {}
        for front_end, tap in ((FrontEnd.POLICY, PolicyTap), (FrontEnd.MILTER, MilterTap)):
            decided = [cell for cell in LOADED if cell.front_end is front_end]
            daemons[front_end] = stack.enter_context(Policyd(directory, front_end, decided))
            taps[front_end] = stack.enter_context(
                tap(directory / f"{front_end}.tap", daemons[front_end].socket).running()
            )
        mta = stack.enter_context(
            postfix.instance(
                directory / "postfix",
                policy=f"unix:{directory}/policy.tap",
                milter=f"unix:{directory}/milter.tap",
            )
        )
        talks = talk_through(mta, LOADED)
        yield Matrix(
            talks=talks,
            became=effects(mta, talks),
            answered={front_end: +tap.answers for front_end, tap in taps.items()},
            counted={front_end: daemon.replies() for front_end, daemon in daemons.items()},
            logged={front_end: daemon.logged() for front_end, daemon in daemons.items()},
        )


def test_a_client_that_no_rule_knows_is_served(matrix: Matrix) -> None:
    assert {talk.usual[-1].reply[0] for talk in matrix.talks} == {"2"}
    assert {talk.usual[0].reply for talk in matrix.talks} == {"220 mx.policyd.test ESMTP Postfix"}


def test_the_client_sees_what_is_predicted(matrix: Matrix) -> None:
    assert list(wrong_dialogues(matrix.talks)) == []


def test_messages_are_held_discarded_or_delivered_as_predicted(matrix: Matrix) -> None:
    assert list(wrong_effects(matrix.became)) == []


@pytest.mark.parametrize("front_end", FrontEnd)
def test_the_count_of_each_pair_is_that_of_the_answers_written(
    matrix: Matrix, front_end: FrontEnd
) -> None:
    assert matrix.counted[front_end] == matrix.answered[front_end]
    decisions = [cell.decision for cell in LOADED]
    assert set(matrix.answered[front_end]) == {(one.code, one.enhanced) for one in decisions}


@pytest.mark.parametrize("front_end", FrontEnd)
def test_each_answer_has_its_line_in_the_log(matrix: Matrix, front_end: FrontEnd) -> None:
    assert matrix.logged[front_end] == matrix.answered[front_end]


@pytest.mark.parametrize("cell", FORBIDDEN, ids=str)
def test_what_the_verb_table_forbids_is_refused_when_loaded(cell: Cell, tmp_path: Path) -> None:
    file = tmp_path / "policyd.toml"
    file.write_text(configuration(cell.front_end, [cell], f"unix:{tmp_path}/socket", metrics=9741))
    errors = [problem for problem in load_policy(file).problems if problem.severity == "error"]
    assert len(errors) == 1
    assert errors[0].rule == cell.rule
    assert cell.refused_because in errors[0].what


def test_the_document_shows_what_was_seen(matrix: Matrix) -> None:
    written = DOCUMENT.read_text() if DOCUMENT.exists() else ""
    if os.environ.get("WRITE_MATRIX") == "1":
        version = subprocess.check_output(["postconf", "-dh", "mail_version"], text=True)
        DOCUMENT.write_text(document(matrix.talks, matrix.became, version.strip()))
        return
    found = _VERSION.search(written)
    seen = document(matrix.talks, matrix.became, found[1] if found else "")
    assert written == seen, "docs/wire-matrix.md is out of date: run this test with WRITE_MATRIX=1"

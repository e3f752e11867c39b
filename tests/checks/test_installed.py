"""Checks of other packages are found by their entry point; what cannot be used is told."""

from pathlib import Path

import pytest

from policyd.checks.declaration import objections
from policyd.checks.installed import Broken, Installed, installed
from policyd.checks.interface import SKIP, Answer, Check, Counting
from policyd.facts.table import FactType
from policyd.smtp.stage import Stage
from tests.checks.packages import install, put_on_path

MODULE = """
from policyd.checks.interface import Answer, Check

def weekend(attributes):
    return Answer(True, "true", {"until": "Monday"})

check = Check("weekend", weekend, values={"until": "when it ends"})

def make():
    return Check("made", weekend)

def fail():
    raise LookupError("no calendar")

number = 7
"""


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    put_on_path(tmp_path, monkeypatch)
    return tmp_path


def found_of(folder: Path) -> tuple[dict[str, Installed], list[Broken]]:
    assert folder.exists()
    found, broken = installed()
    return {each.check.name: each for each in found}, list(broken)


def test_checks_and_makers_of_checks_are_found_by_name(folder: Path) -> None:
    install(folder, "weekend-check", MODULE, {"weekend": "check", "made": "make"})
    found, broken = found_of(folder)
    assert set(found) == {"weekend", "made"}
    assert broken == []
    assert found["weekend"].check.ask({}) == Answer(True, "true", {"until": "Monday"})
    assert str(found["weekend"].package) == "weekend-check 1.0"
    assert found["made"].point.module == "weekend_check"


def test_a_check_that_says_nothing_is_skipped_when_it_fails() -> None:
    assert Check("x", lambda _: Answer(True, "true")).on_error == SKIP


@pytest.mark.parametrize(
    ("module", "what", "why", "mend"),
    [
        (
            "import no_library",
            "check",
            "broken:check cannot be imported: ModuleNotFoundError: No module named 'no_library'",
            "repair or upgrade broken, or uninstall it",
        ),
        (
            "raise SystemExit('bye')",
            "check",
            "broken:check cannot be imported: SystemExit: bye",
            "repair or upgrade broken, or uninstall it",
        ),
        (
            MODULE,
            "nix",
            "broken:nix cannot be imported: AttributeError: module 'broken' has no attribute 'nix'",
            "repair or upgrade broken, or uninstall it",
        ),
        (
            MODULE,
            "fail",
            "broken:fail cannot be imported: LookupError: no calendar",
            "repair or upgrade broken, or uninstall it",
        ),
        (
            MODULE,
            "number",
            "broken:number is a int, not a Check",
            "let its entry point point name a policyd.checks.interface.Check",
        ),
    ],
)
def test_a_package_that_cannot_be_used_is_told_and_the_others_are_there(
    folder: Path, module: str, what: str, why: str, mend: str
) -> None:
    install(folder, "broken", module, {"point": what})
    install(folder, "weekend-check", MODULE, {"weekend": "check"})
    found, broken = found_of(folder)
    assert set(found) == {"weekend"}
    assert [(str(each.package), each.what, each.mend) for each in broken] == [
        ("broken 1.0", why, mend)
    ]


def test_two_packages_cannot_have_one_name(folder: Path) -> None:
    install(folder, "first", MODULE, {"a": "check"})
    install(folder, "second", MODULE, {"b": "check"})
    found, broken = found_of(folder)
    assert found["weekend"].package.name == "first"
    assert [(each.package.name, each.what) for each in broken] == [
        ("second", "its check weekend has the name of one of first 1.0")
    ]


def sync(_facts: object, *_arguments: object) -> Answer:
    return Answer(True, "true")


async def later(_facts: object, *_arguments: object) -> Answer:
    return Answer(True, "true")


class Later:
    async def __call__(self, _facts: object) -> Answer:
        return Answer(True, "true")


def counting(name: str, labels: tuple[str, ...] = (), *series: tuple[str, ...]) -> Counting:
    return Counting(name, "what it counts", labels, series or ((),))


GOOD = [
    Check("weekend", sync),
    Check("weekend", later, remote=True),
    Check("weekend", Later(), remote=True),
    Check("weekend", sync, parameters=tuple(t for t in FactType if t is not FactType.MESSAGE)),
    Check("weekend", sync, needs=("message", "client_address", "sender_domain")),
    Check("weekend", sync, stages=frozenset({Stage.RCPT}), asks_once=True),
    Check("weekend", sync, results=("a", "b.c", "D-3"), values={"weekend_end": "when"}),
    Check("weekend", sync, countings=(counting("policyd_check_weekend_asked_total"),)),
    Check(
        "weekend",
        sync,
        countings=(
            Counting("policyd_check_weekend_days", "x", ("day",), (("sunday",),), (1.0, 2.0)),
        ),
    ),
]


@pytest.mark.parametrize("check", GOOD)
def test_a_good_declaration_is_not_objected_to(check: Check) -> None:
    assert list(objections(check)) == []


BAD: list[tuple[Check, str]] = [
    (Check("week-end", sync), "the name of its check is 'week-end'"),
    (Check("wochenendgrüße", sync), "the name of its check is 'wochenendgrüße'"),
    (Check(7, sync), "the name of its check is 7"),  # type: ignore[arg-type]
    (Check("lambda", sync), "named lambda, which conditions cannot call"),
    (Check("x", "sync"), "ask is a str"),  # type: ignore[arg-type]
    (Check("x", later), "ask is a coroutine function, and it is not remote"),
    (Check("x", sync, remote=True), "it is remote, and ask is no coroutine function"),
    (Check("x", sync, limit=0), "limit is 0"),
    (Check("x", sync, limit=301), "limit is 301"),
    (Check("x", sync, limit=float("nan")), "limit is nan"),
    (Check("x", sync, limit="5s"), "limit is '5s'"),  # type: ignore[arg-type]
    (Check("x", sync, on_error=None), "on_error is None"),  # type: ignore[arg-type]
    (Check("x", sync, parameters=("txt",)), "parameters: 'txt' is no type"),  # type: ignore[arg-type]
    (Check("x", sync, parameters=[]), "parameters is []"),  # type: ignore[arg-type]
    (Check("x", sync, result="number"), "result: 'number' is no type"),  # type: ignore[arg-type]
    (Check("x", sync, result=FactType.MESSAGE), "is no type of values"),
    (Check("x", sync, results=()), "results is ()"),
    (Check("x", sync, results=("yes", "no way")), "'no way' cannot be the label of a metric"),
    (Check("x", sync, results=("é",)), "'é' cannot be the label of a metric"),
    (Check("x", sync, results=("x" * 41,)), "cannot be the label of a metric"),
    (Check("x", sync, results=(True,)), "True cannot be the label of a metric"),  # type: ignore[arg-type]
    (Check("x", sync, results=("failed",)), "'failed' is counted when a check fails"),
    (Check("x", sync, needs=("klient",)), "needs: there is no fact 'klient'"),
    (Check("x", sync, needs=("now",)), "needs: now is known to conditions only"),
    (Check("x", sync, values={"sender": "x"}), "values: sender is a fact"),
    (Check("x", sync, values={"a b": "x"}), "values: 'a b' is no name"),
    (Check("x", sync, stages=frozenset({"rcpt"})), "stages is"),  # type: ignore[arg-type]
    (Check("x", sync, dependency="dns"), "dependency is for policyd's own checks"),
    (Check("x", sync, sited=True), "sited is for policyd's own checks"),
    (Check("x", sync, definitions={}), "definitions is for policyd's own checks"),
    (Check("x", sync, countings=(counting("asked_total"),)), "is no name of a metric of its own"),
    (Check("x", sync, countings=(counting("policyd_check_x_asked"),)), "is no name of a metric"),
    (
        Check("x", sync, countings=(counting("policyd_check_x_a_total", ("l",), ("no way",)),)),
        "the series of policyd_check_x_a_total",
    ),
    (
        Check("duration", sync, countings=(counting("policyd_check_duration_seconds_total"),)),
        "policyd_check_duration_seconds_total is policyd's own",
    ),
]


@pytest.mark.parametrize(("check", "what"), BAD, ids=[what for _, what in BAD])
def test_what_is_wrong_with_a_declaration_is_said(check: Check, what: str) -> None:
    (objection,) = objections(check)
    assert what in objection[0]
    assert objection[1]

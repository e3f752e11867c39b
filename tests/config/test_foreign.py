"""Checks of other packages in a configuration: what cannot be used is an error that says so."""

from pathlib import Path

import pytest

from policyd.config.policy import Loaded, load_policy
from tests.checks.packages import install, put_on_path

MODULE = """
from policyd.checks.interface import Answer, Check
from policyd.facts.table import FactType

def ask(facts, *arguments):
    return Answer(True, "true")

good = Check("good", ask, (FactType.DOMAIN,), needs=("recipient",), on_error="451 4.3.5 Later")
own = Check("greylisted", ask)
function = Check("any_in", ask)
verb = Check("verb", ask, on_error="accept")
mispaired = Check("mispaired", ask, on_error="450 5.1.1 x")
nonsense = Check("nonsense", ask, on_error="nonsense")
named = Check("named", ask, on_error="greylisted")
"""
RULE = """\
[policy_service]
listen = ["inet:127.0.0.1:10040"]
[[rule]]
name = "one"
stage = "rcpt"
when = "{}"
then = "550 5.7.1 No"
"""


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    put_on_path(tmp_path, monkeypatch)
    return tmp_path


def load(folder: Path, condition: str = "size > 1") -> Loaded:
    file = folder / "policyd.toml"
    file.write_text(RULE.format(condition))
    return load_policy(file)


def test_a_good_one_is_named_in_conditions_and_typed(folder: Path) -> None:
    install(folder, "site-checks", MODULE, {"good": "good", "named": "named"}, "2.1")
    loaded = load(folder, "good(sender_domain)")
    assert loaded.problems == ()
    assert loaded.policy_in_force.asks == {"good"}
    assert {name: str(each.package) for name, each in loaded.foreign.items()} == {
        "good": "site-checks 2.1",
        "named": "site-checks 2.1",
    }
    (problem,) = load(folder, "good(size)").problems
    assert "good() takes a domain, and size is a size" in problem.what


def test_a_fact_that_it_needs_has_to_be_known(folder: Path) -> None:
    install(folder, "site-checks", MODULE, {"good": "good"})
    file = folder / "policyd.toml"
    file.write_text(RULE.format("good(helo_name)").replace('"rcpt"', '"helo"'))
    (problem,) = load_policy(file).problems
    assert (problem.rule, "recipient" in problem.what) == ("one", True)


@pytest.mark.parametrize(
    ("point", "what"),
    [
        ("own", "its check greylisted has the name of a check of policyd's own"),
        ("function", "its check any_in has the name of a function"),
        ("verb", "its check verb: on_error = 'accept' is a verb"),
        ("mispaired", "its check mispaired: on_error: "),
        ("nonsense", "its check nonsense: on_error: "),
        ("nowhere", "site_checks:nowhere cannot be imported: AttributeError: "),
    ],
)
def test_what_cannot_be_used_is_an_error_that_names_the_package_and_the_mend(
    folder: Path, point: str, what: str
) -> None:
    install(folder, "site-checks", MODULE, {point: point, "good": "good"})
    loaded = load(folder)
    assert loaded.policy is None
    (problem,) = loaded.problems
    text = str(problem)
    assert text.startswith(f"{folder}/policyd.toml:1: the package site-checks 1.0: {what}")
    assert problem.mend
    assert set(loaded.foreign) == {"good"}


def test_a_package_that_cannot_be_imported_is_no_traceback(folder: Path) -> None:
    install(folder, "site-checks", "import no_library", {"x": "x"})
    (problem,) = load(folder).problems
    assert str(problem) == (
        f"{folder}/policyd.toml:1: the package site-checks 1.0: site_checks:x cannot be imported: "
        "ModuleNotFoundError: No module named 'no_library'; "
        "repair or upgrade site-checks, or uninstall it"
    )

"""An answer tells which generation of the campaigns' policy gave it, and each of them loads."""

from pathlib import Path

import pytest

from policyd.config.policy import load_policy
from policyd.rules.outcome import parse
from tools.campaign.policy import PASSED, Kind, codes, expected, fits, rules

LISTEN = """
[policy_service]
listen = ["inet:127.0.0.1:10040"]
[milter]
listen = ["unix:/run/policyd.sock"]
"""


def test_neighbouring_generations_answer_otherwise() -> None:
    for kind in (Kind.DEFERRED, Kind.REFUSED, Kind.SOMETIMES):
        assert expected(kind, 7) != expected(kind, 8)
    assert codes(expected(Kind.DEFERRED, 7)) != codes(expected(Kind.DEFERRED, 8))


def test_what_passes_passes_in_every_generation() -> None:
    assert {expected(Kind.PASSED, number) for number in range(4)} == {PASSED}


@pytest.mark.parametrize("kind", Kind)
def test_an_answer_fits_its_own_generation(kind: Kind) -> None:
    assert fits(kind, expected(kind, 5), 5, 5)
    assert fits(kind, expected(kind, 5), 4, 6)


def test_an_answer_does_not_fit_another_generation() -> None:
    assert not fits(Kind.REFUSED, expected(Kind.REFUSED, 5), 6, 7)
    assert not fits(Kind.REFUSED, expected(Kind.REFUSED, 5), 3, 4)
    assert not fits(Kind.REFUSED, PASSED, 1, 9)
    assert not fits(Kind.PASSED, expected(Kind.REFUSED, 5), 5, 5)


def test_what_has_a_rule_in_odd_generations_passes_in_even_ones() -> None:
    assert fits(Kind.SOMETIMES, PASSED, 4, 4)
    assert not fits(Kind.SOMETIMES, PASSED, 5, 5)


@pytest.mark.parametrize("generation", [1, 2])
@pytest.mark.parametrize("count", [10, 100])
def test_the_rules_load_and_are_as_many_as_asked_for(
    generation: int, count: int, tmp_path: Path
) -> None:
    file = tmp_path / "policyd.toml"
    file.write_text(LISTEN + rules(generation, count))
    loaded = load_policy(file)
    assert loaded.policy is not None
    assert len({rule.name for rule in loaded.policy.rules}) == count


def test_expected_answers_are_outcomes_of_a_rule() -> None:
    assert parse(expected(Kind.DEFERRED, 3)).verdict == "defer"
    assert parse(expected(Kind.REFUSED, 3)).verdict == "reject"

"""Files of overrides: each line is one key as its facts would be, and what it may have."""

from pathlib import Path

import pytest

from policyd.checks.limits import Override, key_of
from policyd.checks.rate import Unit
from policyd.config.overrides import MOST_PROBLEMS, Overridden, read_overrides


def of(folder: Path, text: str, *key: str, unit: Unit = Unit.RECIPIENTS) -> Overridden:
    file = folder / "overrides.txt"
    file.write_text(text, encoding="utf-8")
    return read_overrides(file, "overrides.txt", key, unit)


@pytest.mark.parametrize(
    ("line", "key", "override"),
    [
        ("alice 50", "alice", Override(50)),
        ("  Alice@Example.ORG\t50   5  # since May", "alice@example.org", Override(50, 5)),
        ("alice 50 recipients 5 recipients", "alice", Override(50, 5)),
        ("alice unlimited", "alice", Override()),
        ("alice UNLIMITED", "alice", Override()),
        ('"alice bell" 50', "alice bell", Override(50)),
        ("ali#ce 50", "ali#ce", Override(50)),
        (r"CORP\alice 50", r"corp\alice", Override(50)),
    ],
)
def test_a_line_is_a_key_an_amount_and_a_burst(
    line: str, key: str, override: Override, tmp_path: Path
) -> None:
    assert of(tmp_path, f"\ufeff# comment\r\n\r\n{line}\r\n", "sasl_username") == Overridden(
        {key: override}, ()
    )


@pytest.mark.parametrize("amount", ["200 MiB", "200MiB", "200 MiB 10 MB", "209715200 10000000"])
def test_amounts_of_bytes_may_have_their_units(amount: str, tmp_path: Path) -> None:
    found = of(tmp_path, f"alice {amount}", "sasl_username", unit=Unit.BYTES)
    assert found.problems == ()
    assert found.overrides["alice"].most == 200 << 20
    assert found.overrides["alice"].burst in (None, 10_000_000)


@pytest.mark.parametrize(
    ("line", "expressions", "parts"),
    [
        ("alice example.org 5", ("sasl_username", "recipient_domain"), ("alice", "example.org")),
        ('alice "" 5', ("sasl_username", "recipient_domain"), ("alice", "")),
        ("'all' 5", ("'x'",), ("'all'",)),
        ("2001:DB8::0001 5", ("client_address",), ("2001:db8::1",)),
        ("::ffff:192.0.2.1 5", ("client_address",), ("192.0.2.1",)),
        ("BÜCHER.example. 5", ("recipient_domain",), ("xn--bcher-kva.example",)),
        ("ann@BÜCHER.example 5", ("sender",), ("ann@xn--bcher-kva.example",)),
    ],
)
def test_a_key_is_read_as_its_facts_are(
    line: str, expressions: tuple[str, ...], parts: tuple[str, ...], tmp_path: Path
) -> None:
    assert of(tmp_path, line, *expressions).overrides == {key_of(parts): Override(5)}


def test_of_a_wrong_file_so_many_faults_are_told_and_the_rest_is_left(tmp_path: Path) -> None:
    found = of(tmp_path, "nothing\n" * 1000 + "alice 5\n", "sasl_username")
    assert len(found.problems) == MOST_PROBLEMS + 1
    assert found.problems[-1].line == MOST_PROBLEMS + 1
    assert found.overrides == {}


def test_a_line_that_is_not_utf_8_is_told_with_its_number(tmp_path: Path) -> None:
    file = tmp_path / "overrides.txt"
    file.write_bytes(b"alice 5\nb\xf6b 5\n")
    found = read_overrides(file, "overrides.txt", ("sender",), Unit.MESSAGES)
    assert [(p.line, p.what) for p in found.problems] == [(2, "the line is not UTF-8")]
    assert found.overrides == {"alice": Override(5)}

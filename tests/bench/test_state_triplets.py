"""The triplets of the benchmark of state are always the same, and none is like another."""

import random
import sqlite3
from pathlib import Path

import pytest

from bench.state.asker import Asker
from bench.state.fill import fill_file, kept_file, octets_by_table
from bench.state.triplets import ALL_EXPIRED, BEGIN, TERMS, ask, triplet, waits
from policyd.store import greylist
from policyd.store.model import Outcome, Triplet
from policyd.store.sqlite_book import LISTED, listed

SOME = [triplet(number, 2) for number in range(2000)]


def key(one: Triplet) -> tuple[str, str, str]:
    return one.client, one.sender, one.recipient


def test_no_two_are_the_same_and_each_is_always_the_same() -> None:
    assert len({key(one) for one in SOME}) == 2000
    assert [triplet(number, 2) for number in range(2000)] == SOME


def test_clients_are_domains_and_networks() -> None:
    networks = [one for one in SOME if one.client.endswith(".0/24")]

    assert 0.2 < len(networks) / 2000 < 0.4
    assert all(one.client.endswith("example") for one in SOME if one not in networks)


def test_a_known_triplet_passes_and_nothing_is_written() -> None:
    for number in range(1, 2000, 2):
        step = greylist.attempt(ask(number, number, BEGIN), SOME[number], None, BEGIN + ALL_EXPIRED)

        assert step.found.outcome is Outcome.PASSED
        assert (step.triplet, step.client, step.credit) == (None, None, False)


def test_what_waits_has_expired_when_it_is_told_to_and_the_rest_has_not() -> None:
    for number, one in enumerate(SOME):
        assert one.passed is not waits(number, 2)
        assert one.expires > BEGIN
        assert (one.expires <= BEGIN + ALL_EXPIRED) is waits(number, 2)


def test_each_request_is_of_a_message_of_its_own() -> None:
    instances = {ask(1, request, BEGIN).message.instance for request in range(2000)}

    assert len(instances) == 2000
    assert not instances & {one.instance for one in SOME}
    assert not ask(1, 1, BEGIN).terms.auto_allow_after
    assert ask(1, 1, BEGIN).terms == TERMS


def test_a_file_has_what_the_store_would_have_written(tmp_path: Path) -> None:
    file = tmp_path / "state"
    fill_file(file, 2000, 2)
    connection = sqlite3.connect(file)
    entries = [e for table in LISTED for _, e in listed(connection, table, -(2**63), 5000)]
    (mode,) = connection.execute("PRAGMA journal_mode").fetchone()
    connection.close()

    assert sorted(map(repr, entries)) == sorted(map(repr, SOME))
    assert mode == "wal"
    assert octets_by_table(file)["triplet"] > 2000 * 80


def test_a_file_is_kept_for_the_next_run_and_older_ones_go(tmp_path: Path) -> None:
    said: list[str] = []
    (tmp_path / "triplets-50-0-another.sqlite").touch()
    made = kept_file(tmp_path, 50, 0, said.append)
    again = kept_file(tmp_path, 50, 0, said.append)

    assert made == again
    assert len(said) == 2
    assert [path.name for path in tmp_path.iterdir()] == [made.name]


@pytest.mark.parametrize("every", [0, 2, 10])
def test_what_is_looked_up_has_passed(every: int) -> None:
    asker = Asker(None, 1000, every)  # type: ignore[arg-type]
    numbers = {asker._number(random.Random(seed), new=False) for seed in range(500)}

    assert all(0 <= number < 1000 and not waits(number, every) for number in numbers)

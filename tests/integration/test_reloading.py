"""A configuration that changes while Postfix is answered."""

import contextlib
import os
import signal
import threading
import time
from collections import defaultdict
from collections.abc import Iterator
from pathlib import Path

import pytest

from policyd.serve.commands import Outcome
from tests.integration.changing import (
    Asking,
    Changing,
    Load,
    answer,
    ended,
    rule,
    saying,
    until,
)
from tools.campaign import processes
from tools.policyd_process import PolicydProcessError

pytestmark = pytest.mark.integration


@pytest.fixture(scope="module")
def policyd(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Changing]:
    with Changing(tmp_path_factory.mktemp("reloading"), saying("first")) as running:
        yield running


def sum_of_replies(policyd: Changing) -> float:
    return sum(policyd.samples("policyd_replies_total").values())


def rule_counts(policyd: Changing) -> dict[str, float]:
    """Give the sum of each rule's series."""
    counts: dict[str, float] = defaultdict(float)
    for labels, value in policyd.samples("policyd_rule_replies_total").items():
        counts[dict(labels)["rule"]] += value
    return dict(counts)


@contextlib.contextmanager
def reloading(policyd: Changing) -> Iterator[list[Outcome]]:
    """Reload, the builder at work within; afterwards the outcome is there."""
    outcomes: list[Outcome] = []
    thread = threading.Thread(target=lambda: outcomes.append(policyd.reload()))
    thread.start()
    until(lambda: bool(policyd.builder_pids()))
    yield outcomes
    thread.join()


# who is answered by what


def test_the_next_request_of_every_open_connection_has_the_new_answer(policyd: Changing) -> None:
    policyd.become(saying("old"))
    with policyd.asking(8) as connections:
        assert {each.ask() for each in connections} == {answer("old")}
        for word in ("new", "newer", "newest"):
            policyd.become(saying(word))
            assert {each.ask() for each in connections} == {answer(word)}


def test_a_reload_is_not_over_before_every_worker_decides_by_it(policyd: Changing) -> None:
    policyd.become(saying("old"))
    with policyd.asking(4) as connections:
        policyd.write(saying("new"))
        with reloading(policyd) as outcomes:
            slow = policyd.worker_pids()[0]
            os.kill(slow, signal.SIGSTOP)
            until(lambda: not policyd.builder_pids())
            time.sleep(0.3)
            assert not outcomes
            os.kill(slow, signal.SIGCONT)
        assert [outcome.refused for outcome in outcomes] == [""]
        assert {each.ask() for each in connections} == {answer("new")}


def test_a_milter_session_keeps_the_policy_that_it_negotiated_with(policyd: Changing) -> None:
    policyd.become(saying("old"))
    with contextlib.ExitStack() as stack:
        older = [stack.enter_context(policyd.session()) for _ in range(4)]
        assert policyd.message(older[0]) == "450 4.2.1 old"
        policyd.become(saying("new"))
        newer = [stack.enter_context(policyd.session()) for _ in range(4)]
        assert {policyd.message(each) for each in older} == {"450 4.2.1 old"}
        assert {policyd.message(each) for each in newer} == {"450 4.2.1 new"}
        assert {policyd.message(each) for each in older} == {"450 4.2.1 old"}


def test_a_refused_reload_leaves_every_connection_with_the_old_answer(policyd: Changing) -> None:
    policyd.become(saying("old"))
    with policyd.asking(4) as connections, policyd.session() as session:
        policyd.write(rule("bad", "450 5.1.1 mispaired"))
        assert policyd.reload().refused == "configuration"
        assert {each.ask() for each in connections} == {answer("old")}
        assert policyd.message(session) == "450 4.2.1 old"


def test_a_signal_does_what_the_command_does_and_says_it_in_the_log(policyd: Changing) -> None:
    policyd.become(saying("old"))
    told = len(policyd.events("config.reloaded"))
    with policyd.asking(2) as connections:
        policyd.write(rule("more", "pass", "size > '1 MiB'") + saying("new"))
        policyd.hup()
        until(lambda: len(policyd.events("config.reloaded")) > told)
        assert {each.ask() for each in connections} == {answer("new")}
    line = policyd.events("config.reloaded")[-1]
    assert line["rules_added"] == ["more"]
    assert line["rules_changed"] == {"all": ["then"], "mail": ["then"]}
    policyd.write(rule("bad", "450 5.1.1 mispaired"))
    refused = len(policyd.events("config.refused"))
    policyd.hup()
    until(lambda: len(policyd.events("config.refused")) > refused)
    line = policyd.events("config.refused")[-1]
    assert line["why"] == "configuration"
    assert 'rule "bad"' in str(line["reasons"])


def test_what_is_asked_while_a_reload_is_under_way_is_done_after_it(policyd: Changing) -> None:
    policyd.become(saying("all"))
    told = len(policyd.events("config.reloaded"))
    numbers = range(5)
    lock, start = threading.Lock(), threading.Barrier(len(numbers))
    written = ""
    found = {}

    def change(number: int) -> None:
        nonlocal written
        start.wait()
        with lock:
            when = f"recipient == 'n{number}@x'"
            written += rule(f"own-{number}", f"450 4.2.1 own {number}", when)
            policyd.write(written + saying("all"))
        outcome = policyd.reload()
        with Asking(policyd.port) as connection:
            found[number] = outcome.refused, connection.ask(f"n{number}@x")

    threads = [threading.Thread(target=change, args=(number,)) for number in numbers]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert found == {number: ("", f"450 4.2.1 own {number}") for number in numbers}
    assert len(policyd.events("config.reloaded")) - told <= 3


# what is counted


def test_series_of_a_removed_rule_go_and_those_of_an_added_one_begin_at_0(
    policyd: Changing,
) -> None:
    policyd.become(rule("one", "450 4.2.1 One"))
    with Asking(policyd.port) as connection:
        for _ in range(3):
            connection.ask()
        before = sum_of_replies(policyd)
        assert rule_counts(policyd) == {"one": 3}
        outcome = policyd.become(rule("two", "550 5.1.1 Two"))
        assert rule_counts(policyd) == {"two": 0}
        assert policyd.samples("policyd_config_info") == {(("hash", outcome.config_hash),): 1}
        assert sum_of_replies(policyd) == before
        connection.ask()
        policyd.become(rule("one", "450 4.2.1 One"))
        assert rule_counts(policyd) == {"one": 0}
        assert sum_of_replies(policyd) == before + 1
        connection.ask()
        assert rule_counts(policyd) == {"one": 1}


def test_series_of_a_removed_rule_stay_while_a_milter_session_counts_them(
    policyd: Changing,
) -> None:
    policyd.become(rule("one", "450 4.2.1 One", stage="end-of-data"))
    before = sum_of_replies(policyd)
    with policyd.session() as session:
        decided = sum_of_replies(policyd) - before
        policyd.become(rule("two", "550 5.7.1 Two", stage="end-of-data"))
        assert policyd.message(session) == "450 4.2.1 One"
        assert rule_counts(policyd) == {"one": 1, "two": 0}
    until(lambda: rule_counts(policyd) == {"two": 0})
    assert sum_of_replies(policyd) == before + decided + 1
    assert policyd.value("policyd_dropped_total", what="series") == 0


def test_series_go_with_the_last_session_of_their_policy_whatever_newer_sessions_are_open(
    policyd: Changing,
) -> None:
    policyd.become(rule("one", "450 4.2.1 One", stage="end-of-data"))
    with contextlib.ExitStack() as newer:
        with policyd.session():
            policyd.become(rule("two", "550 5.7.1 Two", stage="end-of-data"))
            newer.enter_context(policyd.session())
            policyd.become(rule("three", "550 5.7.1 Three", stage="end-of-data"))
            assert rule_counts(policyd) == {"one": 0, "two": 0, "three": 0}
        until(lambda: rule_counts(policyd) == {"two": 0, "three": 0})
    until(lambda: rule_counts(policyd) == {"three": 0})


def test_reloads_are_counted_by_their_result(policyd: Changing) -> None:
    policyd.become(saying("old"))

    def counted(result: str) -> float:
        value = policyd.value("policyd_config_reloads_total", result=result)
        assert value is not None
        return value

    good, bad = counted("success"), counted("failure")
    hash_in_force = policyd.reload().config_hash
    policyd.write("nonsense")
    assert policyd.reload().config_hash == hash_in_force
    assert (counted("success"), counted("failure")) == (good + 1, bad + 1)
    assert policyd.value("policyd_config_last_reload_successful") == 0
    assert policyd.samples("policyd_config_info") == {(("hash", hash_in_force),): 1}
    policyd.become(saying("new"))
    assert policyd.value("policyd_config_last_reload_successful") == 1


# what dies meanwhile


@pytest.mark.parametrize("when", ["before", "during", "after"])
def test_a_worker_killed_around_a_reload_ends_up_with_the_new_policy(
    policyd: Changing, when: str
) -> None:
    policyd.become(saying("old"))
    victim = policyd.worker_pids()[0]
    with Load(policyd.port, 4, tolerant=True) as load:
        policyd.write(saying("new"))
        if when == "before":
            os.kill(victim, signal.SIGKILL)
            policyd.reload()
        elif when == "during":
            with reloading(policyd):
                os.kill(victim, signal.SIGKILL)
        else:
            policyd.reload()
            os.kill(victim, signal.SIGKILL)
        until(lambda: not processes.running(victim))
        until(policyd.all_up)
        until(lambda: answer("new") in load.answers)  # whose connection was cut asks a second later
    assert set(load.answers) == {answer("old"), answer("new")}
    assert len(policyd.worker_pids()) == policyd.workers
    with policyd.asking(4) as connections:
        assert {each.ask() for each in connections} == {answer("new")}
    with policyd.session() as one, policyd.session() as other:
        assert {policyd.message(one), policyd.message(other)} == {"450 4.2.1 new"}


def test_a_storm_of_signals_under_load_loses_nothing(policyd: Changing) -> None:
    policyd.become(saying("old"))
    told = len(policyd.events("config.reloaded"))
    builders = 0
    with Load(policyd.port, 8) as load:
        for number in range(50):
            if number == 25:
                policyd.write(saying("new"))
            policyd.hup()
            builders = max(builders, len(policyd.builder_pids()))
            time.sleep(0.02)
        assert not policyd.reload().refused
        with policyd.asking(4) as connections:
            assert {each.ask() for each in connections} == {answer("new")}
    assert load.lost == []
    assert set(load.answers) == {answer("old"), answer("new")}
    assert builders <= 1
    assert 2 <= len(policyd.events("config.reloaded")) - told <= 20
    assert policyd.all_up()


def test_a_killed_builder_is_a_refused_reload_and_no_more(policyd: Changing) -> None:
    policyd.become(saying("old"))
    policyd.write(saying("new"))
    with reloading(policyd) as outcomes:
        os.kill(policyd.builder_pids()[0], signal.SIGKILL)
    assert outcomes[0].refused == "fault"
    assert outcomes[0].reasons == ("the builder ended without an answer, by signal 9",)
    assert policyd.value("policyd_config_last_reload_successful") == 0
    with policyd.asking(2) as connections:
        assert {each.ask() for each in connections} == {answer("old")}
        assert not policyd.reload().refused
        assert {each.ask() for each in connections} == {answer("new")}


def test_a_start_whose_builder_is_killed_ends_for_a_new_one(tmp_path: Path) -> None:
    policyd = Changing(tmp_path, saying("never"))

    def kill() -> None:
        until(lambda: policyd._process is not None and bool(policyd.builder_pids()))
        os.kill(policyd.builder_pids()[0], signal.SIGKILL)

    killing = threading.Thread(target=kill)
    killing.start()
    with pytest.raises(PolicydProcessError, match="the builder ended without an answer"), policyd:
        pass
    killing.join()
    assert ended(policyd) == 70


CHECK = """
from policyd.checks.interface import Answer, Check
check = Check("late", lambda attributes: Answer(True, "true"))
"""


def test_a_check_that_was_installed_since_the_start_is_asked(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    packages = tmp_path / "packages"
    packages.mkdir()
    monkeypatch.setenv("PYTHONPATH", str(packages), prepend=os.pathsep)
    with Changing(tmp_path, saying("old")) as policyd, policyd.asking(4) as connections:
        (packages / "late_check.py").write_text(CHECK)
        information = packages / "late_check-1.dist-info"
        information.mkdir()
        (information / "METADATA").write_text("Metadata-Version: 2.1\nName: late-check\n")
        (information / "entry_points.txt").write_text("[policyd.checks]\nlate = late_check:check\n")
        policyd.become(rule("late", "450 4.2.1 late", "late()") + saying("new"))
        assert {each.ask() for each in connections} == {"450 4.2.1 late"}
        assert policyd.events("worker.failed", "worker.ended") == []
        policyd.become(saying("newer"))
        assert {each.ask() for each in connections} == {answer("newer")}


def test_who_asks_while_policyd_stops_is_told_so_at_once(tmp_path: Path) -> None:
    with Changing(tmp_path, saying("old")) as policyd, policyd.session():
        with reloading(policyd) as outcomes:
            os.kill(policyd.pid, signal.SIGTERM)
        outcomes.append(policyd.reload())
        assert {outcome.reasons for outcome in outcomes} == {("policyd is stopping",)}
        policyd.hup()
        assert ended(policyd) == 0
        assert [line["event"] for line in policyd.lines()][-2:] == [
            "policyd.stopping",
            "policyd.stopped",
        ]


# how much


@pytest.mark.slow
def test_ten_reloads_of_a_thousand_rules_under_load_lose_nothing(tmp_path: Path) -> None:
    many = "".join(
        rule(f"filling-{number}", "550 5.1.1 No", f"recipient == 'box{number}@example.org'")
        for number in range(999)
    )
    with Changing(tmp_path, many + rule("all", "450 4.2.1 0")) as policyd:
        with Load(policyd.port, 8) as load:
            for number in range(1, 11):
                changes = policyd.become(many + rule("all", f"450 4.2.1 {number}")).changes
                assert changes == ('rule "all" changed: then',)
        assert load.lost == []
        assert set(load.answers) == {f"450 4.2.1 {number}" for number in range(11)}
        samples = policyd.samples("policyd_replies_total")
        answered = sum(v for labels, v in samples.items() if ("code", "450") in labels)
        assert answered == load.answers.total()
        assert policyd.value("policyd_dropped_total", what="series") == 0

"""The document says what was found, and what was not held; JSON gives it back."""

from dataclasses import replace

from tools.campaign.bars import Bar
from tools.campaign.flat import Sample, levels
from tools.campaign.reload import during
from tools.campaign.report import as_json, document, from_json, judged
from tools.campaign.results import (
    Counted,
    Flat,
    Kills,
    Level,
    Reload,
    Results,
    Shares,
    SlowDuring,
    Spread,
    Stop,
    Throughput,
)
from tools.campaign.state_results import Exact, Exactness, Faults, Suffered
from tools.campaign.tables import table
from tools.campaign.tally import Front, Loaded
from tools.campaign.waits import Slow, Waits

CALM = Loaded(
    Front(answered=1000, waits=Waits(1000, 0.4, 1.0, 2.0, 10.0)),
    Front(answered=50, waits=Waits(60, 0.5, 1.0, 2.0, 3.0)),
    Waits(200, 0.1, 0.2, 0.3, 0.4),
    (Slow("policy", 100.0, 10.0, 0.4),),
    5.0,
)
BUSY = replace(CALM, policy=replace(CALM.policy, waits=Waits(1000, 0.5, 9.0, 20.0, 59.0)))
RELOAD = Reload(
    10,
    100,
    20,
    200,
    100,
    Waits(200, 400, 500, 600, 700),
    CALM,
    BUSY,
    (SlowDuring("policy", 59.0, 4.0, 381.0),),
)
KILLS = Kills(
    kills=100,
    freezes=20,
    replaced_after_kill=Waits(100, 600, 800, 900, 950),
    replaced_after_freeze=Waits(20, 6000, 6100, 6200, 6300),
    clients=20,
    outcomes={"RCPT 550 5.1.1": {"RCPT 550 5.1.1": 700}},
    again=31,
    again_without_cause=0,
    wrong=0,
    examples=(),
    mail_waits=Waits(700, 5, 90, 1000, 6400),
    loaded=CALM,
    counted=(Counted("policy", "550 5.1.1", 700, 3, 701),),
)
FLAT = Flat(800, 200, 100, (Level("series of /metrics", "", 400, 400, 401),))
SHARES = Shares(
    (Spread(2, "100 connections", (49, 51), (49, 51)),),
    (Throughput(1, 20000, 19000, 21000, 7.0), Throughput(2, 30000, 29000, 31000, 5.0)),
)
STOP = Stop(
    10,
    200,
    0,
    0,
    200,
    0,
    50,
    0,
    {"end 250 2.0.0": 50},
    (),
    Waits(10, 50, 60, 70, 80),
    2,
    2.1,
    {"0": 10},
)
SUFFERED = Suffered(
    store="Redis",
    fault="frozen",
    times=3,
    asked=9000,
    lost=0,
    otherwise=0,
    fallbacks=4000,
    counted=4000,
    examples=(),
    longest=1999.0,
    lag=3.0,
    noticed=1.1,
    missed=0,
    back=4.9,
    still_down=0,
    logged=2,
    seconds=16.0,
)
FAULTS = Faults(40, 400, 2, (SUFFERED,))
EXACT = Exact("SQLite", "limit", 5, 100, 6000, 3000, 3000, 0, 0, 3000, 2000)
EXACTNESS = Exactness(2, 40, (EXACT, replace(EXACT, what="triplet", may=0, admitted=0, kept=-1)))
ALL = Results(
    "2 × a processor",
    {"Python": "3.11"},
    (RELOAD,),
    KILLS,
    FLAT,
    SHARES,
    STOP,
    FAULTS,
    EXACTNESS,
)


def missed(results: Results) -> list[str]:
    return [bar.what for bar in results.bars() if not bar.held]


def test_what_is_good_holds_every_bar() -> None:
    assert missed(ALL) == []
    assert "Not held" not in document(ALL)


def test_each_thing_that_is_not_so_is_a_bar_that_is_missed() -> None:
    lossy = replace(
        RELOAD, disturbed=replace(BUSY, milter=Front(lost=1, closed=1, wrong=1, mixed=1))
    )
    bad = replace(
        ALL,
        reload=(lossy,),
        kills=replace(
            KILLS,
            wrong=1,
            again_without_cause=1,
            counted=(Counted("policy", "", 700, 3, 699),),
        ),
        flat=replace(FLAT, levels=(Level("time of a scrape", "ms", 4, 5, 5, timed=True),)),
        spread=replace(SHARES, spreads=(Spread(2, "100 connections", (39, 61), (40, 60)),)),
        stop=replace(STOP, broken=1, wrong=1, unanswered=1, mails_otherwise=1, statuses={"70": 1}),
        faults=replace(
            FAULTS,
            suffered=(
                replace(SUFFERED, lost=1, otherwise=1, counted=3999, logged=3),
                replace(SUFFERED, longest=2001.0, back=5.1, missed=1),
                replace(SUFFERED, fault="killed", still_down=1),
            ),
        ),
        exactness=replace(
            EXACTNESS,
            found=(
                replace(EXACT, admitted=3001, otherwise=1, changed=1, kept=2999),
                replace(EXACT, admitted=2999),
            ),
        ),
    )
    assert missed(bad) == [
        "mails answered otherwise than by the policy",
        "mails to be tried again with no worker ended",
        "series that disagree",
        "flat: time of a scrape",
        "2 workers, 100 connections",
        "policyd_worker_connections says so too",
        "milter sessions broken",
        "milter answers wrong",
        "policy requests unanswered",
        "mails in progress answered otherwise",
        "exit statuses other than 0",
        "Redis frozen: requests unanswered",
        "Redis frozen: answered otherwise",
        "Redis frozen: fallbacks",
        "Redis frozen: lines of a rule",
        "Redis frozen: longest wait",
        "Redis frozen: normal again",
        "Redis frozen: shown",
        "Redis killed: normal again",
        "SQLite, limit, 5 killed: admitted",
        "SQLite, limit, 5 killed: answered otherwise",
        "SQLite, limit, 5 killed: other answers afterwards",
        "SQLite, limit, 5 killed: charged",
        "SQLite, limit, 5 killed: admitted",
        "answers lost",
        "connections closed",
        "answers of no policy in force",
        "milter sessions of two policies",
    ]


def test_the_longest_wait_may_be_50_ms_longer() -> None:
    assert RELOAD.longer == 49.0
    longer = replace(BUSY, policy=replace(BUSY.policy, waits=Waits(1, 1, 1, 1, 61.0)))
    assert missed(Results("", {}, (replace(RELOAD, disturbed=longer),))) == [
        "longest wait beyond the undisturbed"
    ]


def test_a_spread_is_even_to_40_in_60_and_in_proportion() -> None:
    assert Spread(2, "", (40, 60), ()).even
    assert not Spread(2, "", (39, 61), ()).even
    assert Spread(4, "", (20, 20, 30, 30), ()).even
    assert not Spread(4, "", (19, 25, 26, 30), ()).even


def test_the_document_tells_every_campaign_and_the_command_that_repeats_it() -> None:
    text = document(ALL)
    for name in ("reload", "kills", "flat", "spread", "stop", "faults", "exactness"):
        assert f"`python -m tools.campaign {name} --write`" in text
    assert "+49.0 ms beyond" in text
    assert "59.0 ms (policy, own timer 4.0 ms late, ended 381 ms after a reload began)" in text
    assert "| policy | 550 5.1.1 | 700 | 3 | 701 | yes |" in text
    assert "| Redis | frozen | 3 | 9,000 | 0 | 0 | 4,000 | 4,000 | 1,999 (3) | 1.1 | 4.9 |" in text
    assert "| SQLite | limit | 5 | 100 | 6,000 | 3,000 | 3,000 | 3,000 | 0 | 2,000 |" in text
    assert "| 2 | 30,000 | 29,000–31,000 | 1.50 | 5.0 |" in text


def test_what_is_not_held_is_said_first() -> None:
    bars = [Bar("one", True, "0"), Bar("two", False, "3")]
    assert judged(bars) == "MISSED  two: 3\nheld    one: 0"


def test_json_gives_back_what_was_written() -> None:
    assert from_json(as_json(ALL)) == ALL


def test_a_fault_that_befell_a_store_again_counts_with_its_worst() -> None:
    mild = replace(SUFFERED, times=1, longest=10.0, lag=9.0, back=0.5, noticed=-1.0, logged=1)
    assert mild.joined(SUFFERED) == replace(
        SUFFERED, times=4, asked=18000, fallbacks=8000, counted=8000
    )
    assert SUFFERED.joined(mild) == mild.joined(SUFFERED)


def test_a_minute_more_is_a_line_more_of_each_worker() -> None:
    long = replace(SUFFERED, logged=4, seconds=61.0)
    assert missed(replace(ALL, faults=Faults(40, 400, 2, (long,)))) == []
    assert missed(replace(ALL, faults=Faults(40, 400, 1, (long,)))) == [
        "Redis frozen: lines of a rule"
    ]


def test_a_table_is_markdown() -> None:
    assert table(("a", "b"), [(1234, 5.678)]) == "| a | b |\n| --- | --- |\n| 1,234 | 5.7 |"


def test_a_long_wait_is_told_by_the_reload_before_its_end() -> None:
    loaded = replace(
        CALM, slowest=(Slow("policy", 100.0, 80.0, 0.0), Slow("milter", 90.0, 70.0, 0.0))
    )
    assert during(loaded, [95.0, 99.5, 101.0]) == (
        SlowDuring("policy", 80.0, 0.0, 580.0),
        SlowDuring("milter", 70.0, 0.0, -1.0),
    )


def test_levels_are_medians_of_the_first_and_the_last() -> None:
    samples = [Sample(n, 1000, 1.0, 50.0, 20, 40.0, 15, 40.0, 15) for n in (1, 2, 3, 9, 4, 5, 6)]
    series = levels(samples, 3)[0]
    assert (series.first, series.last, series.most) == (2, 5, 9)
    assert not series.flat
    assert levels(samples, 3)[1].flat

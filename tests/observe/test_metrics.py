"""The metrics: all there at 0, counted where they should be, read back by Prometheus' parsers."""

import pickle
from collections.abc import Callable, Iterable, Mapping

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st
from prometheus_client import CollectorRegistry, generate_latest
from prometheus_client.metrics_core import Metric
from prometheus_client.openmetrics.exposition import generate_latest as generate_openmetrics
from prometheus_client.openmetrics.parser import (
    text_string_to_metric_families as parse_openmetrics,
)
from prometheus_client.parser import text_string_to_metric_families as parse_text

from policyd.observe import families
from policyd.observe.known import Issue, known_series
from policyd.observe.series import Family, Kind, Series
from policyd.smtp.decision import Decision, Mode, RuleHit, Source, Verdict
from policyd.smtp.reply import Reply
from policyd.smtp.stage import FrontEnd, Stage
from tests.observe.counted import Counted

POLICY, MILTER = FrontEnd.POLICY, FrontEnd.MILTER
REJECT = Issue(POLICY, "rcpt", Verdict.REJECT, "550", "5.1.1", Source.RULE, "mailbox-unknown")
SHADOW = Issue(POLICY, "rcpt", Verdict.DEFER, "450", "4.2.0", Source.RULE, "greylist", Mode.SHADOW)
PASS = Issue(POLICY, "rcpt", Verdict.PASS, "", "", Source.DEFAULT)
UNKNOWN_STAGE = Issue(POLICY, "", Verdict.PASS, "", "", Source.DEFAULT)
AT_END = Issue(MILTER, "end-of-data", Verdict.DISCARD, "", "", Source.RULE, "virus")
FAULT = Issue(MILTER, "end-of-data", Verdict.DEFER, "451", "4.3.0", Source.ERROR)
ISSUES = (REJECT, SHADOW, PASS, UNKNOWN_STAGE, AT_END, FAULT)

PLAIN_WIRING = (Stage.CONNECT, Stage.HELO, Stage.MAIL, Stage.RCPT)
REJECTED = Decision(
    "3f9c",
    Verdict.REJECT,
    Stage.RCPT,
    Source.RULE,
    reply=Reply(550, 1, 1, "No such mailbox"),
    rule="mailbox-unknown",
    also=(RuleHit("greylist", Stage.RCPT, Verdict.DEFER, "450", "4.2.0", Mode.SHADOW),),
)
REJECTED_ALONE = msgspec.structs.replace(REJECTED, also=())
SENT_OF = "policyd_replies_total"


def series_of(issues: Iterable[Issue] = ISSUES) -> Series:
    return known_series(
        issues,
        checks={"greylisted": ("new", "known")},
        protocol_reasons={POLICY: ("malformed", "too-long"), MILTER: ("exception",)},
        owners=dict.fromkeys(PLAIN_WIRING, POLICY) | {Stage.END_OF_DATA: MILTER},
        dependencies=("redis",),
        config_hash="c0ffee",
        version="1.2.3",
    )


def metrics_of(issues: Iterable[Issue] = ISSUES) -> Counted:
    return Counted(series_of(issues))


def ours(metrics: Counted) -> list[Metric]:
    return [family for family in metrics.registry.collect() if family.name.startswith("policyd_")]


def value(metrics: Counted, name: str, labels: Mapping[str, str] | None = None) -> float:
    found = metrics.registry.get_sample_value(name, dict(labels or {}))
    assert found is not None, f"no {name} with {labels}"
    return found


def samples_of(metrics: Counted) -> dict[tuple[str, ...], float]:
    return {
        (sample.name, *sample.labels.values()): sample.value
        for family in ours(metrics)
        for sample in family.samples
    }


def labels_of(metrics: Counted, name: str) -> list[tuple[str, ...]]:
    return [
        tuple(sample.labels.values())
        for family in ours(metrics)
        for sample in family.samples
        if sample.name == name
    ]


CONTRACT = {
    "policyd_replies_total": "frontend stage verdict code enhanced source",
    "policyd_rule_replies_total": "rule stage verdict code enhanced mode",
    "policyd_stage_requests_total": "frontend stage",
    "policyd_request_duration_seconds": "frontend stage",
    "policyd_check_duration_seconds": "check result",
    "policyd_checks_total": "check result",
    "policyd_protocol_errors_total": "frontend reason",
    "policyd_connections": "frontend",
    "policyd_worker_up": "worker",
    "policyd_worker_connections": "worker frontend",
    "policyd_worker_resident_memory_bytes": "worker",
    "policyd_worker_cpu_seconds_total": "worker",
    "policyd_worker_restarts_total": "reason",
    "policyd_dependency_up": "dependency",
    "policyd_dependency_fallbacks_total": "dependency",
    "policyd_config_reloads_total": "result",
    "policyd_config_last_reload_successful": "",
    "policyd_config_last_reload_timestamp_seconds": "",
    "policyd_config_info": "hash",
    "policyd_build_info": "version",
    "policyd_dropped_total": "what",
}


OF_THE_SUPERVISOR = {
    "policyd_connections",
    "policyd_worker_up",
    "policyd_worker_connections",
    "policyd_worker_resident_memory_bytes",
    "policyd_worker_cpu_seconds_total",
}
"""What it knows without counting in rows."""


def test_names_and_labels_are_those_that_dashboards_rely_on() -> None:
    declared = [item for item in vars(families).values() if isinstance(item, Family)]
    assert {family.name: " ".join(family.labels) for family in declared} == CONTRACT


def test_every_family_is_exposed_with_its_labels() -> None:
    given = {
        sample.name: set(sample.labels)
        for family in ours(metrics_of())
        for sample in family.samples
    }
    assert not OF_THE_SUPERVISOR & given.keys()
    for name, labels in CONTRACT.items():
        if name in OF_THE_SUPERVISOR:
            continue
        histogram = name.endswith("duration_seconds")
        want = set(labels.split()) | ({"le"} if histogram else set())
        assert given[name + "_bucket" if histogram else name] == want


def test_every_series_is_there_at_zero_from_the_start() -> None:
    metrics = metrics_of()
    samples = [sample for family in ours(metrics) for sample in family.samples]
    assert {sample.value for sample in samples if not sample.name.endswith("_info")} == {0}
    assert labels_of(metrics, "policyd_replies_total") == [
        ("policy", "rcpt", "reject", "550", "5.1.1", "rule"),
        ("policy", "rcpt", "pass", "", "", "default"),
        ("policy", "", "pass", "", "", "default"),
        ("milter", "end-of-data", "discard", "", "", "rule"),
        ("milter", "end-of-data", "defer", "451", "4.3.0", "error"),
    ]
    assert labels_of(metrics, "policyd_rule_replies_total") == [
        ("mailbox-unknown", "rcpt", "reject", "550", "5.1.1", "enforce"),
        ("greylist", "rcpt", "defer", "450", "4.2.0", "shadow"),
        ("virus", "end-of-data", "discard", "", "", "enforce"),
    ]
    assert labels_of(metrics, "policyd_checks_total") == [
        ("greylisted", "new"),
        ("greylisted", "known"),
    ]
    assert labels_of(metrics, "policyd_protocol_errors_total") == [
        ("policy", "malformed"),
        ("policy", "too-long"),
        ("milter", "exception"),
    ]
    assert labels_of(metrics, "policyd_dropped_total") == [("log",), ("series",)]
    assert labels_of(metrics, "policyd_config_info") == [("c0ffee",)]
    assert labels_of(metrics, "policyd_build_info") == [("1.2.3",)]


def test_postfix_may_ask_by_policy_request_at_every_stage_and_by_milter_where_told() -> None:
    asked = labels_of(metrics_of(), "policyd_stage_requests_total")
    assert set(asked) == {("policy", stage) for stage in (*Stage, "")} | {("milter", "end-of-data")}


def test_an_answer_moves_its_reply_its_rules_its_stages_and_its_time() -> None:
    metrics = metrics_of()
    before = samples_of(metrics)
    metrics.answered(POLICY, REJECTED, PLAIN_WIRING, 0.0007)
    after = samples_of(metrics)
    moved = {key: after[key] - before[key] for key in after if after[key] != before[key]}
    assert {" ".join(key): by for key, by in moved.items() if "duration" not in key[0]} == {
        "policyd_replies_total policy rcpt reject 550 5.1.1 rule": 1,
        "policyd_rule_replies_total mailbox-unknown rcpt reject 550 5.1.1 enforce": 1,
        "policyd_rule_replies_total greylist rcpt defer 450 4.2.0 shadow": 1,
        "policyd_stage_requests_total policy connect": 1,
        "policyd_stage_requests_total policy helo": 1,
        "policyd_stage_requests_total policy mail": 1,
        "policyd_stage_requests_total policy rcpt": 1,
    }
    where = {"frontend": "policy", "stage": "rcpt"}
    name = "policyd_request_duration_seconds"
    assert value(metrics, f"{name}_sum", where) == 0.0007
    assert value(metrics, f"{name}_count", where) == 1
    assert value(metrics, f"{name}_bucket", {**where, "le": "0.0005"}) == 0
    assert value(metrics, f"{name}_bucket", {**where, "le": "0.001"}) == 1


def test_a_request_of_an_unknown_stage_is_counted_without_one() -> None:
    metrics = metrics_of()
    metrics.answered(POLICY, Decision("1", Verdict.PASS, None, Source.DEFAULT), (), 0.1)
    assert value(metrics, "policyd_stage_requests_total", {"frontend": "policy", "stage": ""}) == 1
    assert value(metrics, "policyd_dropped_total", {"what": "series"}) == 0


def decision_of(issue: Issue) -> Decision:
    reply = None
    if issue.code:
        _, subject, detail = issue.enhanced.split(".")
        reply = Reply(int(issue.code), int(subject), int(detail), "Text")
    stage = Stage(issue.stage) if issue.stage else None
    return Decision("1", issue.verdict, stage, issue.source, reply=reply, rule=issue.rule)


SENT = [issue for issue in ISSUES if issue.mode is Mode.ENFORCE]


@given(st.lists(st.sampled_from(SENT)))
def test_the_sum_over_replies_is_the_number_of_answers_and_never_falls(sent: list[Issue]) -> None:
    metrics = metrics_of()
    for number, issue in enumerate(sent, 1):
        decision = decision_of(issue)
        stages = (decision.stage,) if decision.stage else ()
        metrics.answered(issue.front_end, decision, stages, 0.001)
        replies = next(family for family in ours(metrics) if family.name == "policyd_replies")
        assert sum(sample.value for sample in replies.samples) == number
    for issue in SENT:
        labels = {
            "frontend": issue.front_end,
            "stage": issue.stage,
            "verdict": issue.verdict,
            "code": issue.code,
            "enhanced": issue.enhanced,
            "source": issue.source,
        }
        assert value(metrics, "policyd_replies_total", labels) == sent.count(issue)
    assert value(metrics, "policyd_dropped_total", {"what": "series"}) == 0


def test_a_count_without_a_series_is_dropped_and_counted_every_time() -> None:
    metrics = metrics_of()
    stranger = Decision("1", Verdict.HOLD, Stage.RCPT, Source.RULE, rule="no-such-rule")
    series = {"what": "series"}
    for times in (1, 2):
        metrics.answered(POLICY, stranger, (Stage.RCPT,), 0.1)
        assert value(metrics, "policyd_dropped_total", series) == 2 * times  # its reply, its rule
    metrics.check("greylisted", "no-such-result", 0.1)
    metrics.protocol_error(POLICY, "no-such-reason")
    metrics.dependency_up("no-such-thing", True)
    metrics.fallback("no-such-thing")
    metrics.dropped("no-such-thing", 1)
    metrics.restarted("no-such-reason")
    assert value(metrics, "policyd_dropped_total", series) == 10
    assert labels_of(metrics, "policyd_replies_total") == labels_of(
        metrics_of(), "policyd_replies_total"
    )


def test_what_is_not_an_answer_is_counted_too() -> None:
    metrics = metrics_of()
    metrics.check("greylisted", "new", 0.004)
    metrics.protocol_error(MILTER, "exception")
    metrics.restarted("hung")
    metrics.dependency_up("redis", True)
    metrics.fallback("redis")
    metrics.dropped("log", 12)
    greylisted = {"check": "greylisted", "result": "new"}
    assert value(metrics, "policyd_checks_total", greylisted) == 1
    assert value(metrics, "policyd_check_duration_seconds_sum", greylisted) == 0.004
    assert (
        value(
            metrics,
            "policyd_protocol_errors_total",
            {"frontend": "milter", "reason": "exception"},
        )
        == 1
    )
    assert value(metrics, "policyd_worker_restarts_total", {"reason": "hung"}) == 1
    assert value(metrics, "policyd_dependency_up", {"dependency": "redis"}) == 1
    assert value(metrics, "policyd_dependency_fallbacks_total", {"dependency": "redis"}) == 1
    assert value(metrics, "policyd_dropped_total", {"what": "log"}) == 12
    assert value(metrics, "policyd_dropped_total", {"what": "series"}) == 0


def test_after_a_move_answers_are_counted_by_the_new_layout_and_older_ones_go_on() -> None:
    metrics = metrics_of([REJECT, PASS])
    metrics.answered(POLICY, REJECTED_ALONE, PLAIN_WIRING, 0.1)
    metrics.lay_out(series_of([PASS, AT_END]))
    metrics.answered(POLICY, REJECTED_ALONE, PLAIN_WIRING, 0.1)
    metrics.answered(MILTER, decision_of(AT_END), (Stage.END_OF_DATA,), 0.1)
    of_rule = {"rule": "mailbox-unknown", "stage": "rcpt", "verdict": "reject"}
    where = {**of_rule, "code": "550", "enhanced": "5.1.1", "mode": "enforce"}
    assert value(metrics, "policyd_rule_replies_total", where) == 2
    assert sum(value for (name, *_), value in samples_of(metrics).items() if name == SENT_OF) == 3
    assert value(metrics, "policyd_dropped_total", {"what": "series"}) == 0


def test_series_can_be_sent_to_another_process() -> None:
    series = series_of()
    again: Series = pickle.loads(pickle.dumps(series))
    assert again == series
    values = (value for sets in series.values() for labels in sets for value in labels)
    assert all(type(value) is str for value in values), "no enumeration's members travel"


def test_the_first_load_is_no_reload() -> None:
    metrics = metrics_of()
    metrics.loaded(1000.0)
    assert value(metrics, "policyd_config_last_reload_successful") == 1
    assert value(metrics, "policyd_config_last_reload_timestamp_seconds") == 1000
    assert value(metrics, "policyd_config_reloads_total", {"result": "success"}) == 0


def test_a_failed_reload_shows() -> None:
    metrics = metrics_of()
    metrics.reloaded(True, 1000.0)
    metrics.reloaded(False, 2000.0)
    assert value(metrics, "policyd_config_last_reload_successful") == 0
    assert value(metrics, "policyd_config_last_reload_timestamp_seconds") == 2000
    assert value(metrics, "policyd_config_reloads_total", {"result": "failure"}) == 1
    assert value(metrics, "policyd_config_reloads_total", {"result": "success"}) == 1


HOSTILE = 'a"b\\c\nd{e="f"} \u2028é'


@pytest.mark.parametrize(
    ("generate", "parse"),
    [(generate_latest, parse_text), (generate_openmetrics, parse_openmetrics)],
    ids=["text", "openmetrics"],
)
def test_the_exposition_reads_back(
    generate: Callable[[CollectorRegistry], bytes], parse: Callable[[str], Iterable[Metric]]
) -> None:
    rule = Issue(POLICY, "rcpt", Verdict.REJECT, "550", "5.1.1", Source.RULE, HOSTILE)
    metrics = metrics_of([*ISSUES, rule])
    metrics.answered(POLICY, decision_of(rule), (Stage.RCPT,), 0.2)
    told = {
        (sample.name, tuple(sorted(sample.labels.items()))): sample.value
        for family in ours(metrics)
        for sample in family.samples
    }
    read = {
        (sample.name, tuple(sorted(sample.labels.items()))): sample.value
        for family in parse(generate(metrics.registry).decode())
        for sample in family.samples
        if family.name.startswith("policyd_")
    }
    assert read == told
    assert any(("rule", HOSTILE) in labels for _, labels in read)


def test_every_metric_says_what_it_counts() -> None:
    declared = [item for item in vars(families).values() if isinstance(item, Family)]
    assert all(family.help.endswith(".") and len(family.help) > 20 for family in declared)
    assert "soft_bounce" in families.REPLIES.help
    assert all(
        family.name.endswith("_total") == (family.kind is Kind.COUNTER) for family in declared
    )

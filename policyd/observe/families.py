"""The metrics by name: what each counts, where, and by which labels."""

from functools import lru_cache
from typing import Final

from policyd.checks.interface import Counting
from policyd.observe.series import Family, Kind

_BOUNDS: Final = (
    0.0001,
    0.00025,
    0.0005,
    0.001,
    0.0025,
    0.005,
    0.01,
    0.025,
    0.05,
    0.1,
    0.25,
    0.5,
    1.0,
    2.5,
    5.0,
    10.0,
)
"""Seconds: a rule over facts takes tens of microseconds, the decision time-out is seconds."""

REPLIES: Final = Family(
    "policyd_replies_total",
    Kind.COUNTER,
    "Answers written to Postfix: one a policy request, one a decided milter stage. "
    "Code and enhanced code as policyd issues them, empty where it gives none; Postfix's "
    "soft_bounce, defer_if_reject, its own restrictions and its rewriting of x.1.y codes can "
    "still change what the client sees. Stage is that of the rule that decided, else the last "
    "that was asked. Source: a rule, default (no objection) or error (a fault of policyd's own).",
    ("frontend", "stage", "verdict", "code", "enhanced", "source"),
    lasting=True,  # so many as there are pairs, and the sum is to stay what was written to Postfix
)
RULE_REPLIES: Final = Family(
    "policyd_rule_replies_total",
    Kind.COUNTER,
    "Times that a rule matched in an answer written to Postfix, with the outcome it has "
    "(mode enforce) or would have had (mode shadow, never sent). Includes rules whose outcome "
    "gave way to a stronger one of the same request, so a sum over this can exceed "
    "policyd_replies_total.",
    ("rule", "stage", "verdict", "code", "enhanced", "mode"),
)
STAGE_REQUESTS: Final = Family(
    "policyd_stage_requests_total",
    Kind.COUNTER,
    "Stages that were asked for and answered. A policy request at RCPT that decides connect to "
    "rcpt counts at each of them; stage is empty for a protocol_state that policyd does not know.",
    ("frontend", "stage"),
)
REQUEST_DURATION: Final = Family(
    "policyd_request_duration_seconds",
    Kind.HISTOGRAM,
    "Time from a complete request, or a milter callback, to its answer. Stage is that of the "
    "rule that decided, else the last that was asked.",
    ("frontend", "stage"),
    _BOUNDS,
)
CHECKS: Final = Family(
    "policyd_checks_total",
    Kind.COUNTER,
    "Checks that conditions called, by their result.",
    ("check", "result"),
)
CHECK_DURATION: Final = Family(
    "policyd_check_duration_seconds",
    Kind.HISTOGRAM,
    "Time that checks took, by their result.",
    ("check", "result"),
    _BOUNDS,
)
PROTOCOL_ERRORS: Final = Family(
    "policyd_protocol_errors_total",
    Kind.COUNTER,
    "Requests and callbacks that broke their protocol, by the way they did.",
    ("frontend", "reason"),
)
CONNECTIONS: Final = Family(
    "policyd_connections",
    Kind.GAUGE,
    "Connections from Postfix that are open.",
    ("frontend",),
)
WORKER_UP: Final = Family(
    "policyd_worker_up",
    Kind.GAUGE,
    "1 while a worker serves, 0 while it starts, ends or is being replaced.",
    ("worker",),
)
WORKER_CONNECTIONS: Final = Family(
    "policyd_worker_connections",
    Kind.GAUGE,
    "Connections from Postfix that are open, by the worker that serves them.",
    ("worker", "frontend"),
)
WORKER_MEMORY: Final = Family(
    "policyd_worker_resident_memory_bytes",
    Kind.GAUGE,
    "Resident memory of a worker process; what workers share is in each one's figure.",
    ("worker",),
)
WORKER_CPU: Final = Family(
    "policyd_worker_cpu_seconds_total",
    Kind.COUNTER,
    "CPU time of a worker process, from 0 again when the worker was replaced.",
    ("worker",),
)
WORKER_RESTARTS: Final = Family(
    "policyd_worker_restarts_total",
    Kind.COUNTER,
    "Workers that were replaced, by what became of the one before: it ended (exit), a signal ended "
    "it (signal), it gave no sign of life (hung), or it never came to serve (start).",
    ("reason",),
)
DEPENDENCY_UP: Final = Family(
    "policyd_dependency_up",
    Kind.GAUGE,
    "1 while something that policyd depends on answers every worker, else 0.",
    ("dependency",),
    least=True,
)
FALLBACKS: Final = Family(
    "policyd_dependency_fallbacks_total",
    Kind.COUNTER,
    "Checks that were answered without the dependency they need, by their on_error.",
    ("dependency",),
)
RELOADS: Final = Family(
    "policyd_config_reloads_total",
    Kind.COUNTER,
    "Reloads of the configuration by result, success or failure; the first load is none.",
    ("result",),
)
LAST_RELOAD_SUCCESSFUL: Final = Family(
    "policyd_config_last_reload_successful",
    Kind.GAUGE,
    "1 when the last load or reload took effect, 0 when it failed and the policy before it stays.",
)
LAST_RELOAD_TIMESTAMP: Final = Family(
    "policyd_config_last_reload_timestamp_seconds",
    Kind.GAUGE,
    "When the configuration was last loaded or reloaded, with success or without, since the epoch.",
)
CONFIG_INFO: Final = Family(
    "policyd_config_info",
    Kind.INFO,
    "The hash of the configuration in force.",
    ("hash",),
)
BUILD_INFO: Final = Family(
    "policyd_build_info",
    Kind.INFO,
    "The version of policyd.",
    ("version",),
)
DROPPED: Final = Family(
    "policyd_dropped_total",
    Kind.COUNTER,
    "Thrown away rather than waited for: log lines that nobody took in time (log), and counts "
    "for which there is no series (series; a defect of policyd's).",
    ("what",),
)


@lru_cache(maxsize=256)
def family_of(counting: Counting) -> Family:
    """Give the family of what a check counts beside its results."""
    kind = Kind.HISTOGRAM if counting.bounds else Kind.COUNTER
    return Family(counting.name, kind, counting.says, counting.labels, counting.bounds)

"""`policyd check`: everything that is wrong or doubtful in a configuration, and what it will do."""

from pathlib import Path

import click
import msgspec
from rich.box import SIMPLE_HEAD
from rich.console import Console
from rich.markup import escape
from rich.table import Table

from policyd.checks.installed import Installed
from policyd.cli.configured import CONFIGURATION, config_option
from policyd.config.policy import Loaded, load_policy
from policyd.prove.effects import Effect, Failure, Seen, effects, failures
from policyd.prove.wiring import main_cf, settling
from policyd.rules.policy import Policy
from policyd.service import count_series

_WIDE = 4000  # columns where nobody watches, so that lines can be searched


class Foreign(msgspec.Struct, frozen=True):
    """A check of another package; `limit` is in seconds, `asked` tells whether a rule asks it."""

    call: str
    package: str
    version: str
    gives: str
    runs: str
    limit: float
    on_error: str
    asked: bool
    says: str


class Report(msgspec.Struct, frozen=True):
    """What `check` found, as it prints it with --json."""

    problems: tuple[str, ...]
    replies: tuple[Effect, ...] = ()
    failures: tuple[Failure, ...] = ()
    checks: tuple[Foreign, ...] = ()
    settling: str = ""
    series: int = 0
    main_cf: tuple[str, ...] = ()


@click.command()
@config_option
@click.option("--json", "as_json", is_flag=True, help="Print one JSON document.")
def check(config: Path, as_json: bool) -> None:
    """
    Read the configuration and everything it names, open nothing, and say what it will do.

    Errors and warnings come as `file:line: rule "name": what is wrong; how to mend it`. Then: what
    the client will see of each reply once Postfix has had it, what happens when a check fails, the
    checks of other packages, how many series Prometheus will be given, and the lines for main.cf.
    Exit status 78 with errors.
    """
    loaded = load_policy(config)
    report = _report(loaded)
    if as_json:
        click.echo(msgspec.json.format(msgspec.json.encode(report), indent=2).decode())
    else:
        _print(loaded, report)
    if loaded.policy is None:
        raise SystemExit(CONFIGURATION)


def _report(loaded: Loaded) -> Report:
    problems = tuple(f"{p.severity}: {p}" for p in loaded.problems)
    if loaded.policy is None:
        return Report(problems)
    config = loaded.config
    return Report(
        problems,
        effects(loaded.policy),
        failures(loaded.policy),
        tuple(_foreign(each, loaded.policy) for each in loaded.foreign.values()),
        settling(loaded.policy),
        count_series(loaded.policy, loaded.checks, config.server.workers),
        main_cf(
            loaded.policy,
            config.policy_service.listen if config.policy_service is not None else (),
            config.milter.listen if config.milter is not None else (),
        ),
    )


def _foreign(found: Installed, policy: Policy) -> Foreign:
    check = found.check
    return Foreign(
        f"{check.name}({', '.join(check.parameters)})",
        found.package.name,
        found.package.version,
        check.result,
        "on the loop" if check.remote else "in a process",
        check.limit,
        check.on_error,
        check.name in policy.asks,
        check.says,
    )


def _print(loaded: Loaded, report: Report) -> None:
    for problem in loaded.problems:
        if problem.severity == "error":
            click.echo(str(problem), err=True)
        else:
            click.echo(f"warning: {problem}")
    if loaded.policy is None:
        return
    console = Console()
    if not console.is_terminal:
        console = Console(width=_WIDE)
    if report.replies:
        console.print(_replies(report.replies))
    if report.failures:
        console.print(_failures(report.failures))
    if report.checks:
        console.print(_checks(report.checks))
    if report.settling:
        click.echo(report.settling)
    click.echo(f"series exposed to Prometheus: {report.series}")
    click.echo("\nmain.cf:")
    for line in report.main_cf:
        click.echo(f"    {line}")
    click.echo("\nThe configuration is good.")


def _replies(found: tuple[Effect, ...]) -> Table:
    table = Table("rule", "stage", "by", "then", "asked at", "the client sees", box=SIMPLE_HEAD)
    for effect in found:
        rule = effect.rule + (" (shadow)" if effect.mode == "shadow" else "")
        for i, seen in enumerate(effect.seen or (None,)):
            first = (rule, effect.stage, effect.front_end, effect.written) if i == 0 else ("",) * 4
            where, what = ("", "") if seen is None else (_where(seen), _what(seen))
            table.add_row(*map(escape, (*first, where, what)))
    return table


def _where(seen: Seen) -> str:
    return f"{seen.asked_at}, {seen.restriction} list" if seen.restriction else seen.asked_at


def _what(seen: Seen) -> str:
    return "\n".join((*seen.lines, *((seen.effect,) if seen.effect else ()))) or "nothing of it"


def _checks(found: tuple[Foreign, ...]) -> Table:
    table = Table(
        "check of another package", "from", "gives", "runs", "at most", "asked", "says",
        box=SIMPLE_HEAD,
    )  # fmt: skip
    for each in found:
        table.add_row(
            escape(each.call),
            escape(f"{each.package} {each.version}"),
            each.gives,
            each.runs,
            f"{each.limit:g} s",
            "yes" if each.asked else "no",
            escape(each.says),
        )
    return table


def _failures(found: tuple[Failure, ...]) -> Table:
    table = Table("when this fails", "rule", "stage", "asks", "then", box=SIMPLE_HEAD)
    for failure in sorted(found, key=lambda each: each.dependencies):
        table.add_row(
            escape(", ".join(failure.dependencies) or "the check itself"),
            escape(failure.rule),
            failure.stage,
            escape(", ".join(failure.checks)),
            escape(failure.then),
        )
    return table

"""`policyd codes`: the catalogue of reply codes, searched and explained."""

import json
from collections.abc import Iterable, Sequence
from typing import Final

import click
from rich.box import SIMPLE_HEAD
from rich.console import Console
from rich.table import Table

from policyd.smtp.catalogue import (
    COMMANDS,
    DOCUMENTS,
    BasicCode,
    CommandCode,
    EnhancedEntry,
    NamedReply,
    UnknownNameError,
    named,
)
from policyd.smtp.lookup import Found, Judged, look_up
from policyd.smtp.stage import Stage

_NOTES_UP_TO: Final = 12
"""Notes stand beside the entries of a short answer only."""

_WIDE: Final = 4000
"""Columns where nobody watches: nothing is wrapped, so that lines can be searched."""


@click.command()
@click.argument("query", nargs=-1)
@click.option(
    "--stage",
    type=click.Choice([str(stage) for stage in Stage], case_sensitive=False),
    help="Only what may be answered at this stage of the SMTP transaction.",
)
@click.option(
    "--command",
    type=click.Choice([*COMMANDS], case_sensitive=False),
    help="Only what this SMTP command is answered with.",
)
@click.option("--json", "as_json", is_flag=True, help="Print one JSON document.")
@click.pass_context
def codes(
    context: click.Context,
    query: tuple[str, ...],
    stage: str | None,
    command: str | None,
    as_json: bool,
) -> None:
    """
    Explain SMTP reply codes, and find the right one.

    QUERY is a basic code (450), an enhanced code (4.2.1, or X.7 for all about security), a
    pair (450 4.2.1), an SMTP command (RCPT), the name of a reply (greylisted), or words
    (mailbox full). Without it the whole catalogue is shown.

    A pair is judged as `policyd check` would judge it in a rule: whether the two codes belong
    together, and at which stages it may be given. The names are those that a rule may use:
    then = "greylisted".

    Exit status: 0 found, 1 nothing found, 2 wrong usage.
    """
    words = " ".join(query)
    found = look_up(words, Stage(stage) if stage is not None else None, command or "")
    if as_json:
        click.echo(json.dumps(_document(words, found), indent=2, ensure_ascii=False))
    else:
        _print(found)
    if not found:
        click.echo(_nothing(words), err=True)
        context.exit(1)


def _nothing(words: str) -> str:
    try:
        named(words)
    except UnknownNameError as error:
        if error.nearest:
            return f"Nothing found. The name of a reply like that is {error.nearest}."
    return "Nothing found."


# JSON


def _document(words: str, found: Found) -> dict[str, object]:
    return {
        "query": words,
        "pair": _judged(found.pair) if found.pair is not None else None,
        "basic": [_basic(each) for each in found.basic],
        "commands": [_command(each) for each in found.commands],
        "enhanced": [_enhanced(each) for each in found.enhanced],
        "replies": [_reply(each) for each in found.replies],
        "documents": list(DOCUMENTS),
    }


def _judged(pair: Judged) -> dict[str, object]:
    return {
        "code": pair.code,
        "enhanced": pair.enhanced,
        "findings": [
            {"severity": each.severity, "what": each.what, "mend": each.mend}
            for each in pair.findings
        ],
        "stages": dict(pair.stages),
    }


def _basic(entry: BasicCode) -> dict[str, object]:
    return {
        "code": entry.code,
        "status": entry.status,
        "text": entry.text,
        "also_worded": entry.also_worded,
        "source": entry.source,
        "seen_in": entry.seen_in,
        "policy": entry.policy,
        "policy_why": entry.policy_why,
        "default": str(entry.default) if entry.default is not None else None,
        "others": [str(each) for each in entry.others],
        "pair_source": entry.pair_source,
        "note": entry.note,
    }


def _command(entry: CommandCode) -> dict[str, object]:
    return {
        "command": entry.command,
        "code": entry.code,
        "kind": entry.kind,
        "status": entry.status,
        "source": entry.source,
        "seen_in": entry.seen_in,
        "note": entry.note,
    }


def _enhanced(entry: EnhancedEntry) -> dict[str, object]:
    return {
        "code": str(entry),
        "status": entry.status,
        "name": entry.name,
        "also_worded": entry.also_worded,
        "registry": entry.registry,
        "basic_codes": sorted(entry.associated.codes),
        "reference": entry.reference,
        "seen_in": entry.seen_in,
        "classes": sorted(entry.classes),
        "classes_why": entry.classes_why,
        "classes_seen": sorted(entry.classes_seen),
        "note": entry.note,
    }


def _reply(entry: NamedReply) -> dict[str, object]:
    return {
        "name": entry.name,
        "code": entry.code,
        "enhanced": str(entry.enhanced),
        "text": entry.text,
        "stages": _in_order(entry.stages),
        "source": entry.source,
        "note": entry.note,
    }


def _in_order(stages: Iterable[Stage]) -> list[str]:
    chosen = frozenset(stages)
    return [str(stage) for stage in Stage if stage in chosen]


# Tables


def _print(found: Found) -> None:
    if found.pair is not None:
        _print_pair(found.pair)
    _table(
        "Basic codes",
        ("Code", "Status", "Text", "Goes with", "Source"),
        [
            (
                str(each.code),
                each.status,
                each.text,
                " ".join(map(str, filter(None, (each.default, *each.others)))),
                each.source,
            )
            for each in found.basic
        ],
        [_sentences(_use(each), each.note) for each in found.basic],
    )
    _table(
        "Enhanced codes",
        ("Code", "Status", "Name", "Basic codes", "Sensible classes", "Source"),
        [
            (
                str(each),
                each.status,
                each.name or "(no name)",
                each.registry,
                f"{', '.join(map(str, sorted(each.classes)))} ({each.classes_why})",
                each.reference,
            )
            for each in found.enhanced
        ],
        [each.note for each in found.enhanced],
    )
    _table(
        "Commands",
        ("Command", "Code", "Kind", "Status", "Source"),
        [
            (each.command, str(each.code), each.kind, each.status, each.source)
            for each in found.commands
        ],
        [each.note for each in found.commands],
    )
    _table(
        "Named replies",
        ("Name", "Pair", "Stages", "Text", "Source"),
        [
            (
                each.name,
                f"{each.code} {each.enhanced}",
                "any" if each.stages == frozenset(Stage) else " ".join(_in_order(each.stages)),
                each.text,
                each.source,
            )
            for each in found.replies
        ],
        [each.note for each in found.replies],
    )


def _use(entry: BasicCode) -> str:
    return f"{'For' if entry.policy else 'Not for'} a policy: {entry.policy_why}."


def _sentences(*sentences: str) -> str:
    return " ".join(filter(None, sentences))


def _print_pair(pair: Judged) -> None:
    click.echo(f"{pair.code} {pair.enhanced}")
    for finding in pair.findings:
        click.echo(f"  {finding.severity}: {finding.what}; {finding.mend}")
    if not pair.findings:
        click.echo("  a right pair")
    for verdict, words in (
        ("ok", "may be given at"),
        ("warning", "with a warning at"),
        ("error", "is refused at"),
    ):
        stages = [str(stage) for stage, each in pair.stages.items() if each == verdict]
        if stages:
            click.echo(f"  {words}: {', '.join(stages)}")
    click.echo()


def _table(
    title: str, heads: Sequence[str], rows: Sequence[Sequence[str]], notes: Sequence[str]
) -> None:
    """Print a table: drawn for a terminal, else plain lines of columns."""
    if not rows:
        return
    console = Console(markup=False, highlight=False, emoji=False)
    drawn = console.is_terminal
    if not drawn:
        console.width = _WIDE
    with_notes = len(rows) <= _NOTES_UP_TO and any(notes)
    table = Table(box=SIMPLE_HEAD if drawn else None, padding=(0, 2, 0, 0), pad_edge=False)
    for place, head in enumerate((*heads, "Note") if with_notes else heads):
        table.add_column(head, overflow="fold", no_wrap=place < 2 or not drawn)
    for row, note in zip(rows, notes, strict=True):
        table.add_row(*row, *((note,) if with_notes else ()))
    if drawn:
        console.print(title, style="bold")
        console.print(table)
        return
    with console.capture() as plain:
        console.print(table)
    lines = [line.rstrip() for line in plain.get().splitlines()]
    click.echo("\n".join((title, *lines, "")))

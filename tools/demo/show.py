"""How a trial is shown: the dialogue beside the rule that answered and the metrics it moved."""

from collections.abc import Iterator, Mapping
from typing import Any

from rich.console import Console, Group, RenderableType
from rich.rule import Rule
from rich.table import Table
from rich.text import Text

from tools.demo.samples import Sample
from tools.demo.site import Series
from tools.demo.trial import Lines, Outcome
from tools.smtp_dialogue import printable

_HEADERS = ("subject:", "x-demo:", "list-id:", "content-disposition:")
_NARROW = 100  # columns, below which the two sides stand one above the other
_LABEL_ORDER = ("rule", "frontend", "stage", "verdict", "code", "enhanced", "source", "mode")


def show(console: Console, number: int, sample: Sample, outcome: Outcome) -> None:
    """Print one trial."""
    console.print(Rule(Text(f"{number}. {sample.title}", style="bold"), align="left"))
    sides = (_dialogue(outcome.dialogue), _judgement(outcome))
    if console.width < _NARROW:
        console.print(Group(*sides))
    else:
        table = Table.grid(padding=(0, 2, 0, 0), expand=True)
        table.add_column(ratio=1, overflow="fold")
        table.add_column(ratio=1, overflow="fold")
        table.add_row(*sides)
        console.print(table)
    if outcome.wrong:
        for difference in outcome.wrong:
            console.print(Text(f"unexpected  {difference}", style="bold red"))
    else:
        console.print(Text("ok", style="bold green"))
    console.print()


def _dialogue(lines: Lines) -> RenderableType:
    shown = Text()
    for who, line in _shortened(lines):
        style = "" if who == "C" else "red" if line[:1] in "45" else "green"
        shown.append(f"{who}: {printable(line)}\n" if who else f"   {line}\n", style or "cyan")
    shown.rstrip()
    return shown


def _shortened(lines: Lines) -> Iterator[tuple[str, str]]:
    """Leave out the extensions that EHLO lists, and of a message all but a few headers."""
    within = False
    left_out = 0
    for who, line in lines:
        if who == "S":
            within = line.startswith("354")
            if line.startswith("250-"):
                continue
            yield who, line
        elif within and line != ".":
            if line.lower().startswith(_HEADERS):
                yield who, line
            else:
                left_out += 1
        else:
            if within:
                yield "", f"({left_out} more lines of the message)"
            yield who, line


def _judgement(outcome: Outcome) -> RenderableType:
    table = Table.grid(padding=(0, 1, 0, 0))
    table.add_column(style="dim", no_wrap=True)
    table.add_column(overflow="fold")
    for line in outcome.decisions:
        if line.get("rule") or line.get("also"):
            _add_decision(table, line)
    if not any(line.get("rule") for line in outcome.decisions):
        said = "none objects" if outcome.decisions else "none asked"
        table.add_row("rule", said)
    table.add_row("mail", outcome.became)
    for (name, labels), count in sorted(outcome.moved.items(), key=_rules_first):
        table.add_row("metric", f"{name} +{count}")
        given = dict(labels)
        order = [label for label in _LABEL_ORDER if given.get(label)]
        table.add_row("", Text(" ".join(f"{name}={given[name]}" for name in order), style="dim"))
    return table


def _rules_first(moved: tuple[Series, int]) -> tuple[bool, Series]:
    (name, labels), _ = moved
    return ("source", "default") in labels, (name, labels)


def _add_decision(table: Table, line: Mapping[str, Any]) -> None:
    if line.get("rule"):
        answer = " ".join(
            word for key in ("verdict", "code", "enhanced", "argument") if (word := line.get(key))
        )
        table.add_row("rule", Text(line["rule"], style="bold"))
        table.add_row("", f"{line['stage']}, by {line['frontend']}: {answer}")
        table.add_row("", f"id {line['id']}")
    for hit in line.get("also", ()):
        if hit["mode"] == "shadow":
            would = " ".join(filter(None, (hit["verdict"], hit["code"], hit["enhanced"])))
            table.add_row("shadow", f"{hit['rule']}, {hit['stage']}: would {would}")

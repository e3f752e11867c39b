"""Tables of what somebody sent: drawn for a terminal, else lines that can be searched."""

from collections.abc import Iterable, Sequence
from typing import Final

import click
from rich.box import SIMPLE_HEAD
from rich.console import Console
from rich.table import Table
from rich.text import Text

_WIDE: Final = 4000
"""Columns where nobody watches: nothing is wrapped."""


def safe(text: str) -> str:
    """Give a text as a terminal may be told it: what is not printable is `?`."""
    if text.isprintable():
        return text
    return "".join(each if each.isprintable() else "?" for each in text)


def print_table(title: str, heads: Sequence[str], rows: Iterable[Sequence[str]]) -> None:
    """Print a table, if it has rows."""
    console = Console(markup=False, highlight=False, emoji=False)
    drawn = console.is_terminal
    if not drawn:
        console.width = _WIDE
    table = Table(box=SIMPLE_HEAD if drawn else None, padding=(0, 2, 0, 0), pad_edge=False)
    for head in heads:
        table.add_column(head, overflow="fold", no_wrap=not drawn)
    for row in rows:
        table.add_row(*(Text(safe(cell)) for cell in row))
    if not table.row_count:
        return
    if drawn:
        console.print(title, style="bold")
        console.print(table)
        return
    with console.capture() as plain:
        console.print(table)
    click.echo("\n".join((title, *(line.rstrip() for line in plain.get().splitlines()), "")))

"""From `[lists.NAME]` tables to lists with their entries."""

from pathlib import Path
from typing import Final

from policyd.config.gather import Part
from policyd.config.model import ListTable
from policyd.config.problem import Problem
from policyd.config.translate import read_rest
from policyd.lists.load import load_list
from policyd.lists.named import NamedList
from policyd.lists.source import InlineEntry, Kind, ListFile, ListSource

_NO_KEYS: Final = " or ".join(Kind) + ", or one of them with _file; or sql, redis or ldap"


def read_list(
    name: str, part: Part, recipient_delimiter: str
) -> tuple[NamedList, tuple[Problem, ...]]:
    """Make a list of its table and read its files; a wrong one is the list of what is right."""
    called = f"[lists.{name}]"
    table, problems = read_rest(ListTable, part, called=called)
    kinds = frozenset(kind for kind in Kind if kind in part.values or f"{kind}_file" in part.values)
    if not (kinds or problems):
        what, mend = f"{called} has no entries", f"give it {_NO_KEYS}"
        problems = (Problem(part.document.shown, part.line(), "", what, mend),)
    source = ListSource(
        name,
        kinds,
        part.document.shown,
        part.line(),
        () if table is None else _inline(table, part),
        () if table is None else _files(table, part),
        recipient_delimiter,
    )
    reading = load_list(source)
    faults = (
        Problem(f.file, f.line, "", f.what, f.mend, "error" if f.error else "warning")
        for f in reading.faults
    )
    return NamedList(source, reading), (*problems, *faults)


def _inline(table: ListTable, part: Part) -> tuple[InlineEntry, ...]:
    return tuple(
        InlineEntry(kind, text, part.document.shown, part.line(kind.value, index))
        for kind in Kind
        for index, text in enumerate(getattr(table, kind) or ())
    )


def _files(table: ListTable, part: Part) -> tuple[ListFile, ...]:
    shown_in = Path(part.document.shown).parent
    return tuple(
        ListFile(
            kind,
            part.document.path.parent / name,
            str(shown_in / name),
            part.document.shown,
            part.line(f"{kind}_file"),
        )
        for kind in Kind
        if (name := getattr(table, f"{kind}_file")) is not None
    )

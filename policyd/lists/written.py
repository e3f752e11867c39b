"""A list of entries that somebody spells out in place, such as a condition."""

from collections.abc import Iterable

from policyd.lists.entries import EntryError
from policyd.lists.load import load_list
from policyd.lists.named import NamedList
from policyd.lists.source import InlineEntry, Kind, ListSource


def written_out(kind: Kind, entries: Iterable[str], recipient_delimiter: str) -> NamedList:
    """Make a list without a name; EntryError for the first entry that is wrong."""
    inline = tuple(InlineEntry(kind, entry, "", 0) for entry in entries)
    source = ListSource("", frozenset({kind}), "", 0, inline, (), recipient_delimiter)
    reading = load_list(source)
    for fault in reading.faults:
        if fault.error:
            raise EntryError(fault.what, fault.mend)
    return NamedList(source, reading)

"""How `policyd state` shows entries: as tables, and in JSON."""

from collections.abc import Collection
from typing import Final

from policyd.checks.wording import duration_text
from policyd.cli.kept import Where, now
from policyd.cli.tables import print_table
from policyd.prove.standing import client_outlook, spending, triplet_outlook
from policyd.store.model import Account, Client, Entry, Triplet
from policyd.store.portable import plain

_UNITS: Final = ((86_400_000, 3_600_000), (3_600_000, 60_000))
"""Ages from the first of each pair on are whole numbers of the second; in milliseconds."""


def described(entry: Entry, found: Where) -> dict[str, object]:
    """Give an entry as JSON has it, with what it would be told now."""
    at, terms = now(), found.greylist.terms
    document: dict[str, object] = plain(entry)
    match entry:
        case Triplet():
            return document | {"outlook": triplet_outlook(entry, terms, at)}
        case Client():
            return document | {"outlook": client_outlook(entry, terms, at)}
        case Account():
            spent = spending(entry, found.limits, at)
            return {**document, **plain(spent), "outlook": spent.outlook}


def print_entries(entries: Collection[Entry], found: Where) -> None:
    """Print entries in tables, one for each kind."""
    at, terms = now(), found.greylist.terms
    print_table(
        "Triplets",
        ("Client", "Sender", "Recipient", "First seen", "Last seen", "Outlook"),
        (
            (
                _client(each.client),
                each.sender or "<>",
                each.recipient,
                _ago(each.first, at),
                _ago(each.last, at),
                triplet_outlook(each, terms, at),
            )
            for each in entries
            if isinstance(each, Triplet)
        ),
    )
    print_table(
        "Clients",
        ("Client", "Messages passed", "Last seen", "Outlook"),
        (
            (
                _client(each.client),
                str(each.successes),
                _ago(each.last, at),
                client_outlook(each, terms, at),
            )
            for each in entries
            if isinstance(each, Client)
        ),
    )
    spent = [spending(each, found.limits, at) for each in entries if isinstance(each, Account)]
    print_table(
        "Limits",
        ("Limit", "Key", "Used", "Rate", "Outlook"),
        (
            (
                each.limit + (" (shadow)" if each.shadow else ""),
                each.key,
                str(each.used),
                each.rate,
                each.outlook,
            )
            for each in spent
        ),
    )


def _client(client: str) -> str:
    shadow, _, rest = client.rpartition("\x1f")
    return f"{rest} (shadow)" if shadow else rest


def _ago(then: int, at: int) -> str:
    age = at - then
    if age < 0:
        return ""
    unit = next((unit for longest, unit in _UNITS if age >= longest), 1000)
    return f"{duration_text(age // unit * unit)} ago"

"""
The spellings under which a value is looked up in a remote list: those of the lists in files.

They are in lower case, domains as A-labels, addresses in Postfix's internal form without quotes;
the null sender is written `<>`, as in a file.
"""

from enum import StrEnum
from typing import Final

from policyd.facts import read
from policyd.lists.entries import LONGEST_ENTRY
from policyd.lists.named import domain_keys, mail_keys
from policyd.lists.remote.settings import Holds

NULL_SENDER: Final = "<>"


class Asked(StrEnum):
    """What a value is, and so how it is spelled."""

    MAIL = "mail"
    DOMAIN = "domain"
    TEXT = "text"


TAKEN: Final = {
    Asked.MAIL: frozenset({Holds.ADDRESSES}),
    Asked.DOMAIN: frozenset({Holds.DOMAINS}),
    Asked.TEXT: frozenset({Holds.ADDRESSES, Holds.TEXTS}),
}
"""In which lists each can be looked up. Logins are often addresses."""


def keys_of(value: str, asked: Asked, recipient_delimiter: str) -> tuple[str, ...]:
    """
    Give the spellings of a value as its fact holds it; none if no list can have it.

    Left out is what servers refuse, NUL and lone surrogates, and what is longer than any entry:
    otherwise whoever sends such an address would make a look-up fail.
    """
    keys: tuple[str, ...]
    match asked:
        case Asked.MAIL if not value:
            keys = (NULL_SENDER,)
        case Asked.MAIL:
            keys = mail_keys(value, recipient_delimiter)
        case Asked.DOMAIN:
            keys = domain_keys(value)
        case Asked.TEXT:
            keys = (read.mail(value),)
    return tuple(key for key in dict.fromkeys(keys) if _can_be_an_entry(key))


def _can_be_an_entry(key: str) -> bool:
    if not key or len(key) > LONGEST_ENTRY or "\0" in key:
        return False
    return key.isascii() or not any("\ud800" <= c <= "\udfff" for c in key)

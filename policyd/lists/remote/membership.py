"""What a condition asks of a remote list: the constant that stands in its call of the check."""

from enum import StrEnum

import msgspec

from policyd.lists.remote.keys import Asked
from policyd.lists.remote.settings import RemoteList


class Word(StrEnum):
    """How a condition asks: of one value, or of several."""

    IN = "in"
    ANY_IN = "any_in"
    ALL_IN = "all_in"


class Membership(msgspec.Struct, frozen=True):
    """Which list, what kind of value is looked up in it, and how it is asked."""

    list: RemoteList
    asked: Asked
    word: Word

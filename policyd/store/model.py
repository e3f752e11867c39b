"""
What a store keeps, and what it is asked and answers: values, the same for every store.

Times are milliseconds since the epoch, and an argument: no store reads a clock for them. Keys are
texts in which nothing is quoted; U+001F (unit separator) never stands in them but where it joins.
"""

from collections.abc import Mapping
from enum import StrEnum
from typing import Final

import msgspec

SETTLED_WITHIN: Final = 3_600_000
"""Milliseconds after which what was reserved and never settled counts as spent."""
STEPS: Final = 60
"""A limit's window is counted in so many parts; what a part holds comes back when it has left."""

SHADOW: Final = "\x1fshadow"
"""How the names of accounts of rules in shadow end."""


class StoreError(Exception):
    """A store could not do what it was asked: it is down, too slow, locked, full or damaged."""


class Outcome(StrEnum):
    """What greylisting found; the values of `outcome` of policyd_greylist_outcomes_total."""

    FIRST = "first"
    EARLY = "early"
    PASSED = "passed"
    AUTO_ALLOWED = "auto_allowed"
    EXPIRED = "expired"
    REPEATED = "repeated"
    """The same message asked again: the answer is that of before, and nothing is counted."""


class Terms(msgspec.Struct, frozen=True):
    """`[greylist]`, times in milliseconds. `auto_allow_after` 0: no client is ever allowed."""

    delay: int = 300_000
    retry_window: int = 172_800_000
    lifetime: int = 3_024_000_000
    auto_allow_after: int = 5


class Message(msgspec.Struct, frozen=True):
    """
    What joins the requests of one message.

    `instance` is Postfix's (SMTPD_POLICY_README), or one that the milter made; empty: nothing
    joins them. `connection` is server address, client address and client port, joined by U+001F,
    by which a milter finds what the policy protocol reserved; empty where one of them is unknown.
    """

    instance: str = ""
    connection: str = ""


class Triplet(msgspec.Struct, frozen=True, tag="triplet"):
    """
    A client, a sender and a recipient that were seen together; it can be exported.

    `last` is when it was last seen, to the coarseness of `greylist.COARSE` of its lifetime.
    `passed`: a retry came in time. `instance`: the message whose attempt was last written.
    `expires` is when it is forgotten.
    """

    client: str
    sender: str
    recipient: str
    first: int
    last: int
    passed: bool
    expires: int
    instance: str = ""


class Client(msgspec.Struct, frozen=True, tag="client"):
    """
    What is known of a client (a provider's domain, or a network).

    `successes`: messages of it that passed and that policyd did not refuse later. `allowed`: not
    greylisted, by an operator (`by_hand`, then it never expires) or for its successes. `instance`
    is the message whose success was counted last.
    """

    client: str
    successes: int
    allowed: bool
    last: int
    expires: int
    by_hand: bool = False
    instance: str = ""


class Account(msgspec.Struct, frozen=True, tag="account"):
    """
    What one key of one limit has spent.

    `name` is `limit␟key` or, in shadow, `limit␟key␟shadow` (see account_name). `parts` holds
    amounts by the number of the part of the window in which they were admitted
    (milliseconds * STEPS // window). `level` is what is left of the burst at `at`.
    """

    name: str
    window: int
    parts: Mapping[int, int]
    level: float
    at: int
    expires: int


Entry = Triplet | Client | Account
"""What can be listed, exported and imported."""


class GreylistAsk(msgspec.Struct, frozen=True):
    """
    A question about a triplet.

    `settles`: a success is counted when the message is settled as accepted; else at once.
    """

    client: str
    sender: str
    recipient: str
    message: Message
    terms: Terms
    settles: bool


class GreylistFound(msgspec.Struct, frozen=True):
    """
    What became of it. `waits`: milliseconds until a retry is accepted, 0 if it is not greylisted.

    `late`: of a retry that is the first accepted one, milliseconds since the first attempt; else
    -1. `credited`: a success was reserved for the message, which `Store.give_back` takes back.
    """

    outcome: Outcome
    waits: int
    late: int = -1
    credited: bool = False

    @property
    def greylisted(self) -> bool:
        """Whether the client is to try again later."""
        return self.waits > 0


class Credit(msgspec.Struct, frozen=True):
    """A success of a client that is counted when its message is accepted; lifetime as in Terms."""

    client: str
    allow_after: int
    lifetime: int


class Charge(msgspec.Struct, frozen=True):
    """
    What a request would take of one account.

    `most` in a window of `window` milliseconds; at most `burst` at once, 0 for no such bound (the
    burst fills up again at the rate of most/window). `mark`: charges of one message, account and
    mark are one (empty for messages; the recipient for recipients). `settles`: it is reserved and
    will be settled; else it is spent at once.
    """

    limit: str
    account: str
    amount: int
    most: int
    window: int
    burst: int = 0
    mark: str = ""
    settles: bool = True


class Standing(msgspec.Struct, frozen=True):
    """
    What became of a charge.

    `exceeded`: it does not fit. `taken`: this very request charged it (not one before). `used`:
    what the window holds without this charge. `waits`: milliseconds until it would fit if nothing
    else came, 0 if it does; -1 if it never will.
    """

    exceeded: bool
    taken: bool
    used: int
    waits: int


class Expired(msgspec.Struct, frozen=True):
    """
    What a step of expiry did: entries dropped, reservations never settled by limit.

    `more`: there may be more to do at once.
    """

    entries: int = 0
    unsettled: Mapping[str, int] = {}
    more: bool = False


class Stats(msgspec.Struct, frozen=True):
    """How much a store holds. `octets`: on disk or in the server's memory; -1 if not known."""

    triplets: int
    clients: int
    accounts: int
    reservations: int
    octets: int


def account_name(limit: str, key: str, *, shadow: bool) -> str:
    """Name the account of a limit's key; rules in shadow have accounts of their own."""
    return f"{limit}\x1f{key}{SHADOW if shadow else ''}"

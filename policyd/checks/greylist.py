"""
The check `greylisted()`: whether a client is to try again before its mail is taken (RFC 6647).

Clients are known by their provider, senders as folded. The null sender is asked about at data, by
client and recipient alone: at rcpt it would stop callouts, which go no further and never try again.
"""

from collections.abc import Callable, Iterable
from functools import lru_cache, partial
from ipaddress import ip_address
from typing import Final

import msgspec

from policyd.checks.interface import (
    SKIP,
    Answer,
    Check,
    CheckFailedError,
    Count,
    Counting,
    Follow,
    Site,
)
from policyd.checks.keys import key_part
from policyd.checks.message import SEPARATOR, message_of
from policyd.checks.provider import client_key, network_key
from policyd.checks.sender import folded
from policyd.checks.wording import duration_text
from policyd.facts import read
from policyd.facts.table import Attributes
from policyd.smtp.stage import Stage
from policyd.store.interface import Store
from policyd.store.model import GreylistAsk, GreylistFound, Outcome, StoreError, Terms, Triplet

NAME: Final = "greylisted"
DEPENDENCY: Final = "store"
SHADOW: Final = f"shadow{SEPARATOR}"
"""Before the clients of rules in shadow, which change nothing of what is enforced."""
_CACHED: Final = 8_192
"""Addresses that are remembered to be loopback or not: ipaddress takes its time."""
SEVERAL: Final = "*"
"""For recipients at data that Postfix does not name, since there are several."""

OUTCOMES: Final = Counting(
    "policyd_greylist_outcomes_total",
    "Attempts that greylisting was asked about: the first of a triplet, one that came too early, "
    "passed, auto_allowed for the client's sake, or the first again because the retry window or "
    "the lifetime had ended (expired). A message that asks again counts once. Rules in shadow "
    "count too.",
    ("outcome",),
    tuple((outcome.value,) for outcome in Outcome if outcome is not Outcome.REPEATED),
)
DELAY: Final = Counting(
    "policyd_greylist_delay_seconds",
    "How long after its first attempt a triplet's first accepted retry came: what greylisting "
    "costs. Without rules in shadow, whose clients have nothing to retry.",
    bounds=(60, 120, 300, 600, 900, 1_800, 3_600, 7_200, 14_400, 28_800, 86_400, 172_800),
)

_NEEDS: Final = (
    *("client_address", "client_name", "client_port", "server_address"),
    *("sender", "sasl_username"),
)
_AT_DATA: Final = Follow(
    Stage.DATA,
    "sender == ''",
    "mail from the null sender",
    frozenset({"recipient", "recipient_local", "recipient_domain"}),
)
"""Postfix tells the recipient at DATA if there is one alone, as a bounce has."""
_VALUES: Final = {"retry_after": "how long until a retry is accepted"}


class GreylistSettings(msgspec.Struct, frozen=True):
    """`[greylist]`; `ipv4` and `ipv6` are the lengths of networks' prefixes."""

    terms: Terms = Terms()
    ipv4: int = 24
    ipv6: int = 64


def greylisted(
    store: Store | None, clock: Callable[[], float], settings: GreylistSettings | None = None
) -> Check:
    """
    Give the check on a store; `clock` is in seconds since the epoch.

    Without a store it is for loading only, and fails for whom it would have to look up.
    """
    return Check(
        name=NAME,
        ask=partial(_ask, store, clock),
        needs=_NEEDS,
        needs_at={Stage.RCPT: ("recipient",), Stage.DATA: ("recipient_count",)},
        results=("true", "false", "exempt"),
        remote=True,
        asks_once=True,
        on_error=SKIP,
        values=_VALUES,
        says="greylisted(): the client is to try again, as it is not known to do so",
        dependency=DEPENDENCY,
        countings=(OUTCOMES, DELAY),
        sited=True,
        stages=frozenset({Stage.RCPT, Stage.DATA}),
        configured=GreylistSettings() if settings is None else settings,
        follows={Stage.RCPT: _AT_DATA},
    )


def recipient_key(recipient: str) -> str:
    """
    Give a recipient as triplets have it: without case.

    An extension stays: to a sender, user+tag is another recipient, whom it may serve by itself.
    """
    return key_part(read.mail(recipient))


async def _ask(
    store: Store | None,
    clock: Callable[[], float],
    attributes: Attributes,
    site: Site,
    settings: GreylistSettings,
) -> Answer:
    """Ask about a triplet, unless it is exempt; CheckFailedError without the store."""
    if _exempt(attributes, site.stage):
        return Answer(False, "exempt", {"retry_after": duration_text(0)})
    if store is None:
        raise CheckFailedError("greylisting has no state where a configuration is only loaded")
    address, name = read.ip(attributes["client_address"]), read.text(attributes.get("client_name"))
    client = client_key(address, name, ipv4=settings.ipv4, ipv6=settings.ipv6)
    network = network_key(address, settings.ipv4, settings.ipv6)
    ask = GreylistAsk(
        client=SHADOW + client if site.shadow else client,
        sender=folded(read.text(attributes.get("sender"))),
        recipient=_recipient(attributes),
        message=message_of(attributes),
        terms=settings.terms,
        settles=site.settles,
    )
    others = dict.fromkeys((client, network))
    now = round(clock() * 1000)
    try:
        found = await _found(store, ask, [key for key in others if key != ask.client], now)
    except StoreError as error:
        raise CheckFailedError(f"greylisting cannot be asked: {error}", DEPENDENCY) from error
    credit = partial(store.give_back, (), ask.message, now, credit=ask.client)
    return Answer(
        found.greylisted,
        "true" if found.greylisted else "false",
        {"retry_after": duration_text(found.waits)},
        counts=_counts(found, shadow=site.shadow),
        give_back=credit if found.credited else None,
    )


def _exempt(attributes: Attributes, stage: Stage) -> bool:
    """
    Tell whether a client has no reason to wait, or nothing that it can be known by.

    A bare <postmaster> is never refused, at data neither (RFC 5321 section 4.5.1).
    """
    address = read.ip(attributes.get("client_address"))
    return (
        not address
        or read.text(attributes.get("recipient")).lower() == "postmaster"
        or _is_loopback(address)
        or attributes.get("local_submission") is True
        or bool(read.text(attributes.get("sasl_username")))
        or (not read.text(attributes.get("sender"))) is not (stage is Stage.DATA)
    )


@lru_cache(maxsize=_CACHED)
def _is_loopback(address: str) -> bool:
    return ip_address(address).is_loopback


def _recipient(attributes: Attributes) -> str:
    """Give the recipient, or at data all of them where they are told."""
    every = attributes.get("recipients")
    if isinstance(every, tuple) and every:
        return key_part(",".join(sorted({recipient_key(each) for each in every})))
    return recipient_key(read.text(attributes.get("recipient"))) or SEVERAL


async def _found(store: Store, ask: GreylistAsk, others: Iterable[str], now: int) -> GreylistFound:
    """
    Ask about a triplet; where it would wait, what is known of the client by other names counts.

    Those are its network, by which postgrey's state is imported and the client itself is known
    while its name cannot be looked up, and for a rule in shadow what is enforced. The triplet then
    is put as passed. Requests that do so at once put the same, which a store joins, and one that
    comes in between finds the triplet waiting and does as they do; so in whatever order, nobody is
    told to wait and the triplet has passed. No success is counted for a client thereby.
    """
    found = await store.greylist(ask, now)
    if not found.greylisted or found.outcome is Outcome.REPEATED:
        return found
    for client in others:
        by_name = await store.client(client, now)
        if by_name is not None and by_name.allowed:
            await store.put([_passed(ask, now, now)], now)
            return GreylistFound(Outcome.AUTO_ALLOWED, 0)
        triplet = await store.triplet(client, ask.sender, ask.recipient, now)
        if triplet is not None and (triplet.passed or now - triplet.first >= ask.terms.delay):
            await store.put([_passed(ask, triplet.first, now)], now)
            late = -1 if triplet.passed else now - triplet.first
            return GreylistFound(Outcome.PASSED, 0, late)
    return found


def _passed(ask: GreylistAsk, first: int, now: int) -> Triplet:
    return Triplet(
        client=ask.client,
        sender=ask.sender,
        recipient=ask.recipient,
        first=first,
        last=now,
        passed=True,
        expires=now + ask.terms.lifetime,
        instance=ask.message.instance,
    )


def _counts(found: GreylistFound, *, shadow: bool) -> tuple[Count, ...]:
    if found.outcome is Outcome.REPEATED:
        return ()
    outcome: Count = (OUTCOMES, (found.outcome.value,), 1)
    if found.late < 0 or shadow:
        return (outcome,)
    return (outcome, (DELAY, (), found.late / 1000))

"""
What greylisting makes of an attempt: the rules, without a store.

Memory and SQLite follow them here, Redis in a script of its own; one suite holds them together.
"""

from typing import Final

import msgspec

from policyd.store.model import Client, Credit, GreylistAsk, GreylistFound, Outcome, Triplet

COARSE: Final = 32
"""A triplet that passed is written again only when a 32nd of its lifetime has gone by."""


class Step(msgspec.Struct, frozen=True):
    """
    What an attempt comes to.

    `triplet` and `client` are to be written, None where nothing changes. `credit`: the message is
    to be noted for a success of its client, which settling counts.
    """

    found: GreylistFound
    triplet: Triplet | None = None
    client: Client | None = None
    credit: bool = False


def attempt(ask: GreylistAsk, triplet: Triplet | None, client: Client | None, now: int) -> Step:
    """Decide an attempt by what is known; `triplet` and `client` may have expired."""
    terms = ask.terms
    if client is not None and now >= client.expires and not client.by_hand:
        client = None
    if client is not None and client.allowed:
        return Step(GreylistFound(Outcome.AUTO_ALLOWED, 0), client=_seen(client, ask, now))
    if triplet is None:
        return _begun(Outcome.FIRST, ask, now)
    if now >= triplet.expires:
        return _begun(Outcome.EXPIRED, ask, now)
    waited = now - triplet.first
    if ask.message.instance and triplet.instance == ask.message.instance:
        waits = 0 if triplet.passed else max(1, terms.delay - waited)
        return Step(GreylistFound(Outcome.REPEATED, waits))
    if triplet.passed:
        return _passed(ask, triplet, client, now, late=-1)
    if waited < terms.delay:
        later = msgspec.structs.replace(triplet, last=now, instance=ask.message.instance)
        found = GreylistFound(Outcome.EARLY, terms.delay - waited)
        return Step(found, triplet=later if ask.message.instance else None)
    return _passed(ask, triplet, client, now, late=waited)


def _begun(outcome: Outcome, ask: GreylistAsk, now: int) -> Step:
    terms = ask.terms
    triplet = Triplet(
        client=ask.client,
        sender=ask.sender,
        recipient=ask.recipient,
        first=now,
        last=now,
        passed=False,
        expires=now + terms.retry_window,
        instance=ask.message.instance,
    )
    return Step(GreylistFound(outcome, max(1, terms.delay)), triplet=triplet)


def _passed(
    ask: GreylistAsk, triplet: Triplet, client: Client | None, now: int, *, late: int
) -> Step:
    terms = ask.terms
    written = None
    if not triplet.passed or now - triplet.last >= terms.lifetime // COARSE:
        written = msgspec.structs.replace(
            triplet,
            last=now,
            passed=True,
            expires=now + terms.lifetime,
            instance=ask.message.instance,
        )
    found = GreylistFound(Outcome.PASSED, 0, late)
    if not terms.auto_allow_after:
        return Step(found, triplet=written)
    if ask.settles and ask.message.instance:
        return Step(found, triplet=written, credit=True)
    credit = Credit(ask.client, terms.auto_allow_after, terms.lifetime)
    return Step(found, triplet=written, client=succeeded(credit, client, ask.message.instance, now))


def succeeded(credit: Credit, client: Client | None, instance: str, now: int) -> Client | None:
    """Count a message's success, once; enough of them allow a client. None: nothing changes."""
    if client is None or (now >= client.expires and not client.by_hand):
        client = Client(credit.client, 0, allowed=False, last=now, expires=now)
    if client.allowed or (instance and client.instance == instance):
        return None
    successes = client.successes + 1
    return msgspec.structs.replace(
        client,
        successes=successes,
        allowed=successes >= credit.allow_after,
        last=now,
        expires=now + credit.lifetime,
        instance=instance,
    )


def failed(credit: Credit, client: Client | None, instance: str) -> Client | None:
    """Take back a message's success that was counted. None: there is nothing to change."""
    if client is None:
        return None
    successes = max(0, client.successes - 1)
    return msgspec.structs.replace(
        client,
        successes=successes,
        allowed=client.by_hand or (client.allowed and successes >= credit.allow_after),
        instance="" if client.instance == instance else client.instance,
    )


def _seen(client: Client, ask: GreylistAsk, now: int) -> Client | None:
    """Give an allowed client as it is to be written; None if that can wait."""
    lifetime = ask.terms.lifetime
    if client.by_hand or now - client.last < lifetime // COARSE:
        return None
    return msgspec.structs.replace(client, last=now, expires=now + lifetime)


def joined_triplets(one: Triplet, other: Triplet) -> Triplet:
    """Make one triplet of what two stores know of it."""
    latest = max(one, other, key=lambda each: each.last)
    return msgspec.structs.replace(
        latest,
        first=min(one.first, other.first),
        passed=one.passed or other.passed,
        expires=max(one.expires, other.expires),
    )


def joined_clients(one: Client, other: Client) -> Client:
    """Make one client of what two stores know of it."""
    return Client(
        one.client,
        max(one.successes, other.successes),
        allowed=one.allowed or other.allowed,
        last=max(one.last, other.last),
        expires=max(one.expires, other.expires),
        by_hand=one.by_hand or other.by_hand,
    )

"""
The triplets of the benchmark of state: the n-th is always the same, and like those of real mail.

Seven of ten clients are registered domains, the others networks; senders and instances of messages
are as long as Postfix's are, with numbers folded as policyd folds them. Nothing follows any order.
"""

from typing import Final

from policyd.store.model import GreylistAsk, Message, Terms, Triplet

BEGIN: Final = 1_790_000_000_000
"""Milliseconds since the epoch at which all measurements begin: time is an argument of a store."""
HOUR: Final = 3_600_000
DAY: Final = 24 * HOUR
ALL_EXPIRED: Final = 2 * HOUR
"""So long after BEGIN whatever waited for a retry has expired, and nothing that had passed."""

TERMS: Final = Terms(auto_allow_after=0)
"""No client is ever allowed: each triplet is looked at, in a full store as in an empty one."""

_LETTERS: Final = "etaoinshrdlucmfwygpbvkxqjz"
_MASK: Final = 2**64 - 1
_DOMAINS: Final = 1_000_003
_RECIPIENTS: Final = 20_011
_HOSTS: Final = ("example", "example", "com.example", "org.example")
_LISTS: Final = ("news", "bounce", "info", "return")


def waits(number: int, every: int) -> bool:
    """Tell whether a triplet waits for its retry, if each `every`-th does; 0: all have passed."""
    return every > 0 and number % every == 0


def triplet(number: int, every: int = 0) -> Triplet:
    """Give a triplet; it was first seen up to 60 days before BEGIN, and last in the last day."""
    drawn = _drawn(number)
    client, sender, recipient = _key(number, drawn)
    first, last, expires = BEGIN, BEGIN, 0
    passed = not waits(number, every)
    if passed:
        last = BEGIN - drawn % (22 * HOUR)
        first = last - (drawn >> 20) % (60 * DAY)
        expires = last + TERMS.lifetime
    else:
        first = last = BEGIN + HOUR - TERMS.retry_window + drawn % HOUR
        expires = first + TERMS.retry_window
    return Triplet(
        client, sender, recipient, first, last, passed, expires, _instance(drawn, last // 1000)
    )


def ask(number: int, request: int, now: int) -> GreylistAsk:
    """Ask about a triplet for a message that nobody has asked about before."""
    client, sender, recipient = _key(number, _drawn(number))
    instance = _instance(_drawn(~request), now // 1000)
    return GreylistAsk(client, sender, recipient, Message(instance), TERMS, settles=False)


def _drawn(number: int) -> int:
    """Spread numbers over 64 bits, each to another (SplitMix64's last steps)."""
    mixed = (number + 1) * 0x9E3779B97F4A7C15 & _MASK
    mixed = (mixed ^ mixed >> 30) * 0xBF58476D1CE4E5B9 & _MASK
    mixed = (mixed ^ mixed >> 27) * 0x94D049BB133111EB & _MASK
    return mixed ^ mixed >> 31


def _key(number: int, drawn: int) -> tuple[str, str, str]:
    domain = f"{_word(drawn % _DOMAINS)}.{_HOSTS[drawn & 3]}"
    client = domain
    if drawn % 10 >= 7:
        client = f"198.{18 + (drawn & 1)}.{drawn >> 8 & 255}.0/24"
    person = f"{_word(drawn >> 24 & 0xFFFFF)}.{_word(drawn >> 44)}"
    sender = f"{person}@{domain}"
    if drawn % 3 == 0:
        sender = f"{_LISTS[drawn >> 9 & 3]}-#-{_word(drawn >> 30 & 0xFFF)}@mail.{domain}"
    # the number itself stands in it, so no two are the same
    recipient = f"{_word(number)}{(drawn >> 16) % _RECIPIENTS}@example.org"
    return client, sender, recipient


def _word(number: int) -> str:
    letters = _LETTERS[number % 26]
    while number := number // 26:
        letters += _LETTERS[number % 26]
    return letters


def _instance(drawn: int, seconds: int) -> str:
    """Name a message as Postfix does: process, second, microsecond, count (smtpd_check.c)."""
    return f"{drawn & 0xFFFFF:x}.{seconds:x}.{(drawn >> 20) % 1_000_000:x}.0"

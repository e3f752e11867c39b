"""
Who a sender is to greylisting: what stays the same from one attempt, or message, to the next.

Many envelope senders are made for one message: signed against forged bounces (BATV,
draft-levine-smtp-batv), rewritten by a forwarder (SRS), or holding the recipient and a counter, so
that a bounce tells whose it is (VERP). Folding too much does little harm, since client and
recipient stand beside the sender.
"""

import re
from functools import lru_cache
from typing import Final

from policyd.checks.keys import key_part
from policyd.dns.suffix import registered_domain
from policyd.facts import read

_CACHED: Final = 4_096

_ANY: Final = "#"
"""Stands for what changes."""

_SIGNED: Final = (
    re.compile(r"(?:ms)?prvs[0-9]?=(?:[0-9a-z]{6,}|#)=(?P<local>.+)"),  # BATV, and SparkPost's
    re.compile(r"prvs=(?P<local>.+)[=/](?:[0-9a-f]{10}|#)"),  # an early draft's
    re.compile(r"btv1==[^=]+==(?P<local>.+)"),  # Barracuda
)
_FORWARDED: Final = re.compile(r"srs0[=+-][^=]*=[^=]{1,4}=(?P<domain>[^=]+)=(?P<local>.+)")
_FORWARDED_AGAIN: Final = re.compile(
    r"srs1[=+-][^=]*=(?P<forwarder>[^=]+)=[=+-][^=]*=[^=]{1,4}=(?P<domain>[^=]+)=(?P<local>.+)"
)
_EXTENSION: Final = re.compile(r"(?<=.)\+.*")
_RECIPIENT: Final = re.compile(r"(?<=.)[-._=][^-=]*={1,2}[a-z0-9#-]+(?:\.[a-z0-9#-]+)+$")
_RANDOM: Final = ".bounces.google.com"
"""Below it, local parts are of random letters; what they stand for is in the rest of the domain."""

_IDENTIFIER: Final = re.compile(r"(?<![0-9a-z])[0-9a-f]{8,}(?:-[0-9a-f]{4,})+(?![0-9a-z])")
_WORD: Final = re.compile(r"[0-9a-z]+")
_DIGITS: Final = re.compile(r"[0-9]+")
_HEXADECIMAL: Final = re.compile(r"[0-9a-f]+")
_SEVERAL: Final = re.compile(rf"{_ANY}(?:[-._=/]*{_ANY})+")


@lru_cache(maxsize=_CACHED)
def folded(sender: str) -> str:
    """
    Give a sender without what is made for one message; the null sender stays empty.

    BATV's tag goes, SRS's hash and time, what follows a `+`, and a recipient at the end of the
    local part. Numbers and random words become `#`, in the local part and in the names of hosts
    below the registered domain. Lower case; it can stand in a key. Folding it again changes
    nothing, and what postgrey(8) makes of a sender, with `#` for numbers, folds to the same.
    """
    address = key_part(read.mail(key_part(sender)))
    local, at, domain = address.rpartition("@")
    if not at:
        return _local(domain, "")
    domain = domain.rstrip(".")
    return f"{_local(local, domain)}@{_hosts(domain)}"


def _local(local: str, domain: str) -> str:
    signed = next(filter(None, (form.fullmatch(local) for form in _SIGNED)), None)
    if signed is not None:
        return _local(signed["local"], domain)
    again = _FORWARDED_AGAIN.fullmatch(local)
    if again is not None:
        return f"srs1={_ANY}={again['forwarder']}=={_ANY}={_ANY}={_original(again)}"
    forwarded = _FORWARDED.fullmatch(local)
    if forwarded is not None:
        return f"srs0={_ANY}={_ANY}={_original(forwarded)}"
    local = _EXTENSION.sub("", local)
    while (shorter := _RECIPIENT.sub("", local)) != local:
        local = shorter
    if domain.endswith(_RANDOM):
        return _ANY
    return _fold(local)


def _original(forwarded: re.Match[str]) -> str:
    return f"{forwarded['domain']}={_local(forwarded['local'], forwarded['domain'])}"


def _hosts(domain: str) -> str:
    below = len(domain) - len(registered_domain(domain.replace(_ANY, "0")))
    return _fold(domain[:below]) + domain[below:]


def _fold(text: str) -> str:
    text = _IDENTIFIER.sub(_ANY, text)
    text = _WORD.sub(_without_numbers, text)
    return _SEVERAL.sub(_ANY, text)


def _without_numbers(found: re.Match[str]) -> str:
    """Fold a word: all of it if it has several numbers or is hexadecimal, else its number."""
    word, numbers = _DIGITS.subn(_ANY, found[0])
    if numbers > 1 or (numbers and _HEXADECIMAL.fullmatch(found[0])):
        return _ANY
    return word

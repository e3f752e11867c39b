"""What somebody has registered of a domain, by the public suffix list (publicsuffix.org)."""

import re
from functools import cache
from typing import Final

from publicsuffixlist import PublicSuffixList

_LONGEST: Final = 255  # octets of a domain (RFC 1035 section 2.3.4)
_DOMAIN: Final = re.compile(r"[a-z0-9_-]+(?:\.[a-z0-9_-]+)+")


def registered_domain(name: str) -> str:
    """
    Give the public suffix that a domain is under, and the label before it; empty if it has none.

    A domain of which a company hands out parts to its customers is a public suffix too (the
    private section of the list). `name` is as read.domain() gives it.
    """
    if len(name) > _LONGEST or _DOMAIN.fullmatch(name) is None:
        return ""
    return _suffixes().privatesuffix(name) or ""


def organizational_domain(name: str) -> str:
    """
    Give what RFC 7489 section 3.2 calls the Organizational Domain: the registered one.

    A public suffix, and a name without dots, is its own: nothing is above it, and what is below
    it belongs to others.
    """
    return registered_domain(name) or name


@cache
def _suffixes() -> PublicSuffixList:
    """Read the list, in a tenth of a second and 3 MiB, when it is first needed."""
    return PublicSuffixList()

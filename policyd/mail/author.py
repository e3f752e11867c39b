"""
Whose a message says it is: the domain of its From field (RFC 5322 section 3.6.2, RFC 7489 6.6.1).

What looks like two authors to some reader must not look like one to us, so every address that
can be made out counts: in groups, without angle brackets, behind others. What is in comments,
quoted or encoded (RFC 2047) is no address.
"""

import inspect
import re
from collections.abc import Iterable
from email.utils import getaddresses
from typing import Final

import msgspec

from policyd.facts import read

_LONGEST: Final = 16 * 1024
"""Octets of a From field that are read."""
_FOLD: Final = re.compile(r"[\r\n\t]+")
_DOMAIN: Final = re.compile(r"(?=.{1,255}$)[a-z0-9_-]{1,63}(?:\.[a-z0-9_-]{1,63})*")
_AS_BEFORE: Final = (
    {"strict": False} if "strict" in inspect.signature(getaddresses).parameters else {}
)
"""Newer Pythons give nothing at all for some fields of which older ones give every address."""


class Author(msgspec.Struct, frozen=True):
    """
    The one domain, as an A-label in lower case; without it, why there is none.

    `domains` are all that From names, each once.
    """

    domain: str = ""
    problem: str = ""
    domains: tuple[str, ...] = ()


def author_of(values: Iterable[bytes]) -> Author:
    """Read the From fields of a message, of which there should be one."""
    fields = tuple(values)
    if not fields:
        return Author(problem="no From field")
    domains: dict[str, None] = {}
    problem = f"{len(fields)} From fields" if len(fields) > 1 else ""
    for field in fields:
        found, wrong = _domains(field)
        domains.update(dict.fromkeys(found))
        problem = problem or wrong
    if not problem and len(domains) > 1:
        problem = f"From has addresses of {len(domains)} domains"
    return Author("" if problem else next(iter(domains)), problem, tuple(domains))


def _domains(field: bytes) -> tuple[list[str], str]:
    if len(field) > _LONGEST:
        return [], f"a From field of more than {_LONGEST >> 10} KiB"
    text = _FOLD.sub(" ", field.decode("utf-8", "surrogateescape")).strip()
    try:
        addresses = [address for _, address in getaddresses([text], **_AS_BEFORE) if "@" in address]
    except (ValueError, IndexError, RecursionError):  # comments within comments, a thousand deep
        return [], "a From field that cannot be read"
    if not addresses:
        return [], "no address in From"
    domains = [read.domain(address.rpartition("@")[2]) for address in addresses]
    if not all(map(_DOMAIN.fullmatch, domains)):
        return [], "an address without a domain in From"
    return domains, ""


def is_domain(name: str) -> bool:
    """Tell whether a name, as read.domain() gives it, can be one of the DNS (RFC 1035 2.3.4)."""
    return _DOMAIN.fullmatch(name) is not None

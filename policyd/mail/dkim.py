"""
DKIM (RFC 6376): what a message's signatures come to, in the words of RFC 8601 section 2.7.1.

The library is imported by the work alone (claim, key, verify), which runs beside the worker.
"""

from typing import Final

import msgspec

from policyd.dns.suffix import organizational_domain
from policyd.mail.author import Author

RESULTS: Final = ("pass", "fail", "none", "neutral", "policy", "temperror", "permerror")
MOST_VERIFIED: Final = 10
"""Signatures of a message that are verified, the topmost first: those were added last."""
MOST_SHOWN: Final = 100
"""Signatures of a message that have a result at all."""
LARGEST: Final = 128 * 1024 * 1024
"""Octets of a message whose signatures are verified."""

_BEST_FIRST: Final = ("pass", "temperror", "fail", "policy", "neutral", "permerror", "none")
"""A signature whose key could not be looked up may yet turn out to be good."""


class Signature(msgspec.Struct, frozen=True):
    """
    A signature: who signs (`d=`), by which key (`s=`), for whom (`i=`), how (`a=`), and the result.

    Domains are A-labels in lower case, and empty where they are none. `reason` says why the result
    is not pass, or what else is to be known of it.
    """

    domain: str
    selector: str
    identity: str
    algorithm: str
    result: str = "neutral"
    reason: str = ""


class DkimAnswer(msgspec.Struct, frozen=True):
    """
    The signatures of a message, the topmost first, and whose it says it is.

    The keys may be kept for `ttl` seconds.
    """

    signatures: tuple[Signature, ...]
    author: Author
    ttl: float = 0.0

    @property
    def from_domains(self) -> tuple[str, ...]:
        """Give the domains that From names."""
        return self.author.domains

    def best(self, domain: str = "") -> Signature:
        """Give the signature with the best result, of those of a domain or of all."""
        of = [each for each in self.signatures if domain in ("", each.domain)]
        unsigned = Signature("", "", "", "", "none", "no signature")
        return min(of, key=lambda each: _BEST_FIRST.index(each.result), default=unsigned)

    def aligned(self) -> Signature:
        """Give the best signature of the author's organizational domain (RFC 7489 3.1.1)."""
        own = self.author.domain and organizational_domain(self.author.domain)
        of = [each for each in self.signatures if own and own == organizational_domain(each.domain)]
        return DkimAnswer(tuple(of), self.author).best()


class ProblemError(Exception):
    """A signature is not good: says why, with its result."""

    def __init__(self, result: str, why: str) -> None:
        """Keep the result beside the reason."""
        super().__init__(why)
        self.result = result


class KeyAnswer(msgspec.Struct, frozen=True):
    """What the DNS says under a key's name: its TXT records; or why it says nothing."""

    records: tuple[bytes, ...] = ()
    failure: str = ""


Keys = dict[str, KeyAnswer]
"""What the DNS says, by the name of the key."""


class Order(msgspec.Struct, frozen=True):
    """What verifying is given beside the message: the time, and the keys that it is to use."""

    now: float
    keys: Keys = {}


class Survey(msgspec.Struct, frozen=True):
    """
    What a message's header says before anything is verified.

    `signed`, `sealed`: it has fields of DKIM, of ARC. `dkim_keys` and `arc_keys` are the names in
    the DNS of the keys that they call for.
    """

    author: Author
    signed: bool
    sealed: bool
    dkim_keys: tuple[str, ...] = ()
    arc_keys: tuple[str, ...] = ()

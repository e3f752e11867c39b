"""
An evaluation of SPF by pyspf, which asks a resolver of ours and keeps all limits of RFC 7208.

What differs from pyspf as it comes, all within section 4.6.4 unless said:

- A mechanism `mx` or `ptr` counts as one void look-up at most, however many names it leads to: the
  limit is on terms. Else a host with IPv6 would find `mx` in error as soon as three servers of
  the domain have IPv4 alone, and a client's own PTR names could make any policy one in error.
- When the addresses of a name that PTR led to cannot be had, that name is passed over; without
  PTR the mechanism does not match (section 5.5).
- The explanation is asked for when the result is fail, not before each evaluation.
- Macros are held to their grammar, and names made too long by them are cut to 253 octets by whole
  labels (section 7).
- A record and a term of it may have so many octets and no more.
"""

import re
from collections.abc import Callable, Iterable, Iterator
from ipaddress import ip_network
from typing import Any, Final

import spf

from policyd.dns.answer import BlockingResolver, DnsError, Found, Kind
from policyd.mail.spf import LONGEST_TEXT, SpfAnswer, SpfEvaluation, SpfQuestion

LONGEST_RECORD: Final = 8_192
"""Octets of a record. Section 3.4 recommends what fits into 512 with the rest of an answer."""
LONGEST_TERM: Final = 512
"""Octets of a mechanism or modifier: twice a domain. pyspf takes quadratic time over one."""

_LONGEST_NAME: Final = 253
_LONGEST_LABEL: Final = 63
_MACRO: Final = re.compile(
    r"%(?:[%_-]|\{(?P<letter>[slodiphcrtv])0*(?P<digits>[1-9][0-9]{0,2})?(?P<reverse>r?)"
    r"(?P<delimiters>[-.+,/_=]*)\})",
    re.IGNORECASE,
)
_ZERO: Final = re.compile(r"%\{.0+[^0-9]")


def evaluate(
    question: SpfQuestion, resolver: BlockingResolver, clock: Callable[[], float]
) -> SpfEvaluation:
    """
    Evaluate; `clock` gives seconds of a monotonic clock.

    A question that the DNS does not answer makes the result temperror, and so does time.
    """
    return _Query(question, resolver, clock).evaluate()


class _Query(spf.query):
    """One evaluation."""

    def __init__(
        self, question: SpfQuestion, resolver: BlockingResolver, clock: Callable[[], float]
    ) -> None:
        super().__init__(
            i=question.address,
            s=f"{question.local}@{question.domain}",
            h=question.helo,
            receiver=question.receiver,
            strict=True,
        )
        # pyspf takes what follows the first `@` for the domain: a quoted local part can have one
        self.l = question.local
        self.o = self.d = question.domain
        self._question = question
        self._resolver = resolver
        self._clock = clock
        self._deadline = clock() + question.seconds
        self._asked: dict[tuple[str, str], Found] = {}
        self._depth = 0
        self._explains: tuple[str, str] | None = None
        self._personal = False

    def evaluate(self) -> SpfEvaluation:
        result, _, says = self.check()
        answer = SpfAnswer(
            result,
            self._question.identity,
            self._question.domain,
            self._reason(result, says)[:LONGEST_TEXT],
            self._explanation() if result == "fail" else "",
            min((found.ttl for found in self._asked.values()), default=0.0),
        )
        return SpfEvaluation(answer, self._personal)

    def _reason(self, result: str, says: str) -> str:
        if result in {"temperror", "permerror"}:
            return says.partition(": ")[2]
        if result == "none":
            return f"{self.o} has no SPF record"
        return self.mechanism or "no mechanism matches"

    def _explanation(self) -> str:
        if self._explains is None:
            return ""
        name, self.d = self._explains
        try:
            return (super().get_explanation(name) or "")[:LONGEST_TEXT]
        except spf.TempError:
            return ""

    # what pyspf calls

    def check0(self, spf_record: str | None, recursion: int) -> tuple[str, int, str]:
        """Evaluate a record; `recursion` is 0 for the domain's own, and one it redirects to."""
        record = spf_record or ""
        if len(record) > LONGEST_RECORD:
            raise spf.PermError(f"A record of more than {LONGEST_RECORD} octets")
        if any(len(term) > LONGEST_TERM for term in record.split(" ")):
            raise spf.PermError(f"A term of more than {LONGEST_TERM} octets")
        self._depth = recursion
        if not recursion:
            self._explains = None
        return super().check0(spf_record, recursion)

    def get_explanation(self, spec: str) -> None:
        """Remember where the explanation is, of the domain itself."""
        if not self._depth:
            self._explains = (spec, self.d)

    def expand(self, s: str, stripdot: bool = True) -> str:
        """Expand macros, of a domain with `stripdot` or else of an explanation."""
        if stripdot:
            name = super().expand(self._checked(s))
            while len(name) > _LONGEST_NAME and "." in name:
                name = name.partition(".")[2]
            return name
        # a word at a time: pyspf shortens whatever is longer than a domain, from the left
        words: list[str] = []
        length = 0
        for word in s.split(" "):
            words.append(super().expand(self._checked(word), stripdot=False))
            length += len(words[-1]) + 1
            if length > LONGEST_TEXT:
                break
        return " ".join(words)

    def _checked(self, text: str) -> str:
        """Refuse what is no macro, and write the others as pyspf reads them."""
        if "%" not in text:
            return text
        if len(text) > LONGEST_TERM or _ZERO.search(text) or "%" in _MACRO.sub("", text):
            raise spf.PermError("Invalid macro", text)
        return _MACRO.sub(self._plain, text)

    def _plain(self, macro: re.Match[str]) -> str:
        letter = macro["letter"]
        if letter is None:
            return macro[0]
        if letter.lower() in {"s", "l", "h"}:
            self._personal = True
        parts = (letter, macro["digits"] or "", macro["reverse"].lower(), macro["delimiters"])
        return f"%{{{''.join(parts)}}}"

    def dns_mx(self, domainname: str) -> Iterator[str]:
        """Give the addresses of the servers of a domain, as far as they are wanted."""
        servers = self.dns(domainname, "MX")
        if len(servers) > spf.MAX_MX:
            raise spf.PermError(f"More than {spf.MAX_MX} MX records returned")
        return self._addresses(server for _, server in sorted(servers))

    def _addresses(self, names: Iterable[str]) -> Iterator[str]:
        voids = 0
        for name in names:
            addresses = self.dns(name, self.A, ignore_void=True) if name else []
            if not addresses:
                voids += 1
                if voids == 1:
                    self._count_void()
            yield from addresses

    def validated_ptrs(self) -> list[str]:
        """Give the names of the client that lead back to its address."""
        try:
            names = self.dns_ptr(self.i)[: spf.MAX_PTR]
        except spf.TempError:
            return []
        validated: list[str] = []
        voids = 0
        for name in names:
            try:
                addresses = self.dns(name, self.A, ignore_void=True)
            except spf.TempError:
                continue
            voids += not addresses
            if self.cidrmatch(addresses, self.cidrmax):
                validated.append(name)
        if voids:
            self._count_void()
        return validated

    def cidrmatch(self, ipaddrs: Iterable[str], n: int) -> bool:
        """Tell whether the client is in the network of one of the addresses."""
        try:
            return any(self.ipaddr in ip_network((each, n), strict=False) for each in ipaddrs)
        except ValueError as error:
            raise spf.PermError(str(error)) from error

    def dns(
        self, name: str, qtype: str, cnames: object = None, ignore_void: bool = False
    ) -> list[Any]:
        """Ask for records; CNAMEs are the resolver's business."""
        del cnames
        name = name.removesuffix(".").lower()
        if not _in_dns(name):
            return []
        found = self._asked.get((name, qtype))
        if found is None:
            found = self._asked[name, qtype] = self._ask(name, Kind(qtype))
        values = list(_values(found, Kind(qtype)))
        if not values and not ignore_void:
            self._count_void()
        return values

    def _ask(self, name: str, kind: Kind) -> Found:
        if self._clock() >= self._deadline:
            raise spf.TempError(f"More than {self._question.seconds:g} s")
        try:
            return self._resolver.ask(name, kind)
        except DnsError as error:
            raise spf.TempError(str(error)) from error

    def _count_void(self) -> None:
        self.void_lookups += 1
        if self.void_lookups > spf.MAX_VOID_LOOKUPS:
            raise spf.PermError(f"Void lookup limit of {spf.MAX_VOID_LOOKUPS} exceeded")


def _in_dns(name: str) -> bool:
    return (
        name.isascii()
        and len(name) <= _LONGEST_NAME
        and all(0 < len(label) <= _LONGEST_LABEL for label in name.split("."))
    )


def _values(found: Found, kind: Kind) -> Iterator[object]:
    """Give records as pyspf has them from dnspython."""
    for record in found.records:
        if record.kind is not kind:
            continue
        if kind is Kind.MX:
            yield record.preference, record.value
        elif kind is Kind.TXT:
            yield (record.value.encode("ascii", "surrogateescape"),)
        else:
            yield record.value

"""
DMARC (RFC 7489): what a domain's owner asks for mail that is not its own, and whether this is.

Records are read by the package `dmarc`. Alignment is judged here, by the public suffix list: the
package takes any parent of a domain for aligned, a public suffix too.
"""

import re
from collections.abc import Iterable
from typing import Final

import dmarc
import msgspec

from policyd.dns.suffix import organizational_domain
from policyd.mail.dkim import Signature
from policyd.mail.spf import SpfAnswer

RESULTS: Final = ("pass", "none", "quarantine", "reject", "temperror", "permerror")

_LONGEST: Final = 8192
"""Characters of a record that is read."""
_VERSION: Final = re.compile(r"v[ \t]*=[ \t]*DMARC1[ \t]*(?:;|$)")
_TAG: Final = re.compile(r"[ \t]*([A-Za-z]+)[ \t]*=([!-~ \t]*)")
_PERCENT: Final = re.compile(r"[0-9]{1,3}")
_MAILTO: Final = re.compile(r"[a-z][a-z0-9+.-]*:[^ \t,!]+(?:![0-9]+[kmgt]?)?", re.IGNORECASE)
_WEAKER: Final = {"reject": "quarantine", "quarantine": "none", "none": "none"}
_STRICT: Final = dmarc.DMARCAlignment.STRICT


class Policy(msgspec.Struct, frozen=True):
    """
    What `domain` asks for: with mail of its own (`p=`) and of its subdomains (`sp=`).

    `percent` is of how much mail it asks that; the rest gets the next weaker. `t=y`, of the
    successor of RFC 7489, is 0.
    """

    domain: str
    own: str
    subdomains: str
    strict_dkim: bool = False
    strict_spf: bool = False
    percent: int = 100

    def asks(self, author: str, draw: float) -> tuple[str, str]:
        """
        Give what is asked for an author's domain, and of one message by `draw`, from 0 to below 1.

        What is not sampled gets the next weaker (section 6.6.4).
        """
        published = self.own if author == self.domain else self.subdomains
        sampled = draw * 100 < self.percent
        return published, published if sampled else _WEAKER[published]


class DmarcAnswer(msgspec.Struct, frozen=True):
    """
    What is asked for a message, and why.

    `result` is `none` too where the message fails and nothing is asked. `domain` is the author's,
    `policy` what its owner has published for it, empty without a record.
    """

    result: str
    domain: str
    policy: str = ""
    reason: str = ""
    aligned_spf: bool = False
    aligned_dkim: bool = False


def policy_of(domain: str, records: Iterable[str]) -> Policy | None:
    """
    Read the TXT records of a domain's `_dmarc` name (section 6.6.3); None if they say nothing.

    Several records of DMARC are none. Without a p= that is one, or with an sp= that is none, a
    record is p=none if it names where reports go, and else none either.
    """
    found = [text for text in records if _VERSION.match(text) and len(text) <= _LONGEST]
    if len(found) != 1:
        return None
    tags = _tags(found[0])
    parsed = dmarc.Policy("DMARC1", domain)
    asked = [tags[name].lower() for name in ("p", "sp") if name in tags]
    if "p" not in tags or not set(asked) <= _WEAKER.keys():
        if not any(_MAILTO.fullmatch(uri.strip()) for uri in tags.get("rua", "").split(",")):
            return None
        tags = tags | {"p": "none", "sp": "none"}
    record = ";".join(f"{name}={value}" for name, value in ({"v": "DMARC1"} | tags).items())
    try:
        parsed.parse_record(record, strict=False)
    except dmarc.RecordSyntaxError:
        return None
    return Policy(
        domain,
        str(parsed.p.value),
        str(parsed.sp.value or parsed.p.value),
        parsed.adkim is _STRICT,
        parsed.aspf is _STRICT,
        min(parsed.pct, 100),
    )


def _tags(record: str) -> dict[str, str]:
    """Take a record apart; what is no tag is left out (section 6.3), and so is no percentage."""
    tags: dict[str, str] = {}
    for part in record.split(";"):
        found = _TAG.fullmatch(part)
        if found is not None:
            tags.setdefault(found[1].lower(), found[2].strip())
    if _PERCENT.fullmatch(tags.get("pct", "0")) is None:
        del tags["pct"]
    if tags.get("t", "").lower() == "n":  # for the package it is pct=100
        del tags["t"]
    return tags


def aligned(author: str, domain: str, *, strict: bool) -> bool:
    """Tell whether a domain speaks for the author's (section 3.1)."""
    if not author or not domain:
        return False
    if strict:
        return author == domain
    return organizational_domain(author) == organizational_domain(domain)


def evaluate(
    author: str,
    policy: Policy | None,
    spf: SpfAnswer,
    signatures: Iterable[Signature],
    *,
    draw: float,
) -> DmarcAnswer:
    """
    Give what is asked for a message of an author's domain (section 6.6.2); `draw` as for asks().

    A temporary error counts only where a pass would have been aligned, and something is asked.
    """
    if policy is None:
        return DmarcAnswer("none", author, "", f"{author} has no DMARC record")
    of = {
        each.result
        for each in signatures
        if aligned(author, each.domain, strict=policy.strict_dkim)
    }
    by_spf = spf.result if aligned(author, spf.domain, strict=policy.strict_spf) else ""
    published, asked = policy.asks(author, draw)
    passes = {"aligned_spf": by_spf == "pass", "aligned_dkim": "pass" in of}
    if any(passes.values()):
        by = " and ".join(
            word for word, yes in zip(("SPF", "DKIM"), passes.values(), strict=True) if yes
        )
        return DmarcAnswer("pass", author, published, f"{by} aligned", **passes)
    if asked != "none" and "temperror" in of | {by_spf}:
        what = "SPF" if by_spf == "temperror" else "DKIM"
        return DmarcAnswer("temperror", author, published, f"a temporary error of aligned {what}")
    reason = f"SPF {spf.result} for {spf.domain or 'nobody'}, no aligned DKIM signature is good"
    if asked != published:
        reason = f"{asked} instead of {published}: not sampled, or testing; {reason}"
    return DmarcAnswer(asked, author, published, reason)

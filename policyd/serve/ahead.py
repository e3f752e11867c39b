"""What a policy will need of helper processes and data: made ready before mail waits for it."""

from typing import Final

from policyd.dns.suffix import registered_domain
from policyd.mail.stamping import Method, Stamping
from policyd.rules.policy import Policy
from policyd.serve.asked import Asked

SPF: Final = frozenset({"spf", "spf_helo", "dmarc"})
SIGNATURES: Final = frozenset({"dkim", "dkim_aligned", "dkim_of", "arc", "arc_sealer", "dmarc"})
CONTENT: Final = frozenset({"file_types", "archived", "mime_defects"})
SUFFIXES: Final = frozenset({"greylisted", "registered_domain", "dkim_aligned", "dmarc"})
"""The checks that ask for the domain that somebody has registered."""


def make_ready(asked: Asked, policy: Policy) -> None:
    """Start the helpers for a policy's checks and results, and read the public suffix list."""
    asks = policy.asks | _written(policy.stamping)
    if asks & SPF:
        asked.brief.start("policyd.mail.spf_work")
    if asks & SIGNATURES:
        asked.heavy.start("policyd.mail.signature_work")
    if asks & CONTENT:
        asked.heavy.start("policyd.mail.content_work")
    if asks & SUFFIXES:
        registered_domain("example.org")


def _written(stamping: Stamping | None) -> frozenset[str]:
    """Give the methods that are written above messages, by the names of their checks."""
    if stamping is None:
        return frozenset()
    received = {Method.SPF} if stamping.received_spf else set()
    return frozenset(map(str, {*stamping.results, *received}))

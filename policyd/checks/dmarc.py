"""The check of DMARC."""

from policyd.checks.interface import Check
from policyd.checks.signatures import Signatures
from policyd.checks.spf import SenderPolicy
from policyd.dns.answer import Resolver


def checks(
    _resolver: Resolver | None, _sender: SenderPolicy, _signatures: Signatures
) -> tuple[Check, ...]:
    """Give the checks."""
    return ()

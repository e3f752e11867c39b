"""
The check `dmarc()`: what the domain in From asks for mail that nothing shows to be its own.

RFC 7489. A message is evaluated once, whoever asks; the record, SPF and DKIM are asked at the
same time. What the DNS does not answer is the result temperror; only a fault of ours fails.
"""

import asyncio
import random
from collections.abc import Callable
from typing import Final

from policyd.checks.interface import Answer, Check, CheckFailedError
from policyd.checks.signatures import Signatures, arrived
from policyd.checks.spf import SenderPolicy
from policyd.dns.answer import DEPENDENCY, DnsError, Kind, Resolver
from policyd.dns.suffix import organizational_domain
from policyd.facts.table import Attributes, FactType
from policyd.mail.dmarc import RESULTS, DmarcAnswer, Policy, evaluate, policy_of
from policyd.mail.spf import Identity

_LONGEST_TEXT: Final = 200
_VALUES: Final = {
    "dmarc_domain": "the domain in From",
    "dmarc_policy": "what its owner asks for it: none, quarantine, reject; empty if nothing",
    "dmarc_reason": "what passed, or why nothing did",
}


class DomainPolicy:
    """
    Evaluates DMARC; `draw` gives a random number from 0 to below 1, for records with pct=.

    Without a resolver it is for loading only, and fails.
    """

    def __init__(
        self,
        resolver: Resolver | None,
        sender: SenderPolicy,
        signatures: Signatures,
        draw: Callable[[], float] = random.random,
    ) -> None:
        """Begin with nothing evaluated."""
        self._resolver = resolver
        self._sender = sender
        self._signatures = signatures
        self._draw = draw

    async def evaluate(self, attributes: Attributes) -> DmarcAnswer:
        """Give what is asked for a message; CheckFailedError if a fault of ours prevents it."""
        if self._resolver is None:
            raise CheckFailedError("DMARC is not evaluated where a configuration is only loaded")
        resolver = self._resolver
        return await arrived(attributes).once("dmarc", lambda: self._evaluate(resolver, attributes))

    async def _evaluate(self, resolver: Resolver, attributes: Attributes) -> DmarcAnswer:
        author = (await self._signatures.survey(attributes)).author
        if not author.domain:
            return DmarcAnswer("permerror", "", "", author.problem)
        policy = asyncio.ensure_future(discover(resolver, author.domain))
        spf = asyncio.ensure_future(self._sender.evaluate(attributes, Identity.MAIL_FROM))
        dkim = asyncio.ensure_future(self._signatures.dkim(attributes))
        # none is left running behind what another raises
        await asyncio.gather(policy, spf, dkim, return_exceptions=True)
        signatures = dkim.result().signatures
        try:
            found = policy.result()
        except DnsError as error:
            return DmarcAnswer("temperror", author.domain, "", f"no answer about it: {error}")
        return evaluate(author.domain, found, spf.result(), signatures, draw=self._draw())


async def discover(resolver: Resolver, author: str) -> Policy | None:
    """
    Find the record that applies to an author's domain (RFC 7489 section 6.6.3).

    Its own and that of its organizational domain are asked for at once. DnsError if the DNS does
    not tell which applies.
    """
    domains = tuple(dict.fromkeys((author, organizational_domain(author))))
    asked = [asyncio.ensure_future(_policy(resolver, domain)) for domain in domains]
    await asyncio.gather(*asked, return_exceptions=True)
    policies = (each.result() for each in asked)  # with its own, the other is not needed
    return next((policy for policy in policies if policy is not None), None)


async def _policy(resolver: Resolver, domain: str) -> Policy | None:
    found = await resolver.ask(f"_dmarc.{domain}", Kind.TXT)
    return policy_of(domain, found.values(Kind.TXT))


def checks(
    resolver: Resolver | None, sender: SenderPolicy, signatures: Signatures
) -> tuple[Check, ...]:
    """Give the check."""
    domain_policy = DomainPolicy(resolver, sender, signatures)

    async def ask(attributes: Attributes) -> Answer:
        answer = await domain_policy.evaluate(attributes)
        values = (answer.domain, answer.policy, answer.reason)
        shown = dict(zip(_VALUES, (value[:_LONGEST_TEXT] for value in values), strict=True))
        return Answer(answer.result, answer.result, shown)

    return (
        Check(
            "dmarc",
            ask,
            needs=("client_address", "helo_name", "sender", "message"),
            result=FactType.TEXT,
            results=RESULTS,
            remote=True,
            values=_VALUES,
            says="dmarc(): what the domain in From asks for this mail",
            dependency=DEPENDENCY,
        ),
    )

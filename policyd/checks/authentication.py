"""
Who a message is from: SPF, DKIM, ARC and DMARC, for checks and for what is written above messages.

All who ask share the answers: of SPF for as long as they may be kept, of the others with a message.
"""

import asyncio
from collections.abc import Awaitable, Callable, Collection
from typing import Final

from policyd.checks.dmarc import DomainPolicy
from policyd.checks.signatures import Signatures
from policyd.checks.spf import SenderPolicy
from policyd.dns.answer import Resolver
from policyd.facts.table import Attributes
from policyd.mail.results import Results
from policyd.mail.spf import Identity, SpfAnswer
from policyd.mail.stamping import Method
from policyd.processes.work import Runner

EVALUATED: Final = frozenset({Method.SPF, Method.DKIM, Method.DMARC, Method.ARC})
"""The methods that ask the DNS; of the others the SMTP session tells."""


class Authentication:
    """The answers' makers; without resolver and runners for loading only, where they fail."""

    def __init__(
        self, resolver: Resolver | None, brief: Runner | None, heavy: Runner | None
    ) -> None:
        """Ask by a resolver and runners: `brief` for SPF, `heavy` for what reads messages."""
        self.sender = SenderPolicy(brief)
        self.signed = Signatures(heavy, resolver)
        self.domains = DomainPolicy(resolver, self.sender, self.signed)
        self._evaluate: dict[Method, Callable[[Attributes], Awaitable[object]]] = {
            Method.SPF: self._spf,
            Method.DKIM: self.signed.dkim,
            Method.DMARC: self.domains.evaluate,
            Method.ARC: self.signed.arc,
        }

    async def results(
        self, attributes: Attributes, methods: Collection[Method], seconds: float
    ) -> tuple[Results, tuple[str, ...]]:
        """Give the answers of these methods within so many seconds, and why others are missing."""
        tasks = {
            method: asyncio.ensure_future(self._evaluate[method](attributes))
            for method in methods
            if method in EVALUATED
        }
        if not tasks:
            return Results(), ()
        _, late = await asyncio.wait(tasks.values(), timeout=seconds)
        for task in late:
            task.cancel()
        ended = await asyncio.gather(*tasks.values(), return_exceptions=True)
        answers: dict[str, object] = {}
        failures = []
        for (method, task), answer in zip(tasks.items(), ended, strict=True):
            if task in late:
                failures.append(f"{method}: no answer within {seconds:g} s")
            elif isinstance(answer, BaseException):
                failures.append(f"{method}: {str(answer) or type(answer).__name__}")
            else:
                answers[method] = answer
        return Results(**answers), tuple(failures)  # type: ignore[arg-type]  # by their names

    async def _spf(self, attributes: Attributes) -> SpfAnswer:
        return await self.sender.evaluate(attributes, Identity.MAIL_FROM)

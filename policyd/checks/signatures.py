"""
The checks of signatures: `dkim()`, `dkim_aligned()`, `dkim_of()`, `arc()` and `arc_sealer()`.

A message is verified once, whoever asks. What the DNS does not answer is the result temperror;
only where a truth value or a domain is to be told does it fail the check.
"""

import asyncio
import time
from collections.abc import Callable
from typing import Final, TypeVar, cast

import msgspec

from policyd.checks.interface import Answer, Check, CheckFailedError
from policyd.dns.answer import DEPENDENCY, DnsError, Found, Kind, Resolver
from policyd.facts.table import Attributes, FactType
from policyd.mail import arc, dkim
from policyd.mail.arc import ArcAnswer
from policyd.mail.arrived import Arrived, UnreadableError
from policyd.mail.dkim import DkimAnswer, KeyAnswer, Order, Signature, Survey
from policyd.processes.work import Runner, WorkError

LIMIT: Final = 6.0
"""Seconds for a piece of work; the largest message, signed in both forms, takes 1 to 3."""

_WORK: Final = "policyd.mail.signature_work"
_LONGEST_TEXT: Final = 200
_DKIM_VALUES: Final = {
    "dkim_domain": "the domain of the best signature (d=)",
    "dkim_selector": "its selector (s=)",
    "dkim_reason": "why it is not good",
}
_ARC_VALUES: Final = {"arc_reason": "why the chain does not pass"}

T = TypeVar("T")


class Signatures:
    """
    Verifies the signatures of messages by a runner, with keys that a resolver is asked for.

    Without them it is for loading only, and fails. `clock` gives seconds since the epoch.
    """

    def __init__(
        self,
        runner: Runner | None,
        resolver: Resolver | None,
        *,
        clock: Callable[[], float] = time.time,
    ) -> None:
        """Begin with nothing verified."""
        self._runner = runner
        self._resolver = resolver
        self._clock = clock

    async def survey(self, attributes: Attributes) -> Survey:
        """Give what the header says; CheckFailedError if a fault of ours prevents it."""
        message = arrived(attributes)
        return await message.once(
            "survey", lambda: self._work("survey", message, Order(self._clock()), Survey)
        )

    async def dkim(self, attributes: Attributes) -> DkimAnswer:
        """Give the result of each signature; CheckFailedError if a fault of ours prevents it."""
        message = arrived(attributes)
        return await message.once("dkim", lambda: self._dkim(message, attributes))

    async def arc(self, attributes: Attributes) -> ArcAnswer:
        """Give the result of the chain; CheckFailedError if a fault of ours prevents it."""
        message = arrived(attributes)
        return await message.once("arc", lambda: self._arc(message, attributes))

    async def _dkim(self, message: Arrived, attributes: Attributes) -> DkimAnswer:
        survey = await self.survey(attributes)
        if not survey.signed:
            return DkimAnswer((), survey.author)
        keys, ttl = await self._keys(survey.dkim_keys)
        order = Order(self._clock(), keys)
        answer = await self._work("dkim", message, order, DkimAnswer)
        return msgspec.structs.replace(answer, ttl=ttl)

    async def _arc(self, message: Arrived, attributes: Attributes) -> ArcAnswer:
        survey = await self.survey(attributes)
        if not survey.sealed:
            return ArcAnswer("none", "the message is not sealed")
        keys, _ = await self._keys(survey.arc_keys)
        return await self._work("arc", message, Order(self._clock(), keys), ArcAnswer)

    async def _keys(self, names: tuple[str, ...]) -> tuple[dict[str, KeyAnswer], float]:
        """Ask for all keys at once; with them, how long they may be kept."""
        asked = await asyncio.gather(*map(self._key, names))
        ttl = min((ttl for _, ttl in asked), default=0.0)
        return {name: key for name, (key, _) in zip(names, asked, strict=True)}, ttl

    async def _key(self, name: str) -> tuple[KeyAnswer, float]:
        if self._resolver is None:
            raise CheckFailedError("signatures are not verified here")
        try:
            found: Found = await self._resolver.ask(name, Kind.TXT)
        except DnsError as error:
            return KeyAnswer(failure=str(error)), 0.0
        texts = found.values(Kind.TXT)
        return KeyAnswer(tuple(t.encode("utf-8", "surrogateescape") for t in texts)), found.ttl

    async def _work(self, work: str, message: Arrived, order: Order, kind: type[T]) -> T:
        if self._runner is None:
            raise CheckFailedError("signatures are not verified where a configuration is loaded")
        try:
            result = await self._runner.run(
                f"{_WORK}:{work}",
                msgspec.msgpack.encode(order),
                limit=LIMIT,
                descriptors=[message.descriptor()],
            )
        except (WorkError, UnreadableError) as error:
            raise CheckFailedError(f"signatures cannot be verified: {error}") from error
        return msgspec.msgpack.decode(result, type=kind)


def arrived(attributes: Attributes) -> Arrived:
    """Give the message that a request is about; CheckFailedError if there is none."""
    message = attributes.get("message")
    if message is None:
        raise CheckFailedError("there is no message to verify")
    return cast("Arrived", message)


def checks(signatures: Signatures) -> tuple[Check, ...]:
    """Give the checks, which ask Signatures."""

    async def ask_dkim(attributes: Attributes) -> Answer:
        best = (await signatures.dkim(attributes)).best()
        return Answer(best.result, best.result, _shown(best))

    async def ask_aligned(attributes: Attributes) -> Answer:
        best = (await signatures.dkim(attributes)).aligned()
        if best.result == "temperror":
            raise CheckFailedError(best.reason, DEPENDENCY)
        passes = best.result == "pass"
        return Answer(passes, "true" if passes else "false", _shown(best))

    async def ask_of(attributes: Attributes, domain: str) -> Answer:
        answer = await signatures.dkim(attributes)
        best = answer.best(domain) if domain else DkimAnswer((), answer.author).best()
        return Answer(best.result, best.result, _shown(best))

    async def ask_arc(attributes: Attributes) -> Answer:
        answer = await signatures.arc(attributes)
        return Answer(answer.result, answer.result, _why(answer))

    async def ask_sealer(attributes: Attributes) -> Answer:
        answer = await signatures.arc(attributes)
        if answer.result == "temperror":
            raise CheckFailedError(answer.reason, DEPENDENCY)
        return Answer(answer.sealer, answer.result, _why(answer))

    text, domain = FactType.TEXT, FactType.DOMAIN
    return (
        _check("dkim", ask_dkim, text, "dkim(): the best result of the message's signatures"),
        _check(
            "dkim_aligned",
            ask_aligned,
            FactType.TRUTH,
            "dkim_aligned(): a signature of the author's organizational domain is good",
        ),
        _check(
            "dkim_of",
            ask_of,
            text,
            "dkim_of(DOMAIN): the best result of that domain's signatures",
            parameters=(domain,),
        ),
        _check("arc", ask_arc, text, "arc(): what the chain of ARC seals comes to"),
        _check("arc_sealer", ask_sealer, domain, "arc_sealer(): who sealed last, if arc() passes"),
    )


def _check(
    name: str,
    ask: Callable[..., object],
    result: FactType,
    says: str,
    parameters: tuple[FactType, ...] = (),
) -> Check:
    of_arc = name.startswith("arc")
    every = arc.RESULTS if of_arc else dkim.RESULTS
    return Check(
        name,
        ask,  # type: ignore[arg-type]  # all are coroutine functions with their own parameters
        parameters,
        needs=("message",),
        result=result,
        results=("true", "false") if result is FactType.TRUTH else every,
        remote=True,
        values=_ARC_VALUES if of_arc else _DKIM_VALUES,
        says=says,
        dependency=DEPENDENCY,
    )


def _shown(signature: Signature) -> dict[str, str]:
    values = (signature.domain, signature.selector, signature.reason)
    return dict(zip(_DKIM_VALUES, (value[:_LONGEST_TEXT] for value in values), strict=True))


def _why(answer: ArcAnswer) -> dict[str, str]:
    return {"arc_reason": answer.reason[:_LONGEST_TEXT]}

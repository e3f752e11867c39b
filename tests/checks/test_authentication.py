"""Who a message is from: what is found out in time, and what is told of the rest."""

import asyncio
from typing import Any, Final

import msgspec

from policyd.checks.authentication import Authentication
from policyd.dns.answer import Found
from policyd.mail.results import Results
from policyd.mail.spf import Identity, SpfAnswer, SpfEvaluation
from policyd.mail.spool import Spool
from policyd.mail.stamping import Method
from policyd.processes.work import WorkError

ENVELOPE: Final = {
    "client_address": "192.0.2.1",
    "helo_name": "mail.example.net",
    "sender": "jo@example.net",
}
ANSWER: Final = SpfAnswer("pass", Identity.MAIL_FROM, "example.net", "mx", ttl=60.0)


class Answering:
    """Does all work at once."""

    def __init__(self) -> None:
        self.asked = 0

    async def run(self, *_: object, **__: object) -> bytes:
        self.asked += 1
        return msgspec.msgpack.encode(SpfEvaluation(ANSWER, personal=False))


class Endless:
    """Never comes to an end."""

    async def run(self, *_: object, **__: object) -> bytes:
        await asyncio.Event().wait()
        raise AssertionError


class Failing:
    """Fails at all work."""

    async def run(self, *_: object, **__: object) -> bytes:
        raise WorkError("the process ended")


class Nobody:
    """A resolver whose names have no records."""

    async def ask(self, *_: object) -> Found:
        return Found(records=())


def found(authentication: Authentication, *methods: Method, seconds: float = 5.0) -> Any:
    async def scene() -> tuple[Results, tuple[str, ...]]:
        spool = Spool()
        spool.header("From", b" jo@example.net")
        try:
            return await authentication.results({**ENVELOPE, "message": spool}, methods, seconds)
        finally:
            spool.drop()
            await asyncio.sleep(0)

    return asyncio.run(scene())


def test_what_the_session_tells_is_not_asked_for() -> None:
    nothing = Authentication(None, None, None)
    assert found(nothing, Method.IPREV, Method.AUTH) == (Results(), ())


def test_an_answer_is_shared_with_the_checks() -> None:
    async def scene() -> None:
        runner = Answering()
        authentication = Authentication(None, runner, None)
        await authentication.sender.evaluate(ENVELOPE, Identity.MAIL_FROM)
        results, failures = await authentication.results(ENVELOPE, [Method.SPF], 5.0)
        assert (results.spf, failures, runner.asked) == (ANSWER, (), 1)

    asyncio.run(scene())


def test_what_is_not_found_out_in_time_is_missing_and_told() -> None:
    authentication = Authentication(Nobody(), Answering(), Endless())
    methods = (Method.SPF, Method.DKIM, Method.DMARC, Method.ARC)
    results, failures = found(authentication, *methods, seconds=0.05)
    assert results == Results(spf=ANSWER)
    assert failures == (
        "dkim: no answer within 0.05 s",
        "dmarc: no answer within 0.05 s",
        "arc: no answer within 0.05 s",
    )


def test_what_cannot_be_found_out_is_missing_and_told() -> None:
    authentication = Authentication(Nobody(), Answering(), Failing())
    results, failures = found(authentication, Method.DKIM, Method.SPF)
    assert results == Results(spf=ANSWER)
    (failure,) = failures
    assert failure.startswith("dkim: ")
    assert "the process ended" in failure


def test_where_nothing_can_be_asked_all_is_missing() -> None:
    results, failures = found(Authentication(None, None, None), Method.SPF, Method.ARC)
    assert results == Results()
    assert [failure.partition(":")[0] for failure in failures] == ["spf", "arc"]

"""What is written above messages never fails, and what it lacks is told."""

import asyncio
from typing import Final

from policyd.mail.results import Results
from policyd.mail.stamping import Method, Stamping
from policyd.service.stamping import Stamper, methods_of, name_of

STAMPING: Final = Stamping("mx.example.org", (Method.SPF,), received_spf=False)
MESSAGE: Final = {"sender": "jo@example.net", "client_address": "192.0.2.1"}


class Broken:
    """Raises what nobody expects."""

    async def results(self, *_: object) -> tuple[Results, tuple[str, ...]]:
        raise RuntimeError("a fault of ours")


def test_a_fault_is_a_temporary_error_and_told() -> None:
    told: list[str] = []
    stamper = Stamper(told.append)
    expected = (
        ("Authentication-Results", "mx.example.org; spf=temperror smtp.mailfrom=jo@example.net"),
    )
    for authenticates, why in ((None, "nobody can be asked"), (Broken(), "RuntimeError: a fault")):
        stamper.authenticates = authenticates
        fields = asyncio.run(stamper.fields(STAMPING, MESSAGE, 1.0))
        assert [(name, value.replace("\n   ", "")) for name, value in fields] == list(expected)
        assert told.pop().startswith(why)


def test_the_name_is_the_configured_one_or_postfixs_or_this_hosts() -> None:
    assert name_of(STAMPING, {"myhostname": "a.example"}) == "mx.example.org"
    assert name_of(Stamping(), {"myhostname": "a.example"}) == "a.example"
    assert name_of(Stamping(), {}) != ""


def test_spf_is_asked_for_received_spf_alone_and_nothing_for_logins() -> None:
    alone = Stamping(results=())
    assert methods_of(alone, {}) == {Method.SPF}
    assert methods_of(alone, {"sasl_username": "jo"}) == frozenset()
    assert methods_of(Stamping(results=(), received_spf=False), {}) == frozenset()
    everybody = Stamping(results=(Method.AUTH,), received_spf=False, skip_logins=False)
    assert methods_of(everybody, {"sasl_username": "jo"}) == {Method.AUTH}

"""SPF as conditions ask it: which identity, what is kept and for whom, what becomes of faults."""

import asyncio
import socket
from collections.abc import Awaitable, Callable, Coroutine, Sequence
from pathlib import Path
from typing import Any, TypeVar

import pytest

from policyd.checks import spf as module
from policyd.checks.interface import CheckFailedError
from policyd.checks.spf import SenderPolicy, checks
from policyd.config.policy import load_policy
from policyd.dns.answer import Found, Kind
from policyd.mail.spf import RESULTS, Identity, SpfAnswer
from policyd.processes.work import WorkError
from tests.mail.spf_running import Threads, attributes, mail_from
from tests.mail.spf_zones import TIMEOUT, ZoneData, spf

T = TypeVar("T")
SAYS_ALL = "v=spf1 -all"
OF_SENDERS = "v=spf1 exists:%{l}.example.test -all"
JO = [{"A": "127.0.0.2"}]


class Clock:
    def __init__(self) -> None:
        self.now = 0.0

    def __call__(self) -> float:
        return self.now


def run(asking: Coroutine[Any, Any, T]) -> T:
    return asyncio.run(asking)


IDENTITIES = {
    "example.test": [{"SPF": "v=spf1 ip4:192.0.2.1 -all"}],
    "helo.test": [{"SPF": "v=spf1 exists:%{l}.%{h}.ok.test ~all"}],
    "postmaster.helo.test.ok.test": [{"A": "127.0.0.2"}],
}


class TestIdentities:
    def ask(self, identity: Identity, **facts: str) -> SpfAnswer:
        policy = SenderPolicy(Threads(ZoneData(IDENTITIES)))
        return run(policy.evaluate(attributes(**facts), identity))

    @pytest.mark.parametrize(
        ("sender", "domain"),
        [
            ("jo@example.test", "example.test"),
            ("jo@EXAMPLE.test.", "example.test"),
            ("a@b@example.test", "example.test"),
            ("@example.test", "example.test"),
            ("", "helo.test"),
        ],
    )
    def test_mail_from_is_the_senders_domain_or_for_the_null_sender_helo(
        self, sender: str, domain: str
    ) -> None:
        found = self.ask(Identity.MAIL_FROM, sender=sender)
        assert (found.result, found.domain) == ("pass", domain)
        assert found.identity is Identity.MAIL_FROM

    def test_helo_is_its_postmaster(self) -> None:
        found = self.ask(Identity.HELO, sender="jo@nowhere.test")
        assert (found.result, found.domain) == ("pass", "helo.test")
        assert found.identity is Identity.HELO

    @pytest.mark.parametrize(
        "facts",
        [
            {"client_address": "unknown"},
            {"client_address": ""},
            {"sender": "jo"},
            {"sender": "jo@test"},
            {"sender": "jo@[192.0.2.1]"},
            {"sender": "jo@a..test"},
            {"sender": "", "helo_name": "[192.0.2.1]"},
            {"sender": "", "helo_name": ""},
        ],
        ids=str,
    )
    def test_without_an_address_or_a_domain_there_is_none_and_nothing_is_asked(
        self, facts: dict[str, str]
    ) -> None:
        policy = SenderPolicy(None)
        found = run(policy.evaluate(attributes(**facts), Identity.MAIL_FROM))
        assert found.result == "none"
        assert found.reason

    def test_loopback_is_an_address_like_others(self) -> None:
        assert self.ask(Identity.MAIL_FROM, client_address="127.0.0.1").result == "fail"
        assert self.ask(Identity.MAIL_FROM, client_address="::ffff:192.0.2.1").result == "pass"

    def test_the_receiver_is_this_host_unless_it_is_told(self) -> None:
        data = spf("v=spf1 -all exp=why.example.test", why=[{"TXT": "%{r}"}])
        for receiver, says in (("", socket.gethostname()), ("mx.test", "mx.test")):
            policy = SenderPolicy(Threads(ZoneData(data)), receiver=receiver)
            assert run(mail_from(policy, "jo@example.test")).explanation == says


class TestKeeping:
    def ask(
        self,
        data: dict[str, Any],
        *times: tuple[float, str],
        ttl: float = 300.0,
    ) -> tuple[list[str], int]:
        """Ask about senders at times; the results, and how many were evaluated."""
        clock, runner = Clock(), Threads(ZoneData(data, ttl))
        policy = SenderPolicy(runner, clock=clock)

        async def every() -> list[str]:
            found = []
            for clock.now, sender in times:
                found.append((await mail_from(policy, sender)).result)
            return found

        return run(every()), len(runner.done)

    def test_an_answer_serves_all_senders_of_the_domain_as_long_as_the_dns_says(self) -> None:
        times = [(0, "a@example.test"), (100, "b@example.test"), (299, "b@EXAMPLE.test")]
        assert self.ask(spf(SAYS_ALL), *times) == (["fail"] * 3, 1)
        assert self.ask(spf(SAYS_ALL), *times, (300, "a@example.test")) == (["fail"] * 4, 2)

    def test_one_that_looks_at_senders_serves_the_same_sender(self) -> None:
        times = [(n, f"{who}@example.test") for n, who in enumerate(("jo", "al", "jo", "al", "Al"))]
        found = self.ask(spf(OF_SENDERS, jo=JO), *times)
        assert found == (["pass", "fail", "pass", "fail", "fail"], 3)

    def test_another_client_is_another_question(self) -> None:
        runner = Threads(ZoneData(spf("v=spf1 ip4:192.0.2.1 -all")))
        policy = SenderPolicy(runner)

        async def both() -> list[str]:
            asked = ("192.0.2.1", "192.0.2.2")
            each = [await mail_from(policy, "a@example.test", client_address=ip) for ip in asked]
            return [found.result for found in each]

        assert run(both()) == ["pass", "fail"]

    @pytest.mark.parametrize(
        ("record", "ttl", "kept"),
        [
            ("v=spf1 moo", 300.0, True),
            ("v=spf1 -all", 0.0, False),
            ("v=spf1 include:late.example.test -all", 300.0, False),
            ("", 300.0, True),
        ],
    )
    def test_temperror_and_what_may_not_be_kept_are_not(
        self, record: str, ttl: float, kept: bool
    ) -> None:
        data = spf(record, late=[TIMEOUT])
        _, evaluated = self.ask(data, (0, "a@example.test"), (0, "b@example.test"), ttl=ttl)
        assert evaluated == (1 if kept else 2)

    def test_so_many_are_kept_and_the_least_used_go(self, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setattr(module, "MOST_KEPT", 2)
        data = {f"{name}.test": [{"SPF": SAYS_ALL}] for name in "abc"}
        asked = [(0.0, f"jo@{name}.test") for name in "abacab"]
        assert self.ask(data, *asked)[1] == 4


class TestTogether:
    """What many ask at a time is evaluated once."""

    def at_once(
        self, data: dict[str, Any], senders: Sequence[str], ttl: float = 300.0
    ) -> tuple[list[str], int]:
        runner = Threads(ZoneData(data, ttl))
        policy = SenderPolicy(runner)

        async def every() -> list[SpfAnswer]:
            return await asyncio.gather(*(mail_from(policy, sender) for sender in senders))

        return [found.result for found in run(every())], len(runner.done)

    @pytest.mark.parametrize("ttl", [0.0, 300.0])
    def test_for_all_senders(self, ttl: float) -> None:
        senders = [f"{n}@example.test" for n in range(50)]
        assert self.at_once(spf(SAYS_ALL), senders, ttl) == (["fail"] * 50, 1)

    @pytest.mark.parametrize("ttl", [0.0, 300.0])
    def test_or_for_each(self, ttl: float) -> None:
        senders = ["jo@example.test", "al@example.test"] * 10
        found = self.at_once(spf(OF_SENDERS, jo=JO), senders, ttl)
        assert found == (["pass", "fail"] * 10, 2)

    def test_who_is_given_up_takes_nobody_along(self) -> None:
        gate = asyncio.Event()
        runner = Threads(ZoneData(spf(SAYS_ALL)), gate.wait)
        policy = SenderPolicy(runner)

        async def both() -> SpfAnswer:
            first = asyncio.create_task(mail_from(policy, "a@example.test"))
            second = asyncio.create_task(mail_from(policy, "b@example.test"))
            await asyncio.sleep(0)
            first.cancel()
            gate.set()
            return await second

        assert run(both()).result == "fail"
        assert len(runner.done) == 1

    def test_work_that_nobody_waits_for_is_given_up_and_the_next_begins_anew(self) -> None:
        gate = asyncio.Event()
        runner = Threads(ZoneData(spf(SAYS_ALL)), gate.wait)
        policy = SenderPolicy(runner)

        async def again() -> SpfAnswer:
            first = asyncio.create_task(mail_from(policy, "a@example.test"))
            await asyncio.sleep(0)
            first.cancel()
            second = asyncio.create_task(mail_from(policy, "b@example.test"))
            await asyncio.sleep(0)
            gate.set()
            return await second

        assert run(again()).result == "fail"
        assert len(runner.done) == 1


class Failing:
    async def run(self, *_: object, **__: object) -> bytes:
        raise WorkError("the process was killed")


class TestFaults:
    def test_an_answer_that_is_late_is_temperror(self) -> None:
        runner = Threads(ZoneData(spf(SAYS_ALL)), asyncio.Event().wait)
        found = run(mail_from(SenderPolicy(runner, limit=0.05), "a@example.test"))
        assert (found.result, found.reason) == ("temperror", "no answer within 0.05 s")

    def test_work_that_gives_no_result_fails_the_check_of_all_who_wait(self) -> None:
        policy = SenderPolicy(Failing())

        async def both() -> list[SpfAnswer | BaseException]:
            asked = (mail_from(policy, f"{n}@example.test") for n in range(3))
            return await asyncio.gather(*asked, return_exceptions=True)

        for found in run(both()):
            assert isinstance(found, CheckFailedError)
            assert str(found) == "SPF cannot be evaluated: the process was killed"

    def test_nothing_is_evaluated_where_a_configuration_is_only_loaded(self) -> None:
        with pytest.raises(CheckFailedError, match="only loaded"):
            run(mail_from(SenderPolicy(None), "a@example.test"))

    def test_a_resolver_that_gives_up_does_not_end_the_work(self) -> None:
        class Broken(ZoneData):
            def ask(self, name: str, kind: Kind) -> Found:
                raise OSError(f"{name} {kind}")

        policy = SenderPolicy(Threads(Broken({})))
        with pytest.raises(CheckFailedError, match="SPF cannot be evaluated"):
            run(mail_from(policy, "a@example.test"))


class TestConditions:
    HEAD = """\
[policy_service]
listen = ["inet:127.0.0.1:10040"]
[milter]
listen = ["inet:127.0.0.1:10041"]
"""

    def problems(self, folder: Path, stage: str, when: str, then: str = "550 5.7.1 No") -> str:
        path = folder / "policyd.toml"
        rule = f'[[rule]]\nname = "r"\nstage = "{stage}"\nwhen = "{when}"\nthen = "{then}"\n'
        path.write_text(self.HEAD + rule)
        problems = load_policy(path).problems
        return "\n".join(str(each) for each in problems if each.severity == "error")

    @pytest.mark.parametrize("stage", ["mail", "rcpt", "data", "end-of-data"])
    def test_spf_is_asked_once_there_is_a_sender(self, stage: str, tmp_path: Path) -> None:
        assert self.problems(tmp_path, stage, "spf() == 'fail'") == ""

    @pytest.mark.parametrize("stage", ["connect", "helo"])
    def test_and_not_before(self, stage: str, tmp_path: Path) -> None:
        assert "sender is not known" in self.problems(tmp_path, stage, "spf() == 'fail'")

    @pytest.mark.parametrize("stage", ["helo", "mail", "rcpt", "data", "end-of-data"])
    def test_spf_helo_is_asked_from_helo_on(self, stage: str, tmp_path: Path) -> None:
        assert self.problems(tmp_path, stage, "spf_helo() in ['fail', 'softfail']") == ""

    def test_texts_show_what_it_found(self, tmp_path: Path) -> None:
        text = "550 5.7.23 {spf_result} {spf_domain} {spf_reason}: {spf_explanation}"
        assert self.problems(tmp_path, "rcpt", "spf() == 'fail'", text) == ""

    @pytest.mark.parametrize(
        ("name", "reply"),
        [
            ("fail", "spf-fail"),
            ("temperror", "spf-temperror"),
            ("permerror", "spf-permerror"),
        ],
    )
    def test_results_have_named_replies(self, name: str, reply: str, tmp_path: Path) -> None:
        assert self.problems(tmp_path, "rcpt", f"spf() == '{name}'", reply) == ""

    @pytest.mark.parametrize("name", ["spf", "spf_helo"])
    def test_the_answer_is_the_result_and_has_its_values(self, name: str) -> None:
        data = spf("v=spf1 -all exp=why.example.test", why=[{"TXT": "x" * 1000}])
        policy = SenderPolicy(Threads(ZoneData(data | {"helo.test": data["example.test"]})))
        check = {check.name: check for check in checks(policy)}[name]
        ask: Callable[..., Awaitable[Any]] = check.ask  # type: ignore[assignment]  # it is remote
        answer = run(_awaited(ask(attributes())))
        assert answer.value == answer.result == "fail"
        assert set(answer.values) == set(check.values)
        assert answer.values["spf_explanation"] == "x" * 200
        assert check.results == RESULTS


async def _awaited(asked: Awaitable[T]) -> T:
    return await asked

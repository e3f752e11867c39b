"""Signatures and DMARC as conditions ask them: once a message, with what the DNS says."""

import asyncio
from collections.abc import Mapping, Sequence
from typing import Any

import msgspec
import pytest

from policyd.checks import dmarc, signatures
from policyd.checks.dmarc import DomainPolicy
from policyd.checks.interface import Answer, Check, CheckFailedError
from policyd.checks.signatures import Signatures
from policyd.checks.spf import SenderPolicy
from policyd.dns.answer import DEPENDENCY, DnsError, Found, Kind, Record
from policyd.facts.table import FactType
from policyd.mail import signature_work
from policyd.mail.arrived import UnreadableError
from policyd.mail.author import Author
from policyd.mail.spf import SpfAnswer, SpfEvaluation, SpfQuestion
from policyd.processes.work import WorkError
from tests.mail.signed import (
    ED25519_RECORD,
    NOW,
    PLAIN,
    RSA_RECORD,
    Message,
    refused,
    sealed,
    signed,
)

KEYS = {"ed._domainkey.example.org": ED25519_RECORD, "rsa._domainkey.example.org": RSA_RECORD}
Zone = Mapping[str, str | None]
"""What is said of names; of those with None nothing."""


class Dns:
    """A resolver that has all there is."""

    def __init__(self, zone: Zone) -> None:
        self.zone = zone
        self.asked: list[str] = []

    async def ask(self, name: str, kind: Kind) -> Found:
        assert kind is Kind.TXT
        self.asked.append(name)
        text = self.zone.get(name, "")
        if text is None:
            raise DnsError("SERVFAIL")
        return Found((Record(name, kind, text),) if text else (), ttl=60.0)


class Here:
    """Does work here; that of SPF is always the same."""

    def __init__(self, spf: str = "none") -> None:
        self.spf = spf
        self.done: list[str] = []

    async def run(
        self, work: str, payload: bytes, *, limit: float, descriptors: Sequence[int] = ()
    ) -> bytes:
        assert limit > 0
        module, _, name = work.partition(":")
        self.done.append(name)
        if name == "spf":
            asked = msgspec.msgpack.decode(payload, type=SpfQuestion)
            answer = SpfAnswer(self.spf, asked.identity, asked.domain)
            return msgspec.msgpack.encode(SpfEvaluation(answer, personal=False))
        assert module == signature_work.__name__
        return bytes(getattr(signature_work, name)(payload, descriptors, refused))


class Site:
    """All checks of signatures and DMARC, as one message after the other is asked about."""

    def __init__(self, zone: Zone = KEYS, *, spf: str = "none", draw: float = 0.0) -> None:
        self.dns = Dns(zone)
        self.runner = Here(spf)
        sender = SenderPolicy(self.runner)
        self.signed = Signatures(self.runner, self.dns, clock=lambda: NOW)
        self.policy = DomainPolicy(self.dns, sender, self.signed, lambda: draw)
        made = (*signatures.checks(self.signed), *dmarc.checks(self.dns, sender, self.signed))
        self.checks: dict[str, Check] = {check.name: check for check in made}

    def ask(self, content: bytes, *calls: str, sender: str = "a@example.org") -> list[Answer]:
        """Ask several checks of one message; `dkim_of example.org` has an argument."""

        async def all_of_them() -> list[Answer]:
            with Message(content) as message:
                attributes = {
                    "message": message,
                    "client_address": "192.0.2.1",
                    "helo_name": "mx.example.org",
                    "sender": sender,
                }
                asked = [self._call(attributes, *call.split()) for call in calls]
                return list(await asyncio.gather(*asked))

        return asyncio.run(all_of_them())

    async def _call(self, attributes: Mapping[str, object], name: str, *arguments: str) -> Answer:
        check = self.checks[name]
        answer: Any = check.ask(attributes, *arguments)
        found: Answer = await answer
        assert found.result in check.results
        assert found.values.keys() <= check.values.keys()
        return found

    def value(self, content: bytes, call: str, **others: str) -> object:
        (answer,) = self.ask(content, call, **others)
        return answer.value


SUBDOMAIN = PLAIN.replace(b"alice@example.org", b"alice@news.example.org")
ELSEWHERE = PLAIN.replace(b"alice@example.org", b"alice@example.com")


def test_what_the_checks_say_of_a_good_signature() -> None:
    site = Site()
    best, aligned, of, other = site.ask(
        signed(), "dkim", "dkim_aligned", "dkim_of example.org", "dkim_of example.com"
    )
    assert best == Answer(
        "pass",
        "pass",
        {"dkim_domain": "example.org", "dkim_selector": "ed", "dkim_reason": ""},
    )
    assert (aligned.value, of.value, other.value) == (True, "pass", "none")
    assert other.values["dkim_reason"] == "no signature"


def test_a_message_is_verified_once_whoever_asks() -> None:
    site = Site()
    site.ask(sealed(signed(), 1), *("dkim", "dkim_aligned", "arc", "arc_sealer", "dmarc") * 2)
    assert sorted(site.runner.done) == ["arc", "dkim", "spf", "survey"]
    assert sorted(site.dns.asked) == [
        "_dmarc.example.org",
        "ed._domainkey.example.org",
        "rsa._domainkey.example.org",
    ]


def test_of_a_message_without_signatures_the_header_alone_is_read() -> None:
    site = Site()
    answers = site.ask(PLAIN, "dkim", "dkim_aligned", "dkim_of example.org", "arc", "arc_sealer")
    assert [each.value for each in answers] == ["none", False, "none", "none", ""]
    assert site.runner.done == ["survey"]
    assert site.dns.asked == []


@pytest.mark.parametrize(
    ("content", "aligned"),
    [(signed(), True), (signed(SUBDOMAIN), True), (signed(ELSEWHERE), False)],
)
def test_who_is_aligned_with_the_author(content: bytes, aligned: bool) -> None:
    site = Site()
    assert site.value(content, "dkim_aligned") is aligned
    assert site.value(content, "dkim") == "pass"


def test_a_key_without_an_answer_is_a_result_and_fails_what_tells_none() -> None:
    site = Site({"ed._domainkey.example.org": None, "rsa._domainkey.example.org": None})
    assert site.value(signed(), "dkim") == "temperror"
    assert site.value(signed(), "dkim_of example.org") == "temperror"
    assert site.value(sealed(PLAIN, 1), "arc") == "temperror"
    for content, call in ((signed(), "dkim_aligned"), (sealed(PLAIN, 1), "arc_sealer")):
        with pytest.raises(CheckFailedError) as caught:
            site.ask(content, call)
        assert caught.value.dependency == DEPENDENCY
    assert site.value(signed(ELSEWHERE), "dkim_aligned") is False


def test_who_sealed_last() -> None:
    site = Site()
    assert site.value(sealed(PLAIN, 2), "arc_sealer") == "example.org"
    assert site.value(sealed(PLAIN, 2) + b"more\r\n", "arc_sealer") == ""


def test_keys_are_kept_as_long_as_the_dns_says() -> None:
    site = Site()

    async def answer() -> float:
        with Message(signed()) as message:
            return (await site.signed.dkim({"message": message})).ttl

    assert asyncio.run(answer()) == 60.0


@pytest.mark.parametrize(
    ("content", "spf", "record", "result"),
    [
        (PLAIN, "fail", "p=reject", "reject"),
        (PLAIN, "fail", "p=quarantine", "quarantine"),
        (PLAIN, "fail", "p=none", "none"),
        (PLAIN, "pass", "p=reject", "pass"),
        (signed(), "fail", "p=reject", "pass"),
        (signed() + b"more\r\n", "fail", "p=reject", "reject"),
        (PLAIN, "temperror", "p=reject", "temperror"),
        (PLAIN, "temperror", "p=none", "none"),
        (signed(), "temperror", "p=reject", "pass"),
        (SUBDOMAIN, "fail", "p=reject; sp=none", "none"),
        (signed(SUBDOMAIN), "fail", "p=reject", "pass"),
        (signed(SUBDOMAIN), "fail", "p=reject; adkim=s", "reject"),
        (SUBDOMAIN, "pass", "p=reject; aspf=s", "reject"),
    ],
)
def test_what_dmarc_comes_to(content: bytes, spf: str, record: str, result: str) -> None:
    site = Site(KEYS | {"_dmarc.example.org": f"v=DMARC1; {record}"}, spf=spf)
    (answer,) = site.ask(content, "dmarc")
    assert (answer.value, answer.result) == (result, result)
    assert answer.values["dmarc_domain"].endswith("example.org")
    assert answer.values["dmarc_policy"] in record


def test_the_identity_of_the_null_sender_is_that_of_helo() -> None:
    record = {"_dmarc.example.org": "v=DMARC1; p=reject"}
    assert Site(record, spf="pass").value(PLAIN, "dmarc", sender="") == "pass"
    strict = {"_dmarc.example.org": "v=DMARC1; p=reject; aspf=s"}
    assert Site(strict, spf="pass").value(PLAIN, "dmarc", sender="") == "reject"


def test_a_subdomain_has_its_own_record_or_that_of_the_organizational_domain() -> None:
    both = {
        "_dmarc.news.example.org": "v=DMARC1; p=none; sp=reject",
        "_dmarc.example.org": "v=DMARC1; p=reject",
    }
    site = Site(both)
    assert site.value(SUBDOMAIN, "dmarc") == "none"
    assert sorted(site.dns.asked) == sorted(both)
    assert Site({"_dmarc.example.org": "v=DMARC1; p=reject"}).value(SUBDOMAIN, "dmarc") == "reject"
    assert Site({"_dmarc.org": "v=DMARC1; p=reject"}).value(PLAIN, "dmarc") == "none"


def test_a_record_without_an_answer_is_a_temporary_error_unless_it_makes_no_difference() -> None:
    own, parent = "_dmarc.news.example.org", "_dmarc.example.org"
    assert Site({own: None}).value(SUBDOMAIN, "dmarc") == "temperror"
    assert Site({parent: None}).value(SUBDOMAIN, "dmarc") == "temperror"
    site = Site({own: "v=DMARC1; p=reject", parent: None})
    assert site.value(SUBDOMAIN, "dmarc") == "reject"


def test_without_one_author_dmarc_has_nothing_to_go_by() -> None:
    site = Site()
    (answer,) = site.ask(b"From: a@example.org, b@example.com\r\n\r\n", "dmarc")
    assert answer.value == "permerror"
    assert answer.values == {
        "dmarc_domain": "",
        "dmarc_policy": "",
        "dmarc_reason": "From has addresses of 2 domains",
    }
    assert site.dns.asked == []
    assert site.value(b"Subject: x\r\n\r\n", "dmarc") == "permerror"


@pytest.mark.parametrize(
    ("draw", "result"), [(0.0, "reject"), (0.49, "reject"), (0.5, "quarantine")]
)
def test_the_draw_decides_who_is_sampled(draw: float, result: str) -> None:
    site = Site({"_dmarc.example.org": "v=DMARC1; p=reject; pct=50"}, draw=draw)

    async def evaluate() -> str:
        with Message(PLAIN) as message:
            facts = {"message": message, "client_address": "192.0.2.1", "sender": "a@example.org"}
            return (await site.policy.evaluate(facts)).result

    assert asyncio.run(evaluate()) == result


def test_texts_of_senders_are_cut() -> None:
    domain = "x" * 60 + "." + ("y" * 60 + ".") * 2 + "example.org"
    content = (
        b"DKIM-Signature: v=1; a=" + b"z" * 500 + b"; d=" + domain.encode() + b"; s=s\r\n" + PLAIN
    )
    (answer,) = Site().ask(content, "dkim")
    assert answer.values["dkim_domain"] == domain[:200]
    assert all(len(value) <= 200 for value in answer.values.values())


class Broken:
    """A runner, or a message, that is no good."""

    size = 0

    async def run(self, *_: object, **__: object) -> bytes:
        raise WorkError("killed after 6 s")

    def descriptor(self) -> int:
        raise UnreadableError("no room")

    async def once(self, _key: str, make: Any) -> Any:
        return await make()


@pytest.mark.parametrize("name", ["dkim", "dkim_aligned", "arc", "arc_sealer", "dmarc"])
def test_a_fault_of_ours_fails_the_check(name: str) -> None:
    broken, here, dns = Broken(), Here(), Dns({})
    for runner, resolver, attributes, why in (
        (here, dns, {"message": broken}, "no room"),
        (broken, dns, {"message": None}, "no message"),
        (None, None, {"message": broken}, "loaded"),
    ):
        signed_by = Signatures(runner, resolver)
        made = (
            *signatures.checks(signed_by),
            *dmarc.checks(resolver, SenderPolicy(here), signed_by),
        )
        (check,) = (each for each in made if each.name == name)
        asked: Any = check.ask(attributes)
        with pytest.raises(CheckFailedError, match=why) as caught:
            asyncio.run(asked)
        assert caught.value.dependency == ""


def test_work_that_was_killed_fails_the_check() -> None:
    async def ask() -> None:
        with Message(signed()) as message:
            await Signatures(Broken(), Dns({})).dkim({"message": message})

    with pytest.raises(CheckFailedError, match="signatures cannot be verified: killed after 6 s"):
        asyncio.run(ask())


def test_the_author_is_told_without_anything_being_verified() -> None:
    site = Site()

    async def author() -> Author:
        with Message(signed()) as message:
            return (await site.signed.survey({"message": message})).author

    assert asyncio.run(author()).domain == "example.org"
    assert site.runner.done == ["survey"]


def test_all_of_them_read_the_message_and_are_remote() -> None:
    for check in Site().checks.values():
        assert check.remote
        assert "message" in check.needs
        assert check.dependency == DEPENDENCY
        assert check.result in {FactType.TEXT, FactType.TRUTH, FactType.DOMAIN}

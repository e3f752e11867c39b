"""Messages for the tests of signatures, and what verifies them without a process of its own."""

import asyncio
import os
from collections.abc import Awaitable, Callable, Mapping
from pathlib import Path
from typing import Any, Final, Self, TypeVar

import dkim
import msgspec

from policyd.mail import signature_work
from policyd.mail.arc import ArcAnswer
from policyd.mail.dkim import DkimAnswer, KeyAnswer, Order, Signature, Survey

T = TypeVar("T")

VECTORS: Final = Path(__file__).parent / "vectors"
NOW: Final = 1_800_000_000.0

ED25519: Final = b"nWGxne/9WmC6hEr0kuwsxERJxWl7MmkZcDusAxyuf2A="
"""The first secret key of RFC 8032 section 7.1."""
ED25519_RECORD: Final = "v=DKIM1; k=ed25519; p=11qYAYKxCrfVS/7TyWQHOg7hcvPapiMlrwIaaPcHURo="
RSA: Final = (VECTORS / "rsa2048.pem").read_bytes()
RSA_RECORD: Final = (VECTORS / "rsa2048.txt").read_text().strip()
SHORT_RSA: Final = (VECTORS / "rsa512.pem").read_bytes()
SHORT_RSA_RECORD: Final = (VECTORS / "rsa512.txt").read_text().strip()

KEYS: Final = {
    "ed._domainkey.example.org": ED25519_RECORD,
    "rsa._domainkey.example.org": RSA_RECORD,
}
PLAIN: Final = (
    b"From: Alice <alice@example.org>\r\nTo: bob@example.net\r\nSubject: Hello\r\n"
    b"Date: Fri, 11 Jul 2003 21:00:37 -0700\r\nMessage-ID: <1@example.org>\r\n"
    b"\r\nHello  Bob,\t\r\nthis is it. \r\n\r\n"
)


def signed(
    message: bytes = PLAIN,
    *,
    selector: bytes = b"ed",
    domain: bytes = b"example.org",
    key: bytes = ED25519,
    algorithm: bytes = b"ed25519-sha256",
    **others: Any,
) -> bytes:
    """Sign a message, and give it with the signature."""
    line = dkim.sign(message, selector, domain, key, signature_algorithm=algorithm, **others)
    return line + message


def sealed(message: bytes, times: int, *, status: bytes = b"", key: bytes = RSA) -> bytes:
    """Seal a message so often, each time as the host of a list that found it in order."""
    for instance in range(times):
        cv = status or (b"pass" if instance else b"none")
        found = b"Authentication-Results: lists.example.org; arc=" + cv + b"\r\n" + message
        sets = dkim.arc_sign(found, b"rsa", b"example.org", key, b"lists.example.org")
        message = b"".join(sets) + message
    return message


def refused(*_question: bytes) -> bytes:
    raise AssertionError("the work asks nobody")


class Message:
    """A message in a file, for checks to read (mail.arrived.Arrived)."""

    def __init__(self, content: bytes) -> None:
        self.size = len(content)
        self._descriptor = os.memfd_create("message")
        os.write(self._descriptor, content)
        self._made: dict[str, asyncio.Future[Any]] = {}

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        os.close(self._descriptor)

    def descriptor(self) -> int:
        return self._descriptor

    async def once(self, key: str, make: Callable[[], Awaitable[T]]) -> T:
        if key not in self._made:
            self._made[key] = asyncio.ensure_future(make())
        found: T = await self._made[key]
        return found


def known(keys: Mapping[str, str | tuple[str, ...]]) -> dict[str, KeyAnswer]:
    """Give what the DNS says, where a text is the one record of a name."""
    records = {k: (v,) if isinstance(v, str) else v for k, v in keys.items()}
    return {k: KeyAnswer(tuple(text.encode() for text in v)) for k, v in records.items()}


def surveyed(message: bytes, now: float = NOW) -> Survey:
    return work(signature_work.survey, message, Order(now), Survey)


def verified(
    message: bytes,
    keys: Mapping[str, str | tuple[str, ...]] = KEYS,
    *,
    now: float = NOW,
    failing: tuple[str, ...] = (),
) -> DkimAnswer:
    """Verify the signatures of a message by what the DNS says; names without a record have none."""
    answers = _answers(surveyed(message, now).dkim_keys, keys, failing)
    return work(signature_work.dkim, message, Order(now, answers), DkimAnswer)


def one(message: bytes, *arguments: Any, **others: Any) -> Signature:
    """Give the only signature."""
    (signature,) = verified(message, *arguments, **others).signatures
    return signature


def chained(
    message: bytes,
    keys: Mapping[str, str | tuple[str, ...]] = KEYS,
    *,
    failing: tuple[str, ...] = (),
) -> ArcAnswer:
    """Verify the chain of a message."""
    answers = _answers(surveyed(message).arc_keys, keys, failing)
    return work(signature_work.arc, message, Order(NOW, answers), ArcAnswer)


def _answers(
    names: tuple[str, ...], keys: Mapping[str, str | tuple[str, ...]], failing: tuple[str, ...]
) -> dict[str, KeyAnswer]:
    answers = {name: KeyAnswer() for name in names} | known(keys)
    return answers | {name: KeyAnswer(failure="SERVFAIL") for name in failing}


def work(do: Callable[..., bytes], message: bytes, order: Order, kind: type[T]) -> T:
    """Do a piece of work here."""
    with Message(message) as file:
        result = do(msgspec.msgpack.encode(order), [file.descriptor()], refused)
    return msgspec.msgpack.decode(result, type=kind)

"""
Questions to the DNS from a process without a loop of its own: both ends of the asking.

Both sides write msgpack. Texts travel as octets, since those of a TXT record need not be UTF-8.
"""

from collections.abc import Awaitable, Callable
from typing import Final

import msgspec

from policyd.dns.answer import BlockingResolver, DnsError, Found, Kind, Record, Resolver
from policyd.processes.work import Ask


class _Question(msgspec.Struct, frozen=True, array_like=True):
    name: bytes
    kind: Kind


class _Written(msgspec.Struct, frozen=True, array_like=True):
    """A record."""

    name: bytes
    kind: Kind
    value: bytes
    preference: int


class _Answer(msgspec.Struct, frozen=True, array_like=True):
    """A Found, or with `failed` a DnsError."""

    records: tuple[_Written, ...] = ()
    exists: bool = True
    ttl: float = 0.0
    failed: str | None = None
    late: bool = False


_question: Final = msgspec.msgpack.Decoder(_Question)
_answer: Final = msgspec.msgpack.Decoder(_Answer)
_encode: Final = msgspec.msgpack.Encoder().encode


def answering(resolver: Resolver) -> Callable[[bytes], Awaitable[bytes]]:
    """Give what answers the questions of work (processes.pool.Pool's `answer`)."""

    async def answer(question: bytes) -> bytes:
        try:
            asked = _question.decode(question)
            found = await resolver.ask(_text(asked.name), asked.kind)
        except (msgspec.MsgspecError, UnicodeDecodeError):
            return _encode(_Answer(failed="what was asked is no question"))
        except DnsError as error:
            return _encode(
                _Answer(failed=_octets(f"{error}").decode("utf-8", "replace"), late=error.late)
            )
        records = tuple(
            _Written(_octets(each.name), each.kind, _octets(each.value), each.preference)
            for each in found.records
        )
        return _encode(_Answer(records, found.exists, found.ttl))

    return answer


def asking(ask: Ask) -> BlockingResolver:
    """Give the resolver of work; WorkError if whoever began the work no longer answers."""
    return _Asking(ask)


class _Asking:
    def __init__(self, ask: Ask) -> None:
        self._ask = ask

    def ask(self, name: str, kind: Kind) -> Found:
        """Ask and wait; see dns.answer.BlockingResolver."""
        answer = _answer.decode(self._ask(_encode(_Question(_octets(name), kind))))
        if answer.failed is not None:
            raise DnsError(answer.failed, late=answer.late)
        records = tuple(
            Record(_text(each.name), each.kind, _text(each.value), each.preference)
            for each in answer.records
        )
        return Found(records, answer.exists, answer.ttl)


def _octets(text: str) -> bytes:
    return text.encode("utf-8", "surrogatepass")


def _text(octets: bytes) -> str:
    return octets.decode("utf-8", "surrogatepass")

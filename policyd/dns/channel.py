"""
A channel of c-ares on an event loop: questions out, answers back (ares_query_dnsrec(3)).

c-ares repeats questions, goes from server to server and to TCP, and keeps answers by their TTL. It
is driven by the loop's readers and timers, since on a thread of its own it would wait for the
interpreter at every answer. What it keeps is never dropped for want of room, and it keeps "no such
records" for an hour whatever the zone's SOA says (RFC 2308); so a channel is meant to be replaced
when `worn`.
"""

import asyncio
import math
from collections.abc import Callable
from typing import Final

import pycares

from policyd.dns.answer import Kind
from policyd.dns.settings import DnsSettings

LIFE: Final = 60.0
"""Seconds for which a channel's answers may serve."""
MOST_ANSWERS: Final = 5_000
"""Answers from servers that a channel may have kept; each takes some 2 kB."""
MOST_OCTETS: Final = 4 << 20
"""Octets of records that a channel may have kept."""
_FIRST_TRY: Final = 1 / 6
"""The part of a question's time that the first attempt at a server has, until it is known."""
_SHORTEST_TRY: Final = 0.25
"""Seconds that c-ares gives an attempt at least; with each further one they double, or nearly."""
_TICK: Final = 0.1
"""Seconds within which c-ares is told that time has passed."""
_RECORD: Final = 64
"""Octets that a record takes beside its name and value."""

_DNS_0X20: Final = 1 << 10
"""
ARES_FLAG_DNS0x20 (ares_init_options(3)), for which pycares has no name: letters are asked in random
case. Source ports change with the channel only, so a forged answer shall have more to guess.
"""
_FLAGS: Final = (
    _DNS_0X20
    | pycares.ARES_FLAG_EDNS
    | pycares.ARES_FLAG_NOSEARCH  # names are whole: resolv.conf's search list is for users
    | pycares.ARES_FLAG_NOALIASES
)
_TYPES: Final = {
    Kind.A: pycares.QUERY_TYPE_A,
    Kind.AAAA: pycares.QUERY_TYPE_AAAA,
    Kind.CNAME: pycares.QUERY_TYPE_CNAME,
    Kind.MX: pycares.QUERY_TYPE_MX,
    Kind.PTR: pycares.QUERY_TYPE_PTR,
    Kind.TXT: pycares.QUERY_TYPE_TXT,
}

Answered = Callable[[pycares.DNSResult | None, int, bool], None]
"""Told the answer, else an error of pycares.errno, and whether the channel had kept it."""


class Channel:
    """One channel, for the servers of some settings; everything is on one loop."""

    def __init__(self, settings: DnsSettings, loop: asyncio.AbstractEventLoop) -> None:
        """Read resolv.conf(5), if the settings name no servers; no socket is opened."""
        self.under_way = 0
        self._loop = loop
        self._dies = loop.time() + LIFE
        self._answers = 0
        self._octets = 0
        self._descriptors: set[int] = set()
        self._timer: asyncio.TimerHandle | None = None
        self._closing = False
        self.closed = False
        self._cares = pycares.Channel(
            flags=_FLAGS,
            timeout=settings.timeout * _FIRST_TRY,
            tries=_tries(settings.timeout),
            servers=settings.servers or None,
            sock_state_cb=self._socket_is,
        )

    @property
    def worn(self) -> bool:
        """Whether it has kept enough, for long enough."""
        return (
            self._answers >= MOST_ANSWERS
            or self._octets >= MOST_OCTETS
            or self._loop.time() >= self._dies
        )

    def ask(self, name: str, kind: Kind, answered: Answered) -> None:
        """
        Ask a question; `answered` is called before this returns if the answer was kept.

        The name is one that names.is_usual() tells of; the root is empty.
        """
        asking = True
        answer: tuple[pycares.DNSResult | None, int] | None = None
        self.under_way += 1

        def done(result: pycares.DNSResult | None, error: int | None) -> None:
            nonlocal answer
            if answer is None:
                answer = (result, error or 0)
                self._count(result, kept=asking)
                answered(*answer, asking)

        try:
            self._cares.query(name or ".", _TYPES[kind], callback=done)
        except pycares.AresError as error:
            done(None, error.args[0])
        asking = False
        if answer is None and self._timer is None:
            self._tick()

    def retire(self) -> None:
        """Close when what is under way has its answers, and not within this call."""
        self._closing = True
        self._loop.call_soon(self._close_if_idle)

    def close(self) -> None:
        """Give up what is under way, whose callers are told, and close."""
        if not self.closed:
            self._closing = True
            self._cares.cancel()
            self._close()

    def _count(self, result: pycares.DNSResult | None, *, kept: bool) -> None:
        self.under_way -= 1
        if not kept:
            self._answers += 1
            if result is not None:
                self._octets += _octets(result)
        if self._closing:  # which is not done within a call of c-ares
            self._loop.call_soon(self._close_if_idle)

    def _close_if_idle(self) -> None:
        if not self.under_way:
            self._close()

    def _close(self) -> None:
        """Let go of the sockets; pycares closes them on a thread of its own."""
        if self.closed:
            return
        self.closed = True
        if self._timer is not None:
            self._timer.cancel()
        for descriptor in self._descriptors:
            self._loop.remove_reader(descriptor)
            self._loop.remove_writer(descriptor)
        self._descriptors.clear()
        self._cares.close()

    def _socket_is(self, descriptor: int, readable: bool, writable: bool) -> None:
        """Watch a socket; neither readable nor writable: it is about to be closed."""
        if self.closed:
            return
        if readable or writable:
            self._descriptors.add(descriptor)
        else:
            self._descriptors.discard(descriptor)
        if readable:
            self._loop.add_reader(descriptor, self._process, descriptor, pycares.ARES_SOCKET_BAD)
        else:
            self._loop.remove_reader(descriptor)
        if writable:
            self._loop.add_writer(descriptor, self._process, pycares.ARES_SOCKET_BAD, descriptor)
        else:
            self._loop.remove_writer(descriptor)

    def _process(self, readable: int, writable: int) -> None:
        if not self.closed:
            self._cares.process_fd(readable, writable)

    def _tick(self) -> None:
        """Have c-ares look at the time for as long as anything is under way."""
        self._timer = None
        if self.closed:
            return
        self._process(pycares.ARES_SOCKET_BAD, pycares.ARES_SOCKET_BAD)
        if self.under_way:
            left: float = self._cares.timeout()  # type: ignore[no-untyped-call]  # it has no types
            wait = min(left or _TICK, _TICK)
            self._timer = self._loop.call_later(wait, self._tick)


def _tries(timeout: float) -> int:
    """Give as many attempts as last for the whole time: a resolver may take that long."""
    return 1 + max(1, math.ceil(math.log2(timeout / _SHORTEST_TRY)))


def _octets(result: pycares.DNSResult) -> int:
    records = (*result.answer, *result.authority, *result.additional)
    texts = (each.data.data for each in records if isinstance(each.data, pycares.TXTRecordData))
    return sum(_RECORD + len(each.name) for each in records) + sum(map(len, texts))

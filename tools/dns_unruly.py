"""
A DNS server that misbehaves: late, truncated, refused, wrong or none, over UDP and TCP.

It runs on a thread of its own. What it does to a question is told by a function, or by the first
label of the name asked for; or it stands before a real server and delays its answers.
"""

import asyncio
import contextlib
import socket
import struct
import threading
from collections import Counter
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from types import TracebackType
from typing import Final, Self

import dns.flags
import dns.message
import dns.rcode
import dns.rdatatype
import dns.rrset

_LOOPBACK: Final = "127.0.0.1"
_PAUSE: Final = 0.01
_BUFFER: Final = 4 << 20
_IDS: Final = 1 << 16
_LARGEST: Final = (1 << 16) - 1
_GARBAGE: Final = b"\x00\x01no message of the DNS"


@dataclass(frozen=True, slots=True)
class Act:
    """
    What is done to a question: by default an answer at once, without records.

    `records` are lines as in a zone file, with full names. `delay` is in seconds. `truncated`: no
    records but the TC bit over UDP, everything over TCP. `garbage`: octets that are no message,
    after the right id. `wrong_id`: the answer of another question.
    """

    records: tuple[str, ...] = ()
    authority: tuple[str, ...] = ()
    rcode: dns.rcode.Rcode = dns.rcode.NOERROR
    delay: float = 0.0
    silent: bool = False
    truncated: bool = False
    garbage: bool = False
    wrong_id: bool = False


def by_first_label(question: dns.message.Message) -> Act:
    """
    Do what the name's first label says.

    `after-N` answers after N milliseconds, `never`, `servfail`, `refused`, `nxdomain`, `truncated`,
    `garbage` and `wrong-id` do so; any other is answered well. Answers are 192.0.2.1 for A,
    2001:db8::1 for AAAA, `name.` for names, and the name itself for TXT.
    """
    asked = question.question[0]
    name = asked.name.to_text().lower()
    label = name.partition(".")[0].lower()
    kind = dns.rdatatype.to_text(asked.rdtype)
    value = {"A": "192.0.2.1", "AAAA": "2001:db8::1", "MX": "10 name."}.get(kind)
    value = value or {"TXT": f'"{name}"', "PTR": "name.", "CNAME": "name."}.get(kind)
    records = (f"{name} 300 IN {kind} {value}",) if value else ()
    if label in _REFUSALS:
        return Act(rcode=_REFUSALS[label])
    return Act(
        records=records,
        delay=int(label.removeprefix("after-")) / 1000 if label.startswith("after-") else 0.0,
        silent=label == "never",
        truncated=label == "truncated",
        garbage=label == "garbage",
        wrong_id=label == "wrong-id",
    )


_REFUSALS: Final = {
    "servfail": dns.rcode.SERVFAIL,
    "refused": dns.rcode.REFUSED,
    "nxdomain": dns.rcode.NXDOMAIN,
}

_Handler = Callable[[bytes, bool], Awaitable[bytes | None]]
"""Given a message, and whether it came by TCP; gives the answer, or None for none."""


class Unruly:
    """
    A misbehaving server on a free port of 127.0.0.1. As a context manager it runs within.

    `asked` counts the questions by name (lower case, no final dot) and type, `by_tcp` those of
    them that came by TCP, and `most_at_once` is the most that were under way together.
    """

    def __init__(self, decide: Callable[[dns.message.Message], Act] = by_first_label) -> None:
        """Let `decide` tell what is done to a question; it is called on the server's thread."""
        self.asked: Counter[tuple[str, str]] = Counter()
        self.by_tcp = 0
        self.most_at_once = 0
        self.decide = decide
        self._under_way = 0
        self._upstream: tuple[str, int] | None = None
        self._delay = 0.0
        self._udp, self._tcp = _bound()
        self.port: int = self._udp.getsockname()[1]
        self._loop = asyncio.new_event_loop()
        self._thread = threading.Thread(target=self._run, name="unruly", daemon=True)
        self._ready = threading.Event()
        self._tasks: set[asyncio.Task[None]] = set()

    @classmethod
    def before(cls, address: str, delay: float = 0.0) -> Self:
        """Make one that hands questions to the server at `host:port` and answers `delay` later."""
        proxy = cls()
        host, _, port = address.rpartition(":")
        proxy._upstream = (host, int(port))
        proxy._delay = delay
        return proxy

    @property
    def address(self) -> str:
        """Host and port."""
        return f"{_LOOPBACK}:{self.port}"

    def __enter__(self) -> Self:
        """Start it."""
        self._thread.start()
        self._ready.wait()
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        """End it; whoever waits for an answer gets none."""
        self._loop.call_soon_threadsafe(self._loop.stop)
        self._thread.join()

    def _run(self) -> None:
        asyncio.set_event_loop(self._loop)
        serving = self._loop.create_task(self._serve())
        self._loop.run_forever()
        serving.cancel()
        left = asyncio.all_tasks(self._loop)
        for task in left:
            task.cancel()
        self._loop.run_until_complete(asyncio.gather(*left, return_exceptions=True))
        self._loop.run_until_complete(asyncio.sleep(_PAUSE))  # in which transports close
        for each in (self._udp, self._tcp):
            each.close()
        self._loop.close()

    async def _serve(self) -> None:
        handler: _Handler = self._act
        if self._upstream:
            handler = self._forward
            relaying, self._relay = await self._loop.create_datagram_endpoint(
                _Relay, remote_addr=self._upstream
            )
            self._relay.transport = relaying
        self._transport, _ = await self._loop.create_datagram_endpoint(
            lambda: _Datagrams(self, handler), sock=self._udp
        )
        server = await asyncio.start_server(
            lambda reader, writer: self._stream(handler, reader, writer), sock=self._tcp
        )
        self._ready.set()
        async with server:
            try:
                await asyncio.Event().wait()
            finally:
                self._transport.abort()
                if self._upstream:
                    self._relay.transport.abort()

    def _datagram(self, handler: _Handler, message: bytes, client: tuple[str, int]) -> None:
        async def answer() -> None:
            said = await handler(message, False)
            if said is not None:
                self._transport.sendto(said, client)

        task = self._loop.create_task(answer())
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)

    async def _stream(
        self, handler: _Handler, reader: asyncio.StreamReader, writer: asyncio.StreamWriter
    ) -> None:
        with (
            contextlib.closing(writer),
            contextlib.suppress(asyncio.IncompleteReadError, ConnectionError),
        ):
            while True:
                said = await handler(await _read(reader), True)
                if said is not None:
                    writer.write(struct.pack("!H", len(said)) + said)

    async def _act(self, message: bytes, by_tcp: bool) -> bytes | None:
        question = dns.message.from_wire(message)
        first = question.question[0]
        name = first.name.to_text(omit_final_dot=True).lower()
        self.asked[name, dns.rdatatype.to_text(first.rdtype)] += 1
        self.by_tcp += by_tcp
        self._under_way += 1
        self.most_at_once = max(self.most_at_once, self._under_way)
        try:
            return await self._answer(question, self.decide(question), by_tcp=by_tcp)
        finally:
            self._under_way -= 1

    async def _answer(
        self, question: dns.message.Message, act: Act, *, by_tcp: bool
    ) -> bytes | None:
        if act.silent:
            return None
        if act.delay:
            await asyncio.sleep(act.delay)
        answer = dns.message.make_response(question, recursion_available=True)
        answer.set_rcode(act.rcode)
        if act.wrong_id:
            answer.id = (answer.id + 1) % _IDS
        if act.garbage:
            return struct.pack("!H", question.id) + _GARBAGE
        if act.truncated and not by_tcp:
            answer.flags |= dns.flags.TC
            return answer.to_wire()
        answer.answer.extend(map(_rrset, act.records))
        answer.authority.extend(map(_rrset, act.authority))
        return answer.to_wire(max_size=_LARGEST if by_tcp else 0, prefer_truncation=True)

    async def _forward(self, message: bytes, by_tcp: bool) -> bytes | None:
        self.by_tcp += by_tcp
        if not by_tcp:
            answer = await self._relay.ask(message)
        else:
            assert self._upstream is not None
            reader, writer = await asyncio.open_connection(*self._upstream)
            writer.write(struct.pack("!H", len(message)) + message)
            answer = await _read(reader)
            writer.close()
        if self._delay:
            await asyncio.sleep(self._delay)
        return answer


class _Datagrams(asyncio.DatagramProtocol):
    """Questions by UDP."""

    def __init__(self, server: Unruly, handler: _Handler) -> None:
        self._server = server
        self._handler = handler

    def datagram_received(self, data: bytes, addr: tuple[str, int]) -> None:
        """Answer."""
        self._server._datagram(self._handler, data, addr)  # noqa: SLF001  two halves of one


class _Relay(asyncio.DatagramProtocol):
    """Questions handed on by UDP, under ids of its own since those of two clients may be equal."""

    transport: asyncio.DatagramTransport

    def __init__(self) -> None:
        self._next = 0
        self._waiting: dict[int, asyncio.Future[bytes]] = {}

    async def ask(self, message: bytes) -> bytes:
        """Give the other server's answer, however long it takes."""
        self._next = number = (self._next + 1) % _IDS
        future: asyncio.Future[bytes] = asyncio.get_running_loop().create_future()
        self._waiting[number] = future
        self.transport.sendto(struct.pack("!H", number) + message[2:])
        try:
            answer = await future
            return message[:2] + answer[2:]
        finally:
            if self._waiting.get(number) is future:
                del self._waiting[number]

    def datagram_received(self, data: bytes, _addr: tuple[str, int]) -> None:
        """Hand an answer to whoever waits for it."""
        future = self._waiting.get(struct.unpack("!H", data[:2])[0])
        if future is not None and not future.done():
            future.set_result(data)


def _bound() -> tuple[socket.socket, socket.socket]:
    """Give sockets for UDP and TCP on one port of loopback that the kernel finds."""
    while True:
        stream = socket.socket(type=socket.SOCK_STREAM)
        datagram = socket.socket(type=socket.SOCK_DGRAM)
        datagram.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, _BUFFER)
        stream.bind((_LOOPBACK, 0))
        with contextlib.suppress(OSError):
            datagram.bind(stream.getsockname())
            return datagram, stream
        for each in (stream, datagram):
            each.close()


async def _read(reader: asyncio.StreamReader) -> bytes:
    """Read a message with its length before it (RFC 1035 section 4.2.2)."""
    return await reader.readexactly(struct.unpack("!H", await reader.readexactly(2))[0])


def _rrset(line: str) -> dns.rrset.RRset:
    """Read `name TTL IN type value`."""
    name, ttl, network, kind, value = line.split(None, 4)
    return dns.rrset.from_text(name, int(ttl), network, kind, value)

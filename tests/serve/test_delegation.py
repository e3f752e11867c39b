"""The policy server over real sockets on loopback: order, patience, hostile peers, closing."""

import asyncio
import contextlib
import os
import random
import resource
import socket
import struct
import subprocess
import sys
import time
from collections import Counter
from collections.abc import Awaitable, Callable, Coroutine, Iterator
from pathlib import Path
from typing import Any

import pytest
import uvloop

from policyd.facts.table import Attributes
from policyd.protocol.delegation import MAX_REQUEST, Asked, Request, encode_action
from policyd.serve.delegation import BATCH, DelegationServer
from policyd.serve.doorman import Doorman
from policyd.serve.sockets import open_listeners, parse_endpoint
from policyd.service import Answer, Memory
from policyd.service.context import hand_over
from policyd.smtp.decision import Decision, Source, Verdict
from policyd.smtp.reply import Reply
from policyd.smtp.stage import FrontEnd, Stage

DUNNO = b"action=DUNNO\n\n"


class Desk:
    """
    A service that answers with the sender's name, and does as the name says.

    `slow` waits until `open` is set, `quick` is a coroutine that never waits, `broken` raises.
    """

    def __init__(self) -> None:
        self.open = asyncio.Event()
        self.counted: list[Answer] = []
        self.errors: Counter[str] = Counter()
        self.details: list[dict[str, object]] = []
        self.connections = 0
        self.asked: list[Asked] = []
        self.memories: list[Memory] = []
        self.tasks: dict[str, asyncio.Task[Any] | None] = {}

    def memory(self) -> Memory:
        return Memory()

    def answer_policy(
        self, request: Request, asked: Asked, memory: Memory
    ) -> Answer | Coroutine[Any, Any, Answer]:
        sender = request.attributes.get("sender", "")
        self.asked.append(asked)
        self.memories.append(memory)
        if sender.startswith(("slow", "quick")):
            return self._later(sender, request)
        if sender == "broken":
            raise ZeroDivisionError(sender)
        return self._answer(sender, request)

    async def _later(self, sender: str, request: Request) -> Answer:
        if sender == "quick broken":
            raise ZeroDivisionError(sender)
        if sender.startswith("slow"):
            await hand_over()
            await self.open.wait()
        with contextlib.suppress(RuntimeError):
            self.tasks[sender] = asyncio.current_task()
        if sender == "slow broken":
            raise ZeroDivisionError(sender)
        return self._answer(sender, request)

    def _answer(self, sender: str, request: Request) -> Answer:
        reply = Reply(450, 2, 0, sender or "nobody")
        decision = Decision("i", Verdict.DEFER, request.stage, Source.RULE, reply=reply)
        wire = encode_action(decision)
        return Answer(FrontEnd.POLICY, decision, request.attributes, (), 0.0, wire)

    def decline(self, stage: Stage | None, attributes: Attributes | None = None) -> Answer:
        decision = Decision("i", Verdict.PASS, stage, Source.DEFAULT)
        return Answer(FrontEnd.POLICY, decision, attributes or {}, (), 0.0, DUNNO)

    def written(self, answer: Answer) -> None:
        self.counted.append(answer)

    def protocol_error(self, front_end: FrontEnd, reason: str, **detail: object) -> None:
        assert front_end is FrontEnd.POLICY
        self.errors[str(reason)] += 1
        self.details.append(detail)

    def connected(self, front_end: FrontEnd, delta: int) -> None:
        assert front_end is FrontEnd.POLICY
        self.connections += delta


def ask(sender: object, state: str = "RCPT", **attributes: str) -> bytes:
    more = "".join(f"{name}={value}\n" for name, value in attributes.items())
    head = f"request=smtpd_access_policy\nprotocol_state={state}\nsender={sender}\n"
    return f"{head}{more}\n".encode()


def told(sender: object) -> bytes:
    return f"action=450 4.2.0 {sender}\n\n".encode()


class Client:
    """A peer of the server, with a socket of its own."""

    def __init__(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.reader, self.writer = reader, writer

    def send(self, data: bytes) -> None:
        self.writer.write(data)

    async def answer(self) -> bytes:
        async with asyncio.timeout(10):
            return await self.reader.readuntil(b"\n\n")

    async def ask(self, sender: object) -> bytes:
        self.send(ask(sender))
        return await self.answer()

    async def rest(self) -> bytes:
        """Read until the server has closed."""
        async with asyncio.timeout(10):
            with contextlib.suppress(ConnectionError):
                return await self.reader.read()
            return b""

    async def is_open(self) -> bool:
        return await self.ask("still there") == told("still there")

    def reset(self) -> None:
        """Leave without a word: RST in place of FIN."""
        sock = self.writer.get_extra_info("socket")
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        self.writer.transport.abort()


class Bench:
    """A server and its service, the doorman before them, and the clients that a test opens."""

    def __init__(self, endpoint: str, desk: Desk, **settings: Any) -> None:
        self.server, self.desk = DelegationServer(desk, **settings), desk
        self.listeners = open_listeners(parse_endpoint(endpoint))
        self.turned_away: list[tuple[str, str]] = []
        self.doorman = Doorman(
            self.listeners,
            self.pass_on,
            lambda: len(self.server.connections),
            lambda reason, who: self.turned_away.append((reason, who)),
        )
        self.doorman.open()
        self.faults: list[dict[str, Any]] = []
        self._clients: list[Client] = []

    @property
    def address(self) -> Any:
        return self.listeners[0].socket.getsockname()

    def pass_on(self, connection: socket.socket) -> bool:
        self.server.adopt(connection)
        return True

    async def client(self) -> Client:
        address = self.address
        if isinstance(address, str):
            streams = await asyncio.open_unix_connection(address)
        else:
            streams = await asyncio.open_connection(*address[:2])
        self._clients.append(Client(*streams))
        return self._clients[-1]

    async def until(self, condition: Callable[[], bool], seconds: float = 10) -> None:
        async with asyncio.timeout(seconds):
            while not condition():  # noqa: ASYNC110 -- of states that nobody announces
                await asyncio.sleep(0.005)

    async def end(self) -> None:
        for client in self._clients:
            client.writer.transport.abort()
        self.desk.open.set()
        await self.server.close(grace=5)
        self.shut()

    def shut(self) -> None:
        self.doorman.dismiss()
        for listener in self.listeners:
            listener.remove()
            listener.socket.close()
        self.listeners.clear()


Scene = Callable[[Bench], Awaitable[None]]
Play = Callable[..., Bench]


@pytest.fixture(params=[asyncio.new_event_loop, uvloop.new_event_loop], ids=["asyncio", "uvloop"])
def play(request: pytest.FixtureRequest) -> Iterator[Play]:
    """Run a scene with a server, on each loop; every file descriptor is given back."""

    def run(scene: Scene, endpoint: str = "inet:127.0.0.1:0", **settings: Any) -> Bench:
        async def main() -> Bench:
            desk = Desk()
            bench = Bench(endpoint, desk, **settings)
            asyncio.get_running_loop().set_exception_handler(
                lambda _loop, context: bench.faults.append(context)
            )
            try:
                await scene(bench)
            finally:
                await bench.end()
            assert desk.connections == 0
            assert not bench.server.connections
            assert not bench.server.tasks
            return bench

        with asyncio.Runner(loop_factory=request.param) as runner:
            return runner.run(main())

    request.param().close()  # libuv's first loop opens a pipe for the life of the process
    before = descriptors()
    yield run
    assert descriptors() == before


def descriptors() -> int:
    return len(os.listdir("/proc/self/fd"))  # noqa: PTH208 -- a count, not paths


class TestAnswers:
    @pytest.mark.parametrize("endpoint", ["inet:127.0.0.1:0", "inet:[::1]:0", "unix"])
    def test_come_over_every_kind_of_socket(
        self, play: Play, endpoint: str, tmp_path: Path
    ) -> None:
        async def scene(bench: Bench) -> None:
            client = await bench.client()
            for number in range(3):
                assert await client.ask(number) == told(number)

        bench = play(scene, f"unix:{tmp_path}/s" if endpoint == "unix" else endpoint)
        assert [answer.wire for answer in bench.desk.counted] == [told(n) for n in range(3)]

    def test_keep_the_order_of_requests_sent_together(self, play: Play) -> None:
        async def scene(bench: Bench) -> None:
            client = await bench.client()
            kinds = ("plain", "quick", "slow")
            asked = [f"{kinds[number % 3]} {number}" for number in range(5 * BATCH)]
            client.send(b"".join(map(ask, asked)))
            assert await client.answer() == told(asked[0])
            bench.desk.open.set()
            for sender in asked[1:]:
                assert await client.answer() == told(sender)

        bench = play(scene)
        assert len(bench.desk.counted) == 5 * BATCH

    def test_come_whatever_pieces_the_requests_arrive_in(self, play: Play) -> None:
        async def scene(bench: Bench) -> None:
            client = await bench.client()
            for byte in ask("a") + ask("b"):
                client.send(bytes([byte]))
                await asyncio.sleep(0)
            assert await client.answer() + await client.answer() == told("a") + told("b")

        assert not play(scene).desk.errors

    def test_of_10000_requests_sent_together_are_all_written(self, play: Play) -> None:
        async def scene(bench: Bench) -> None:
            client = await bench.client()
            client.send(b"".join(map(ask, range(10_000))))
            for number in range(10_000):
                assert await client.answer() == told(number)

        assert len(play(scene).desk.counted) == 10_000

    def test_come_to_the_longest_request(self, play: Play) -> None:
        async def scene(bench: Bench) -> None:
            client = await bench.client()
            client.send(ask("a", helo_name="x" * (MAX_REQUEST - len(ask("a", helo_name="")) + 1)))
            assert await client.answer() == told("a")
            assert await client.is_open()

        play(scene)

    def test_come_to_a_peer_that_has_sent_its_end(self, play: Play) -> None:
        async def scene(bench: Bench) -> None:
            client = await bench.client()
            client.send(ask("a") + ask("slow") + ask("b"))
            client.writer.write_eof()
            assert await client.answer() == told("a")
            bench.desk.open.set()
            assert await client.rest() == told("slow") + told("b")

        assert not play(scene).desk.errors

    def test_share_a_memory_with_their_connection_alone(self, play: Play) -> None:
        async def scene(bench: Bench) -> None:
            one, two = await bench.client(), await bench.client()
            for client in (one, two, one):
                await client.ask("a")

        a, b, c = play(scene).desk.memories
        assert a is c
        assert a is not b

    @pytest.mark.parametrize(
        ("state", "context", "reason"),
        [
            ("LHLO", "", "unknown-state"),
            ("RCPT", "stage=data", "later-stage"),
            ("RCPT", "stage=banner", "unknown-stage"),
            ("RCPT", "list=banner", "unknown-list"),
        ],
    )
    def test_are_dunno_where_state_or_context_make_no_sense(
        self, play: Play, state: str, context: str, reason: str
    ) -> None:
        async def scene(bench: Bench) -> None:
            client = await bench.client()
            client.send(ask("a", state, policy_context=context))
            assert await client.answer() == DUNNO
            assert await client.is_open()

        desk = play(scene).desk
        assert desk.errors == {reason: 1}
        assert len(desk.counted) == 2


class TestCoroutines:
    def test_that_never_wait_need_no_task(self, play: Play) -> None:
        async def scene(bench: Bench) -> None:
            client = await bench.client()
            assert await client.ask("quick") == told("quick")
            assert bench.desk.tasks["quick"] is None

        play(scene)

    def test_that_wait_do_so_in_a_task(self, play: Play) -> None:
        async def scene(bench: Bench) -> None:
            client = await bench.client()
            bench.desk.open.set()
            assert await client.ask("slow") == told("slow")
            assert bench.desk.tasks["slow"] is not None

        play(scene)

    def test_hold_up_their_own_connection_alone(self, play: Play) -> None:
        async def scene(bench: Bench) -> None:
            held, other = await bench.client(), await bench.client()
            held.send(ask("slow") + ask("next"))
            for number in range(100):
                assert await other.ask(number) == told(number)
            assert len(bench.desk.asked) == 101
            bench.desk.open.set()
            assert await held.answer() == told("slow")
            assert await held.answer() == told("next")

        play(scene)

    def test_bound_what_is_read_meanwhile(self, play: Play) -> None:
        async def scene(bench: Bench) -> None:
            client, other = await bench.client(), await bench.client()
            client.send(ask("slow") + b"".join(map(ask, range(200_000))))
            await bench.until(lambda: bool(bench.desk.asked))
            for _ in range(100):
                await other.ask("a")
            # what the kernel and the client still hold has not been taken
            assert client.writer.transport.get_write_buffer_size() > 1_000_000
            (held,) = [c for c in bench.server.connections if c._task is not None]
            assert len(held._parser._buffer) < 1024 * 1024

        play(scene)

    def test_whose_peer_has_gone_are_not_counted(self, play: Play) -> None:
        async def scene(bench: Bench) -> None:
            client, other = await bench.client(), await bench.client()
            client.send(ask("slow"))
            await bench.until(lambda: len(bench.desk.asked) == 1)
            client.reset()
            await bench.until(lambda: bench.desk.connections == 1)
            bench.desk.open.set()
            await bench.until(lambda: not bench.server.tasks)
            assert await other.is_open()

        bench = play(scene)
        assert [answer.wire for answer in bench.desk.counted] == [told("still there")]
        assert not bench.desk.errors


class TestFaults:
    @pytest.mark.parametrize("sender", ["broken", "quick broken", "slow broken"])
    def test_of_ours_close_one_connection_and_no_other(self, play: Play, sender: str) -> None:
        async def scene(bench: Bench) -> None:
            client, other = await bench.client(), await bench.client()
            bench.desk.open.set()
            client.send(ask("a") + ask(sender) + ask("b"))
            assert await client.rest() == told("a")
            assert await other.is_open()

        bench = play(scene)
        assert bench.desk.errors == {"internal": 1}
        assert len(bench.desk.counted) == 2
        assert [type(fault["exception"]) for fault in bench.faults] == [ZeroDivisionError]

    @pytest.mark.parametrize(
        ("data", "reason"),
        [
            pytest.param(b"\n", "empty", id="empty"),
            pytest.param(ask("a").replace(b"\n", b"\r\n"), "crlf", id="CR LF"),
            pytest.param(ask("a\0"), "nul", id="NUL"),
            pytest.param(b"GET / HTTP/1.1\nHost: a\n\n", "malformed-line", id="HTTP"),
            pytest.param(b"sender=a\n\n", "not-a-request", id="no request type"),
            pytest.param(b"x" * (MAX_REQUEST + 2), "too-long", id="an endless line"),
            pytest.param(b"a=b\n" * MAX_REQUEST, "too-long", id="endless lines"),
            pytest.param(bytes(range(256)) * 4, "too-long", id="binary without end"),
        ],
    )
    def test_of_the_peer_are_counted_and_never_answered(
        self, play: Play, data: bytes, reason: str
    ) -> None:
        async def scene(bench: Bench) -> None:
            client, other = await bench.client(), await bench.client()
            client.send(ask("before") + data * (300 if data[:1] == b"\0" else 1))
            assert told("before").startswith(await client.rest())  # less if RST overtakes it
            await bench.until(lambda: bench.desk.connections == 1)
            assert await other.is_open()

        desk = play(scene).desk
        assert desk.errors == {reason: 1}
        assert [answer.wire for answer in desk.counted] == [told("before"), told("still there")]
        assert str(desk.details[0]["client"]).startswith("127.0.0.1:")

    @pytest.mark.parametrize("leave", ["end", "reset"])
    def test_an_end_inside_a_request_is_one(self, play: Play, leave: str) -> None:
        async def scene(bench: Bench) -> None:
            client = await bench.client()
            client.send(ask("a") + ask("b")[:-1])
            assert await client.answer() == told("a")
            if leave == "end":
                client.writer.write_eof()
                assert await client.rest() == b""
            else:
                client.reset()
            await bench.until(lambda: bench.desk.connections == 0)

        desk = play(scene).desk
        assert desk.errors == {"truncated": 1}
        assert len(desk.counted) == 1

    def test_leaving_between_requests_is_none(self, play: Play) -> None:
        async def scene(bench: Bench) -> None:
            for leave in (Client.reset, lambda client: client.writer.close()):
                client = await bench.client()
                await client.ask("a")
                leave(client)
            await bench.until(lambda: bench.desk.connections == 0)

        assert not play(scene).desk.errors

    def test_random_bytes_reach_no_other_answer(self, play: Play) -> None:
        chance = random.Random(20)
        pieces = [ask("x"), ask("x")[:-1], b"\n", b"\r\n", b"\0", b"=", b"a=b\n", b"\xff" * 50]

        async def hostile(bench: Bench) -> None:
            for _ in range(100):
                client = await bench.client()
                client.send(b"".join(chance.choices(pieces, k=chance.randrange(1, 6))))
                await asyncio.sleep(0)
                if chance.random() < 0.5:
                    client.reset()
                else:
                    client.writer.close()

        async def scene(bench: Bench) -> None:
            good = await bench.client()
            attacks = [asyncio.create_task(hostile(bench)) for _ in range(3)]
            for number in range(500):
                assert await good.ask(number) == told(number)
            await asyncio.gather(*attacks)
            await bench.until(lambda: bench.desk.connections == 1)
            assert await good.is_open()

        bench = play(scene)
        assert sum(bench.desk.errors.values()) > 100
        assert not bench.desk.errors["internal"]
        assert not bench.faults


class TestPatience:
    def test_with_the_rest_of_a_request_ends(self, play: Play) -> None:
        async def scene(bench: Bench) -> None:
            client = await bench.client()
            client.send(ask("a")[:-1])
            assert await client.rest() == b""

        assert play(scene, patience=0.1).desk.errors == {"timeout": 1}

    def test_is_not_renewed_by_single_bytes(self, play: Play) -> None:
        async def scene(bench: Bench) -> None:
            client = await bench.client()
            began = time.monotonic()
            with contextlib.suppress(ConnectionError):
                for _ in range(200):
                    client.send(b"x")
                    await asyncio.sleep(0.02)
                    if client.reader.at_eof():
                        break
            assert time.monotonic() - began < 2

        assert play(scene, patience=0.2).desk.errors == {"timeout": 1}

    def test_is_new_for_each_request(self, play: Play) -> None:
        async def scene(bench: Bench) -> None:
            client = await bench.client()
            stream = b"".join(map(ask, range(10)))
            for at in range(0, len(stream), 35):  # never at the end of a request
                client.send(stream[at : at + 35])
                await asyncio.sleep(0.05)
            for number in range(10):
                assert await client.answer() == told(number)

        assert not play(scene, patience=0.4).desk.errors

    def test_with_an_idle_connection_is_endless(self, play: Play) -> None:
        async def scene(bench: Bench) -> None:
            fresh, used = await bench.client(), await bench.client()
            assert await used.is_open()
            await asyncio.sleep(0.3)
            assert await fresh.is_open()
            assert await used.is_open()

        assert not play(scene, patience=0.05).desk.errors

    def test_does_not_count_the_time_that_we_take(self, play: Play) -> None:
        async def scene(bench: Bench) -> None:
            client = await bench.client()
            client.send(ask("slow") + ask("b")[:-1])
            await asyncio.sleep(0.3)
            bench.desk.open.set()
            assert await client.answer() == told("slow")
            client.send(b"\n")
            assert await client.answer() == told("b")

        assert not play(scene, patience=0.1).desk.errors

    def test_with_a_peer_that_never_reads_ends(self, play: Play) -> None:
        async def scene(bench: Bench) -> None:
            other = await bench.client()
            sock = never_reading(bench)
            flood = b"".join(ask(f"{number} {LONG}") for number in range(1000))
            sender = asyncio.create_task(asyncio.to_thread(push, sock, flood))
            worst = most_written = most_read = 0.0
            while not bench.desk.errors:
                began = time.monotonic()
                assert await other.is_open()
                worst = max(worst, time.monotonic() - began)
                for connection in bench.server.connections:
                    written = connection._transport.get_write_buffer_size()
                    most_written = max(most_written, written)
                    most_read = max(most_read, len(connection._parser._buffer))
            await sender
            sock.close()
            assert most_written < 128 * 1024
            assert most_read < 1024 * 1024
            assert worst < 1

        bench = play(scene, patience=0.5)
        assert bench.desk.errors == {"unread-answers": 1}
        assert not bench.faults

    def test_with_a_peer_that_reads_late_is_whole_again(self, play: Play) -> None:
        async def scene(bench: Bench) -> None:
            sock = never_reading(bench)
            asked = b"".join(ask(f"{number} {LONG}") for number in range(300))
            await asyncio.to_thread(push, sock, asked, once=True)
            await bench.until(lambda: any(c._choked for c in bench.server.connections))
            sock.setblocking(False)
            reader, writer = await asyncio.open_connection(sock=sock)
            client = Client(reader, writer)
            for number in range(300):
                assert await client.answer() == told(f"{number} {LONG}")
            await asyncio.sleep(0.8)
            assert await client.is_open()
            writer.transport.abort()

        assert not play(scene, patience=0.6).desk.errors

    def test_with_a_malformed_peer_that_never_reads_ends(self, play: Play) -> None:
        async def scene(bench: Bench) -> None:
            sock = never_reading(bench)
            # more answers than the kernel takes, fewer than the transport bids to wait for
            await asyncio.to_thread(push, sock, ask(LONG) * 50 + b"junk\n\n", once=True)
            await bench.until(lambda: bench.desk.errors["malformed-line"] == 1)
            assert bench.desk.connections == 1
            await bench.until(lambda: bench.desk.connections == 0)
            sock.close()

        assert play(scene, patience=0.2).desk.errors == {"malformed-line": 1, "unread-answers": 1}


LONG = "x" * 400


def never_reading(bench: Bench) -> socket.socket:
    """Connect with buffers so small that unread answers soon stay with the server."""
    bench.listeners[0].socket.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, 4096)
    sock = socket.socket()
    sock.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
    sock.connect(bench.address)
    return sock


def push(sock: socket.socket, data: bytes, *, once: bool = False) -> None:
    """Send and never read, until thrown out."""
    with contextlib.suppress(OSError):
        sock.sendall(data)
        while not once:
            sock.sendall(data)


CROWD = """
import socket, sys
address, count, half = (sys.argv[1], int(sys.argv[2])), int(sys.argv[3]), sys.argv[4].encode()
sockets = []
for number in range(count):
    sockets.append(socket.create_connection(address))
    if number % 2:
        sockets[-1].send(half)
sys.stdin.read()
"""


class TestManyConnections:
    def test_idle_and_half_open_cost_nobody_an_answer(self, play: Play) -> None:
        count = min(10_000, files_allowed() - 500) // 2 * 2

        async def scene(bench: Bench) -> None:
            good = await bench.client()
            host, port = bench.address
            arguments = (CROWD, host, str(port), str(count), "request=smtpd_access_policy\nsen")
            command = [sys.executable, "-c", *arguments]
            with subprocess.Popen(command, stdin=-1) as crowd:  # noqa: ASYNC220 -- once
                await bench.until(lambda: bench.desk.connections == count + 1, 60)
                worst = 0.0
                for number in range(200):
                    began = time.monotonic()
                    assert await good.ask(number) == told(number)
                    worst = max(worst, time.monotonic() - began)
                late = await bench.client()
                assert await late.is_open()
                assert bench.desk.connections == count + 2
                crowd.communicate()
            assert worst < 1
            await bench.until(lambda: bench.desk.connections == 2, 60)
            assert await good.is_open()

        desk = play(scene).desk
        assert desk.errors == {"truncated": count // 2}
        assert len(desk.counted) == 202


def files_allowed() -> int:
    """Raise the limit of open files as far as the system allows, and say how far."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    wanted = 12_000
    with contextlib.suppress(OSError, ValueError):
        resource.setrlimit(resource.RLIMIT_NOFILE, (max(soft, wanted), max(hard, wanted)))
    with contextlib.suppress(OSError, ValueError):
        resource.setrlimit(resource.RLIMIT_NOFILE, (max(soft, min(hard, wanted)), hard))
    return resource.getrlimit(resource.RLIMIT_NOFILE)[0]


class TestClosing:
    def test_finishes_what_was_asked(self, play: Play) -> None:
        async def scene(bench: Bench) -> None:
            busy, idle = await bench.client(), await bench.client()
            busy.send(ask("slow") + ask("b"))
            await idle.ask("a")
            await bench.until(lambda: len(bench.desk.asked) == 2)
            closing = asyncio.create_task(bench.server.close(grace=10))
            assert await idle.rest() == b""
            bench.desk.open.set()
            assert await busy.rest() == told("slow") + told("b")
            await closing

        bench = play(scene)
        assert not bench.desk.errors
        assert len(bench.desk.counted) == 3

    def test_waits_no_longer_than_it_may(self, play: Play) -> None:
        async def scene(bench: Bench) -> None:
            client = await bench.client()
            client.send(ask("slow"))
            await bench.until(lambda: len(bench.desk.asked) == 1)
            async with asyncio.timeout(5):
                await bench.server.close(grace=0.1)
            assert not bench.server.tasks
            assert await client.rest() == b""

        bench = play(scene)
        assert not bench.desk.counted
        assert not bench.faults

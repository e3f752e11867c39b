"""Who is let in to the policy protocol, how many, and what waits where nobody can take it."""

import asyncio
import contextlib
import resource
import socket
from collections.abc import Awaitable, Callable
from pathlib import Path

import pytest
import uvloop

from policyd.lists.source import Kind
from policyd.lists.written import written_out
from policyd.serve.doorman import Doorman
from policyd.serve.sockets import open_listeners, parse_endpoint


class Hall:
    """What a doorman lets in, as long as `full` is false."""

    def __init__(self, endpoint: str) -> None:
        self.listeners = open_listeners(parse_endpoint(endpoint))
        self.inside: list[socket.socket] = []
        self.refused: list[tuple[str, str]] = []
        self.full = False
        self.doorman = Doorman(
            self.listeners,
            self.take,
            lambda: len(self.inside),
            lambda reason, who: self.refused.append((reason, who)),
        )

    def take(self, connection: socket.socket) -> bool:
        if not self.full:
            self.inside.append(connection)
        return not self.full

    def visit(self) -> socket.socket:
        listener = self.listeners[0].socket
        visitor = socket.socket(listener.family)
        visitor.setblocking(False)
        with contextlib.suppress(BlockingIOError):
            visitor.connect(listener.getsockname())
        return visitor

    async def until(self, condition: Callable[[], bool]) -> None:
        async with asyncio.timeout(10):
            while not condition():  # noqa: ASYNC110 -- of states that nobody announces
                await asyncio.sleep(0.005)

    def end(self) -> None:
        self.doorman.dismiss()
        for each in (*self.inside, *(listener.socket for listener in self.listeners)):
            each.close()


Play = Callable[..., None]


@pytest.fixture(params=[asyncio.new_event_loop, uvloop.new_event_loop], ids=["asyncio", "uvloop"])
def play(request: pytest.FixtureRequest) -> Play:
    def run(scene: Callable[[Hall], Awaitable[None]], endpoint: str = "inet:127.0.0.1:0") -> None:
        async def main() -> None:
            hall = Hall(endpoint)
            try:
                await scene(hall)
            finally:
                hall.end()

        with asyncio.Runner(loop_factory=request.param) as runner:
            runner.run(main())

    return run


def is_shut(visitor: socket.socket) -> bool:
    """Tell whether the other end has closed."""
    try:
        return visitor.recv(1) == b""
    except BlockingIOError:
        return False
    except ConnectionError:
        return True


def test_who_comes_before_it_opens_waits(play: Play) -> None:
    async def scene(hall: Hall) -> None:
        with hall.visit():
            await asyncio.sleep(0.1)
            assert not hall.inside
            hall.doorman.open()
            await hall.until(lambda: len(hall.inside) == 1)

    play(scene)


def test_who_comes_after_it_closed_waits_until_it_opens_again(play: Play) -> None:
    async def scene(hall: Hall) -> None:
        hall.doorman.open()
        hall.doorman.close()
        with hall.visit() as visitor:
            await asyncio.sleep(0.1)
            assert not hall.inside
            assert not is_shut(visitor)
            hall.doorman.resume()
            await hall.until(lambda: len(hall.inside) == 1)

    play(scene)


def test_while_nobody_can_take_them_connections_are_kept_and_none_is_lost(play: Play) -> None:
    async def scene(hall: Hall) -> None:
        hall.full = True
        hall.doorman.open()
        with contextlib.ExitStack() as visitors:
            for _ in range(100):
                visitors.enter_context(hall.visit())
            await asyncio.sleep(0.1)
            assert not hall.inside
            hall.full = False
            hall.doorman.resume()
            assert len(hall.inside) == 1
            await hall.until(lambda: len(hall.inside) == 100)

    play(scene)


def test_who_could_not_be_taken_is_offered_again_without_a_word(play: Play) -> None:
    async def scene(hall: Hall) -> None:
        hall.full = True
        hall.doorman.open()
        with hall.visit(), hall.visit():
            await asyncio.sleep(0.1)
            hall.full = False
            await hall.until(lambda: len(hall.inside) == 2)

    play(scene)


def test_a_doorman_that_was_closed_meanwhile_does_not_open_by_itself(play: Play) -> None:
    async def scene(hall: Hall) -> None:
        hall.full = True
        hall.doorman.open()
        with hall.visit():
            await asyncio.sleep(0.02)
            hall.doorman.close()
            hall.full = False
            await asyncio.sleep(0.2)
            assert not hall.inside
            hall.doorman.resume()
            await hall.until(lambda: len(hall.inside) == 1)

    play(scene)


def test_connections_that_were_not_received_are_offered_again_before_others(play: Play) -> None:
    async def scene(hall: Hall) -> None:
        hall.doorman.open()
        with hall.visit() as first, hall.visit() as second:
            await hall.until(lambda: len(hall.inside) == 2)
            names = [each.getpeername() for each in hall.inside]
            given_back, hall.inside = hall.inside, []
            hall.full = True
            hall.doorman.take_back(given_back)
            with hall.visit():
                await asyncio.sleep(0.2)
                assert not hall.inside
                hall.full = False
                await hall.until(lambda: len(hall.inside) == 3)
            assert [each.getpeername() for each in hall.inside[:2]] == names
            assert not is_shut(first)
            assert not is_shut(second)
            given_back, hall.inside = hall.inside, []
            hall.doorman.dismiss()
            hall.doorman.take_back(given_back)
            await hall.until(lambda: is_shut(first) and is_shut(second))

    play(scene)


def test_connections_beyond_the_bound_are_closed_and_told(play: Play) -> None:
    async def scene(hall: Hall) -> None:
        hall.doorman.most = 3
        hall.doorman.open()
        with contextlib.ExitStack() as visitors:
            every = [visitors.enter_context(hall.visit()) for _ in range(5)]
            await hall.until(lambda: len(hall.refused) == 2)
            assert len(hall.inside) == 3
            assert hall.refused == [("too-many-connections", "127.0.0.1")] * 2
            await hall.until(lambda: sum(map(is_shut, every)) == 2)
            hall.inside.pop().close()
            visitors.enter_context(hall.visit())
            await hall.until(lambda: len(hall.inside) == 3)

    play(scene)


@pytest.mark.parametrize(
    ("networks", "let_in"),
    [
        (["127.0.0.0/8"], True),
        (["127.0.0.1"], True),
        (["192.0.2.0/24", "2001:db8::/32"], False),
        (["::/0"], False),
        ([], False),
    ],
)
def test_the_access_list_is_of_client_networks(
    play: Play, networks: list[str], let_in: bool
) -> None:
    async def scene(hall: Hall) -> None:
        hall.doorman.allowed = written_out(Kind.NETWORKS, networks, "")
        hall.doorman.open()
        with hall.visit() as visitor:
            await hall.until(lambda: bool(hall.inside or hall.refused))
            assert hall.refused == ([] if let_in else [("not-allowed", "127.0.0.1")])
            await hall.until(lambda: is_shut(visitor) is not let_in)

    play(scene)


def test_the_access_list_is_not_for_unix_sockets(play: Play, tmp_path: Path) -> None:
    async def scene(hall: Hall) -> None:
        hall.doorman.allowed = written_out(Kind.NETWORKS, [], "")
        hall.doorman.open()
        with hall.visit():
            await hall.until(lambda: len(hall.inside) == 1)

    play(scene, f"unix:{tmp_path}/s")


def test_without_descriptors_it_rests_and_then_goes_on(play: Play) -> None:
    async def scene(hall: Hall) -> None:
        soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
        with hall.visit():
            lowest = socket.socket()
            resource.setrlimit(resource.RLIMIT_NOFILE, (lowest.fileno(), hard))
            lowest.close()
            holds = []
            try:
                with contextlib.suppress(OSError):
                    while True:
                        holds.append(socket.socket())
                hall.doorman.open()
                await hall.until(lambda: bool(hall.refused))
            finally:
                resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))
                for each in holds:
                    each.close()
            assert [reason for reason, _ in hall.refused] == ["too-many-connections"]
            await hall.until(lambda: len(hall.inside) == 1)

    play(scene)


def test_one_that_was_dismissed_lets_nobody_in(play: Play) -> None:
    async def scene(hall: Hall) -> None:
        hall.doorman.open()
        hall.doorman.dismiss()
        hall.doorman.resume()
        with hall.visit():
            await asyncio.sleep(0.1)
            assert not hall.inside

    play(scene)

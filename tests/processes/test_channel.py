"""Messages between the supervisor and its processes: whole, in order, with their descriptors."""

import asyncio
import contextlib
import gc
import os
from collections.abc import Awaitable, Callable, Iterator

import msgspec
import pytest
import uvloop

from policyd.processes.channel import MOST_DESCRIPTORS, Channel, pair
from policyd.processes.memory import kept, let_go, octets_of


class Word(msgspec.Struct, tag=True):
    text: str
    number: int = 0


class Other(msgspec.Struct, tag=True):
    pass


Message = Word | Other
Scene = Callable[["Ends"], Awaitable[None]]


class Ends:
    def __init__(self) -> None:
        one, two = pair()
        self.here: Channel[Message] = Channel(one, Message)
        self.there: Channel[Message] = Channel(two, Message)
        self.got: list[tuple[Message, list[int]]] = []
        self.ended = asyncio.Event()

    def listen(self) -> None:
        self.there.listen(
            lambda message, descriptors: self.got.append((message, descriptors)), self.ended.set
        )

    async def until(self, count: int) -> None:
        async with asyncio.timeout(10):
            while len(self.got) < count:  # noqa: ASYNC110 -- of messages that nobody announces
                await asyncio.sleep(0.005)

    def close(self) -> None:
        self.here.close()
        self.there.close()
        for _, descriptors in self.got:
            let_go(descriptors)


@pytest.fixture(params=[asyncio.new_event_loop, uvloop.new_event_loop], ids=["asyncio", "uvloop"])
def play(request: pytest.FixtureRequest) -> Iterator[Callable[[Scene], None]]:
    """Run a scene between two ends; every descriptor is given back."""

    def run(scene: Scene) -> None:
        async def main() -> None:
            ends = Ends()
            with contextlib.closing(ends):
                await scene(ends)

        with asyncio.Runner(loop_factory=request.param) as runner:
            runner.run(main())

    request.param().close()  # libuv's first loop opens a pipe for the life of the process
    before = descriptors_open()
    yield run
    assert descriptors_open() == before


def descriptors_open() -> int:
    gc.collect()  # what other tests left is not ours to count
    return len(os.listdir("/proc/self/fd"))  # noqa: PTH208 -- a count, not paths


Play = Callable[[Scene], None]


def test_messages_come_in_their_order_as_they_were_sent(play: Play) -> None:
    async def scene(ends: Ends) -> None:
        ends.listen()
        sent = [Word("é" * 1000, number) for number in range(50)]
        for message in sent:
            ends.here.post(message)
        ends.here.post(Other())
        await ends.until(51)
        assert [message for message, _ in ends.got] == [*sent, Other()]

    play(scene)


@pytest.mark.parametrize("count", [1, MOST_DESCRIPTORS, MOST_DESCRIPTORS + 1, 600])
def test_descriptors_come_with_their_message_in_its_order_however_many(
    play: Play, count: int
) -> None:
    async def scene(ends: Ends) -> None:
        ends.listen()
        files = [kept(str(number).encode(), "test") for number in range(count)]
        ends.here.post(Word("without"))
        ends.here.post(Word("with"), files)
        ends.here.post(Word("without"))
        let_go(files)
        await ends.until(3)
        assert [len(descriptors) for _, descriptors in ends.got] == [0, count, 0]
        read = [octets_of(descriptor) for descriptor in ends.got[1][1]]
        assert read == [str(number).encode() for number in range(count)]
        assert not any(os.get_inheritable(descriptor) for descriptor in ends.got[1][1])

    play(scene)


def test_what_finds_no_room_is_sent_later_and_its_descriptors_may_be_closed_at_once(
    play: Play,
) -> None:
    async def scene(ends: Ends) -> None:
        file = kept(b"seen", "test")
        for number in range(2000):
            ends.here.post(Word("x" * 500, number), [file] if number == 1999 else [])
        assert not ends.here.offer(Other(), [])
        let_go([file])
        ends.listen()
        await ends.until(2000)
        assert [m.number for m, _ in ends.got if isinstance(m, Word)] == list(range(2000))
        assert octets_of(ends.got[-1][1][0]) == b"seen"
        assert ends.here.offer(Other(), [])

    play(scene)


def test_an_offer_is_sent_at_once_or_not_at_all(play: Play) -> None:
    async def scene(ends: Ends) -> None:
        offered = 0
        while ends.here.offer(Word("x" * 500, offered), []):
            offered += 1
        ends.listen()
        await ends.until(offered)
        await asyncio.sleep(0.05)
        assert len(ends.got) == offered > 0

    play(scene)


def test_the_end_is_told_after_the_last_message(play: Play) -> None:
    async def scene(ends: Ends) -> None:
        ends.here.post(Other())
        ends.here.close()
        ends.listen()
        async with asyncio.timeout(10):
            await ends.ended.wait()
        assert [message for message, _ in ends.got] == [Other()]

    play(scene)


def test_a_message_may_be_long_and_one_too_long_is_an_error(play: Play) -> None:
    async def scene(ends: Ends) -> None:
        ends.listen()
        ends.here.post(Word("x" * 150_000))
        with pytest.raises(OSError, match="Message too long"):
            ends.here.post(Word("x" * 1_000_000))
        await ends.until(1)
        assert [message for message, _ in ends.got] == [Word("x" * 150_000)]

    play(scene)


def test_sending_to_nobody_is_no_error(play: Play) -> None:
    async def scene(ends: Ends) -> None:
        ends.there.close()
        ends.here.post(Other())
        ends.here.post(Other(), [0])
        assert not ends.here.offer(Other(), [0])

    play(scene)


def test_octets_kept_in_memory_can_be_changed_by_nobody() -> None:
    file = kept(b"policy", "test")
    try:
        with pytest.raises(PermissionError):
            os.write(file, b"x")
        with pytest.raises(PermissionError):
            os.ftruncate(file, 0)
        assert octets_of(file) == b"policy"
        assert not os.get_inheritable(file)
    finally:
        let_go([file])


def test_nothing_can_be_kept_too() -> None:
    file = kept(b"", "test")
    assert octets_of(file) == b""
    let_go([file])

"""Milter sessions that tell messages at a pace, as Postfix's smtpd(8) and cleanup(8) do.

The octets are `tools.milter_client`'s; here they go over asyncio, many sessions at once.
"""

import asyncio
import itertools
import struct
import time
from collections.abc import Callable, Iterator
from typing import Final

from tools import milter_client as wire
from tools.campaign.course import AGAIN, Course
from tools.campaign.policy import PASSED, Kind
from tools.milter_client import Answer, Answers, Negotiated, Step

_MACROS: Final = {
    "j": "mx.example.org",
    "{daemon_name}": "mx.example.org",
    "{daemon_addr}": "192.0.2.250",
    "v": "Postfix 3.7.11",
    "_": "client.example [192.0.2.1]",
    "i": "4Wq01F5Jz9",
    "{mail_addr}": "sender@example.net",
    "{rcpt_addr}": "user@example.org",
}
_CHANGES: Final = ("add header", "insert header", "add recipient", "delete recipient", "quarantine")


class ClosedError(Exception):
    """The milter closed the connection where an answer was due."""


class SilentError(Exception):
    """The milter did not answer in time."""


def read_answer(answer: Answer) -> str:
    """Give the answer to the end of a message, in the words of `policy`."""
    if answer.name in {"continue", "accept"}:
        return PASSED
    return answer.text if answer.name == "reply" else answer.name


def events(kind: Kind) -> Iterator[tuple[Step, bytes]]:
    """Tell a message of that kind, up to its end and without it."""
    yield wire.MAIL, wire.strings(b"<sender@example.net>", b"SIZE=4096")
    yield wire.RCPT, wire.strings(b"<user@example.org>")
    yield wire.DATA, b""
    yield wire.HEADER, wire.strings(b"From", b"sender@example.net")
    yield wire.HEADER, wire.strings(b"To", b"user@example.org")
    yield wire.HEADER, wire.strings(b"Subject", kind.encode())
    yield wire.HEADER, wire.strings(b"Message-ID", b"<1@example.net>")
    yield wire.END_OF_HEADER, b""
    yield wire.BODY, b"Hello\r\n" * 500


class Telling:
    """Tells messages, session after session, until the course ends."""

    def __init__(self, course: Course, number: int) -> None:
        self._course = course
        self._tally = course.milter
        self._kinds = itertools.cycle(Kind)
        share = number / course.plan.tellers
        self._due = time.monotonic() + course.plan.between_messages * share
        self._kind: Kind | None = None

    async def run(self) -> None:
        """Tell messages; a session that ends early is counted, and repeated if that is the plan."""
        self._kind = next(self._kinds)
        while not self._course.ended:
            try:
                await self._session()
            except (OSError, ClosedError, SilentError) as error:
                self._tally.closed += not isinstance(error, SilentError)
                if not self._course.plan.tolerant:
                    return
                await asyncio.sleep(AGAIN)

    async def _session(self) -> None:
        plan, oldest = self._course.plan, self._course.oldest
        session = await Session.begun(plan.milter, self._tally.waited, plan.patience)
        try:
            newest, numbers = self._course.newest, set[str]()
            await session.event(
                wire.CONNECT, wire.strings(b"client.example") + b"4\xc0\x01192.0.2.1\0"
            )
            await session.event(wire.HELO, wire.strings(b"client.example"))
            for _ in range(plan.messages):
                await self._until_due()
                if self._course.ended:
                    break
                answer = await self._message(session, newest)
                assert self._kind is not None
                self._tally.answer(self._kind, answer, oldest, newest)
                numbers |= {answer.rpartition(" ")[2]} - {PASSED}
                self._kind = next(self._kinds)
            if len(numbers) > 1:
                self._tally.mixes(f"one session, policies {', '.join(sorted(numbers))}")
        finally:
            session.end()

    async def _until_due(self) -> None:
        now = time.monotonic()
        await asyncio.sleep(max(0.0, self._due - now))
        self._due = max(self._due + self._course.plan.between_messages, now)

    async def _message(self, session: "Session", newest: int) -> str:
        """Tell a message and give the answer to it, that of its end or an earlier one."""
        ending = False
        try:
            assert self._kind is not None
            for step, content in events(self._kind):
                answer = await session.event(step, content)
                if answer is not None and answer.name not in {"continue", "skip"}:
                    return read_answer(answer)
            ending = True
            return read_answer(await session.message_end())
        except (OSError, ClosedError, SilentError):
            # Only the end of a message is decided, and so counted, by the campaigns' policy.
            self._tally.never_answered(self._kind if ending else None, newest)
            raise


class Session:
    """One connection to a milter, from negotiation on."""

    def __init__(
        self,
        reader: asyncio.StreamReader,
        writer: asyncio.StreamWriter,
        waited: Callable[[float, float], None],
        patience: float,
    ) -> None:
        self._reader, self._writer = reader, writer
        self._waited, self._patience = waited, patience
        self._answers = Answers()
        self._received: list[Answer] = []
        self._negotiated = Negotiated(wire.VERSION, 0, 0)

    @classmethod
    async def begun(
        cls, path: str, waited: Callable[[float, float], None], patience: float
    ) -> "Session":
        """Connect and negotiate."""
        session = cls(*await asyncio.open_unix_connection(path), waited, patience)
        offer = struct.pack("!III", wire.VERSION, wire.ALL_ACTIONS, wire.ALL_STEPS)
        try:
            session._negotiated = Negotiated.parse(
                (await session._asked(wire.packet(b"O", offer))).content
            )
        except BaseException:
            session._writer.close()
            raise
        return session

    async def event(self, step: Step, content: bytes = b"") -> Answer | None:
        """Tell an event if it is wanted; give the answer if there is one."""
        steps = self._negotiated.steps
        octets = self._macros(step)
        if not steps & step.never:
            octets += wire.packet(step.letter, content)
            if not steps & step.silent:
                return await self._asked(octets)
        self._writer.write(octets)
        return None

    async def message_end(self) -> Answer:
        """Tell the end of the message; give the answer, not the changes before it."""
        step = wire.END_OF_MESSAGE
        answer = await self._asked(self._macros(step) + wire.packet(step.letter))
        while answer.name in _CHANGES:
            answer = await self._answer()
        return answer

    def end(self) -> None:
        """Say that the session is over."""
        if not self._writer.is_closing():
            self._writer.write(wire.packet(b"Q"))
            self._writer.close()

    def _macros(self, step: Step) -> bytes:
        if step.macros is None:
            return b""
        names = self._negotiated.macros.get(step.macros) or wire.DEFAULT_MACROS[step.macros]
        known = (
            part.encode()
            for name in names.split()
            if name in _MACROS
            for part in (name, _MACROS[name])
        )
        return wire.packet(b"D", step.letter + wire.strings(*known))

    async def _asked(self, octets: bytes) -> Answer:
        begun = time.monotonic()
        self._writer.write(octets)
        answer = await self._answer()
        self._waited(begun, time.monotonic())
        return answer

    async def _answer(self) -> Answer:
        while not self._received:
            try:
                data = await asyncio.wait_for(self._reader.read(65536), self._patience)
            except TimeoutError:
                raise SilentError from None
            if not data:
                raise ClosedError
            self._received += self._answers.feed(data)
        return self._received.pop(0)

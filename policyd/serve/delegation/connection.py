"""One connection from Postfix: bytes in, answers out in the order of the requests."""

import asyncio
from collections.abc import Coroutine
from types import CoroutineType
from typing import Any, Final, Protocol, cast

from policyd.protocol.delegation import (
    ProtocolError,
    Reason,
    Request,
    RequestParser,
    read_context,
)
from policyd.serve.delegation.door import Door
from policyd.serve.delegation.outbox import Outbox
from policyd.service import Answer
from policyd.smtp.stage import FrontEnd

BATCH: Final = 32
"""Requests of one connection that are answered before others have their turn."""


class Server(Protocol):
    """What a connection needs of its server."""

    service: Door
    patience: float
    outbox: Outbox

    def joined(self, connection: "DelegationProtocol") -> None:
        """Note a new connection."""

    def left(self, connection: "DelegationProtocol") -> None:
        """Note that a connection is gone."""

    def run(self, coroutine: Coroutine[Any, Any, Answer]) -> asyncio.Task[Answer]:
        """Let a coroutine go on as a Task."""


class DelegationProtocol(asyncio.Protocol):
    """
    One connection: requests in, answers out, in their order.

    Three things hold the next request up: a Task that has the answer to come (`_task`), a peer
    that does not read (`_choked`), and a batch that ended before the requests did (`_next`).
    Whatever arrives meanwhile is kept, and reading stops.
    """

    __slots__ = (
        "_choked",
        "_draining",
        "_ended",
        "_memory",
        "_next",
        "_parser",
        "_partial_timer",
        "_reading",
        "_server",
        "_service",
        "_stopped",
        "_task",
        "_transport",
        "_unread_timer",
    )

    _transport: asyncio.Transport

    def __init__(self, server: Server) -> None:
        self._server = server
        self._service = server.service
        self._parser = RequestParser()
        self._memory = server.service.memory()
        self._task: asyncio.Task[Answer] | None = None
        self._next: asyncio.Handle | None = None
        self._choked = False
        self._reading = True
        self._ended = False  # the peer sends no more
        self._draining = False
        self._stopped = False  # closed by us
        self._partial_timer: asyncio.TimerHandle | None = None
        self._unread_timer: asyncio.TimerHandle | None = None

    # what the loop calls

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """Begin a connection."""
        self._transport = cast("asyncio.Transport", transport)
        self._server.joined(self)

    def data_received(self, data: bytes) -> None:
        """Take what arrived, and answer it unless something holds it up."""
        self._parser.feed(data)
        if self._held:
            self._read(False)
        else:
            self._work()

    def eof_received(self) -> bool:
        """Take the peer's end; what it asked before is still answered."""
        self._ended = True
        if not self._held:
            self._finish()
        return True

    def pause_writing(self) -> None:
        """Answer no more: the peer does not read."""
        self._choked = True
        self._unread_timer = self._in_patience(Reason.UNREAD, "answers are not read")

    def resume_writing(self) -> None:
        """Go on."""
        self._choked = False
        if self._stopped:
            return
        if self._unread_timer is not None:
            self._unread_timer.cancel()
            self._unread_timer = None
        if not self._held:
            self._work()

    def connection_lost(self, exc: Exception | None) -> None:
        """End; an answer still to come has nobody to go to and is not counted."""
        del exc  # the peer's way of leaving
        for handle in (self._partial_timer, self._unread_timer, self._next):
            if handle is not None:
                handle.cancel()
        if self._parser.partial and not (self._stopped or self._held):
            self._report(ProtocolError(Reason.TRUNCATED, "the connection broke inside a request"))
        self._stopped = True
        self._server.left(self)

    # what the server calls

    def drain(self) -> None:
        """Close as soon as nothing is left to answer."""
        self._draining = True
        if not self._held:
            self._stop()

    def abort(self) -> None:
        """Close now."""
        self._stopped = True
        self._transport.abort()

    # requests to answers

    @property
    def _held(self) -> bool:
        return self._task is not None or self._choked or self._next is not None

    def _work(self) -> None:
        """Answer what has been received, at most a batch of it, with one write."""
        if self._stopped or self._transport.is_closing():
            return
        wires: list[bytes] = []
        failure: Exception | None = None
        try:
            while len(wires) < BATCH:
                request = self._parser.next_request()
                if request is None:
                    break
                answer = self._answer(request)
                if answer is None:
                    break
                self._service.written(answer)
                wires.append(answer.wire)
        except Exception as error:  # noqa: BLE001 -- whatever happens, others are served
            failure = error
        if wires:
            self._server.outbox.post(self._transport, b"".join(wires))
        if failure is not None:
            self._fail(failure)
        else:
            self._settle(len(wires))

    def _answer(self, request: Request) -> Answer | None:
        """Give the answer, or None when a Task will have it."""
        asked = read_context(request)
        if isinstance(asked, ProtocolError):
            self._report(asked)
            return self._service.decline(request.stage, request.attributes)
        answer = self._service.answer_policy(request, asked, self._memory)
        if not isinstance(answer, CoroutineType):
            return cast("Answer", answer)
        try:
            answer.send(None)
        except StopIteration as done:
            return cast("Answer", done.value)
        self._task = self._server.run(answer)
        self._task.add_done_callback(self._decided)
        return None

    def _decided(self, task: asyncio.Task[Answer]) -> None:
        """Write what a Task has decided, and go on with what came meanwhile."""
        self._task = None
        if task.cancelled():
            self.abort()
            return
        task.exception()  # has been looked at, whoever is left to be told
        if self._stopped or self._transport.is_closing():
            return
        try:
            answer = task.result()
            self._service.written(answer)
            self._server.outbox.post(self._transport, answer.wire)
        except Exception as error:  # noqa: BLE001 -- as in _work
            self._fail(error)
            return
        if not self._held:
            self._work()

    def _again(self) -> None:
        self._next = None
        if not self._held:
            self._work()

    def _settle(self, answered: int) -> None:
        """Say what comes next, now that `answered` requests have been answered."""
        if answered or self._task is not None:
            self._forget_partial()
        if answered == BATCH:
            self._read(False)
            self._next = asyncio.get_running_loop().call_soon(self._again)
        if self._held:
            return
        if self._ended:
            self._finish()
        elif self._draining:
            self._stop()
        else:
            self._read(True)
            if self._parser.partial and self._partial_timer is None:
                self._partial_timer = self._in_patience(
                    Reason.TIMEOUT, "the rest of a request did not come"
                )

    def _read(self, wanted: bool) -> None:
        if wanted is self._reading or self._ended or self._transport.is_closing():
            return
        self._reading = wanted
        if wanted:
            self._transport.resume_reading()
        else:
            self._transport.pause_reading()

    # the end

    def _finish(self) -> None:
        """Close after the peer's end; inside a request that is its fault."""
        try:
            self._parser.finish()
        except ProtocolError as error:
            self._fail(error)
        else:
            self._stop()

    def _fail(self, failure: Exception) -> None:
        """Close without an answer: Postfix then takes its default_action (SMTPD_POLICY_README)."""
        if isinstance(failure, ProtocolError):
            self._report(failure)
        else:
            asyncio.get_running_loop().call_exception_handler(
                {"message": "policy protocol", "exception": failure, "protocol": self}
            )
            self._report(ProtocolError(Reason.INTERNAL, repr(failure)))
        self._stop()

    def _report(self, error: ProtocolError) -> None:
        self._service.protocol_error(
            FrontEnd.POLICY, error.reason, detail=error.detail, client=self._peer()
        )

    def _stop(self) -> None:
        """Close once what has been written is read, if that is soon."""
        if self._stopped:
            return
        self._stopped = True
        self._forget_partial()
        self._server.outbox.flush()
        if self._unread_timer is None and self._transport.get_write_buffer_size():
            self._unread_timer = self._in_patience(Reason.UNREAD, "answers are not read")
        self._transport.close()

    def _forget_partial(self) -> None:
        if self._partial_timer is not None:
            self._partial_timer.cancel()
            self._partial_timer = None

    def _in_patience(self, reason: Reason, detail: str) -> asyncio.TimerHandle:
        loop = asyncio.get_running_loop()
        return loop.call_later(self._server.patience, self._give_up, reason, detail)

    def _give_up(self, reason: Reason, detail: str) -> None:
        self._report(ProtocolError(reason, f"{detail} in {self._server.patience:g} s"))
        self.abort()

    def _peer(self) -> str:
        name = self._transport.get_extra_info("peername")
        if isinstance(name, tuple):
            return f"{name[0]}:{name[1]}"
        return "unix"

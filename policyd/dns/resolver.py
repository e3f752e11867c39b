"""
The resolver of a worker: c-ares on the worker's loop, asked once for all who have one question.

So many questions are under way at once, and the others wait in line, each within its time. Answers
are kept by the channel that got them (see channel); one that has kept enough is replaced, as it is
when there are other settings, and what is under way in it still gets its answer.
"""

import asyncio
from collections import deque
from functools import partial
from importlib import import_module

import pycares

from policyd.dns.answer import DnsError, Found, Kind
from policyd.dns.channel import LIFE, Channel
from policyd.dns.health import Changed, Health
from policyd.dns.names import is_usual, labels
from policyd.dns.reading import CANCELLED, NOBODY, found_or_failed
from policyd.dns.settings import DnsSettings


def _nobody(_dependency: str, _up: bool, _why: str) -> None:
    """Stand for whoever might want to know how the servers fare."""


class CaresResolver:
    """
    Asks by c-ares (dns.answer.Resolver); nothing is opened before the first question.

    `changed(dependency, up, why)` is told when the servers are first known to answer or not, and
    whenever that changes (see health). Everything is on one loop.
    """

    def __init__(self, settings: DnsSettings, changed: Changed = _nobody) -> None:
        """Ask nobody yet."""
        self._settings = settings
        self._health = Health(changed, self._probe)
        self._channel: Channel | None = None
        self._retired: list[Channel] = []
        self._flights: dict[tuple[str, Kind], _Flight] = {}
        self._waiting: deque[_Flight] = deque()
        self._under_way = 0
        self._unusual: set[asyncio.Task[None]] = set()
        self._sending = False
        self._closed = False

    async def ask(self, name: str, kind: Kind) -> Found:
        """Ask; see dns.answer.Resolver."""
        if labels(name) is None:
            return Found((), exists=False, ttl=LIFE)
        flight = self._flights.get((name, kind)) or self._begin(name, kind)
        landed = flight.landed
        outcome = landed.result() if landed.done() else await asyncio.shield(landed)
        if isinstance(outcome, DnsError):
            raise DnsError(f"{name} {kind}: {outcome}", late=outcome.late)
        return outcome

    def configure(self, settings: DnsSettings) -> None:
        """Ask by other settings from the next question on; answers that were kept are dropped."""
        if settings != self._settings:
            self._settings = settings
            self._retire()
            self._send_waiting()

    async def close(self) -> None:
        """Give up: whoever waits, or asks from now on, is told so."""
        self._closed = True
        self._health.close()
        self._retire()
        for channel in self._retired:
            channel.close()
        self._retired.clear()
        for task in self._unusual:
            task.cancel()
        if self._unusual:
            await asyncio.wait(self._unusual)
        for flight in tuple(self._flights.values()):
            self._land(flight, DnsError("it was given up"))
        self._waiting.clear()

    def _begin(self, name: str, kind: Kind) -> "_Flight":
        loop = asyncio.get_running_loop()
        flight = _Flight(name, kind, loop.create_future())
        if self._closed:
            flight.landed.set_result(DnsError("nobody is asked any more"))
            return flight
        self._flights[name, kind] = flight
        if self._under_way < self._settings.most_at_once:
            self._send(flight)
        else:
            self._waiting.append(flight)
        if not flight.landed.done():
            timeout = self._settings.timeout
            flight.timer = loop.call_later(timeout, self._late, flight, timeout)
        return flight

    def _send(self, flight: "_Flight") -> None:
        flight.sent = True
        self._under_way += 1
        if is_usual(flight.name):
            self._open().ask(flight.name, flight.kind, partial(self._answered, flight))
        else:
            task = asyncio.get_running_loop().create_task(self._ask_unusual(flight))
            self._unusual.add(task)
            task.add_done_callback(self._unusual.discard)

    async def _ask_unusual(self, flight: "_Flight") -> None:
        # imported in a tenth of a second, for which the loop does not stand still
        unusual = await asyncio.to_thread(import_module, "policyd.dns.unusual")
        outcome: Found | DnsError = DnsError("it was given up")
        try:
            outcome = await unusual.ask(self._settings, labels(flight.name), flight.kind)
        except DnsError as error:
            outcome = error
        finally:
            self._settle(flight, outcome)

    def _send_waiting(self) -> None:
        """Send those whose turn it is; an answer that was kept comes while they are sent."""
        if self._sending:
            return
        self._sending = True
        while self._waiting and self._under_way < self._settings.most_at_once:
            flight = self._waiting.popleft()
            if not flight.landed.done():
                self._send(flight)
        self._sending = False

    def _answered(
        self, flight: "_Flight", result: pycares.DNSResult | None, error: int, kept: bool
    ) -> None:
        if error in NOBODY:
            if not flight.landed.done():
                self._health.unanswered()
        elif not kept and error != CANCELLED:
            self._health.answered()
        self._settle(flight, found_or_failed(result, error, flight.kind))

    def _settle(self, flight: "_Flight", outcome: Found | DnsError) -> None:
        """Take the outcome of a question that was sent, and send the next."""
        self._under_way -= 1
        self._land(flight, outcome)
        if not self._closed:
            self._send_waiting()

    def _late(self, flight: "_Flight", timeout: float) -> None:
        if flight.sent:
            self._health.unanswered()
        self._land(flight, DnsError(f"no answer within {timeout:g} s", late=True))

    def _land(self, flight: "_Flight", outcome: Found | DnsError) -> None:
        """Tell those who wait, unless they have been told."""
        if flight.landed.done():
            return
        if flight.timer is not None:
            flight.timer.cancel()
        del self._flights[flight.name, flight.kind]
        flight.landed.set_result(outcome)

    def _open(self) -> Channel:
        if self._channel is None or self._channel.worn:
            self._retire()
            self._channel = Channel(self._settings, asyncio.get_running_loop())
        return self._channel

    def _retire(self) -> None:
        if self._channel is not None:
            self._channel.retire()
            self._retired = [each for each in (*self._retired, self._channel) if not each.closed]
            self._channel = None

    def _probe(self, name: str) -> None:
        def answered(_result: pycares.DNSResult | None, error: int, _kept: bool) -> None:
            failure = found_or_failed(None, error, Kind.PTR) if error in NOBODY else ""
            self._health.probed(name, f"{failure}")

        self._open().ask(name, Kind.PTR, answered)


class _Flight:
    """A question under way or in line, and what all who asked it wait for."""

    __slots__ = ("kind", "landed", "name", "sent", "timer")

    def __init__(self, name: str, kind: Kind, landed: "asyncio.Future[Found | DnsError]") -> None:
        self.name = name
        self.kind = kind
        self.landed = landed
        self.sent = False
        self.timer: asyncio.TimerHandle | None = None

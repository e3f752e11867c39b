"""
The milter front end on libmilter: its callbacks, and its life in a process.

pymilter's C module is used directly, without its class layer: it gives one dispatch a callback
less and the negotiation's masks as they are. Its callbacks are the process's, so there is one
milter a process, and it is not stopped: smfi_stop would cut the sessions between two commands.
It is drained, and then the process ends.

libmilter's main loop has a thread of its own, and another one waits for SIGTERM, SIGINT and SIGHUP
to stop it (libmilter/signal.c). A process that has the milter ignores these signals, and set them
so in its main thread before any other began: the kernel drops them then and that thread sees none.

pymilter must never answer for us, nor an exception reach it: it would send words of its own,
uncounted; at a step without a reply Postfix would wait for milter_command_timeout; SystemExit
would end the process (miltermodule.c, _report_exception).
"""

import contextlib
import signal
import socket
import sys
import threading
import time
from collections.abc import Callable
from types import TracebackType
from typing import Final

import milter

from policyd.protocol.milter import Actions, Event, Plan, Status, Steps, plan
from policyd.rules.policy import Policy
from policyd.serve.milter.door import Mta, Service
from policyd.serve.milter.listening import NAME, hand_over, open_own
from policyd.serve.milter.session import Session
from policyd.serve.milter.sessions import Sessions
from policyd.serve.sockets import parse_endpoint
from policyd.service.reply import FAULT
from policyd.smtp.stage import FrontEnd, Stage

_STATUS: Final = {
    Status.CONTINUE: milter.CONTINUE,
    Status.TEMPFAIL: milter.TEMPFAIL,
    Status.REJECT: milter.REJECT,
    Status.DISCARD: milter.DISCARD,
}
_STAGES: Final = {
    Event.CONNECT: Stage.CONNECT,
    Event.HELO: Stage.HELO,
    Event.MAIL: Stage.MAIL,
    Event.RCPT: Stage.RCPT,
    Event.DATA: Stage.DATA,
}
_NAME_MACROS: Final = int(Actions.NAME_MACROS)
_LEADING_SPACE: Final = int(Steps.LEADING_SPACE)
_LOOK: Final = 0.1  # seconds between looks for the last session's end
_LOOK_UP: Final = signal.SIGUSR1
"""
Ends a poll(2) of libmilter's main loop (EINTR). It keeps the socket open that it began with, so
until it ends nobody else could listen there, and who connects would wait.
"""

HostAddress = tuple[str, int] | tuple[str, int, int, int] | str | None
"""What pymilter gives for a client: of inet and inet6, the path of a local one, none."""


def _nothing(*_: object) -> None:
    """Do nothing: nobody wants to know."""


class MilterServer:
    """The milter of a service: start() once, drain(), and when it is idle the process may end."""

    _started = False

    def __init__(
        self,
        service: Service,
        *,
        listener: socket.socket | None = None,
        endpoint: str = "",
        socket_mode: int = 0o660,
        socket_group: str = "",
        most_sessions: int,
        sessions: Callable[[int], object] = _nothing,
        ended: Callable[[], object] = _nothing,
    ) -> None:
        """
        Prepare to serve on `listener`, which other processes may listen on too.

        Without one, as where libmilter takes no descriptors, on `inet:host:port` or `unix:/path`
        with that mode and group; ValueError for any other form.

        `sessions` is told how many sessions are open whenever that changes, in order, on any
        thread; it must neither raise nor call back. `ended` is called on a thread of libmilter's
        when its main loop ends, which it does only for faults of its own.
        """
        self._service = service
        self._listener = listener
        self._endpoint = parse_endpoint(endpoint) if listener is None else None
        self._mode = socket_mode
        self._group = socket_group
        self._sessions = Sessions(service, most_sessions, sessions)
        self._ended = ended
        self._planned: tuple[Policy, Plan] | None = None
        self._here = threading.local()  # pymilter gives each connection its own thread state

    def start(self) -> None:
        """
        Listen, and serve on a thread of its own; to be called in the main thread.

        OSError names an endpoint that cannot be listened on, LookupError an unknown group,
        RuntimeError says that the process has its milter already.
        """
        if MilterServer._started:
            raise RuntimeError("a process has one milter, which runs once")
        MilterServer._started = True
        self._register()
        if self._listener is not None:
            self._listening = hand_over(self._listener)
        elif self._endpoint is not None:
            self._listening = open_own(self._endpoint, self._mode, self._group)
        signal.signal(_LOOK_UP, _nothing)
        self._main = self._start_thread("milter", self._run)

    def drain(self, idle: Callable[[], object]) -> None:
        """
        Take no more sessions; `idle` is called, on a thread of its own, when the last has ended.

        Sessions that are open go on to their end. Connections that libmilter has not accepted yet
        are left to the other processes that listen. Draining again only waits again.
        """
        self._listening.take_away()
        if self._main.is_alive() and self._main.ident is not None:
            signal.pthread_kill(self._main.ident, _LOOK_UP)
        self._start_thread("milter-drain", lambda: self._wait(idle))

    @property
    def most_sessions(self) -> int:
        """How many sessions may be open at once; one more is closed in the negotiation."""
        return self._sessions.most

    @most_sessions.setter
    def most_sessions(self, most: int) -> None:
        self._sessions.most = most

    @property
    def open_sessions(self) -> int:
        """How many sessions have negotiated and not ended."""
        return self._sessions.open

    @property
    def policies(self) -> frozenset[Policy]:
        """The policies under which sessions go on; to ask after the service's has changed."""
        if self._planned is not None and self._planned[0] is not self._service.policy:
            self._planned = None  # else the older policy would stay until the next negotiation
        return self._sessions.policies

    @staticmethod
    def _start_thread(name: str, run: Callable[[], None]) -> threading.Thread:
        thread = threading.Thread(target=run, name=name, daemon=True)
        thread.start()
        return thread

    def _register(self) -> None:
        milter.set_exception_policy(milter.CONTINUE)
        _on_uncaught(self._undecodable)
        milter.set_connect_callback(self._guarded(Event.CONNECT, _connect))
        milter.set_helo_callback(self._guarded(Event.HELO, Session.hello))
        milter.set_envfrom_callback(self._guarded(Event.MAIL, _mail))
        milter.set_envrcpt_callback(self._guarded(Event.RCPT, _rcpt))
        milter.set_header_callback(self._guarded(Event.HEADER, Session.header))
        milter.set_body_callback(self._guarded(Event.BODY, Session.body))
        milter.set_eom_callback(self._guarded(None, Session.end_of_message))
        milter.set_abort_callback(self._abort)
        milter.set_close_callback(self._close)
        data = self._guarded(Event.DATA, Session.data)
        milter.register(NAME, data=data, negotiate=self._negotiate)

    def _run(self) -> None:
        try:
            milter.main()
        except milter.error as error:
            self._complain("main", error)
        self._ended()

    def _wait(self, idle: Callable[[], object]) -> None:
        """Wait until nobody is connected; who has just been accepted is yet to negotiate."""
        time.sleep(_LOOK)  # an accept(2) that was under way has ended
        while self._sessions.open or self._listening.connected():
            time.sleep(_LOOK)
        idle()

    def _negotiate(self, mta: Mta, options: list[int]) -> int:
        """Ask for what the policy in force needs; the session keeps that policy."""
        policy: Policy | None = None
        try:
            policy = self._sessions.begin()
            if policy is None:
                self._tell("too-many-connections", most=self._sessions.most)
                return milter.REJECT  # libmilter closes: milter_default_action
            planned = self._plan(policy)
            offered = options[0]
            options[0] &= int(planned.actions)  # plain numbers: flags are slow to combine
            options[1] &= int(planned.steps)
            if offered & _NAME_MACROS:
                for step, names in planned.named.items():
                    mta.setsymlist(step, names)
            session = Session(
                self._service, policy, planned, exact=bool(options[1] & _LEADING_SPACE)
            )
            self._here.session = session
            mta.setpriv(session)
        except BaseException as error:  # noqa: BLE001 -- see the module
            if policy is not None:
                self._sessions.end(policy)
            self._complain("negotiate", error)
            return milter.REJECT
        return milter.CONTINUE

    def _plan(self, policy: Policy) -> Plan:
        planned = self._planned
        if planned is None or planned[0] is not policy:
            planned = self._planned = (policy, _planned(policy))
        return planned[1]

    def _guarded(self, event: Event | None, method: Callable[..., Status]) -> Callable[..., int]:
        """Make a callback that never raises; its method takes session, context and arguments."""
        stage = Stage.END_OF_DATA if event is None else _STAGES.get(event, Stage.END_OF_DATA)

        def callback(mta: Mta, *arguments: object) -> int:
            session: Session | None = None
            try:
                session = mta.getpriv()
                status = method(session, mta, *arguments)
                if event is not None and event in session.plan.silent:
                    return milter.NOREPLY
                return _STATUS[status]
            except BaseException as error:  # noqa: BLE001 -- see the module
                return self._faulty(session, mta, event, stage, error)

        return callback

    def _faulty(
        self,
        session: Session | None,
        mta: Mta,
        event: Event | None,
        stage: Stage,
        error: BaseException,
    ) -> int:
        if session is not None:
            silent = event is not None and event in session.plan.silent
            try:
                if not silent:
                    return _STATUS[session.fault(mta, stage, error)]
                session.broken(error)
            except BaseException as worse:  # noqa: BLE001 -- see the module
                error = worse
            if silent:
                self._complain(str(event), error)
                return milter.NOREPLY
        self._complain(str(stage), error)
        mta.setreply(str(FAULT.code), str(FAULT.enhanced), FAULT.text)
        return milter.TEMPFAIL

    def _abort(self, mta: Mta) -> int:
        try:
            mta.getpriv().abort()
        except BaseException as error:  # noqa: BLE001 -- see the module
            self._complain("abort", error)
        return milter.CONTINUE

    def _close(self, mta: Mta) -> int:
        try:
            session: Session | None = mta.setpriv(None)
            if session is not None:
                self._sessions.end(session.policy)
                session.closed()
        except BaseException as error:  # noqa: BLE001 -- see the module
            self._complain("close", error)
        return milter.CONTINUE

    def _complain(self, where: str, error: BaseException) -> None:
        self._tell("internal", event=where, error=repr(error))

    def _tell(self, reason: str, **detail: object) -> None:
        with contextlib.suppress(Exception):
            self._service.protocol_error(FrontEnd.MILTER, reason, **detail)

    def _undecodable(self, raw: bytes) -> bool:
        session: Session | None = getattr(self._here, "session", None)
        if session is None:
            return False
        session.undecodable(raw)
        return True


def _planned(policy: Policy) -> Plan:
    settles = policy.owners.get(Stage.END_OF_DATA) is FrontEnd.MILTER and bool(policy.reserving)
    stamps = None if policy.stamping is None else policy.stamping.facts
    return plan(policy.milter, policy.local, settles=settles, stamps=stamps)


def _connect(session: Session, mta: Mta, name: str, _family: int, address: HostAddress) -> Status:
    if isinstance(address, tuple):
        return session.connect(mta, name, address[0], address[1])
    return session.connect(mta, name, "", 0)


def _mail(session: Session, mta: Mta, path: bytes, *parameters: bytes) -> Status:
    return session.mail(mta, path, parameters)


def _rcpt(session: Session, mta: Mta, path: bytes, *_parameters: bytes) -> Status:
    return session.rcpt(mta, path)


def _on_uncaught(undecodable: Callable[[bytes], bool]) -> None:
    """
    Have texts told that pymilter cannot decode as UTF-8.

    It raises before it calls back, prints the exception and goes on; printing it calls
    sys.excepthook, on the connection's thread state, with an exception that has no traceback.
    """
    previous = sys.excepthook

    def hook(
        kind: type[BaseException], error: BaseException, traceback: TracebackType | None
    ) -> None:
        raw = error.object if isinstance(error, UnicodeDecodeError) else None
        if raw is None or traceback is not None or not undecodable(bytes(raw)):
            previous(kind, error, traceback)

    sys.excepthook = hook

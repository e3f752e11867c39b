"""
The milter front end on libmilter: the one module that imports pymilter.

pymilter's C module is used directly, without its class layer: it gives one dispatch a callback
less and the negotiation's masks as they are. Its callbacks are the process's, so there is one
milter a process, and a libmilter that was stopped does not run again (libmilter/signal.c).

libmilter's main loop has a thread of its own, so that signals are the main thread's. pymilter
must never answer for us, nor an exception reach it: it would send words of its own, uncounted; at
a step without a reply Postfix would wait for milter_command_timeout; SystemExit would end the
process (miltermodule.c, _report_exception).
"""

import contextlib
import errno
import os
import socket
import sys
import threading
import time
from collections.abc import Callable
from functools import partial
from pathlib import Path
from types import TracebackType
from typing import Any, Final

import milter

from policyd.protocol.milter import Actions, Event, Plan, Status, plan
from policyd.rules.policy import Policy
from policyd.serve.milter.door import Mta, Service
from policyd.serve.milter.session import Session
from policyd.serve.sockets import BACKLOG, Endpoint, Listener, open_listeners, parse_endpoint
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
_POLL: Final = 0.05  # seconds between attempts to wake libmilter's listener
_NAME: Final = "policyd"

HostAddress = tuple[str, int] | tuple[str, int, int, int] | str | None
"""What pymilter gives for a client: of inet and inet6, the path of a local one, none."""


def _nothing() -> None:
    """Do nothing: a TCP socket leaves no name behind."""


class MilterServer:
    """The milter of a service on one endpoint; start() once, stop() for good."""

    _started = False

    def __init__(
        self,
        service: Service,
        endpoint: str,
        *,
        socket_mode: int = 0o660,
        socket_group: str = "",
        ended: Callable[[], object] = _nothing,
    ) -> None:
        """
        Prepare to listen on `inet:host:port` or `unix:/path`; ValueError for any other form.

        A host name that stands for several addresses is listened on at its first: libmilter has
        one socket. `ended` is called, on a thread of its own, when libmilter stops without being
        told to by stop(): it waits for SIGTERM, SIGINT and SIGHUP on a thread that can now and
        then be faster than the process's own handlers (libmilter/signal.c).
        """
        self._service = service
        self._endpoint = parse_endpoint(endpoint)
        self._ended = ended
        self._stopping = False
        self._mode = socket_mode
        self._group = socket_group
        self._remove: Callable[[], None] = _nothing
        self._family = socket.AF_UNSPEC
        self._address: Any = None
        self._thread = threading.Thread(target=self._run, name="milter", daemon=True)
        self._planned: tuple[Policy, Plan] | None = None
        self._here = threading.local()  # pymilter gives each connection its own thread state

    def start(self) -> None:
        """
        Listen, and serve on a thread of its own.

        OSError names an endpoint that cannot be listened on, LookupError an unknown group,
        RuntimeError says that the process has its milter already.
        """
        if MilterServer._started:
            raise RuntimeError("a process has one milter, which runs once")
        listener, *others = open_listeners(self._endpoint, mode=self._mode, group=self._group)
        for other in others:
            other.socket.close()
        self._family = listener.socket.family
        self._address = listener.socket.getsockname()
        MilterServer._started = True
        self._register()
        milter.setbacklog(BACKLOG)
        self._remove = _hand_over(listener, self._endpoint)
        self._thread.start()

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
        milter.register(_NAME, data=data, negotiate=self._negotiate)

    @property
    def alive(self) -> bool:
        """Tell whether the milter serves."""
        return self._thread.is_alive()

    def _run(self) -> None:
        try:
            milter.main()
        except milter.error as error:
            self._complain("main", error)
        if not self._stopping:
            self._ended()

    def stop(self, patience: float = 10.0) -> None:
        """
        Stop serving; blocks for moments, at most `patience` seconds.

        A callback under way goes on and its answer is sent, if the process lives long enough;
        sessions that are between callbacks get Postfix's milter_default_action.
        """
        self._stopping = True
        if not self._thread.is_alive():
            self._remove()
            return
        stopper = threading.Thread(target=milter.stop, name="milter-stop", daemon=True)
        stopper.start()
        until = time.monotonic() + patience
        while self._thread.is_alive() and time.monotonic() < until:
            self._wake()  # else its poll of 5 s runs out first (libmilter/listener.c)
            self._thread.join(_POLL)
        self._remove()

    def _wake(self) -> None:
        with contextlib.suppress(OSError), socket.socket(self._family) as visitor:
            visitor.settimeout(_POLL)
            visitor.connect(self._address)

    def _negotiate(self, mta: Mta, options: list[int]) -> int:
        """Ask for what the policy in force needs; the session keeps that policy."""
        try:
            policy = self._service.policy
            planned = self._plan(policy)
            offered = options[0]
            options[0] &= int(planned.actions)  # plain numbers: flags are slow to combine
            options[1] &= int(planned.steps)
            if offered & _NAME_MACROS:
                for step, names in planned.named.items():
                    mta.setsymlist(step, names)
            session = Session(self._service, policy, planned)
            self._here.session = session
            self._service.connected(FrontEnd.MILTER, 1)
            mta.setpriv(session)
        except BaseException as error:  # noqa: BLE001 -- see the module
            self._complain("negotiate", error)
            return milter.REJECT  # libmilter closes: milter_default_action
        return milter.CONTINUE

    def _plan(self, policy: Policy) -> Plan:
        if self._planned is None or self._planned[0] is not policy:
            self._planned = (policy, plan(policy.milter, policy.local))
        return self._planned[1]

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
            if mta.setpriv(None) is not None:
                self._service.connected(FrontEnd.MILTER, -1)
        except BaseException as error:  # noqa: BLE001 -- see the module
            self._complain("close", error)
        return milter.CONTINUE

    def _complain(self, where: str, error: BaseException) -> None:
        with contextlib.suppress(Exception):
            self._service.protocol_error(
                FrontEnd.MILTER, "internal", event=where, error=repr(error)
            )

    def _undecodable(self, raw: bytes) -> bool:
        session: Session | None = getattr(self._here, "session", None)
        if session is None:
            return False
        session.undecodable(raw)
        return True


def _hand_over(listener: Listener, endpoint: Endpoint) -> Callable[[], None]:
    """
    Let libmilter listen on our socket; give what removes the socket's name in the end.

    Only Debian's libmilter takes `fd:`. Another opens a socket of its own in the same place.
    """
    descriptor = listener.socket.detach()  # libmilter closes it
    milter.setconn(f"fd:{descriptor}")
    try:
        milter.opensocket(False)
    except milter.error:
        os.close(descriptor)
    else:
        return listener.remove
    path = Path(endpoint.path) if endpoint.path else None
    mask = os.umask(0)
    try:
        owner = path.stat() if path is not None else None
        os.umask(0o777 if owner is None else ~owner.st_mode & 0o777)
        milter.setconn(_specification(endpoint))
        milter.opensocket(True)
        if path is not None and owner is not None:
            os.chown(path, -1, owner.st_gid)
    except milter.error as error:
        raise OSError(errno.EADDRNOTAVAIL, "libmilter cannot listen", str(endpoint)) from error
    finally:
        os.umask(mask)
    return _nothing if path is None else partial(path.unlink, missing_ok=True)


def _specification(endpoint: Endpoint) -> str:
    """Give an endpoint as libmilter names it (smfi_setconn): the port before the host."""
    if endpoint.path:
        return f"unix:{endpoint.path}"
    if ":" in endpoint.host:
        return f"inet6:{endpoint.port}@[{endpoint.host}]"
    return f"inet:{endpoint.port}@{endpoint.host}"


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

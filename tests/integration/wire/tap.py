"""
Taps between Postfix and policyd: they pass every octet on and count the answers that they see.

So what policyd says that it answered can be held against what it did answer.
"""

import contextlib
import re
import socket
import socketserver
import threading
from collections import Counter
from collections.abc import Callable, Iterator
from pathlib import Path

Pair = tuple[str, str]
"""Basic and enhanced code, both empty where an answer has none."""

_ACTION = re.compile(rb"action=(?:(DEFER_IF_PERMIT|[45][0-9]{2}) (\S+) )?")
_DECIDED = frozenset(b"CHMRTE")
"""SMFIC_CONNECT, HELO, MAIL, RCPT, DATA and BODYEOB of libmilter's mfdef.h, of which each is
answered once; headers and body are not decided one by one."""
_REPLY_CODE = ord("y")  # SMFIR_REPLYCODE


class Tap(socketserver.ThreadingUnixStreamServer):
    """Listens on a unix socket and connects each client to `upstream`."""

    daemon_threads = True
    request_queue_size = 128

    def __init__(self, path: Path, upstream: Path) -> None:
        super().__init__(str(path), _Connection)
        path.chmod(0o666)
        self.upstream = str(upstream)
        self.answers: Counter[Pair] = Counter()
        self._lock = threading.Lock()

    @contextlib.contextmanager
    def running(self) -> Iterator["Tap"]:
        """Serve on a thread of its own."""
        thread = threading.Thread(target=self.serve_forever)
        thread.start()
        try:
            yield self
        finally:
            self.shutdown()
            thread.join()
            self.server_close()

    def count(self, pair: Pair, number: int = 1) -> None:
        with self._lock:
            self.answers[pair] += number

    def ears(self) -> tuple[Callable[[bytes], None], Callable[[bytes], None]]:
        """Give what listens on a connection: to Postfix, and to policyd."""
        raise NotImplementedError


class PolicyTap(Tap):
    """Counts the actions of the policy protocol."""

    def ears(self) -> tuple[Callable[[bytes], None], Callable[[bytes], None]]:
        heard = bytearray()

        def answers(octets: bytes) -> None:
            heard.extend(octets)
            while (end := heard.find(b"\n\n")) >= 0:
                self.count(_pair_of(bytes(heard[:end])))
                del heard[: end + 2]

        return (lambda _: None), answers


def _pair_of(answer: bytes) -> Pair:
    found = _ACTION.match(answer)
    if found is None:
        raise ValueError(f"no action: {answer!r}")
    if found[1] is None:
        return ("", "")
    code = b"450" if found[1] == b"DEFER_IF_PERMIT" else found[1]
    return (code.decode(), found[2].decode())


class MilterTap(Tap):
    """Counts the events that a milter decides, and the replies that it gives."""

    def ears(self) -> tuple[Callable[[bytes], None], Callable[[bytes], None]]:
        def event(packet: bytes) -> None:
            if packet[0] in _DECIDED:
                self.count(("", ""))

        def reply(packet: bytes) -> None:
            if packet[0] == _REPLY_CODE:
                code, enhanced, _ = packet[1:].decode().split(" ", 2)
                self.count((code, enhanced))
                self.count(("", ""), -1)

        return _packets(event), _packets(reply)


def _packets(take: Callable[[bytes], None]) -> Callable[[bytes], None]:
    """Cut a stream into milter packets: a length of four octets, then so many."""
    heard = bytearray()

    def listen(octets: bytes) -> None:
        heard.extend(octets)
        while len(heard) > 4 and len(heard) >= (end := 4 + int.from_bytes(heard[:4])):
            take(bytes(heard[4:end]))
            del heard[:end]

    return listen


class _Connection(socketserver.BaseRequestHandler):
    server: Tap

    def handle(self) -> None:
        hear_postfix, hear_policyd = self.server.ears()
        with socket.socket(socket.AF_UNIX) as upstream:
            upstream.connect(self.server.upstream)
            back = threading.Thread(target=_pass, args=(upstream, self.request, hear_policyd))
            back.start()
            _pass(self.request, upstream, hear_postfix)
            back.join()


def _pass(source: socket.socket, target: socket.socket, hear: Callable[[bytes], None]) -> None:
    with contextlib.suppress(ConnectionError):
        while octets := source.recv(65536):
            hear(octets)
            target.sendall(octets)
    with contextlib.suppress(OSError):
        target.shutdown(socket.SHUT_WR)

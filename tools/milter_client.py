"""An MTA's side of the milter protocol, as Postfix speaks it, for looking at what a milter answers.

`Answers` and `packet` are the wire without I/O. `MilterClient` holds one session over a socket,
one event at a time, and keeps to what was negotiated: it sends no step that the milter does
without and awaits no reply that it does not give, sends macros before each step, also before one
that is skipped (milter8.c), and those that the milter named instead of the defaults. It uses the
standard library alone.
"""

import socket
import struct
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from types import TracebackType
from typing import Self

VERSION = 6
ALL_STEPS = 0x1FFFFF  # libmilter/mfdef.h: SMFI_CURR_PROT
ALL_ACTIONS = 0x1FF  # SMFI_CURR_ACTS
CHUNK = 65535  # MILTER_CHUNK_SIZE

# What Postfix sends unless the milter names others (milter_connect_macros and its like).
DEFAULT_MACROS = {
    0: "j {daemon_name} {daemon_addr} v _",
    1: "{tls_version} {cipher} {cipher_bits} {cert_subject} {cert_issuer}",
    2: "i {auth_type} {auth_authen} {auth_author} {mail_addr} {mail_host} {mail_mailer}",
    3: "i {rcpt_addr} {rcpt_host} {rcpt_mailer}",
    4: "i",
    5: "i",
    6: "i",
}
FAMILIES = {socket.AF_INET: b"4", socket.AF_INET6: b"6", socket.AF_UNIX: b"L"}


@dataclass(frozen=True, slots=True)
class Step:
    """One event: its letter, and the bits that do without it, or without its reply."""

    letter: bytes
    never: int = 0
    silent: int = 0
    macros: int | None = None


CONNECT = Step(b"C", 0x1, 0x1000, 0)
HELO = Step(b"H", 0x2, 0x2000, 1)
MAIL = Step(b"M", 0x4, 0x4000, 2)
RCPT = Step(b"R", 0x8, 0x8000, 3)
DATA = Step(b"T", 0x200, 0x10000, 4)
HEADER = Step(b"L", 0x20, 0x80, 6)
END_OF_HEADER = Step(b"N", 0x40, 0x40000, 6)
BODY = Step(b"B", 0x10, 0x80000, 5)
END_OF_MESSAGE = Step(b"E", macros=5)
UNKNOWN = Step(b"U", 0x100, 0x20000)

_NAMES = {
    b"c": "continue",
    b"r": "reject",
    b"t": "tempfail",
    b"a": "accept",
    b"d": "discard",
    b"s": "skip",
    b"y": "reply",
    b"h": "add header",
    b"i": "insert header",
    b"m": "change header",
    b"+": "add recipient",
    b"-": "delete recipient",
    b"q": "quarantine",
    b"O": "negotiate",
}
_CHANGES = frozenset(b"him+-q")


@dataclass(frozen=True, slots=True)
class Answer:
    """One packet from the milter, by name, with its content."""

    name: str
    content: bytes = b""

    @property
    def text(self) -> str:
        """The content as text, without its final NUL; `%%` stays as it is."""
        return self.content.removesuffix(b"\0").decode("utf-8", "surrogateescape")

    @property
    def strings(self) -> list[str]:
        """The content as NUL-ended strings."""
        return self.text.split("\0")


@dataclass(frozen=True, slots=True)
class Ended:
    """What the end of a message came to: the answer, and the changes before it."""

    answer: Answer
    changes: tuple[Answer, ...] = ()


class MilterClosedError(Exception):
    """The milter closed the connection where an answer was due."""


def packet(letter: bytes, content: bytes = b"") -> bytes:
    """Encode one packet: length, letter, content."""
    return struct.pack("!I", len(content) + 1) + letter + content


def strings(*values: bytes) -> bytes:
    """Encode strings, each ended by NUL."""
    return b"".join(value + b"\0" for value in values)


class Answers:
    """Packets from the milter, from bytes in any portions."""

    def __init__(self) -> None:
        self._buffer = b""

    def feed(self, data: bytes) -> list[Answer]:
        """Take bytes and give the packets that are whole."""
        self._buffer += data
        answers = []
        while len(self._buffer) >= 4:
            end = 4 + struct.unpack("!I", self._buffer[:4])[0]
            if len(self._buffer) < end:
                break
            letter, content = self._buffer[4:5], self._buffer[5:end]
            answers.append(Answer(_NAMES.get(letter, repr(letter)), content))
            self._buffer = self._buffer[end:]
        return answers


@dataclass(frozen=True, slots=True)
class Negotiated:
    """What the milter asked for: action and step bits, and its macros by step."""

    version: int
    actions: int
    steps: int
    macros: Mapping[int, str] = field(default_factory=dict)

    @classmethod
    def parse(cls, content: bytes) -> Self:
        """Read the milter's part of the negotiation."""
        version, actions, steps = struct.unpack("!III", content[:12])
        macros, rest = {}, content[12:]
        while rest:
            names, _, following = rest[4:].partition(b"\0")
            macros[struct.unpack("!I", rest[:4])[0]] = names.decode()
            rest = following
        return cls(version, actions, steps, macros)


class MilterClient:
    """
    One milter session. Methods give the milter's answer, None where there is none.

    `macros` are the values that the MTA knows, by name as in `{client_addr}` or `i`; a test may
    change them between events. `address` may be a socket that is connected already.
    """

    def __init__(
        self,
        address: str | tuple[str, int] | socket.socket,
        *,
        macros: Mapping[str, str | bytes] | None = None,
        steps: int = ALL_STEPS,
        actions: int = ALL_ACTIONS,
        timeout: float = 10,
    ) -> None:
        self.macros = dict(macros or {})
        self._socket = address if isinstance(address, socket.socket) else _connected(address)
        self._timeout = timeout
        self._answers = Answers()
        self._received: list[Answer] = []
        try:
            self._socket.settimeout(timeout)
            self._socket.sendall(packet(b"O", struct.pack("!III", VERSION, actions, steps)))
            self.negotiated = Negotiated.parse(self._receive().content)
        except BaseException:
            self._socket.close()
            raise

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        """Close."""
        self.close()

    def connect(
        self, name: bytes = b"client.example", address: str = "192.0.2.1", port: int = 49152
    ) -> Answer | None:
        """Tell the client."""
        family = socket.AF_INET6 if ":" in address else socket.AF_INET
        content = strings(name) + FAMILIES[family] + struct.pack("!H", port)
        return self.event(CONNECT, content + strings(address.encode()))

    def connect_unknown(self, name: bytes = b"unknown") -> Answer | None:
        """Tell a client whose address is not known."""
        return self.event(CONNECT, strings(name) + b"U")

    def helo(self, name: bytes = b"client.example") -> Answer | None:
        """Tell HELO or EHLO."""
        return self.event(HELO, strings(name))

    def mail(self, sender: bytes = b"<sender@example.net>", *parameters: bytes) -> Answer | None:
        """Tell MAIL."""
        return self.event(MAIL, strings(sender, *parameters))

    def rcpt(self, recipient: bytes = b"<user@example.org>", *parameters: bytes) -> Answer | None:
        """Tell RCPT."""
        return self.event(RCPT, strings(recipient, *parameters))

    def data(self) -> Answer | None:
        """Tell DATA."""
        return self.event(DATA)

    def header(self, name: bytes, value: bytes) -> Answer | None:
        """Tell a header."""
        return self.event(HEADER, strings(name, value))

    def body(self, content: bytes) -> Answer | None:
        """Tell the body, in chunks; the answer to the last."""
        answer = None
        for start in range(0, len(content), CHUNK):
            answer = self.event(BODY, content[start : start + CHUNK])
        return answer

    def end(self) -> Ended:
        """Tell the end of the message."""
        self._send(END_OF_MESSAGE, b"")
        changes: list[Answer] = []
        while True:
            answer = self._receive()
            if answer.name not in {_NAMES[bytes([letter])] for letter in _CHANGES}:
                return Ended(answer, tuple(changes))
            changes.append(answer)

    def message(
        self,
        headers: Iterable[tuple[bytes, bytes]] = ((b"Subject", b"test"),),
        body: bytes = b"Hello\r\n",
    ) -> Ended:
        """Tell a whole message, to its end."""
        for name, value in headers:
            self.header(name, value)
        self.event(END_OF_HEADER)
        self.body(body)
        return self.end()

    def abort(self) -> None:
        """End the message before its time, as RSET does."""
        self._socket.sendall(packet(b"A"))

    def event(self, step: Step, content: bytes = b"") -> Answer | None:
        """Tell an event, if the milter wants it, and await the answer, if it gives one."""
        if not self._send(step, content) or self.negotiated.steps & step.silent:
            return None
        return self._receive()

    def _send(self, step: Step, content: bytes) -> bool:
        data = b""
        if step.macros is not None:
            names = self.negotiated.macros.get(step.macros) or DEFAULT_MACROS[step.macros]
            known = [(name, self.macros[name]) for name in names.split() if name in self.macros]
            values = [part for pair in known for part in map(_octets, pair)]
            data = packet(b"D", step.letter + strings(*values))
        wanted = not self.negotiated.steps & step.never
        self.send(data + packet(step.letter, content) if wanted else data)
        return wanted

    def send(self, octets: bytes) -> None:
        """Send octets that need not be the protocol."""
        self._socket.sendall(octets)

    def silent(self, seconds: float) -> bool:
        """Tell whether the milter says nothing for so long."""
        self._socket.settimeout(seconds)
        try:
            return not self._received and not self._socket.recv(1, socket.MSG_PEEK)
        except TimeoutError:
            return True
        finally:
            self._socket.settimeout(self._timeout)

    def _receive(self) -> Answer:
        while not self._received:
            data = self._socket.recv(65536)
            if not data:
                raise MilterClosedError
            self._received += self._answers.feed(data)
        return self._received.pop(0)

    def cut(self) -> None:
        """Close the connection without a word."""
        self._socket.close()

    def close(self) -> None:
        """End the session."""
        with self._socket:
            try:
                self._socket.sendall(packet(b"Q"))
            except OSError:
                return


def _connected(address: str | tuple[str, int]) -> socket.socket:
    if not isinstance(address, str):
        tcp = socket.create_connection(address, timeout=10)
        tcp.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        return tcp
    connection = socket.socket(socket.AF_UNIX)
    try:
        connection.connect(address)
    except BaseException:
        connection.close()
        raise
    return connection


def _octets(value: str | bytes) -> bytes:
    return value if isinstance(value, bytes) else value.encode()

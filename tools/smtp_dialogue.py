"""A transparent SMTP client: one command, one whole reply, every line of both kept.

It is for looking at what a server answers, so it hides nothing: it never pipelines, never
retries, sends octets as they are given and raises when the server says more or less than one
reply (RFC 5321 sections 4.2 and 4.5.3.2). It uses the standard library alone.
"""

import re
import select
import socket
from collections.abc import Iterator
from dataclasses import dataclass
from types import TracebackType
from typing import Literal, Self

Direction = Literal["C", "S"]  # said by the client, said by the server

_REPLY_LINE = re.compile(r"([2-5][0-9]{2})(?:([ -])(.*))?", re.DOTALL)  # RFC 5321 section 4.2
_ENHANCED = re.compile(r"([245]\.[0-9]{1,3}\.[0-9]{1,3})(?: |$)")  # RFC 2034 section 4
_MAX_LINE = 1024 * 1024  # a server that sends no line end is stopped here


class DialogueError(Exception):
    """The server did not keep to one well-formed reply for one command."""


class ServerClosedError(DialogueError):
    """The server closed the connection where a reply was due."""


@dataclass(frozen=True, slots=True)
class Reply:
    """One reply, of one or several lines (RFC 5321 section 4.2.1).

    Octets that are not UTF-8 are kept as surrogates: encoding a text or a line with
    `surrogateescape` gives back what was received.
    """

    code: int
    enhanced: str | None  # of the first line, when it begins with one
    text: str  # without the codes, lines joined by newlines
    lines: tuple[str, ...]  # as received, without line ends

    def __str__(self) -> str:
        """Show the reply as it was on the wire, safe for a terminal."""
        return printable("\n".join(self.lines))

    @property
    def pair(self) -> str:
        """The two codes as a configuration writes them: `450 4.2.1`, or `220` alone."""
        return f"{self.code} {self.enhanced}" if self.enhanced else str(self.code)

    @classmethod
    def parse(cls, lines: tuple[str, ...]) -> Self:
        """Read a reply from its lines; DialogueError if they are not one reply."""
        codes, texts = [], []
        for number, line in enumerate(lines, start=1):
            match = _REPLY_LINE.fullmatch(line)
            if match is None or (match[2] == "-") != (number < len(lines)):
                raise DialogueError(f"not a reply line: {printable(line)!r}")
            codes.append(match[1])
            texts.append(match[3] or "")
        if len(set(codes)) != 1:
            raise DialogueError(f"one reply with several codes: {', '.join(codes)}")
        enhanced = _ENHANCED.match(texts[0])
        return cls(
            code=int(codes[0]),
            enhanced=enhanced[1] if enhanced else None,
            text="\n".join(_ENHANCED.sub("", text, count=1) for text in texts),
            lines=lines,
        )


def printable(text: str) -> str:
    r"""Write what is not printable as an escape such as `\x00`; newlines stay."""
    return "".join(
        letter if letter.isprintable() or letter == "\n" else _escape(letter) for letter in text
    )


class SmtpDialogue:
    """One SMTP connection, from a source address of one's choice.

    The constructor connects; `banner()` then reads the greeting. Each command method sends one
    line and returns the reply. Whatever was said stands in `transcript`. All waits end after
    `timeout` seconds with TimeoutError.
    """

    def __init__(
        self, port: int, host: str = "127.0.0.1", *, source: str | None = None, timeout: float = 20
    ) -> None:
        self.transcript: list[tuple[Direction, str]] = []
        self._received = b""
        self._ended = False
        self._socket = socket.create_connection(
            (host, port), timeout, source_address=(source, 0) if source else None
        )
        # A command and the message after it are small writes: none may wait for the other's ACK.
        self._socket.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)

    def __enter__(self) -> Self:
        """Hand out the open connection."""
        return self

    def __exit__(
        self,
        exception: type[BaseException] | None,
        value: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        """Close without QUIT."""
        self.close()

    # Commands -----------------------------------------------------------------------------------

    def banner(self) -> Reply:
        """Read the greeting."""
        return self.read_reply()

    def ehlo(self, name: str | bytes = "client.test") -> Reply:
        """Send EHLO."""
        return self.command("EHLO ", name)

    def helo(self, name: str | bytes = "client.test") -> Reply:
        """Send HELO."""
        return self.command("HELO ", name)

    def mail(self, sender: str | bytes, *parameters: str | bytes) -> Reply:
        """Send MAIL FROM:<sender>, with ESMTP parameters such as `SIZE=10`."""
        return self.command("MAIL FROM:<", sender, ">", *_spaced(parameters))

    def rcpt(self, recipient: str | bytes, *parameters: str | bytes) -> Reply:
        """Send RCPT TO:<recipient>, with ESMTP parameters."""
        return self.command("RCPT TO:<", recipient, ">", *_spaced(parameters))

    def data(self) -> Reply:
        """Send DATA; `body` sends the message."""
        return self.command("DATA")

    def body(self, message: str | bytes) -> Reply:
        """Send the message and the final dot.

        Line ends become CRLF and leading dots are doubled (RFC 5321 section 4.5.2).
        """
        lines = re.split(rb"\r?\n", _octets(message))
        if lines[-1] == b"":
            lines.pop()
        stuffed = [b"." + line if line.startswith(b".") else line for line in lines]
        return self.raw(b"\r\n".join([*stuffed, b".", b""]))

    def vrfy(self, address: str | bytes) -> Reply:
        """Send VRFY."""
        return self.command("VRFY ", address)

    def etrn(self, domain: str | bytes) -> Reply:
        """Send ETRN (RFC 1985)."""
        return self.command("ETRN ", domain)

    def rset(self) -> Reply:
        """Send RSET."""
        return self.command("RSET")

    def quit(self) -> Reply:
        """Send QUIT, read the reply and close."""
        reply = self.command("QUIT")
        self.close()
        return reply

    def command(self, *parts: str | bytes) -> Reply:
        """Send one command line made of the parts, and read its reply."""
        return self.raw(b"".join(map(_octets, parts)) + b"\r\n")

    def raw(self, octets: bytes) -> Reply:
        """Send exactly these octets and read one reply."""
        self.send(octets)
        return self.read_reply()

    # The wire -----------------------------------------------------------------------------------

    def send(self, octets: bytes) -> None:
        """Send exactly these octets, and read nothing."""
        self._refuse_unasked()
        said = octets.removesuffix(b"\n").removesuffix(b"\r")
        for line in re.split(rb"\r?\n", said):
            self.transcript.append(("C", _text(line)))
        try:
            self._socket.sendall(octets)
        except (BrokenPipeError, ConnectionResetError) as error:
            self._ended = True
            raise ServerClosedError("the server closed the connection") from error

    def read_reply(self) -> Reply:
        """Read one whole reply; ServerClosedError if the connection ends before or within it."""
        lines: list[str] = []
        for line in self._lines():
            lines.append(line)
            self.transcript.append(("S", line))
            if line[3:4] != "-":
                break
        return Reply.parse(tuple(lines))

    def wait_closed(self, timeout: float) -> bool:
        """Tell whether the server closes the connection, without another word, in this time."""
        self._fill(timeout)
        return self._ended and not self._received

    @property
    def closed(self) -> bool:
        """Whether the server has closed the connection by now; after 421 rather `wait_closed`."""
        return self.wait_closed(0)

    @property
    def source_port(self) -> int:
        """The client's port, which Postfix reports as client_port."""
        port: int = self._socket.getsockname()[1]
        return port

    def close(self) -> None:
        """Close the connection without a word; a second call does nothing."""
        self._socket.close()
        self._ended = True

    def show(self) -> str:
        """Show the dialogue so far, a line a line, `C: ` and `S: ` before it."""
        return "\n".join(f"{who}: {printable(text)}" for who, text in self.transcript)

    def _lines(self) -> Iterator[str]:
        while True:
            line, end, rest = self._received.partition(b"\n")
            if end:
                self._received = rest
                yield _text(line.removesuffix(b"\r"))
            elif self._ended:
                raise ServerClosedError("the server closed the connection, no reply")
            elif len(line) > _MAX_LINE:
                raise DialogueError(f"a reply line of more than {_MAX_LINE} octets")
            else:
                self._receive()

    def _receive(self) -> None:
        try:
            octets = self._socket.recv(65536)
        except ConnectionResetError:
            octets = b""
        self._received += octets
        self._ended = not octets

    def _fill(self, timeout: float) -> None:
        """Take in what has arrived, waiting for it if need be."""
        if self._ended:
            return
        readable = select.poll()  # select() would fail on descriptors above 1023
        readable.register(self._socket, select.POLLIN)
        if readable.poll(timeout * 1000):
            self._receive()

    def _refuse_unasked(self) -> None:
        self._fill(0)
        if self._received:
            raise DialogueError(f"the server spoke unasked: {printable(_text(self._received))!r}")
        if self._ended:
            raise ServerClosedError("the server has closed the connection")


def _spaced(parameters: tuple[str | bytes, ...]) -> Iterator[bytes]:
    for parameter in parameters:
        yield b" " + _octets(parameter)


def _octets(value: str | bytes) -> bytes:
    return value.encode("utf-8", "surrogateescape") if isinstance(value, str) else value


def _text(octets: bytes) -> str:
    return octets.decode("utf-8", "surrogateescape")


def _escape(letter: str) -> str:
    if "\udc80" <= letter <= "\udcff":  # an octet that was not UTF-8
        return f"\\x{ord(letter) - 0xDC00:02x}"
    return letter.encode("unicode_escape").decode("ascii")

"""The SMTP client says what it is told, hears whole replies and keeps every line of both."""

import contextlib
import socket
import threading
from collections.abc import Callable, Iterator
from dataclasses import FrozenInstanceError

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tools.smtp_dialogue import DialogueError, Reply, ServerClosedError, SmtpDialogue, printable

Script = list[bytes]  # what the server says: at once, then after each line end that it hears
Played = tuple[SmtpDialogue, Callable[[], bytes]]


@contextlib.contextmanager
def played(script: Script, *, source: str | None = None, timeout: float = 5) -> Iterator[Played]:
    """Talk with a server that follows the script, then closes; the second value is all it heard.

    Before each of its lines but the first it waits for what the client says, so a client that
    pipelined would be seen: its octets would be heard together.
    """
    heard: list[bytes] = []
    with socket.create_server(("127.0.0.1", 0)) as listener:

        def play() -> None:
            connection, _ = listener.accept()
            with connection:
                connection.sendall(script[0])
                for words in script[1:]:
                    heard.append(connection.recv(1024 * 1024))
                    connection.sendall(words)

        server = threading.Thread(target=play)
        server.start()
        port = listener.getsockname()[1]
        with SmtpDialogue(port, source=source, timeout=timeout) as dialogue:
            yield dialogue, lambda: b"|".join(heard)
        server.join()


class TestReply:
    @pytest.mark.parametrize(
        ("lines", "expected"),
        [
            (("220 mx ESMTP",), (220, None, "mx ESMTP")),
            (("250 2.1.0 Ok",), (250, "2.1.0", "Ok")),
            (("450 4.7.1 <a@b>: rejected: 4.2 x",), (450, "4.7.1", "<a@b>: rejected: 4.2 x")),
            (("550 5.7.1",), (550, "5.7.1", "")),
            (("550",), (550, None, "")),
            (("550 5.7.1foo",), (550, None, "5.7.1foo")),
            (("550 3.7.1 foo",), (550, None, "3.7.1 foo")),
            (("550-5.7.1 a", "550-", "550 5.7.1 c"), (550, "5.7.1", "a\n\nc")),
            (("250-mx", "250-SIZE 1", "250 DSN"), (250, None, "mx\nSIZE 1\nDSN")),
        ],
    )
    def test_codes_are_told_from_text(
        self, lines: tuple[str, ...], expected: tuple[int, str | None, str]
    ) -> None:
        reply = Reply.parse(lines)

        assert (reply.code, reply.enhanced, reply.text) == expected
        assert reply.lines == lines

    @pytest.mark.parametrize(
        "lines",
        [
            ("",),
            ("25 x",),
            ("2500 x",),
            ("650 x",),
            ("x250 ok",),
            ("250_ok",),
            ("250-more",),
            ("250 a", "250 b"),
            ("250-a", "251 b"),
        ],
    )
    def test_what_is_no_reply_is_an_error(self, lines: tuple[str, ...]) -> None:
        with pytest.raises(DialogueError):
            Reply.parse(lines)

    def test_the_pair_is_written_as_in_a_configuration(self) -> None:
        assert Reply.parse(("450 4.2.1 x",)).pair == "450 4.2.1"
        assert Reply.parse(("220 x",)).pair == "220"

    def test_it_cannot_be_changed(self) -> None:
        with pytest.raises(FrozenInstanceError):
            Reply.parse(("220 x",)).code = 250  # type: ignore[misc]  # what must not be done

    @given(st.binary(min_size=1, max_size=200).filter(lambda octets: b"\n" not in octets))
    def test_no_octet_is_lost(self, octets: bytes) -> None:
        line = (b"250 " + octets).decode("utf-8", "surrogateescape")

        (kept,) = Reply.parse((line,)).lines
        assert kept.encode("utf-8", "surrogateescape") == b"250 " + octets


class TestCommands:
    @pytest.mark.parametrize(
        ("speak", "said"),
        [
            (lambda d: d.ehlo("a.test"), b"EHLO a.test\r\n"),
            (lambda d: d.helo("a.test"), b"HELO a.test\r\n"),
            (lambda d: d.mail(""), b"MAIL FROM:<>\r\n"),
            (lambda d: d.mail("a@b.test", "SIZE=10"), b"MAIL FROM:<a@b.test> SIZE=10\r\n"),
            (lambda d: d.rcpt('"a b"@c'), b'RCPT TO:<"a b"@c>\r\n'),
            (lambda d: d.rcpt("ü@c"), b"RCPT TO:<\xc3\xbc@c>\r\n"),
            (lambda d: d.rcpt(b"\xff\x00@c"), b"RCPT TO:<\xff\x00@c>\r\n"),
            (lambda d: d.data(), b"DATA\r\n"),
            (lambda d: d.vrfy("a"), b"VRFY a\r\n"),
            (lambda d: d.etrn("b.test"), b"ETRN b.test\r\n"),
            (lambda d: d.rset(), b"RSET\r\n"),
            (lambda d: d.quit(), b"QUIT\r\n"),
            (lambda d: d.command("XCLIENT NAME=", b"\xe9"), b"XCLIENT NAME=\xe9\r\n"),
            (lambda d: d.raw(b"a\rb\0\n"), b"a\rb\0\n"),
            (lambda d: d.body("a\n.b\r\n..\n"), b"a\r\n..b\r\n...\r\n.\r\n"),
            (lambda d: d.body(b"no line end"), b"no line end\r\n.\r\n"),
            (lambda d: d.body(""), b".\r\n"),
        ],
    )
    def test_each_says_its_octets_and_returns_the_reply(
        self, speak: Callable[[SmtpDialogue], Reply], said: bytes
    ) -> None:
        with played([b"220 mx\r\n", b"250 2.0.0 Ok\r\n"]) as (dialogue, heard):
            assert dialogue.banner().code == 220
            assert speak(dialogue).pair == "250 2.0.0"
            assert heard() == said

    def test_the_next_command_waits_for_the_whole_reply(self) -> None:
        script = [b"220 mx\r\n", b"250-mx\r\n250-A\r\n250 B\r\n", b"250 2.1.0 Ok\r\n"]
        with played(script) as (dialogue, heard):
            dialogue.banner()
            assert dialogue.ehlo("a").lines == ("250-mx", "250-A", "250 B")
            dialogue.mail("")

            assert heard() == b"EHLO a\r\n|MAIL FROM:<>\r\n"

    def test_it_connects_from_the_address_it_is_given(self) -> None:
        with played([b"220 mx\r\n"], source="127.3.4.5") as (dialogue, _):
            assert dialogue.banner().code == 220
            assert dialogue._socket.getsockname() == ("127.3.4.5", dialogue.source_port)


class TestTranscript:
    def test_it_holds_every_line_of_both(self) -> None:
        script = [b"220 mx\r\n", b"250-mx\r\n250 A\r\n", b"250 Ok\r\n"]
        with played(script) as (dialogue, _):
            dialogue.banner()
            dialogue.ehlo("a")
            dialogue.body("x\n\n.\n")

        assert dialogue.transcript == [
            ("S", "220 mx"),
            ("C", "EHLO a"),
            ("S", "250-mx"),
            ("S", "250 A"),
            ("C", "x"),
            ("C", ""),
            ("C", ".."),
            ("C", "."),
            ("S", "250 Ok"),
        ]

    def test_hostile_octets_are_shown_as_escapes(self) -> None:
        with played([b"220 mx\x1b[2J\xff\r\n", b"250 \xc3\xbc\r\n"]) as (dialogue, _):
            dialogue.banner()
            dialogue.raw(b"A\0\x80\r\n")

        assert dialogue.show() == "S: 220 mx\\x1b[2J\\xff\nC: A\\x00\\x80\nS: 250 ü"

    @given(st.binary().map(lambda octets: octets.decode("utf-8", "surrogateescape")))
    def test_whatever_is_shown_can_be_printed(self, text: str) -> None:
        printable(text).encode("utf-8")


class TestEnd:
    def test_a_close_instead_of_a_reply_is_told(self) -> None:
        with played([b"220 mx\r\n", b""]) as (dialogue, _):
            dialogue.banner()
            with pytest.raises(ServerClosedError):
                dialogue.ehlo()
            assert dialogue.closed

    def test_a_close_within_a_reply_is_told(self) -> None:
        with played([b"220-mx\r\n220 m"]) as (dialogue, _), pytest.raises(ServerClosedError):
            dialogue.banner()

    def test_a_close_after_a_reply_is_seen(self) -> None:
        with played([b"421 4.3.2 mx going\r\n"]) as (dialogue, _):
            assert dialogue.banner().code == 421
            assert dialogue.wait_closed(5)
            with pytest.raises(ServerClosedError):
                dialogue.ehlo()

    def test_an_open_connection_is_not_closed(self) -> None:
        with played([b"220 mx\r\n", b"250 Ok\r\n"]) as (dialogue, _):
            dialogue.banner()
            assert not dialogue.closed
            assert not dialogue.wait_closed(0.05)
            dialogue.ehlo()

    def test_a_word_before_the_close_is_not_overlooked(self) -> None:
        with played([b"220 mx\r\n421 4.4.2 timeout\r\n"]) as (dialogue, _):
            dialogue.banner()
            assert not dialogue.wait_closed(1)
            assert dialogue.read_reply().pair == "421 4.4.2"
            assert dialogue.wait_closed(5)

    def test_a_second_reply_to_one_command_is_an_error_at_the_next(self) -> None:
        with played([b"220 mx\r\n", b"250 one\r\n250 two\r\n"]) as (dialogue, _):
            dialogue.banner()
            dialogue.ehlo()
            with pytest.raises(DialogueError, match="spoke unasked: '250 two"):
                dialogue.mail("")

    def test_silence_ends_with_a_timeout(self) -> None:
        with played([b"", b""], timeout=0.05) as (dialogue, _):
            with pytest.raises(TimeoutError):
                dialogue.banner()
            dialogue.send(b"go on\r\n")

    def test_a_second_close_does_nothing(self) -> None:
        with played([b"220 mx\r\n"]) as (dialogue, _):
            dialogue.close()
            dialogue.close()

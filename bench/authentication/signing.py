"""A DKIM signature over the mail that milter_load sends (milter_mail.c), and its key's record."""

import subprocess
from typing import Final, NamedTuple

import dkim

from bench.authentication.zones import SELECTOR, SIGNER

_LINE: Final = b"The quick brown fox jumps over the lazy dog; the mail is long enough.\r\n"
_BODY: Final = 8192
_HEADERS: Final = (
    b"From: User <user@sender.example>\r\n"
    b"MIME-Version: 1.0\r\n"
    b"Content-Type: text/plain; charset=us-ascii\r\n"
    b"User-Agent: Example Mail 4.2\r\n"
)


class Signed(NamedTuple):
    """The signature's value, as a header carries it, and the record of its key."""

    value: str
    record: str


def sign() -> Signed:
    """Make a key and sign with it; only headers that are the same in every mail are signed."""
    private = _openssl(["genrsa", "2048"])
    public = _openssl(["rsa", "-pubout", "-outform", "PEM"], private)
    key = "".join(public.decode().splitlines()[1:-1])
    body = (_LINE * (_BODY // len(_LINE) + 1))[:_BODY]
    header: bytes = dkim.sign(
        _HEADERS + b"\r\n" + body,
        SELECTOR.encode(),
        SIGNER.encode(),
        private,
        canonicalize=(b"relaxed", b"relaxed"),
        include_headers=[b"from", b"mime-version", b"content-type", b"user-agent"],
    )
    value = header.decode().partition(":")[2].strip().replace("\r\n", "\n")
    return Signed(value, f"v=DKIM1; k=rsa; p={key}")


def _openssl(command: list[str], given: bytes = b"") -> bytes:
    done = subprocess.run(["openssl", *command], input=given, capture_output=True, check=True)
    return done.stdout

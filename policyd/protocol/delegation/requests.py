"""
Bytes to requests (SMTPD_POLICY_README).

A request is lines of `name=value`, each ended by LF alone, and an empty line. Values are what a
client said, as bytes: they are read as UTF-8, and a byte that is none becomes a lone surrogate
(PEP 383).
"""

import re
from collections.abc import Mapping
from itertools import repeat
from typing import Final

import msgspec

from policyd.protocol.delegation.errors import ProtocolError, Reason, shown
from policyd.smtp.stage import Stage

MAX_REQUEST: Final = 256 * 1024
"""
The octets of a request's lines that are answered. Postfix sends about 1 KiB, certificates and
addresses of 2,048 octets a few more; the limit keeps a peer that never ends from filling memory.
"""

SINCE: Final[Mapping[str, tuple[str, ...]]] = {
    "2.1": (
        "protocol_state",
        "protocol_name",
        "client_address",
        "client_name",
        "helo_name",
        "sender",
        "recipient",
        "queue_id",
        "instance",
        "size",
        "sasl_method",
        "sasl_username",
        "sasl_sender",
    ),
    "2.2": ("ccert_subject", "ccert_issuer", "ccert_fingerprint"),
    "2.3": (
        "reverse_client_name",
        "recipient_count",
        "encryption_protocol",
        "encryption_cipher",
        "encryption_keysize",
        "etrn_domain",
    ),
    "2.5": ("stress",),
    "2.9": ("ccert_pubkey_fingerprint",),
    "3.0": ("client_port",),
    "3.1": ("policy_context",),
    "3.2": ("server_address", "server_port"),
    "3.8": ("compatibility_level", "mail_version"),
    "3.12": ("tls_sni",),
}
"""The attributes by the version of Postfix that first sends them (SMTPD_POLICY_README)."""

ATTRIBUTES: Final = frozenset(name for names in SINCE.values() for name in names)
"""
The attributes that are read. Any other is left out, so that none can pass for a fact that policyd
derives, such as `service` or `score`.
"""

_READ: Final = ATTRIBUTES | {"request"}
_REQUEST: Final = "smtpd_access_policy"

STATES: Final[Mapping[str, Stage]] = {
    "CONNECT": Stage.CONNECT,
    "HELO": Stage.HELO,
    "EHLO": Stage.HELO,
    "MAIL": Stage.MAIL,
    "RCPT": Stage.RCPT,
    "DATA": Stage.DATA,
    "END-OF-MESSAGE": Stage.END_OF_DATA,
    "VRFY": Stage.VRFY,
    "ETRN": Stage.ETRN,
}
"""The stage of each protocol_state (SMTPD_POLICY_README)."""


class Request(msgspec.Struct, frozen=True):
    """
    One request: its attributes, and the stage that its protocol_state names.

    Of an attribute that stands twice the last counts. `stage` is None when `state`, the
    protocol_state as it came, is none that Postfix has.
    """

    attributes: dict[str, str]
    stage: Stage | None
    state: str


class RequestParser:
    """
    Bytes to requests: feed() what arrived, then take next_request() until it gives None.

    A ProtocolError ends it: every later call raises the same.
    """

    __slots__ = ("_buffer", "_searched", "_start")

    def __init__(self) -> None:
        self._buffer: bytes | bytearray = b""
        self._start = 0
        self._searched = 0

    @property
    def partial(self) -> bool:
        """Tell whether bytes are left; after next_request() gave None, part of a request."""
        return bool(self._buffer)

    def feed(self, data: bytes) -> None:
        """Take what arrived, in whatever pieces."""
        if not self._buffer:
            self._buffer = data
            return
        if isinstance(self._buffer, bytearray):
            del self._buffer[: self._start]
        else:
            self._buffer = bytearray(self._buffer[self._start :])
        self._searched -= self._start
        self._start = 0
        self._buffer += data

    def next_request(self) -> Request | None:
        """Give the next whole request, None until more bytes arrive; ProtocolError if malformed."""
        buffer = self._buffer
        if not buffer:
            return None
        start = self._start
        end = buffer.find(b"\n\n", self._searched, start + MAX_REQUEST + 1)
        if end < 0:
            self._look_at_rest()
            return None
        request = _parse(buffer[start:end].decode("utf-8", "surrogateescape"))
        if end + 2 == len(buffer):
            self._buffer = b""
            self._start = self._searched = 0
        else:
            self._start = self._searched = end + 2
        return request

    def finish(self) -> None:
        """Take the end of the stream; ProtocolError if it stands inside a request."""
        if self.partial:
            raise ProtocolError(Reason.TRUNCATED, "the connection ended inside a request")

    def _look_at_rest(self) -> None:
        """Find early what can become no request; each byte is looked at once, however it came."""
        buffer, start = self._buffer, self._start
        limit = start + MAX_REQUEST + 1
        if buffer.startswith(b"\n", start):
            raise ProtocolError(Reason.EMPTY, "a request without attributes")
        if buffer.startswith(b"\r\n", start) or (
            buffer.find(b"\n\r\n", max(start, self._searched - 1), limit) >= 0
        ):
            raise ProtocolError(Reason.CRLF, "lines end in CR LF")
        if len(buffer) >= limit:
            raise ProtocolError(Reason.TOO_LONG, f"a request of more than {MAX_REQUEST} octets")
        self._searched = max(start, len(buffer) - 1)


def _parse(text: str) -> Request:
    """Read the lines of one request, without the empty one."""
    try:  # map and dict divide the lines in half of the time that a comprehension takes
        attributes = dict(map(str.split, text.split("\n"), repeat("="), repeat(1)))
    except ValueError:
        raise _diagnose(text) from None
    if not attributes.keys() <= _READ:
        attributes = {name: value for name, value in attributes.items() if name in _READ}
    if attributes.pop("request", None) != _REQUEST or "\0" in text:
        raise _diagnose(text)
    for name in ("ccert_subject", "ccert_issuer"):
        value = attributes.get(name)
        if value:
            attributes[name] = _from_xtext(value)
    state = attributes.get("protocol_state", "")
    return Request(attributes, STATES.get(state), state)


def _diagnose(text: str) -> ProtocolError:
    """Say what is wrong with a request that is no request."""
    if not text or text.startswith("\n"):
        return ProtocolError(Reason.EMPTY, "a request without attributes")
    lines = text.split("\n")
    if "\r" in lines or f"request={_REQUEST}\r" in lines:
        return ProtocolError(Reason.CRLF, "lines end in CR LF")
    if "\0" in text:
        return ProtocolError(Reason.NUL, "a NUL in the request")
    for number, line in enumerate(lines, start=1):
        if "=" not in line:
            detail = f"line {number} has no `=`: {shown(line)}"
            return ProtocolError(Reason.MALFORMED_LINE, detail)
    return ProtocolError(Reason.NOT_A_REQUEST, f"no line `request={_REQUEST}`")


_XTEXT: Final = re.compile(rb"\+([0-9A-Fa-f]{2})")


def _from_xtext(value: str) -> str:
    """
    Decode xtext (RFC 3461 section 4), in which Postfix writes a certificate's names.

    A `+` without two hexadecimal digits is no xtext: Postfix before 2.2.11 did not encode, and
    such a value is left as it came.
    """
    if "+" not in value:
        return value
    raw = value.encode("utf-8", "surrogateescape")
    decoded, count = _XTEXT.subn(lambda found: bytes([int(found[1], 16)]), raw)
    return decoded.decode("utf-8", "surrogateescape") if count == raw.count(b"+") else value

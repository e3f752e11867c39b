"""
What the callbacks of a milter say, under the names and in the forms of Postfix's attributes.

A milter is given a client's commands as they were written; SMTPD_POLICY_README's attributes carry
what Postfix made of them. The functions here do the same as smtpd (smtpd.c, extract_addr and
helo_cmd; tok822_parse.c), so that a rule sees one spelling, whoever asks.
"""

import ipaddress
import re
from collections.abc import Iterable
from typing import Final

_PLAIN: Final = re.compile(r'[^"\\() \t]*')
_NEUTERED: Final = re.compile(r"[^!-~\x80-\U0010ffff]|[<>()\\\";@\ufffd]")
_ATOM: Final = r"[^\x00-\x20()<>\[\]:;@\\,.\"\x7f]+"
_DOT_STRING: Final = re.compile(rf"{_ATOM}(?:\.{_ATOM})*")  # RFC 5321 section 4.1.2


def decoded(value: bytes) -> str:
    """Read bytes as UTF-8; a byte that is none becomes a lone surrogate (PEP 383)."""
    return value.decode("utf-8", "surrogateescape")


def internal_address(path: str) -> str:
    """
    Give an envelope address in Postfix's internal form.

    Without `<>`, source route, quotes and comments; `<>` is empty (RFC 5321 section 4.1.2).
    """
    text = path[1:-1] if path.startswith("<") and path.endswith(">") else path
    if text.startswith("@") and ":" in text:
        text = text.partition(":")[2]
    return text if _PLAIN.fullmatch(text) else _unquoted(text)


def _unquoted(text: str) -> str:
    kept: list[str] = []
    quoted, depth = False, 0
    characters = iter(text.strip(" \t"))
    for character in characters:
        if character == "\\":
            character = next(characters, "")  # noqa: PLW2901 -- a quoted pair is its second half
        elif character == '"' and not depth:
            quoted = not quoted
            continue
        elif character == "(" and not quoted:
            depth += 1
            continue
        elif character == ")" and depth:
            depth -= 1
            continue
        elif character == " " and not quoted and not kept:
            continue
        if not depth:
            kept.append(character)
    return "".join(kept)


def external_address(address: str) -> str:
    """Give an address in internal form as a command carries it: in `<>`, quoted where needed."""
    local, at, domain = address.rpartition("@")
    if not at:
        local, domain = address, ""
    if not _DOT_STRING.fullmatch(local):
        local = '"' + re.sub(r'(["\\])', r"\\\1", local) + '"'
    return f"<{local}{at}{domain}>"


def helo_name(argument: str) -> str:
    r"""
    Give the name of HELO or EHLO as Postfix keeps it.

    Control characters and ` <>()\";@` are a `?` each; so is a byte that is not UTF-8, here a
    lone surrogate or U+FFFD (smtpd.c, NEUTER_CHARACTERS).
    """
    return _NEUTERED.sub("?", argument.encode("utf-8", "replace").decode())


def declared_size(parameters: Iterable[str]) -> str:
    """Give the SIZE of MAIL's parameters; `0` without one (RFC 1870)."""
    for parameter in parameters:
        keyword, _, value = parameter.partition("=")
        if keyword.upper() == "SIZE" and value.isascii() and value.isdecimal():
            return value
    return "0"


def client(hostname: str, address: str, port: int) -> dict[str, object]:
    """
    Give a connection's attributes; `address` is empty and `port` 0 where Postfix knows none.

    Postfix shows a client without a verified name as `[address]` (milter8.c). A submission that
    did not come by SMTP comes from a loopback address and port 0 (MILTER_README, non_smtpd).
    """
    attributes: dict[str, object] = {
        "client_name": "unknown" if hostname.startswith("[") else hostname,
        "client_port": str(port),
        "local_submission": port == 0 and _is_loopback(address),
    }
    if address:
        attributes["client_address"] = address
    return attributes


def _is_loopback(address: str) -> bool:
    try:
        return ipaddress.ip_address(address).is_loopback
    except ValueError:
        return False


def unfolded(value: str) -> str:
    """Give a header's value on one line (RFC 5322 section 2.2.3)."""
    return value.replace("\r", "").replace("\n", "") if "\n" in value else value


def header_size(name: str, value: bytes) -> int:
    """Count the octets of a header in the message: `Name: value`, its lines ended by CR LF."""
    return len(name) + len(": ") + len(value) + value.count(b"\n") + len("\r\n")

"""
The fields Authentication-Results (RFC 8601) and Received-SPF (RFC 7208 section 9.1).

They are written for programs to read, and much of what they tell a sender has chosen. So a value
is either of a plain form that cannot be taken for anything else, or a quoted string of printable
ASCII; a name that is neither a domain nor a plain address is left out.
"""

import re
from collections.abc import Iterable, Iterator
from typing import Final

import msgspec

from policyd.facts import read
from policyd.mail.arc import ArcAnswer
from policyd.mail.dkim import DkimAnswer
from policyd.mail.dmarc import DmarcAnswer
from policyd.mail.spf import POSTMASTER, SpfAnswer
from policyd.mail.stamping import Method

AUTHENTICATION_RESULTS: Final = "Authentication-Results"
RECEIVED_SPF: Final = "Received-SPF"
LONGEST_VALUE: Final = 200
"""Characters of a quoted value."""

_LINE: Final = 78
"""Characters that a line should have at most (RFC 5322 section 2.1.1)."""
_MOST_SIGNATURES: Final = 10
_ATOM: Final = r"[A-Za-z0-9!#$%&'*+/=?^_`{|}~-]+"
_DOT_ATOM: Final = re.compile(rf"{_ATOM}(?:\.{_ATOM})*")
_TOKEN: Final = re.compile(r"[A-Za-z0-9!#$%&'*+.^_`{|}~-]+")  # RFC 2045 section 5.1
_DOMAIN: Final = re.compile(r"[a-z0-9_-]{1,63}(?:\.[a-z0-9_-]{1,63})*")
_LONGEST_DOMAIN: Final = 253
_LONGEST_LOCAL_PART: Final = 64
_UNSAFE: Final = re.compile(r"[^ -~]")
_RESOLVED: Final = {"OK": "pass", "FORGED": "fail", "TEMP": "temperror", "FAIL": "permerror"}
"""What Postfix's {client_resolve} says of the client's name, in the words of RFC 8601."""
_FAILED: Final = "temperror"


class Envelope(msgspec.Struct, frozen=True):
    """
    Who a message is from, as the SMTP session tells.

    `sender` is empty for <>, `login` without one; `resolved` is Postfix's {client_resolve}.
    """

    client_address: str = ""
    helo: str = ""
    sender: str = ""
    login: str = ""
    resolved: str = ""


class Results(msgspec.Struct, frozen=True):
    """What was found out about a message; None where it could not be found out."""

    spf: SpfAnswer | None = None
    dkim: DkimAnswer | None = None
    dmarc: DmarcAnswer | None = None
    arc: ArcAnswer | None = None


def authentication_results(
    authserv_id: str, methods: Iterable[Method], envelope: Envelope, results: Results
) -> str:
    """Give the field's value: the results of these methods under a name, folded."""
    made: list[list[str]] = []
    for method in methods:
        made += _METHODS[method](envelope, results)
    first, *others = made or [["none"]]
    pieces = [f"{_token(authserv_id)};", *_ended(first, last=not others)]
    for place, other in enumerate(others):
        pieces += ["\n", *_ended(other, last=place == len(others) - 1)]
    return _folded(AUTHENTICATION_RESULTS, pieces)


def received_spf(authserv_id: str, envelope: Envelope, answer: SpfAnswer | None) -> str:
    """Give the field's value for the identity MAIL FROM, folded."""
    sender = envelope.sender or f"{POSTMASTER}@{envelope.helo}"
    pairs = {
        "client-ip": envelope.client_address,
        "envelope-from": sender,
        "helo": envelope.helo,
        "receiver": authserv_id,
        "identity": "mailfrom",
    }
    result = _FAILED if answer is None else answer.result
    if answer is not None and answer.reason:
        pairs["problem" if result in (_FAILED, "permerror") else "mechanism"] = answer.reason
    given = [f"{key}={_dot_atom(value)}" for key, value in pairs.items() if value]
    return _folded(RECEIVED_SPF, [result, *(f"{pair};" for pair in given[:-1]), given[-1]])


def _spf(envelope: Envelope, results: Results) -> Iterator[list[str]]:
    answer = results.spf
    about = (
        _pair("smtp.mailfrom", _address(envelope.sender))
        if envelope.sender
        else _pair("smtp.helo", _domain(envelope.helo))
    )
    if answer is None:
        yield ["spf=temperror", *about]
    else:
        yield [*_result(Method.SPF, answer.result, answer.reason), *about]


def _dkim(_envelope: Envelope, results: Results) -> Iterator[list[str]]:
    if results.dkim is None:
        yield ["dkim=temperror"]
    elif not results.dkim.signatures:
        yield ["dkim=none"]
    else:
        for signature in results.dkim.signatures[:_MOST_SIGNATURES]:
            yield [
                *_result(Method.DKIM, signature.result, signature.reason),
                *_pair("header.d", _domain(signature.domain)),
                *_pair("header.i", _address(signature.identity)),
                *_pair("header.s", _domain(signature.selector)),
                *_pair("header.a", _only(_TOKEN, signature.algorithm)),
            ]


def _dmarc(_envelope: Envelope, results: Results) -> Iterator[list[str]]:
    answer = results.dmarc
    if answer is None:
        yield ["dmarc=temperror"]
        return
    asked = answer.result in ("none", "quarantine", "reject") and bool(answer.policy)
    yield [
        *_result(Method.DMARC, "fail" if asked else answer.result, answer.reason),
        *(_pair("policy.dmarc", answer.result) if asked else ()),
        *_pair("header.from", _domain(answer.domain)),
    ]


def _arc(_envelope: Envelope, results: Results) -> Iterator[list[str]]:
    answer = results.arc
    if answer is None:
        yield ["arc=temperror"]
        return
    sealer = _domain(answer.sealer)
    sealed = f"(i={answer.instances} by {sealer})" if sealer else ""
    yield [*_result(Method.ARC, answer.result, answer.reason), *filter(None, [sealed])]


def _iprev(envelope: Envelope, _results: Results) -> Iterator[list[str]]:
    result = _RESOLVED.get(envelope.resolved)
    if result is not None and envelope.client_address:
        yield [f"iprev={result}", *_pair("policy.iprev", _token(envelope.client_address))]


def _auth(envelope: Envelope, _results: Results) -> Iterator[list[str]]:
    if envelope.login:
        yield ["auth=pass", *_pair("smtp.auth", _token(envelope.login))]


_METHODS: Final = {
    Method.SPF: _spf,
    Method.DKIM: _dkim,
    Method.DMARC: _dmarc,
    Method.ARC: _arc,
    Method.IPREV: _iprev,
    Method.AUTH: _auth,
}


def _result(method: Method, result: str, reason: str) -> list[str]:
    """Give method and result, and the reason of one that is no good."""
    found = [f"{method}={_only(_TOKEN, result) or _FAILED}"]
    if reason and result not in ("pass", "none"):
        found.append(f"reason={_quoted(reason)}")
    return found


def _pair(name: str, value: str) -> list[str]:
    return [f"{name}={value}"] if value else []


def _only(form: re.Pattern[str], text: str) -> str:
    return text if form.fullmatch(text) and len(text) <= LONGEST_VALUE else ""


def _token(text: str) -> str:
    return _only(_TOKEN, text) or _quoted(text)


def _dot_atom(text: str) -> str:
    return _only(_DOT_ATOM, text) or _quoted(text)


def _quoted(text: str) -> str:
    """Give a quoted string (RFC 5322 section 3.2.4), in which what is not ASCII is `?`."""
    plain = _UNSAFE.sub("?", text[:LONGEST_VALUE])
    return '"' + plain.replace("\\", "\\\\").replace('"', '\\"') + '"'


def _domain(text: str) -> str:
    name = read.domain(text)
    return name if _DOMAIN.fullmatch(name) and len(name) <= _LONGEST_DOMAIN else ""


def _address(text: str) -> str:
    """Give a plain address; of another its domain, and nothing of what has none."""
    local, at, name = text.rpartition("@")
    domain = _domain(name)
    if at and domain and (not local or _is_plain(local)):
        return f"{local}@{domain}"
    return domain


def _is_plain(local: str) -> bool:
    return len(local) <= _LONGEST_LOCAL_PART and _DOT_ATOM.fullmatch(local) is not None


def _ended(pieces: list[str], *, last: bool) -> list[str]:
    return pieces if last else [*pieces[:-1], f"{pieces[-1]};"]


def _folded(name: str, pieces: list[str]) -> str:
    r"""Put pieces on lines, a `\n` among them beginning another."""
    lines = [f"{name}:"]
    for piece in pieces:
        if piece == "\n":
            lines.append(" ")
        elif len(lines[-1]) + len(" ") + len(piece) > _LINE and lines[-1].strip():
            lines.append(f"    {piece}")
        else:
            lines[-1] += f" {piece}"
    return "\n".join(lines).removeprefix(f"{name}:").lstrip(" ")

"""
Prefixes, lengths and rewritten codes of policy replies.

A reply from a policy server is sent as `NNN X.Y.Z <name>: Class rejected: text`, where name and
class are those of the restriction list that asked, and an X.1.Y code becomes one that suits the
list (access(5), "ENHANCED STATUS CODES"; smtpd_dsn_fix.c). A milter's reply is left as it is.
"""

from collections.abc import Mapping
from typing import Final

from policyd.facts.table import Attributes
from policyd.protocol.text import octets
from policyd.smtp.reply import EnhancedCode
from policyd.smtp.stage import RestrictionList, Stage

LINE_LIMIT: Final = 510
"""
The octets of a reply line without its CR LF (RFC 5321 section 4.5.3.1.5). Postfix means to cut
there and does not (vstring_truncate sets no end), so the limit is ours to keep.
"""

_FLOOR: Final = 4
"""No reply goes without a text: one character of UTF-8, even after an endless prefix."""

_PORT: Final = len(":65535")
"""With smtpd_client_port_logging the client's port follows its address, and we are not told so."""

_CLASSES: Final[Mapping[RestrictionList, str]] = {
    RestrictionList.CLIENT: "Client host",
    RestrictionList.HELO: "Helo command",
    RestrictionList.SENDER: "Sender address",
    RestrictionList.RELAY: "Recipient address",
    RestrictionList.RECIPIENT: "Recipient address",
    RestrictionList.DATA: "Data command",
    RestrictionList.END_OF_DATA: "End-of-data",
    RestrictionList.ETRN: "Etrn command",
}

_NAMES: Final[Mapping[RestrictionList, str]] = {
    RestrictionList.HELO: "helo_name",
    RestrictionList.SENDER: "sender",
    RestrictionList.RELAY: "recipient",
    RestrictionList.RECIPIENT: "recipient",
    RestrictionList.ETRN: "etrn_domain",
}

_FIXED: Final[Mapping[RestrictionList, str]] = {
    RestrictionList.DATA: "DATA",
    RestrictionList.END_OF_DATA: "END-OF-MESSAGE",
}

_USUAL: Final[Mapping[Stage, RestrictionList]] = {
    Stage.CONNECT: RestrictionList.CLIENT,
    Stage.HELO: RestrictionList.HELO,
    Stage.MAIL: RestrictionList.SENDER,
    Stage.RCPT: RestrictionList.RECIPIENT,
    Stage.DATA: RestrictionList.DATA,
    Stage.END_OF_DATA: RestrictionList.END_OF_DATA,
    Stage.VRFY: RestrictionList.RECIPIENT,
    Stage.ETRN: RestrictionList.ETRN,
}

_ASKED_AT: Final[Mapping[RestrictionList, Stage]] = {
    RestrictionList.CLIENT: Stage.CONNECT,
    RestrictionList.HELO: Stage.HELO,
    RestrictionList.SENDER: Stage.MAIL,
    RestrictionList.RELAY: Stage.RCPT,
    RestrictionList.RECIPIENT: Stage.RCPT,
    RestrictionList.DATA: Stage.DATA,
    RestrictionList.END_OF_DATA: Stage.END_OF_DATA,
    RestrictionList.ETRN: Stage.ETRN,
}

_DELAYED: Final = frozenset({Stage.CONNECT, Stage.HELO, Stage.MAIL})

# smtpd_dsn_fix.c: the detail of X.1.detail by list; any other detail becomes 0
_IN_RECIPIENT_LISTS: Final = {1: 1, 2: 2, 3: 3, 4: 4, 5: 5, 6: 6, 7: 3, 8: 2}
_IN_SENDER_LIST: Final = {1: 7, 2: 8, 3: 7, 4: 7, 5: 0, 6: 7, 7: 7, 8: 8}
_RECIPIENT_LISTS: Final = frozenset({RestrictionList.RELAY, RestrictionList.RECIPIENT})

# The longest names there can be: RFC 5321 sections 4.5.3.1.2 (a domain, 255) and 4.5.3.1.3 (a
# path, 256 with its <>), and an IPv6 address in the text form with a dotted quad.
_DOMAIN, _ADDRESS, _IP = 255, 254, 45
_LONGEST: Final[Mapping[RestrictionList, int]] = {
    RestrictionList.CLIENT: _DOMAIN + len("[]") + _IP,
    RestrictionList.HELO: _DOMAIN,
    RestrictionList.SENDER: _ADDRESS,
    RestrictionList.RELAY: _ADDRESS,
    RestrictionList.RECIPIENT: _ADDRESS,
    RestrictionList.DATA: len("DATA"),
    RestrictionList.END_OF_DATA: len("END-OF-MESSAGE"),
    RestrictionList.ETRN: _DOMAIN,
}


def usual_list(stage: Stage) -> RestrictionList:
    """Name the restriction list that belongs to a stage; VRFY evaluates the recipient list."""
    return _USUAL[stage]


def asked_at(restriction: RestrictionList, *, delay_reject: bool) -> Stage:
    """
    Tell at which stage of a mail transaction Postfix evaluates a list.

    With `smtpd_delay_reject = yes`, the default, the client, helo and sender lists wait for RCPT
    (postconf(5)).
    """
    stage = _ASKED_AT[restriction]
    return Stage.RCPT if delay_reject and stage in _DELAYED else stage


def prefix(restriction: RestrictionList, attributes: Attributes) -> str:
    """
    Give what Postfix puts before a policy reply's text, with its final blank.

    The null sender and every name that is not known are empty, as they are to Postfix.
    """
    if restriction is RestrictionList.CLIENT:
        name = f"{_said(attributes, 'client_name')}[{_said(attributes, 'client_address')}]"
    else:
        name = _FIXED.get(restriction) or _said(attributes, _NAMES[restriction])
    return f"<{name}>: {_CLASSES[restriction]} rejected: "


def longest_prefix(restriction: RestrictionList) -> int:
    """Count the octets of the longest prefix that RFC 5321's limits on names allow."""
    port = _PORT if restriction is RestrictionList.CLIENT else 0
    return _LONGEST[restriction] + port + len(f"<>: {_CLASSES[restriction]} rejected: ")


def rewrite(enhanced: EnhancedCode, code: int, restriction: RestrictionList) -> EnhancedCode:
    """
    Give the enhanced code that Postfix sends for a policy reply.

    Its class is that of the basic code (smtpd_check_reject), and an address code, X.1.Y, is
    turned into one that suits the list (smtpd_dsn_fix).
    """
    class_, subject, detail = code // 100, enhanced.subject, enhanced.detail
    if subject != 1:
        return EnhancedCode(class_, subject, detail)
    if restriction in _RECIPIENT_LISTS:
        return EnhancedCode(class_, 1, _IN_RECIPIENT_LISTS.get(detail, 0))
    if restriction is RestrictionList.SENDER:
        return EnhancedCode(class_, 1, _IN_SENDER_LIST.get(detail, 0))
    return EnhancedCode(class_, 0, 0)


def room(
    code: int, enhanced: EnhancedCode, restriction: RestrictionList | None, attributes: Attributes
) -> int:
    """
    Count the octets left for the text of a reply on a line of `LINE_LIMIT`.

    Without a restriction list the reply is a milter's and has no prefix. A prefix may fill the
    line, since Postfix takes commands of 2,048 octets; there is then still room for a character.
    """
    if restriction is None:
        return LINE_LIMIT - len(f"{code} {enhanced} ")
    taken = len(f"{code} {rewrite(enhanced, code, restriction)} ")
    taken += octets(prefix(restriction, attributes))
    if restriction is RestrictionList.CLIENT:
        taken += _PORT
    return max(LINE_LIMIT - taken, _FLOOR)


def _said(attributes: Attributes, name: str) -> str:
    return str(attributes.get(name, ""))

"""
The table of facts: name, type, and where each is known.

Names are those of Postfix's policy attributes (SMTPD_POLICY_README), whichever front end a fact
comes from. Policy delegation hands them over as attributes; a milter takes them from macros
(MILTER_README) and callbacks, and stores them under the same names.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from enum import StrEnum
from typing import Final

from policyd.smtp.stage import TRANSACTION, FrontEnd, Stage

Attributes = Mapping[str, object]
"""
What a front end knows, by attribute name: text as Postfix gives it, numbers as digits. The milter
adds `recipients` (tuple of addresses), `headers` (tuple of name and value), `attachments` (tuple
of names and types), `body_size` (int), `utf8_headers` and `local_submission` (bool), and `message`
for checks (mail.arrived.Arrived).
"""


class FactType(StrEnum):
    """How a fact is read and compared."""

    TEXT = "text"
    NUMBER = "number"
    SIZE = "size"
    DOMAIN = "domain"
    MAIL = "mail address"
    ADDRESS = "IP address"
    TRUTH = "truth value"
    TIME = "time"
    DURATION = "duration"
    MAILS = "mail addresses"
    TEXTS = "texts"
    MESSAGE = "message"


Known = Mapping[FrontEnd, frozenset[Stage]]


@dataclass(frozen=True, slots=True)
class Fact:
    """A fact: its type, the stages at which each front end knows it, and what it says."""

    name: str
    type: FactType
    known: Known
    says: str


_FROM_CONNECT: Final = frozenset(Stage)
_FROM_HELO: Final = _FROM_CONNECT - {Stage.CONNECT}
_FROM_MAIL: Final = frozenset({Stage.MAIL, Stage.RCPT, Stage.DATA, Stage.END_OF_DATA})
_AFTER_AUTH: Final = _FROM_MAIL | {Stage.VRFY, Stage.ETRN}
_FROM_RCPT: Final = _FROM_MAIL - {Stage.MAIL}
_RECIPIENT: Final = frozenset({Stage.RCPT, Stage.VRFY})
_COUNTED: Final = frozenset({Stage.DATA, Stage.END_OF_DATA})
_END: Final = frozenset({Stage.END_OF_DATA})


def _both(stages: frozenset[Stage]) -> Known:
    return {FrontEnd.POLICY: stages, FrontEnd.MILTER: stages & frozenset(TRANSACTION)}


def _policy(stages: frozenset[Stage]) -> Known:
    return {FrontEnd.POLICY: stages, FrontEnd.MILTER: frozenset()}


def _milter(stages: frozenset[Stage]) -> Known:
    return {FrontEnd.POLICY: frozenset(), FrontEnd.MILTER: stages & frozenset(TRANSACTION)}


_TEXT, _NUMBER, _DOMAIN, _MAIL = FactType.TEXT, FactType.NUMBER, FactType.DOMAIN, FactType.MAIL

_TABLE: Final = (
    # SMTPD_POLICY_README, in its order
    Fact("protocol_state", _TEXT, _policy(_FROM_CONNECT), "the SMTP state that asks"),
    Fact("protocol_name", _TEXT, _policy(_FROM_CONNECT), "SMTP or ESMTP"),
    Fact("client_address", FactType.ADDRESS, _both(_FROM_CONNECT), "the client's address"),
    Fact("client_name", _DOMAIN, _both(_FROM_CONNECT), "its verified name, or unknown"),
    Fact("client_port", _NUMBER, _both(_FROM_CONNECT), "its TCP port"),
    Fact("reverse_client_name", _DOMAIN, _both(_FROM_CONNECT), "its unverified name"),
    Fact("server_address", FactType.ADDRESS, _both(_FROM_CONNECT), "the address it came to"),
    Fact("server_port", _NUMBER, _both(_FROM_CONNECT), "the port it came to"),
    Fact("helo_name", _DOMAIN, _both(_FROM_HELO), "the name given with HELO or EHLO"),
    Fact("sender", _MAIL, _both(_FROM_MAIL), "the envelope sender; empty for <>"),
    Fact("recipient", _MAIL, _both(_RECIPIENT), "the envelope recipient"),
    Fact("recipient_count", _NUMBER, _both(_COUNTED), "recipients accepted"),
    Fact("queue_id", _TEXT, _both(_FROM_RCPT), "the queue id, once Postfix has made one"),
    Fact("instance", _TEXT, _policy(_FROM_MAIL), "the same for all requests of a message"),
    Fact("size", FactType.SIZE, _both(_FROM_MAIL), "bytes: declared, at end-of-data real"),
    Fact("etrn_domain", _DOMAIN, _policy(frozenset({Stage.ETRN})), "the domain of ETRN"),
    Fact("stress", _TEXT, _policy(_FROM_CONNECT), "yes when Postfix is overloaded"),
    Fact("sasl_method", _TEXT, _both(_AFTER_AUTH), "the mechanism of the login"),
    Fact("sasl_username", _TEXT, _both(_AFTER_AUTH), "the login; empty without one"),
    Fact("sasl_sender", _TEXT, _both(_FROM_MAIL), "the AUTH= parameter of MAIL"),
    Fact("ccert_subject", _TEXT, _both(_FROM_HELO), "the client certificate's subject CN"),
    Fact("ccert_issuer", _TEXT, _both(_FROM_HELO), "its issuer CN"),
    Fact("ccert_fingerprint", _TEXT, _policy(_FROM_HELO), "its fingerprint"),
    Fact("ccert_pubkey_fingerprint", _TEXT, _policy(_FROM_HELO), "its key's fingerprint"),
    Fact("encryption_protocol", _TEXT, _both(_FROM_HELO), "TLSv1.3, or empty"),
    Fact("encryption_cipher", _TEXT, _both(_FROM_HELO), "the cipher, or empty"),
    Fact("encryption_keysize", _NUMBER, _both(_FROM_HELO), "its bits, or 0"),
    Fact("policy_context", _TEXT, _policy(_FROM_CONNECT), "what main.cf says beside stage, list"),
    Fact("compatibility_level", _TEXT, _policy(_FROM_CONNECT), "Postfix's"),
    Fact("mail_version", _TEXT, _both(_FROM_CONNECT), "Postfix's version"),
    Fact("tls_sni", _TEXT, _policy(_FROM_HELO), "the server name the client asked TLS for"),
    # derived
    Fact("sender_local", _TEXT, _both(_FROM_MAIL), "the sender's local part"),
    Fact("sender_domain", _DOMAIN, _both(_FROM_MAIL), "the sender's domain"),
    Fact("recipient_local", _TEXT, _both(_RECIPIENT), "the recipient's local part"),
    Fact("recipient_domain", _DOMAIN, _both(_RECIPIENT), "the recipient's domain"),
    Fact("helo_is_address", FactType.TRUTH, _both(_FROM_HELO), "HELO gave an address literal"),
    Fact("service", _TEXT, _both(_FROM_CONNECT), "service= of the context, or {daemon_name}"),
    Fact("now", FactType.TIME, _both(_FROM_CONNECT), "the time of the question"),
    Fact("score", _NUMBER, _both(_FROM_CONNECT), "the sum of the score rules so far"),
    # milter only
    Fact("local_submission", FactType.TRUTH, _milter(_FROM_CONNECT), "it did not come by SMTP"),
    Fact("recipients", FactType.MAILS, _milter(_END), "all accepted recipients"),
    Fact("headers", FactType.TEXTS, _milter(_END), "all header lines, `Name: value`"),
    Fact("utf8_headers", FactType.TRUTH, _milter(_END), "a header has octets beyond ASCII"),
    Fact("attachments", FactType.TEXTS, _milter(_END), "names and types of the attachments"),
    Fact("body_size", FactType.SIZE, _milter(_END), "bytes of the body"),
    Fact("message", FactType.MESSAGE, _milter(_END), "the message itself, for checks to read"),
)

FACTS: Final[Mapping[str, Fact]] = {fact.name: fact for fact in _TABLE}
"""Every fact by its name."""


def where_known(fact: Fact) -> str:
    """Say in words where a fact is known, for an error message."""
    policy, milter = fact.known[FrontEnd.POLICY], fact.known[FrontEnd.MILTER]
    if policy & frozenset(TRANSACTION) == milter:
        return "at " + _stages(policy)
    if not milter:
        return f"to policy delegation at {_stages(policy)}"
    if not policy:
        return f"to the milter at {_stages(milter)}"
    return f"to policy delegation at {_stages(policy)}; to the milter at {_stages(milter)}"


def _stages(stages: frozenset[Stage]) -> str:
    return ", ".join(stage for stage in Stage if stage in stages)

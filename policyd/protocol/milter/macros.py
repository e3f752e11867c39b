"""
The macros that carry facts, and where a milter asks for them.

Postfix sends a few macros by default (milter_connect_macros and its like); others, such as
`{client_ptr}` and `{daemon_port}`, come only to a milter that names them in its answer to the
negotiation (MILTER_README; Postfix 2.5 and later). Postfix sends the macros of a step also when
the step itself is negotiated away (milter8_event), so a fact from a macro costs no callback.
"""

from collections.abc import Mapping
from enum import Enum, IntEnum
from typing import Final

import msgspec

from policyd.protocol.milter.envelope import internal_address
from policyd.smtp.stage import Stage


class MacroStep(IntEnum):
    """The steps for which macros can be named (libmilter/mfapi.h, SMFIM_*)."""

    CONNECT = 0
    HELO = 1
    MAIL = 2
    RCPT = 3
    DATA = 4
    END_OF_MESSAGE = 5


class Where(Enum):
    """At which step a macro is asked for, when it is needed at a stage."""

    CONNECT = "at connect: it holds for the session"
    GREETING = "at HELO for the stage helo, else at MAIL: cleanup(8) does not know it"
    MAIL = "at MAIL: it holds for the message"
    STAGE = "at the stage itself: it changes on the way"


class Macro(msgspec.Struct, frozen=True):
    """A macro: its name as asked for, the attribute it becomes, and where it is asked for."""

    name: str
    attribute: str
    where: Where

    def step(self, stage: Stage) -> MacroStep:
        """Give the step at which to ask for it, so that it is known at a stage."""
        if self.where is Where.CONNECT or stage is Stage.CONNECT:
            return MacroStep.CONNECT
        if stage is Stage.HELO:
            return MacroStep.HELO
        return STEPS[stage] if self.where is Where.STAGE else MacroStep.MAIL


STEPS: Final[Mapping[Stage, MacroStep]] = {
    Stage.CONNECT: MacroStep.CONNECT,
    Stage.HELO: MacroStep.HELO,
    Stage.MAIL: MacroStep.MAIL,
    Stage.RCPT: MacroStep.RCPT,
    Stage.DATA: MacroStep.DATA,
    Stage.END_OF_DATA: MacroStep.END_OF_MESSAGE,
}

DEFAULTS: Final[Mapping[MacroStep, frozenset[str]]] = {
    step: frozenset(names.split())
    for step, names in {
        MacroStep.CONNECT: "j {daemon_name} {daemon_addr} v _",
        MacroStep.HELO: "{tls_version} {cipher} {cipher_bits} {cert_subject} {cert_issuer}",
        MacroStep.MAIL: "i {auth_type} {auth_authen} {auth_author} {mail_addr}",
        MacroStep.RCPT: "{rcpt_addr}",
        MacroStep.DATA: "i",
        MacroStep.END_OF_MESSAGE: "i",
    }.items()
}
"""
What Postfix sends unless the milter names something else (milter_connect_macros and its like).

`i` is left out at RCPT, so that it is always named there: see ALWAYS.
"""

ALWAYS: Final = Macro("v", "mail_version", Where.CONNECT)
"""
Heads every list that is named, since it always has a value.

libmilter keeps the values of a step until it gets new ones, and takes an empty list for none: a
message's first recipient, which has no queue id yet, would else show the last message's
(libmilter/engine.c, st_macros).
"""

_TABLE: Final = (
    ALWAYS,
    Macro("j", "myhostname", Where.CONNECT),
    Macro("{client_resolve}", "client_resolve", Where.CONNECT),
    Macro("{client_ptr}", "reverse_client_name", Where.CONNECT),
    Macro("{daemon_addr}", "server_address", Where.CONNECT),
    Macro("{daemon_port}", "server_port", Where.CONNECT),
    Macro("{daemon_name}", "service", Where.CONNECT),
    Macro("{tls_version}", "encryption_protocol", Where.GREETING),
    Macro("{cipher}", "encryption_cipher", Where.GREETING),
    Macro("{cipher_bits}", "encryption_keysize", Where.GREETING),
    Macro("{cert_subject}", "ccert_subject", Where.GREETING),
    Macro("{cert_issuer}", "ccert_issuer", Where.GREETING),
    Macro("{auth_type}", "sasl_method", Where.MAIL),
    Macro("{auth_authen}", "sasl_username", Where.MAIL),
    Macro("{auth_author}", "sasl_sender", Where.MAIL),
    Macro("{mail_addr}", "sender", Where.MAIL),
    Macro("i", "queue_id", Where.STAGE),
)

MACROS: Final[Mapping[str, Macro]] = {macro.attribute: macro for macro in _TABLE}
"""
The macros by attribute. `sender` is one only where MAIL is negotiated away: for the log.

`myhostname` and `client_resolve` (OK, FORGED, TEMP or FAIL: what became of the client's name) are
no facts, and serve what is written above messages.
"""


def read(macro: Macro, value: str) -> str:
    """
    Give a macro's value in the form of its attribute.

    Of `Postfix 3.7.11` the version alone (milter_macro_v), an address in internal form.
    """
    if macro is ALWAYS:
        return value.rpartition(" ")[2]
    return internal_address(value) if macro.attribute == "sender" else value

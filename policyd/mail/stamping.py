"""What the configuration says about the fields that are written above messages."""

from enum import StrEnum

import msgspec


class Method(StrEnum):
    """A method of authentication (RFC 8601 section 2.7)."""

    SPF = "spf"
    DKIM = "dkim"
    DMARC = "dmarc"
    ARC = "arc"
    IPREV = "iprev"
    AUTH = "auth"


class Stamping(msgspec.Struct, frozen=True):
    """
    Under which name results are written, of which methods, and whether Received-SPF is.

    Without `authserv_id` the name is Postfix's own, myhostname. With `skip_logins` nothing is
    written for who has logged in.
    """

    authserv_id: str = ""
    results: tuple[Method, ...] = tuple(Method)
    received_spf: bool = True
    skip_logins: bool = True

    @property
    def facts(self) -> frozenset[str]:
        """Give what has to be known at the end of a message, by the names of attributes."""
        names = {"headers", "sasl_username"}
        for method in self.results:
            names |= _FACTS[method]
        if self.received_spf:
            names |= _FACTS[Method.SPF]
        if not self.authserv_id:
            names.add("myhostname")
        return frozenset(names)


_SPF = frozenset({"client_address", "helo_name", "sender"})
_MESSAGE = frozenset({"message"})
_FACTS = {
    Method.SPF: _SPF,
    Method.DKIM: _MESSAGE,
    Method.DMARC: _SPF | _MESSAGE,
    Method.ARC: _MESSAGE,
    Method.IPREV: frozenset({"client_address", "client_resolve"}),
    Method.AUTH: frozenset({"sasl_username"}),
}

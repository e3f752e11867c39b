"""Where in an SMTP transaction policyd is asked, and by whom."""

from enum import StrEnum


class Stage(StrEnum):
    """
    A point of the SMTP transaction, in the order in which Postfix reaches them.

    EHLO and LHLO are stage HELO; VRFY and ETRN exist in policy delegation only.
    """

    CONNECT = "connect"
    HELO = "helo"
    MAIL = "mail"
    RCPT = "rcpt"
    DATA = "data"
    END_OF_DATA = "end-of-data"
    VRFY = "vrfy"
    ETRN = "etrn"


TRANSACTION = (
    Stage.CONNECT,
    Stage.HELO,
    Stage.MAIL,
    Stage.RCPT,
    Stage.DATA,
    Stage.END_OF_DATA,
)
"""The stages of a mail transaction in order: those that a milter can decide."""


class FrontEnd(StrEnum):
    """The language in which Postfix asks: policy delegation or milter."""

    POLICY = "policy"
    MILTER = "milter"


class RestrictionList(StrEnum):
    """The `smtpd_*_restrictions` list that asks; it decides how Postfix rewrites a code."""

    CLIENT = "client"
    HELO = "helo"
    SENDER = "sender"
    RELAY = "relay"
    RECIPIENT = "recipient"
    DATA = "data"
    END_OF_DATA = "end-of-data"
    ETRN = "etrn"

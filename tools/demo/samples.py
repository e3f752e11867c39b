"""The sample mails: what each sends, and all that has to come of it."""

from collections.abc import Sequence
from dataclasses import dataclass
from email.message import EmailMessage

LOCAL = "example.org"
OK = ("250 2.1.0", "250 2.1.5", "354", "250 2.0.0")
"""The pairs of the replies to MAIL, one RCPT, DATA and the final dot when all goes well."""
SERVICE_PORT = "10025"
"""Stands in rules.toml for the port of the Postfix service that takes mail back from a filter."""


@dataclass(frozen=True, slots=True)
class Sample:
    """
    One mail and what is expected of it.

    `replies` are the code pairs from MAIL on, as many as commands are answered; a refusal ends
    the mail, except that of one recipient among several. `rules` are those that answered, in
    order; `delivered` the mailboxes that have the mail; what was accepted, is not held and not
    delivered was discarded. `contains` is found in the delivered mail, `logged` in Postfix's log.
    """

    title: str
    replies: tuple[str, ...] = OK
    rules: tuple[str, ...] = ()
    shadow: tuple[str, ...] = ()
    delivered: tuple[str, ...] = ()
    held: bool = False
    closes: bool = False
    contains: str = ""
    logged: str = ""
    client: str = "127.0.0.1"
    helo: str = "mail.example.net"
    sender: str = "carol@example.net"
    parameters: tuple[str, ...] = ()
    recipients: tuple[str, ...] = ("alice@example.org",)
    headers: tuple[tuple[str, str], ...] = ()
    attachment: str = ""
    text_lines: int = 1

    def message(self, number: int) -> bytes:
        """Write the message; X-Sample tells it from the others."""
        message = EmailMessage()
        message["From"] = self.sender or "MAILER-DAEMON@example.net"
        message["To"] = ", ".join(self.recipients)
        message["X-Sample"] = str(number)
        for name, value in (("Subject", self.title), *self.headers):
            del message[name]
            message[name] = value
        message.set_content("A sample mail of the demonstration.\n" * self.text_lines)
        if self.attachment:
            message.add_attachment(
                b"MZ", maintype="application", subtype="octet-stream", filename=self.attachment
            )
        return message.as_bytes()


def _refused(at_rcpt: str) -> tuple[str, ...]:
    return ("250 2.1.0", at_rcpt)


def _refused_at_end(pair: str) -> tuple[str, ...]:
    return (*OK[:3], pair)


_ALICE = ("alice@example.org",)

SAMPLES: Sequence[Sample] = (
    Sample("no rule objects: accepted and delivered", delivered=_ALICE),
    # connect
    Sample(
        "accept at connect: a partner may greet as it likes",
        client="127.0.0.11",
        helo="localhost",
        rules=("partners",),
        delivered=_ALICE,
    ),
    Sample(
        "accept opens no relay: Postfix still refuses what is not its own",
        client="127.0.0.11",
        recipients=("someone@example.com",),
        replies=_refused("554 5.7.1"),
    ),
    Sample(
        "a client refused by its address",
        client="127.0.0.66",
        replies=_refused("554 5.7.1"),
        rules=("blocked-clients",),
    ),
    Sample(
        "421: Postfix hangs up",
        client="127.0.0.99",
        replies=_refused("421 4.3.2"),
        rules=("overloaded",),
        closes=True,
    ),
    # helo
    Sample(
        "HELO refused: localhost",
        helo="localhost",
        replies=_refused("550 5.7.1"),
        rules=("bad-helo",),
    ),
    Sample(
        "HELO refused: our own name",
        helo="mx.example.org",
        replies=_refused("550 5.7.1"),
        rules=("own-helo",),
    ),
    # mail
    Sample(
        "a sender refused",
        sender="offers@example.com",
        replies=_refused("550 5.7.1"),
        rules=("blocked-senders",),
    ),
    Sample(
        "a sender of ours who has not logged in",
        sender="bob@example.org",
        replies=_refused("550 5.7.1"),
        rules=("not-logged-in",),
    ),
    Sample(
        "a size refused before the message is sent",
        parameters=("SIZE=5000000",),
        replies=_refused("552 5.3.4"),
        rules=("too-big-declared",),
    ),
    Sample("discard", sender="robot@example.net", rules=("drop-robot",)),
    Sample("hold", sender="stranger@example.net", rules=("hold-unknown",), held=True),
    Sample(
        "prepend: a header of policyd's in the delivered mail",
        sender="newcomer@example.net",
        rules=("mark-new",),
        delivered=_ALICE,
        contains="X-Policy: first mail from example.net",
    ),
    Sample(
        "redirect",
        sender="invoices@example.net",
        rules=("to-accounts",),
        delivered=("accounts@example.org",),
    ),
    Sample(
        "bcc",
        sender="contracts@example.net",
        rules=("to-archive",),
        delivered=("alice@example.org", "archive@example.org"),
    ),
    Sample(
        "filter: through a content filter and back",
        sender="scanned@example.net",
        rules=("through-filter",),
        delivered=_ALICE,
        contains="by filter.example.org (Postfix)",
    ),
    Sample(
        "warn: a line in Postfix's log",
        sender="watched@example.net",
        rules=("tell-postmaster",),
        delivered=_ALICE,
        logged="mail from watched@example.net passes",
    ),
    # rcpt
    Sample(
        "pass: the stage ends, later rules of it are not asked",
        recipients=("abuse@example.org",),
        rules=("abuse-desk",),
        delivered=("abuse@example.org",),
    ),
    Sample(
        "550: an unknown mailbox",
        recipients=("nobody@example.org",),
        replies=_refused("550 5.1.1"),
        rules=("mailbox-unknown",),
    ),
    Sample(
        "one recipient of two refused: the other gets the mail",
        recipients=("nobody@example.org", "bob@example.org"),
        replies=("250 2.1.0", "550 5.1.1", "250 2.1.5", "354", "250 2.0.0"),
        rules=("mailbox-unknown",),
        delivered=("bob@example.org",),
    ),
    Sample(
        "450: a mailbox that is busy now",
        recipients=("busy@example.org",),
        replies=_refused("450 4.2.1"),
        rules=("mailbox-busy",),
    ),
    Sample(
        "if_permitted: deferred, for nothing later refuses",
        recipients=("quiet@example.org",),
        replies=_refused("450 4.7.1"),
        rules=("unless-refused",),
    ),
    Sample(
        "if_permitted: a later reject of Postfix's own wins",
        recipients=("closed@example.org",),
        replies=_refused("550 5.2.1"),
        rules=("unless-refused",),
    ),
    Sample(
        "scores: two rules, each too weak alone",
        helo="[192.0.2.9]",
        sender="luck@prize7.example.com",
        replies=_refused("550 5.7.1"),
        rules=("points-enough",),
    ),
    Sample(
        "scores: one of the two is not enough",
        sender="luck@prize7.example.com",
        delivered=_ALICE,
    ),
    Sample(
        "shadow: decided, counted and logged, not sent",
        recipients=("vip@example.org",),
        shadow=("only-friends",),
        delivered=("vip@example.org",),
    ),
    # data
    Sample(
        "a bounce to two recipients, refused at DATA",
        sender="",
        recipients=("alice@example.org", "bob@example.org"),
        replies=("250 2.1.0", "250 2.1.5", "250 2.1.5", "550 5.5.3"),
        rules=("bounce-to-many",),
    ),
    # end-of-data
    Sample(
        "milter: refused for its Subject",
        headers=(("Subject", "YOU HAVE WON a prize"),),
        replies=_refused_at_end("550 5.7.1"),
        rules=("lottery",),
    ),
    Sample(
        "milter: refused for an attachment's name",
        attachment="invoice.pdf.exe",
        replies=_refused_at_end("550 5.7.1"),
        rules=("programs",),
    ),
    Sample(
        "milter: refused for its size",
        text_lines=8000,
        replies=_refused_at_end("552 5.3.4"),
        rules=("too-big",),
    ),
    Sample(
        "milter: deferred",
        headers=(("X-Demo", "defer"),),
        replies=_refused_at_end("451 4.3.2"),
        rules=("come-back",),
    ),
    Sample("milter: hold", headers=(("X-Demo", "hold"),), rules=("hold-draft",), held=True),
    Sample("milter: discard", headers=(("X-Demo", "discard"),), rules=("drop-test",)),
    Sample(
        "milter: bcc",
        headers=(("X-Demo", "bcc"),),
        rules=("copy-report",),
        delivered=("alice@example.org", "archive@example.org"),
    ),
    Sample(
        "milter: redirect",
        headers=(("X-Demo", "redirect"),),
        rules=("move-report",),
        delivered=("accounts@example.org",),
    ),
    Sample(
        "milter: prepend",
        headers=(("List-Id", "<news.example.net>"),),
        rules=("mark-list-mail",),
        delivered=_ALICE,
        contains="X-Policy: from a mailing list",
    ),
)

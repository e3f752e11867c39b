"""Mails through a real Postfix, each of a kind whose answer the policy determines.

The policy is generation 1 and stays. A client whose mail is to be tried again (451 4.7.1, which is
Postfix's own milter_default_action) does so at once, in a new session.
"""

import itertools
import threading
import time
from collections import Counter
from collections.abc import Callable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass, field
from typing import Final

from tools.campaign import policy
from tools.campaign.policy import DOMAIN, PASSED, Kind
from tools.campaign.site import Ended
from tools.campaign.waits import Waits
from tools.smtp_dialogue import DialogueError, Reply, SmtpDialogue

GENERATION: Final = 1
ASKED_AGAIN: Final = 0.9
"""Seconds. smtpd(8) that lost its policy connection waits a second before it asks again
(smtpd_policy_service_retry_delay): a RCPT that took less was asked once."""
MOST_TRIES: Final = 5
_SESSION: Final = 4
"""Mails of one SMTP session."""
_TIMEOUT: Final = 90.0


@dataclass(frozen=True)
class Mail:
    """One kind of mail: what its recipient and its subject ask of the policy."""

    recipient: Kind
    subject: Kind

    @property
    def expected(self) -> str:
        """The policy's answer, as `Outcome` writes it."""
        at_rcpt = policy.codes(policy.expected(self.recipient, GENERATION))
        at_end = policy.codes(policy.expected(self.subject, GENERATION))
        return f"RCPT {at_rcpt}" if at_rcpt else f"end {at_end or '250 2.0.0'}"

    @property
    def message(self) -> str:
        """The message."""
        return f"From: a@example.net\nTo: b@{DOMAIN}\nSubject: {self.subject}\n\nHello\n"


MAILS: Final = (
    *(Mail(Kind.PASSED, subject) for subject in Kind),
    *(Mail(kind, Kind.PASSED) for kind in Kind if kind is not Kind.PASSED),
)


@dataclass(frozen=True)
class Outcome:
    """The reply that ended a mail, and the command that it answered: MAIL, RCPT, DATA or end."""

    command: str
    reply: Reply

    def __str__(self) -> str:
        """Write it as `RCPT 550 5.1.1`."""
        return f"{self.command} {self.reply.pair}"

    @property
    def again(self) -> bool:
        """Whether it is Postfix's answer for a milter session that broke."""
        return self.reply.pair == "451 4.7.1" and self.reply.text.startswith("Service unavailable")

    def fits(self, mail: Mail) -> bool:
        """Tell whether it is the policy's."""
        accepted = self.reply.code == 250
        return str(self) == mail.expected and (accepted or "Policy 00001" in self.reply.text)


@dataclass(frozen=True)
class Again:
    """A mail that is to be tried again: when its session began and when it got that answer."""

    session: float
    answered: float

    def caused_by(self, ended: Ended) -> bool:
        """Tell whether its milter session can have been in the worker that ended then."""
        return self.session <= ended.before + 0.1 and self.answered >= ended.after


@dataclass
class MailTally:
    """What many mails came to; several threads write to it."""

    outcomes: dict[str, Counter[str]] = field(default_factory=dict)
    agains: list[Again] = field(default_factory=list)
    wrong: int = 0
    examples: list[str] = field(default_factory=list)
    received: Counter[tuple[str, str]] = field(default_factory=Counter)
    """Answers of policyd's that Postfix must have got, by front end and codes."""
    uncertain: Counter[tuple[str, str]] = field(default_factory=Counter)
    """Answers that policyd may have counted besides."""
    waits: list[float] = field(default_factory=list)
    _lock: threading.Lock = field(default_factory=threading.Lock)

    def rcpt(self, mail: Mail, reply: Reply, seconds: float) -> None:
        """Take the reply to a RCPT. smtpd(8) asks the policy service first, the milter second."""
        due = policy.codes(policy.expected(mail.recipient, GENERATION))
        with self._lock:
            passed = reply.code == 250 or Outcome("RCPT", reply).again
            if reply.pair == due or (passed and due == PASSED):
                self.received["policy", due] += 1
                self.uncertain["policy", due] += seconds >= ASKED_AGAIN
            else:
                self.uncertain["policy", due] += 2

    def end(self, mail: Mail, reply: Reply) -> None:
        """Take the reply to the end of a message."""
        due = policy.codes(policy.expected(mail.subject, GENERATION))
        certain = reply.pair == due or (reply.code == 250 and due == PASSED)
        with self._lock:
            (self.received if certain else self.uncertain)["milter", due] += 1

    def again(self, session: float) -> None:
        """Take a mail that is to be tried again."""
        with self._lock:
            self.agains.append(Again(session, time.monotonic()))

    def done(self, mail: Mail, outcome: Outcome, seconds: float, dialogue: SmtpDialogue) -> None:
        """Take the last outcome of a mail."""
        with self._lock:
            self.outcomes.setdefault(mail.expected, Counter())[str(outcome)] += 1
            self.waits.append(seconds)
            if not outcome.fits(mail):
                self.wrong += 1
                self.examples.append(f"{mail.expected} expected:\n{dialogue.show()}")

    def failed(self, error: Exception) -> None:
        """Take a mail that got no reply at all."""
        with self._lock:
            self.wrong += 1
            self.examples.append(f"{type(error).__name__}: {error}")

    def summed_waits(self) -> Waits:
        """Sum up the time of each mail, from its MAIL to its last answer."""
        return Waits.of(self.waits)


def send(dialogue: SmtpDialogue, mail: Mail, tally: MailTally) -> Outcome:
    """Send one mail in an SMTP session that is open, and leave it ready for another."""
    reply = dialogue.mail("a@example.net")
    if reply.code != 250:
        return Outcome("MAIL", reply)
    begun = time.monotonic()
    reply = dialogue.rcpt(f"{mail.recipient}@{DOMAIN}")
    tally.rcpt(mail, reply, time.monotonic() - begun)
    if reply.code != 250:
        dialogue.rset()
        return Outcome("RCPT", reply)
    reply = dialogue.data()
    if reply.code != 354:
        dialogue.rset()
        return Outcome("DATA", reply)
    reply = dialogue.body(mail.message)
    tally.end(mail, reply)
    return Outcome("end", reply)


class Client:
    """One SMTP client: session after session, in each some mails, at a pace."""

    def __init__(self, port: int, tally: MailTally, between: float, offset: int) -> None:
        """Take Postfix's port, the seconds between two mails, and which mail is the first."""
        self._port, self._tally, self._between = port, tally, between
        self._mails = itertools.islice(itertools.cycle(MAILS), offset % len(MAILS), None)

    def run(self, ended: Callable[[], bool]) -> None:
        """Send mails until it has ended."""
        while not ended():
            try:
                self._some_mails()
            except (DialogueError, OSError) as error:
                self._tally.failed(error)

    def _some_mails(self) -> None:
        with self._session() as dialogue:
            for mail in itertools.islice(self._mails, _SESSION):
                if not self._send(dialogue, mail):
                    break
                time.sleep(self._between)

    def _session(self) -> SmtpDialogue:
        self._begun = time.monotonic()
        dialogue = SmtpDialogue(self._port, timeout=_TIMEOUT)
        dialogue.banner()
        dialogue.ehlo()
        return dialogue

    def _send(self, dialogue: SmtpDialogue, mail: Mail) -> bool:
        """Send a mail, again in sessions of its own if it must be; tell if the first one stands."""
        begun = time.monotonic()
        outcome = send(dialogue, mail, self._tally)
        if not outcome.again:
            self._tally.done(mail, outcome, time.monotonic() - begun, dialogue)
            return True
        for _ in range(MOST_TRIES):
            self._tally.again(self._begun)
            with self._session() as fresh:
                outcome = send(fresh, mail, self._tally)
                if not outcome.again:
                    break
        self._tally.done(mail, outcome, time.monotonic() - begun, fresh)
        return False


class Clients:
    """Many clients at once, on threads. `finish` ends them, and raises what one of them did."""

    def __init__(self, port: int, count: int, between: float) -> None:
        """Start them."""
        self.tally = MailTally()
        self._ended = threading.Event()
        self._pool = ThreadPoolExecutor(count)
        self._running = list(self._start(port, count, between))

    def _start(self, port: int, count: int, between: float) -> Iterator[Future[None]]:
        for number in range(count):
            client = Client(port, self.tally, between, number)
            yield self._pool.submit(client.run, self._ended.is_set)

    def finish(self) -> MailTally:
        """Let each end its session, and give what all came to."""
        self._ended.set()
        for client in self._running:
            client.result()
        self._pool.shutdown()
        return self.tally

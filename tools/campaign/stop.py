"""Stops in the midst of things: what is under way goes on to its end."""

import contextlib
import itertools
import socket
import time
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from typing import Final

from tools.campaign.asking import requests
from tools.campaign.kills import postfix_beside
from tools.campaign.mails import GENERATION, MAILS, Mail, Outcome
from tools.campaign.policy import DOMAIN, Kind, expected
from tools.campaign.results import Stop
from tools.campaign.site import Site, scratch
from tools.campaign.telling import read_answer
from tools.campaign.waits import Waits
from tools.milter_client import END_OF_HEADER, Answer, MilterClient, MilterClosedError
from tools.smtp_dialogue import DialogueError, Reply, SmtpDialogue

SESSIONS: Final = 20
MAILS_OPEN: Final = 10
PACE: Final = 0.1
"""Seconds between two steps of those that go on after the stop began."""
_DRAIN: Final = 30
_SHORT_DRAIN: Final = 1
_EXAMPLES: Final = 5


@dataclass(frozen=True)
class Size:
    """How long it takes."""

    stops: int = 10


FULL: Final = Size()
QUICK: Final = Size(stops=1)


@dataclass
class _Found:
    """What the stops came to, as they go."""

    broken: int = 0
    wrong: int = 0
    unanswered: int = 0
    mails_otherwise: int = 0
    not_yet_asked: Counter[str] = field(default_factory=Counter)
    examples: list[str] = field(default_factory=list)
    after_last: list[float] = field(default_factory=list)
    statuses: Counter[str] = field(default_factory=Counter)


def run(size: Size) -> Stop:
    """Stop policyd again and again, then once with a session that does not end."""
    found = _Found()
    with scratch() as directory:
        site = Site(directory, drain=_DRAIN)
        with postfix_beside(site, directory) as postfix:
            for _ in range(size.stops):
                with site.policyd:
                    _stop(site, postfix.ports["smtp"], found)
    return Stop(
        stops=size.stops,
        sessions=size.stops * SESSIONS,
        broken=found.broken,
        wrong=found.wrong,
        requests=size.stops * SESSIONS,
        unanswered=found.unanswered,
        mails=size.stops * MAILS_OPEN - found.not_yet_asked.total(),
        mails_otherwise=found.mails_otherwise,
        not_yet_asked=dict(found.not_yet_asked),
        examples=tuple(found.examples[:_EXAMPLES]),
        after_last=Waits.of(found.after_last),
        bound=_SHORT_DRAIN,
        held_open=_held_open(),
        statuses=dict(found.statuses),
    )


def _stop(site: Site, smtp: int, found: _Found) -> None:
    sessions = [_Session(site.milter_path, number) for number in range(SESSIONS)]
    mails = [_OpenMail(smtp, number) for number in range(MAILS_OPEN)]
    asking = [socket.create_connection(site.policy_address, timeout=10) for _ in range(SESSIONS)]
    _ask(asking)  # once answered, a connection is surely in a worker's hands
    for client in asking:
        client.sendall(_REQUEST)
    with ThreadPoolExecutor(1) as pool:
        stopping = pool.submit(site.policyd.stop)
        found.unanswered += sum(not _answered(client) for client in asking)
        going: list[_Session | _OpenMail] = [*sessions, *mails]
        while going:
            time.sleep(PACE)
            going = [one for one in going if one.go_on()]
        last = time.monotonic()
        status = stopping.result()
        found.after_last.append(time.monotonic() - last)
    found.statuses[str(status)] += 1
    for client in asking:
        client.close()
    _judge(sessions, mails, found)


def _judge(sessions: Sequence["_Session"], mails: Sequence["_OpenMail"], found: _Found) -> None:
    for session in sessions:
        found.broken += session.broken
        wrong = session.answer is not None and session.answer != session.expected
        found.wrong += wrong
        if session.broken or wrong:
            found.examples.append(f"{session.begun_at}: {session.answer} not {session.expected}")
    for mail in mails:
        if mail.asked:
            found.mails_otherwise += not mail.as_expected
            if not mail.as_expected:
                found.examples.append(f"{mail.mail.expected} expected:\n{mail.dialogue.show()}")
        else:
            found.not_yet_asked[f"{mail.outcome}" if mail.outcome else "closed"] += 1


# policy requests

_REQUEST: Final = requests(0)[Kind.REFUSED]


def _ask(clients: Sequence[socket.socket]) -> None:
    for client in clients:
        client.sendall(_REQUEST)
    for client in clients:
        _answered(client)


def _answered(client: socket.socket) -> bool:
    answer = b""
    with contextlib.suppress(OSError):
        while not answer.endswith(b"\n\n"):
            octets = client.recv(4096)
            if not octets:
                break
            answer += octets
    return answer.endswith(b"\n\n")


# milter sessions


class _Session:
    """A milter session that has come so far, and goes on step by step."""

    def __init__(self, path: str, number: int) -> None:
        self._client = MilterClient(path, timeout=20)
        self._kind = tuple(Kind)[number % len(Kind)]
        self._steps = list(_steps(self._client, self._kind))
        self.expected = expected(self._kind, GENERATION)
        self.answer: str | None = None
        self.broken = False
        taken = self._steps[: number * len(self._steps) // SESSIONS]
        self.begun_at = f"after {len(taken)} steps"
        for step in taken:
            step()
        del self._steps[: len(taken)]

    def go_on(self) -> bool:
        """Take the next step; tell whether there are more. The last one is the message's end."""
        try:
            if self._steps:
                self._steps.pop(0)()
                return True
            self.answer = read_answer(self._client.end().answer)
        except (MilterClosedError, OSError):
            self.broken = True
        self._client.close()
        return False


def _steps(client: MilterClient, kind: Kind) -> Iterator[Callable[[], Answer | None]]:
    """Give the steps of a session up to the end of its message, each to be called."""
    yield client.connect
    yield client.helo
    yield client.mail
    yield client.rcpt
    yield client.rcpt
    yield client.data
    yield lambda: client.header(b"From", b"a@example.net")
    yield lambda: client.header(b"Subject", kind.encode())
    yield lambda: client.event(END_OF_HEADER)
    yield lambda: client.body(b"Hello\r\n" * 100)


# mails


class _OpenMail:
    """A mail in an SMTP session that has come so far, and goes on step by step."""

    def __init__(self, port: int, number: int) -> None:
        # Those that ask at the end of data: nothing before it ends them.
        self.mail = [mail for mail in MAILS if mail.recipient is Kind.PASSED][number % len(Kind)]
        self.dialogue = SmtpDialogue(port, timeout=60)
        self.dialogue.banner()
        self.dialogue.ehlo()
        self.outcome: Outcome | None = None
        self._steps = _mail_steps(self.dialogue, self.mail)
        taken = number * 4 // MAILS_OPEN
        self.asked = taken >= 2
        for command, step in itertools.islice(self._steps, taken):
            self._took(command, step())

    @property
    def as_expected(self) -> bool:
        """Whether it ended as the policy says."""
        return self.outcome is not None and self.outcome.fits(self.mail)

    def _took(self, command: str, reply: Reply) -> bool:
        """Take a reply; tell whether the mail goes on."""
        if command == "end" or reply.code not in {250, 354}:
            self.outcome = Outcome(command, reply)
        return self.outcome is None

    def go_on(self) -> bool:
        """Take the next step; tell whether there are more."""
        with contextlib.suppress(DialogueError, TimeoutError):
            command, step = next(self._steps)
            if self._took(command, step()):
                return True
        self.dialogue.close()
        return False


def _mail_steps(dialogue: SmtpDialogue, mail: Mail) -> Iterator[tuple[str, Callable[[], Reply]]]:
    yield "MAIL", lambda: dialogue.mail("a@example.net")
    yield "RCPT", lambda: dialogue.rcpt(f"{mail.recipient}@{DOMAIN}")
    yield "DATA", dialogue.data
    yield "end", lambda: dialogue.body(mail.message)


# the bound


def _held_open() -> float:
    """Stop with a session that does not end; give the seconds until the process has."""
    with scratch() as directory:
        site = Site(directory, drain=_SHORT_DRAIN)
        with site.policyd, MilterClient(site.milter_path) as client:
            client.connect()
            begun = time.monotonic()
            site.policyd.stop()
            return time.monotonic() - begun

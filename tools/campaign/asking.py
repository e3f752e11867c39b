"""Connections that ask over policy delegation, as Postfix's smtpd(8) does, at a pace."""

import asyncio
import itertools
import time
from typing import Final, cast

from tools.campaign.course import Course
from tools.campaign.policy import DOMAIN, PASSED, Kind

_REQUEST: Final = """\
request=smtpd_access_policy
protocol_state=RCPT
protocol_name=ESMTP
client_address=192.0.2.{number}
client_name=mail{number}.sender.example
client_port=41922
reverse_client_name=mail{number}.sender.example
server_address=192.0.2.250
server_port=25
helo_name=mail{number}.sender.example
sender=person{number}@sender.example
recipient={kind}@{domain}
recipient_count=0
queue_id=
instance=1a2b.6741a000.{number:x}.0
size=12288
etrn_domain=
stress=
sasl_method=
sasl_username=
sasl_sender=
encryption_protocol=TLSv1.3
encryption_cipher=TLS_AES_256_GCM_SHA384
encryption_keysize=256
policy_context=

"""


def requests(number: int) -> dict[Kind, bytes]:
    """Write a request of each kind (SMTPD_POLICY_README), from the client of that number."""
    return {
        kind: _REQUEST.format(number=number % 200 + 1, kind=kind, domain=DOMAIN).encode()
        for kind in Kind
    }


def read_action(answer: bytes) -> str:
    """Give the answer in an `action=` line and its empty line, in the words of `policy`."""
    action = answer.decode().removeprefix("action=").removesuffix("\n\n")
    return PASSED if action == "DUNNO" else action


class Asking(asyncio.Protocol):
    """One connection: asks, awaits the answer, asks again when it is time.

    When the server closes it, it connects anew if the course allows for that, and asks again what
    was not answered, as Postfix does.
    """

    _transport: asyncio.Transport

    def __init__(self, course: Course, number: int) -> None:
        self._course = course
        self._requests = requests(number)
        self._kinds = itertools.cycle(Kind)
        self._kind: Kind | None = None
        self._received = b""
        self._asked = 0.0
        self._oldest = 0
        # Connections take turns within the time between two requests of one.
        self._due = time.monotonic() + course.plan.between_requests * number / course.plan.askers
        self._timer: asyncio.TimerHandle | None = None

    @property
    def waiting(self) -> bool:
        """Whether an answer is due."""
        return self._kind is not None

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """Ask, when it is time: at once if an answer is still due."""
        self._transport = cast("asyncio.Transport", transport)
        self._received = b""
        if self._kind is not None:
            self._ask()
        else:
            self._ask_later()

    def data_received(self, data: bytes) -> None:
        """Take an answer and check it."""
        self._received += data
        if not self._received.endswith(b"\n\n") or self._kind is None:
            return
        now = time.monotonic()
        tally, kind = self._course.policy, self._kind
        tally.waited(self._asked, now)
        tally.answer(kind, read_action(self._received), self._oldest, self._course.newest)
        self._received, self._kind = b"", None
        self._ask_later()

    def connection_lost(self, exc: Exception | None) -> None:
        """Count it, and connect anew if that is the plan."""
        del exc
        if self._timer is not None:
            self._timer.cancel()
        if self._course.ended and self._kind is None:
            return
        self._course.policy.closed += 1
        again = self._course.plan.tolerant and not self._course.ended
        self._lose(forget=not again)
        if again:
            self._course.again(self)

    def end(self) -> None:
        """Close; an answer that has not come by now is lost."""
        self._lose(forget=True)
        self._transport.close()

    def _lose(self, *, forget: bool) -> None:
        if self._kind is not None:
            self._course.policy.never_answered(self._kind, self._course.newest)
        if forget:
            self._kind = None

    def _ask_later(self) -> None:
        now = time.monotonic()
        self._due = max(self._due + self._course.plan.between_requests, now)
        loop = asyncio.get_running_loop()
        self._timer = loop.call_later(self._due - now, self._ask_anew)

    def _ask_anew(self) -> None:
        if not self._course.ended:
            self._kind = next(self._kinds)
            self._ask()

    def _ask(self) -> None:
        assert self._kind is not None
        self._oldest = self._course.oldest
        self._asked = time.monotonic()
        self._transport.write(self._requests[self._kind])

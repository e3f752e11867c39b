"""The policy of the campaign `faults`: what is asked, and which answers are right. Pure.

Everything that is asked is new: who was never seen is greylisted, and who has sent nothing is under
every limit. So the answer of a store is known, whatever the store has lost.
"""

from array import array
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, field
from enum import IntEnum, StrEnum
from typing import Final

from tools.campaign.tally import EXAMPLES, Lags


class Kind(StrEnum):
    """What is asked, by the local part of the recipient."""

    GREY = "grey"
    """A check whose on_error is `skip`."""
    LIMIT = "limit"
    """A check whose on_error is a reply."""
    END = "end"
    """The end of the message that was asked about before: settled, if the store answers."""
    CONTROL = "control"
    """No check."""


class Verdict(IntEnum):
    """What became of a request."""

    NORMAL = 0
    """The store's answer, or the one there is without it where both are the same."""
    FALLBACK = 1
    """What on_error says."""
    OTHERWISE = 2
    LOST = 3
    """No answer."""


_DUNNO: Final = "DUNNO"
_WAIT: Final = "450 4.2.0 Greylisted"
_UNKNOWN: Final = "451 4.3.0 Limits cannot be looked up"
_REFUSED: Final = "550 5.1.1 No such user"

_ANSWERS: Final = {
    Kind.GREY: (_WAIT, _DUNNO),
    Kind.LIMIT: (_DUNNO, _UNKNOWN),
    Kind.END: (_DUNNO, _DUNNO),
    Kind.CONTROL: (_REFUSED, _REFUSED),
}
"""With the store, and without it."""

BODY: Final = f"""\
[limits.each]
key = "sasl_username"
rate = "100 messages per 1h"

[[rule]]
name = "control"
stage = "rcpt"
when = "recipient_local == 'control'"
then = "{_REFUSED}"

[[rule]]
name = "grey"
stage = "rcpt"
when = "recipient_local == 'grey' and greylisted()"
then = "{_WAIT}"

[[rule]]
name = "limit"
stage = "rcpt"
when = "recipient_local == 'limit' and exceeds('each')"
then = "450 4.7.1 Too much"
on_error = "{_UNKNOWN}"

[[rule]]
name = "big"
stage = "end-of-data"
when = "size > '1 MiB'"
then = "552 5.3.4 Too big"
"""

_REQUEST: Final = """\
request=smtpd_access_policy
protocol_state={state}
protocol_name=ESMTP
client_address=192.0.2.{client}
client_name=mail.busy-host.net
client_port=41922
server_address=192.0.2.250
server_port=25
helo_name=mail.busy-host.net
sender={name}@sender.example
recipient={recipient}
recipient_count={recipients}
instance={name}
size=12288
sasl_username={login}

"""


def request(kind: Kind, name: str, client: int) -> bytes:
    """Write a request (SMTPD_POLICY_README) of a message of that name."""
    end = kind is Kind.END
    return _REQUEST.format(
        state="END-OF-MESSAGE" if end else "RCPT",
        client=client % 200 + 1,
        name=name,
        recipient="" if end else f"{kind}@example.org",
        recipients=int(end),
        login="" if kind is Kind.GREY else name,
    ).encode()


def judge(kind: Kind, action: str) -> Verdict:
    """Tell what an answer is."""
    normal, fallback = _ANSWERS[kind]
    if action == normal:
        return Verdict.NORMAL
    return Verdict.FALLBACK if action == fallback else Verdict.OTHERWISE


@dataclass(frozen=True)
class Asked:
    """Every request of a load: when it was asked (CLOCK_MONOTONIC), its wait (s), its verdict."""

    asked: "array[float]" = field(default_factory=lambda: array("d"))
    waits: "array[float]" = field(default_factory=lambda: array("d"))
    verdicts: "array[int]" = field(default_factory=lambda: array("B"))
    lags: Lags = field(default_factory=Lags)
    odd: list[tuple[float, str]] = field(default_factory=list)
    """When those were asked that were answered otherwise, and how they were."""

    def note(self, asked: float, answered: float, kind: Kind, action: str | None) -> None:
        """Keep a request; `action` is None where no answer came."""
        verdict = Verdict.LOST if action is None else judge(kind, action)
        self.asked.append(asked)
        self.waits.append(answered - asked)
        self.verdicts.append(verdict)
        if verdict is Verdict.OTHERWISE:
            self.odd.append((asked, f"{kind}: {action!r}"))

    def between(self, begun: float, ended: float) -> "Span":
        """Sum up what was asked, or answered, between two moments."""
        places = [
            place
            for place, (at, wait) in enumerate(zip(self.asked, self.waits, strict=True))
            if at < ended and at + wait >= begun
        ]
        slowest = max(places, key=self.waits.__getitem__, default=None)
        longest = lag = 0.0
        if slowest is not None:
            longest, at = self.waits[slowest], self.asked[slowest]
            lag = self.lags.worst(at, at + longest)
        fallen = (place for place in places if self.verdicts[place] == Verdict.FALLBACK)
        last = max((self.asked[place] + self.waits[place] for place in fallen), default=begun)
        verdicts = Counter(Verdict(self.verdicts[place]) for place in places)
        counts = [verdicts[verdict] for verdict in Verdict]
        odd = [text for at, text in self.odd if begun <= at < ended][:EXAMPLES]
        return Span(len(places), counts, round(longest * 1000, 1), lag, last, odd)


@dataclass(frozen=True)
class Span:
    """What was asked in some time."""

    asked: int
    verdicts: Sequence[int]
    """Requests by Verdict."""
    longest: float
    """The longest wait, in ms."""
    lag: float
    """How late the load's own timer was meanwhile, in ms."""
    last_fallback: float
    """When the last answer of on_error came (CLOCK_MONOTONIC); the begin if none did."""
    examples: Sequence[str]
    """Some answers that were otherwise."""

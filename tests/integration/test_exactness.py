"""Limits and triplets that many connections ask about at once, also while workers are killed."""

import contextlib
import os
import signal
import threading
import time
from collections import Counter
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from itertools import count
from typing import Final

import pytest

from tests.integration.changing import PATIENCE, Asking, rule, until
from tests.integration.remembering import Remembering, spent
from tools.campaign import processes
from tools.redis_servers import RedisServer

pytestmark = pytest.mark.integration

CONNECTIONS: Final = 40
MOST: Final = 300
ASKED: Final = 600
KILLS: Final = 3
DELAY: Final = 2.0

ADMITTED: Final = "DUNNO"
OVER: Final = "450 4.7.1 Too much"
WAIT: Final = "450 4.2.0 Greylisted, please try again later"
BIG: Final = "552 5.3.4 Too big"
UNKNOWN: Final = "451 4.3.0 Cannot tell"
"""When the store did not answer in time: to be asked again, so that all is known in the end."""

BODY: Final = (
    f'[limits.messages]\nkey = "sasl_username"\nrate = "{MOST} messages per 1h"\n'
    f'[greylist]\ndelay = "{DELAY:g}s"\n'
    + rule("limit", OVER, "sasl_username != '' and exceeds('messages')")
    + f'on_error = "{UNKNOWN}"\n'
    + rule("grey", WAIT, "sasl_username == '' and greylisted()")
    + f'on_error = "{UNKNOWN}"\n'
    + rule("big", BIG, "size > '1 MiB'", stage="end-of-data")
)
REQUEST: Final = """\
request=smtpd_access_policy
protocol_state={state}
client_address=192.0.2.1
client_name=mail.busy-host.net
client_port=49152
server_address=127.0.0.1
sender=a@x.test
recipient={recipient}
recipient_count={recipients}
size={size}
instance={instance}
sasl_username={login}

"""


def rcpt(instance: str, login: str = "", recipient: str = "b@policyd.test") -> bytes:
    return REQUEST.format(
        state="RCPT", instance=instance, login=login, recipient=recipient, recipients=0, size=0
    ).encode()


def end(instance: str, login: str, size: int) -> bytes:
    told = {"instance": instance, "login": login, "recipient": "", "recipients": 1, "size": size}
    return REQUEST.format(state="END-OF-MESSAGE", **told).encode()


class Hammer:
    """Connections that ask at once, and ask again where no answer comes, as Postfix does."""

    def __init__(self, policyd: Remembering, *, kill_at: Sequence[int] = ()) -> None:
        """With `kill_at`, a worker is killed as soon as so many requests have their answer."""
        self.killed: list[int] = []
        self.lost = 0
        self._policyd = policyd
        self._kill_at = kill_at
        self._answered = 0
        self._lock = threading.Lock()

    def ask(self, requests: Sequence[bytes]) -> Counter[str]:
        """Ask all, spread over the connections; how many were answered what."""
        self._start = threading.Barrier(CONNECTIONS, action=self._until_spread)
        self._deadline = time.monotonic() + PATIENCE
        with ThreadPoolExecutor(CONNECTIONS) as pool:
            parts = [requests[number::CONNECTIONS] for number in range(CONNECTIONS)]
            return sum(pool.map(self._ask_some, parts), Counter())

    def _until_spread(self) -> None:
        """Wait until every worker has connections."""
        port, fair = self._policyd.port, CONNECTIONS // 4
        until(
            lambda: all(
                len(processes.peers(pid, port)) >= fair for pid in self._policyd.worker_pids()
            )
        )

    def _ask_some(self, requests: Sequence[bytes]) -> Counter[str]:
        answers: Counter[str] = Counter()
        connection = Asking(self._policyd.port)
        self._start.wait()
        for request in requests:
            answer = ""
            while answer in ("", UNKNOWN):
                assert time.monotonic() < self._deadline, "not answered in time"
                try:
                    connection.socket.sendall(request)
                    answer = connection.receive()
                except OSError:
                    connection.socket.close()
                    connection = self._reconnected()
            answers[answer] += 1
            self._count()
        connection.socket.close()
        return answers

    def _reconnected(self) -> Asking:
        with self._lock:
            self.lost += 1
        time.sleep(0.01)
        return Asking(self._policyd.port)

    def _count(self) -> None:
        with self._lock:
            self._answered += 1
            if self._answered in self._kill_at:
                (victim, *_) = set(self._policyd.worker_pids()) - set(self.killed)
                os.kill(victim, signal.SIGKILL)
                self.killed.append(victim)


@pytest.fixture(scope="module", params=["sqlite", "redis"])
def policyd(
    request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Remembering]:
    directory = tmp_path_factory.mktemp(request.param)
    with contextlib.ExitStack() as stack:
        url = ""
        if request.param == "redis":
            url = stack.enter_context(RedisServer(directory / "redis")).url
        yield stack.enter_context(Remembering(directory, BODY, url=url))


_names = count()


@pytest.fixture
def login() -> str:
    """A login that nobody else has."""
    return f"login-{next(_names)}"


def outcomes(policyd: Remembering) -> dict[str, float]:
    return {
        dict(labels)["outcome"]: value
        for labels, value in policyd.samples("policyd_greylist_outcomes_total").items()
        if value
    }


def test_exactly_the_limit_is_admitted_however_many_ask_at_once(
    policyd: Remembering, login: str
) -> None:
    requests = [rcpt(f"{login}.{number}", login) for number in range(ASKED)]
    assert Hammer(policyd).ask(requests) == {ADMITTED: MOST, OVER: ASKED - MOST}
    assert spent(policyd, "messages", login) == MOST


def test_messages_that_are_refused_at_their_end_leave_nothing_charged(
    policyd: Remembering, login: str
) -> None:
    instances = [f"{login}.{number}" for number in range(MOST)]
    assert Hammer(policyd).ask([rcpt(each, login) for each in instances]) == {ADMITTED: MOST}
    refused, accepted = instances[::2], instances[1::2]
    ends = [end(each, login, 2**21) for each in refused] + [end(e, login, 1) for e in accepted]
    assert Hammer(policyd).ask(ends) == {BIG: len(refused), ADMITTED: len(accepted)}
    assert spent(policyd, "messages", login) == len(accepted)


def test_one_of_many_attempts_is_the_first_and_one_retry_the_first_that_passes(
    policyd: Remembering, login: str
) -> None:
    recipient = f"{login}@policyd.test"
    attempts = [rcpt(f"{login}.{number}", "", recipient) for number in range(4 * CONNECTIONS)]
    before = Counter(outcomes(policyd))
    late = policyd.counted("policyd_greylist_delay_seconds_count")
    started = time.monotonic()
    assert Hammer(policyd).ask(attempts) == {WAIT: len(attempts)}
    assert time.monotonic() - started < DELAY, "the machine is too slow to tell"
    found = Counter(outcomes(policyd)) - before
    assert found == {"first": 1, "early": len(attempts) - 1}
    time.sleep(DELAY)
    retries = [rcpt(f"{login}.again.{number}", "", recipient) for number in range(CONNECTIONS)]
    assert Hammer(policyd).ask(retries) == {ADMITTED: len(retries)}
    assert Counter(outcomes(policyd)) - before - found == {"passed": len(retries)}
    assert policyd.counted("policyd_greylist_delay_seconds_count") - late == 1


def test_killed_workers_lose_nothing_and_admit_no_more(policyd: Remembering, login: str) -> None:
    requests = [rcpt(f"{login}.{number}", login) for number in range(ASKED)]
    hammer = Hammer(policyd, kill_at=range(100, 100 * KILLS + 1, 100))
    answers = hammer.ask(requests)
    assert len(set(hammer.killed)) == KILLS
    assert hammer.lost >= CONNECTIONS
    # a message whose answer was lost with its worker is asked about again, and charged once
    assert answers == {ADMITTED: MOST, OVER: ASKED - MOST}
    assert spent(policyd, "messages", login) == MOST
    policyd.until_all_up()
    assert Hammer(policyd).ask(requests) == answers, "each has the answer that it had"
    assert spent(policyd, "messages", login) == MOST

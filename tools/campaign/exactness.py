"""Many ask at once about one limit, one triplet: what may pass does, and nothing else."""

import asyncio
import time
from collections import Counter
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import AbstractContextManager
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from policyd.store.model import account_name
from policyd.store.opening import open_store
from policyd.store.place import StateSettings
from tools.campaign import stores
from tools.campaign.hammer import CONNECTIONS, Hammer
from tools.campaign.keeping import WORKERS, Keeping
from tools.campaign.site import scratch
from tools.campaign.state_results import Exact, Exactness
from tools.campaign.stores import Troubled

_LATER: Final = 1.0
"""Seconds that retries come later than the delay asks for."""
_ADMITTED: Final = "DUNNO"
_OVER: Final = "450 4.7.1 Too much"
_WAIT: Final = "450 4.2.0 Greylisted"
_UNKNOWN: Final = "451 4.3.0 Cannot tell"

_BODY: Final = f"""\
[limits.messages]
key = "sasl_username"
rate = "{{most}} messages per 1h"

[greylist]
delay = "{{delay}}s"

[[rule]]
name = "limit"
stage = "rcpt"
when = "sasl_username != '' and exceeds('messages')"
then = "{_OVER}"
on_error = "{_UNKNOWN}"

[[rule]]
name = "grey"
stage = "rcpt"
when = "sasl_username == '' and greylisted()"
then = "{_WAIT}"
on_error = "{_UNKNOWN}"

[[rule]]
name = "big"
stage = "end-of-data"
when = "size > '1 MiB'"
then = "552 5.3.4 Too big"
"""
_REQUEST: Final = """\
request=smtpd_access_policy
protocol_state=RCPT
client_address=192.0.2.1
client_name=mail.busy-host.net
client_port=41922
server_address=192.0.2.250
sender=a@sender.example
recipient={recipient}@example.org
recipient_count=0
size=0
instance={instance}
sasl_username={login}

"""

Store = Callable[[Path], AbstractContextManager[Troubled]]


@dataclass(frozen=True)
class Size:
    """How much is asked; `delay` is in seconds, and longer than the attempts take."""

    most: int = 3000
    kills: tuple[int, ...] = (0, 5)
    """How many workers are killed in the midst of it, one time and the next."""
    attempts: int = 2000
    delay: int = 20
    together: int = 1
    stores: tuple[Store, ...] = (stores.sqlite, stores.redis, stores.cluster)


FULL: Final = Size()
QUICK: Final = Size(most=100, kills=(1,), attempts=120, delay=5, together=3)


def run(size: Size) -> Exactness:
    """Hammer one store after the other."""
    with ThreadPoolExecutor(size.together) as pool:
        found = list(pool.map(lambda store: _hammered(store, size), size.stores))
    return Exactness(WORKERS, CONNECTIONS, tuple(one for of_store in found for one in of_store))


def _hammered(store: Store, size: Size) -> list[Exact]:
    with scratch() as directory, store(directory) as troubled:
        body = _BODY.format(most=size.most, delay=size.delay)
        with Keeping(directory, troubled.url, body) as policyd:
            return [
                one
                for kills in size.kills
                for one in (
                    _limit(troubled.name, policyd, size, kills),
                    *_triplet(troubled.name, policyd, size, kills),
                )
            ]


def _limit(store: str, policyd: Keeping, size: Size, kills: int) -> Exact:
    """Ask for twice as many messages as a login may send, then for each of them again."""
    login, count = f"login-{kills}", 2 * size.most
    requests = {f"{login}.{n}": _request(f"{login}.{n}", login) for n in range(count)}
    hammer = Hammer(policyd, _UNKNOWN, _moments(count, kills))
    begun = time.monotonic()
    answers = hammer.ask(requests)
    seconds = time.monotonic() - begun
    again = Hammer(policyd, _UNKNOWN).ask(requests)
    told = Counter(answers.values())
    return Exact(
        store,
        "limit",
        hammer.killed,
        hammer.lost,
        count,
        size.most,
        told[_ADMITTED],
        count - told[_ADMITTED] - told[_OVER],
        sum(again[name] != answer for name, answer in answers.items()),
        asyncio.run(_spent(policyd.url, login)),
        round(count / seconds),
    )


def _triplet(store: str, policyd: Keeping, size: Size, kills: int) -> Iterator[Exact]:
    """Try a new triplet many times before its delay is over, then as often afterwards."""
    recipient, count = f"triplet-{kills}", size.attempts
    for turn, due in (("first", _WAIT), ("again", _ADMITTED)):
        names = [f"{recipient}.{turn}.{n}" for n in range(count)]
        requests = {name: _request(name, "", recipient) for name in names}
        hammer = Hammer(policyd, _UNKNOWN, _moments(count, kills))
        begun = time.monotonic()
        told = Counter(hammer.ask(requests).values())
        seconds = time.monotonic() - begun
        yield Exact(
            store,
            "triplet, before its delay" if due == _WAIT else "triplet, after its delay",
            hammer.killed,
            hammer.lost,
            count,
            0 if due == _WAIT else count,
            told[_ADMITTED],
            count - told[_ADMITTED] - told[_WAIT],
            0,
            -1,
            round(count / seconds),
        )
        if due == _WAIT:  # the first attempt came a little later than we began
            time.sleep(max(0.0, size.delay - seconds) + _LATER)


def _moments(count: int, kills: int) -> range:
    """Give after how many answers a worker is killed, so many times in the midst of it."""
    step = count // (kills + 1)
    return range(step, step * kills + 1, step)


def _request(instance: str, login: str, recipient: str = "b") -> bytes:
    return _REQUEST.format(instance=instance, login=login, recipient=recipient).encode()


async def _spent(url: str, login: str) -> int:
    """Look up what a login has spent of the limit."""
    store = open_store(StateSettings(url=url))
    try:
        name = account_name("messages", login, shadow=False)
        account = await store.account(name, round(time.time() * 1000))
    finally:
        await store.close()
    return 0 if account is None else sum(account.parts.values())

"""Workers killed and frozen: every mail through Postfix still gets the policy's answer."""

import signal
import time
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from tools.campaign.course import Plan
from tools.campaign.load import Load
from tools.campaign.mails import GENERATION, Again, Clients, MailTally
from tools.campaign.policy import DOMAIN
from tools.campaign.results import Counted, Kills
from tools.campaign.site import Ended, Site, scratch
from tools.campaign.tally import Loaded
from tools.campaign.waits import Waits
from tools.postfix_instance import PostfixInstance

_EXAMPLES: Final = 3


@dataclass(frozen=True)
class Size:
    """How long it takes. `pause` is in seconds: the least and the most between two events."""

    kills: int = 100
    freezes: int = 20
    pause: tuple[float, float] = (1.0, 2.5)
    clients: int = 20
    askers: int = 80
    tellers: int = 4


FULL: Final = Size()
QUICK: Final = Size(kills=1, freezes=1, pause=(2.0, 2.0))


def run(size: Size) -> Kills:
    """Let mails pass, kill and freeze workers, and hold clients' answers against the counters."""
    with scratch() as directory:
        site = Site(directory)
        plan = Plan(
            policy=site.policy_address,
            milter=site.milter_path,
            askers=size.askers,
            between_requests=0.2,
            tellers=size.tellers,
            tolerant=True,
        )
        with (
            site.policyd,
            postfix_beside(site, directory) as postfix,
            Load(plan, GENERATION) as load,
        ):
            clients = Clients(postfix.ports["smtp"], size.clients, between=0.4)
            try:
                ended = _end_workers(site, size)
                time.sleep(1)
            finally:
                tally = clients.finish()
            loaded = load.finish()
            counted = site.replies()
    return _summed(size, ended, tally, loaded, counted)


def postfix_beside(site: Site, directory: Path) -> PostfixInstance:
    """Make a Postfix that asks both front ends of the site and discards what is accepted."""
    host, port = site.policy_address
    wiring = {
        "smtpd_recipient_restrictions": f"check_policy_service inet:{host}:{port}",
        "smtpd_milters": f"unix:{site.milter_path}",
        "milter_default_action": "tempfail",
    }
    return PostfixInstance(
        directory / "postfix", services={"smtp": wiring}, main={"relay_domains": DOMAIN}
    )


def _end_workers(site: Site, size: Size) -> dict[signal.Signals, list[Ended]]:
    ended: dict[signal.Signals, list[Ended]] = {signal.SIGKILL: [], signal.SIGSTOP: []}
    for number, frozen in enumerate(order(size.kills, size.freezes)):
        time.sleep(_pause(number, *size.pause))
        sent = signal.SIGSTOP if frozen else signal.SIGKILL
        ended[sent].append(site.end_worker(site.workers()[number % 2], sent))
    return ended


def order(kills: int, freezes: int) -> list[bool]:
    """Spread so many freezes (True) evenly among so many kills."""
    total = kills + freezes
    return [number * freezes // total != (number + 1) * freezes // total for number in range(total)]


def _pause(number: int, least: float, most: float) -> float:
    # The golden ratio's multiples fall evenly into the range, and in step with nothing.
    return least + (number * 0.618034 % 1) * (most - least)


def _summed(
    size: Size,
    ended: Mapping[signal.Signals, Sequence[Ended]],
    tally: MailTally,
    loaded: Loaded,
    counted: Mapping[tuple[str, str], int],
) -> Kills:
    every = [one for several in ended.values() for one in several]
    return Kills(
        kills=size.kills,
        freezes=size.freezes,
        replaced_after_kill=Waits.of([one.replaced for one in ended[signal.SIGKILL]]),
        replaced_after_freeze=Waits.of([one.replaced for one in ended[signal.SIGSTOP]]),
        clients=size.clients,
        outcomes={kind: dict(got) for kind, got in sorted(tally.outcomes.items())},
        again=len(tally.agains),
        again_without_cause=without_cause(tally.agains, every),
        wrong=tally.wrong,
        examples=tuple(tally.examples[:_EXAMPLES]),
        mail_waits=tally.summed_waits(),
        loaded=loaded,
        counted=compare(tally, loaded, counted),
    )


def without_cause(agains: Sequence[Again], ended: Sequence[Ended]) -> int:
    """Count the mails tried again in whose session no worker ended."""
    return sum(not any(again.caused_by(one) for one in ended) for again in agains)


def compare(
    tally: MailTally, loaded: Loaded, counted: Mapping[tuple[str, str], int]
) -> tuple[Counted, ...]:
    """Hold what policyd counted against what all clients received, series by series."""
    received, uncertain = Counter(tally.received), Counter(tally.uncertain)
    for frontend, front in (("policy", loaded.policy), ("milter", loaded.milter)):
        received.update({(frontend, codes): count for codes, count in front.answers.items()})
        uncertain.update({(frontend, codes): count for codes, count in front.unanswered.items()})
    return tuple(
        Counted(*series, received[series], uncertain[series], counted.get(series, 0))
        for series in sorted({*received, *uncertain, *counted})
        if received[series] or uncertain[series] or counted.get(series)
    )

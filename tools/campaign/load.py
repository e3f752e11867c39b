"""The load: policy connections and milter sessions in a process of their own, as a campaign's peer.

It knows, in memory shared with the campaign, which generations of the policy may answer at each
moment, and it measures how late its own timer is: what waits longer than that waits for policyd.
"""

import asyncio
import gc
import time
from collections.abc import Iterable
from contextlib import suppress
from multiprocessing.connection import Connection
from multiprocessing.sharedctypes import RawValue
from typing import Any, Final

import uvloop

from tools.campaign.apart import Apart
from tools.campaign.asking import Asking
from tools.campaign.course import AGAIN, Control, Course, Plan
from tools.campaign.tally import EXAMPLES, Lags, Loaded
from tools.campaign.telling import Telling

TICK: Final = 0.005
"""Seconds between two firings of the timer whose lateness is measured."""


class Load(Apart):
    """The askers and tellers of a plan."""

    def __init__(self, plan: Plan, generation: int = 0) -> None:
        """Take a plan, and the generation of the policy that is in force."""
        self.control: Any = RawValue(Control, generation, generation, 0)
        super().__init__(_main, (plan, self.control), end=self._stop, patience=plan.patience)

    def _stop(self) -> None:
        self.control.ended = 1

    def finish(self) -> Loaded:
        """Have nothing more asked, and give what it came to."""
        loaded = self.last_words()
        assert isinstance(loaded, Loaded)
        return loaded


def _main(plan: Plan, control: Any, pipe: Connection) -> None:
    gc.disable()  # its pauses would be counted as policyd's; a load ends before it matters
    with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner, suppress(KeyboardInterrupt):
        runner.run(_run(plan, control, pipe))


async def _run(plan: Plan, control: Any, pipe: Connection) -> None:
    lags, connecting = Lags(), set[asyncio.Task[None]]()

    def again(asking: Asking) -> None:
        task = asyncio.create_task(_connect(course, asking))
        connecting.add(task)
        task.add_done_callback(connecting.discard)

    course = Course(plan, control, again)
    asking = [Asking(course, number) for number in range(plan.askers)]
    for connection in asking:
        await _connect(course, connection)
    telling = [asyncio.create_task(Telling(course, number).run()) for number in range(plan.tellers)]
    pipe.send("under way")
    begun = time.monotonic()
    await _until_ended(course, lags)
    seconds = time.monotonic() - begun
    await _last_answers(plan, asking, telling)
    slowest = (*course.policy.slowest(lags), *course.milter.slowest(lags))
    longest = sorted(slowest, key=lambda slow: -slow.wait)[:EXAMPLES]
    pipe.send(
        Loaded(
            course.policy.summed(), course.milter.summed(), lags.summed(), tuple(longest), seconds
        )
    )


async def _connect(course: Course, asking: Asking) -> None:
    loop = asyncio.get_running_loop()
    host, port = course.plan.policy
    while not course.ended:
        try:
            await loop.create_connection(lambda: asking, host, port)
        except OSError:
            if not course.plan.tolerant:
                raise
            await asyncio.sleep(AGAIN)
        else:
            return


async def _until_ended(course: Course, lags: Lags) -> None:
    """Let it go on, and measure the timer meanwhile."""
    while not course.ended:
        due = time.monotonic() + TICK
        await asyncio.sleep(TICK)
        lags.fired(due, time.monotonic())


async def _last_answers(
    plan: Plan, asking: Iterable[Asking], telling: Iterable[asyncio.Task[None]]
) -> None:
    """Await what has been asked; what does not come is lost."""
    deadline = time.monotonic() + plan.patience
    waiting = [one for one in asking if one.waiting]
    while waiting and time.monotonic() < deadline:
        await asyncio.sleep(TICK)
        waiting = [one for one in waiting if one.waiting]
    for one in asking:
        one.end()
    async with asyncio.timeout(plan.patience + AGAIN):
        await asyncio.gather(*telling)

"""
What signals ask of the supervisor.

SIGTERM and SIGINT stop: no more milter sessions are taken, those that are open are seen to
their end within `drain_timeout`, then answers under way are finished; a second one does not wait.
SIGHUP reloads. Each does so at any moment: a stop ends a start or a reload under way, a reload
that is asked for while policyd starts follows the start.
"""

import asyncio
import signal


class Signals:
    """What has been asked for; on the running loop, from its making on."""

    def __init__(self) -> None:
        self.stop = asyncio.Event()
        self.hurry = asyncio.Event()
        self.reload = asyncio.Event()
        loop = asyncio.get_running_loop()
        for number in (signal.SIGTERM, signal.SIGINT):
            loop.add_signal_handler(number, self._asked)
        loop.add_signal_handler(signal.SIGHUP, self.reload.set)

    def _asked(self) -> None:
        if self.stop.is_set():
            self.hurry.set()
        self.stop.set()

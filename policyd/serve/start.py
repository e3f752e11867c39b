"""From a configuration file to a supervisor that serves it, and to the exit status in the end."""

import asyncio
import contextlib
import resource
import signal
import sys
from pathlib import Path
from typing import Final

import uvloop

from policyd.processes.spawn import SUPERVISORS
from policyd.serve.building import BuildError, build
from policyd.serve.signals import Signals
from policyd.serve.supervisor import Supervisor

CONFIGURATION: Final = 78
"""EX_CONFIG of sysexits(3)."""
UNAVAILABLE: Final = 69
"""EX_UNAVAILABLE: something to listen on is taken."""
SOFTWARE: Final = 70
"""EX_SOFTWARE: the service manager is to start us again."""


def serve(path: Path) -> int:
    """Serve a configuration until a signal; the exit status (see the constants), 0 for a stop."""
    with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
        status = runner.run(_serve(path))
        # all is done: a signal is late, and the loop takes its handlers along when it closes
        signal.pthread_sigmask(signal.SIG_BLOCK, SUPERVISORS)
    return status


async def _serve(path: Path) -> int:
    """Have the configuration built, which a signal can end, and be its supervisor."""
    signals = Signals()
    _take_descriptors()
    building = asyncio.create_task(build(path, polite=False))
    stopped = asyncio.create_task(signals.stop.wait())
    await asyncio.wait((building, stopped), return_when=asyncio.FIRST_COMPLETED)
    stopped.cancel()
    if signals.stop.is_set():
        building.cancel()
        await asyncio.wait((building,))
        return 0
    try:
        product = building.result()
    except (BuildError, OSError) as error:
        _say(f"policyd cannot serve: {error}")
        return SOFTWARE
    if product.building.outline is None:
        for problem in product.building.problems:
            if problem.severity == "error":
                _say(str(problem))
        return CONFIGURATION
    try:
        return await Supervisor(path, product, product.building.outline, signals).run()
    except (OSError, LookupError) as error:
        _say(f"policyd cannot serve: {error}")
        return UNAVAILABLE


def _take_descriptors() -> None:
    """Take as many open files as we may have, also for the processes that are started."""
    _, most = resource.getrlimit(resource.RLIMIT_NOFILE)
    with contextlib.suppress(OSError, ValueError):
        resource.setrlimit(resource.RLIMIT_NOFILE, (most, most))


def _say(text: str) -> None:
    sys.stderr.write(f"{text}\n")

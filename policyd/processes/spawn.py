"""
Starting a module of ours as a process, and what such a process does about signals: nothing.

A terminal sends SIGINT to all processes of the foreground, a service manager may send SIGTERM to
all of a service. They are the supervisor's business alone, from a child's first moment on: it
starts with these signals blocked, and lets them through once they are ignored.
"""

import signal
import subprocess
import sys
from typing import Final

SUPERVISORS: Final = frozenset({signal.SIGTERM, signal.SIGINT, signal.SIGHUP})
"""The signals that only the supervisor obeys."""


def start_module(module: str, control: int) -> subprocess.Popen[bytes]:
    """Start a module of ours as a process that knows the number of its control socket."""
    before = signal.pthread_sigmask(signal.SIG_BLOCK, SUPERVISORS)  # inherited (execve(2))
    try:
        return subprocess.Popen(  # noqa: S603 -- ourselves
            [sys.executable, "-P", "-m", module, str(control)],
            pass_fds=[control],
            stdin=subprocess.DEVNULL,
        )
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, before)


def ignore_signals() -> None:
    """
    Ignore the supervisor's signals; to be called in the main thread, before any other begins.

    What came meanwhile is forgotten then (signal(7)). They are unblocked, since Linux keeps a
    blocked signal even if it is ignored, for a thread that waits for it, as libmilter's does.
    """
    for number in SUPERVISORS:
        signal.signal(number, signal.SIG_IGN)
    signal.pthread_sigmask(signal.SIG_UNBLOCK, SUPERVISORS)

"""policyd as a campaign runs it: a configuration of its own, and the ways to change and kill it."""

import contextlib
import os
import shutil
import signal
import subprocess
import tempfile
import time
from collections import Counter
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from tools.campaign import policy, processes
from tools.policyd_process import COMMAND, PolicydProcess, free_port

RELOAD_LIMIT: Final = 60.0
"""Seconds in which a reload is confirmed."""
RESTART_LIMIT: Final = 60.0
"""Seconds in which a worker that is gone, or frozen, is replaced."""
_LOOK: Final = 0.02

_CONFIGURATION: Final = """\
include = ["rules.toml"]

[server]
workers = {workers}
drain_timeout = "{drain}s"

[policy_service]
listen = ["inet:127.0.0.1:{port}"]

[milter]
listen = ["unix:{directory}/milter.sock"]
socket_mode = "0666"

[metrics]
listen = "{metrics}"

[log]
format = "json"
"""


class SiteError(Exception):
    """policyd did not do what the campaign needs to go on."""


@dataclass(frozen=True)
class Ended:
    """
    A worker that was ended, and seconds until it was replaced.

    It ended between `after` and `before` (CLOCK_MONOTONIC): on a busy machine much can happen
    between a signal and the next look at the clock.
    """

    after: float
    before: float
    replaced: float


class Site:
    """A `policyd serve` whose policy is one of the generations of `policy`."""

    def __init__(
        self, directory: Path, *, workers: int = 2, rules: int = 10, drain: int = 30
    ) -> None:
        """Write the configuration, of generation 1."""
        self.count = workers
        self.policy_address = ("127.0.0.1", free_port())
        self.milter_path = f"{directory}/milter.sock"
        self.generation = 1
        self._rules = rules
        self._directory = directory
        metrics = f"127.0.0.1:{free_port()}"
        file = directory / "policyd.toml"
        file.write_text(
            _CONFIGURATION.format(
                workers=workers,
                drain=drain,
                port=self.policy_address[1],
                directory=directory,
                metrics=metrics,
            )
        )
        self._write(self.generation)
        self.policyd = PolicydProcess(file, metrics)

    def _write(self, generation: int) -> None:
        """Put another policy in the place of the one that stands there."""
        rules = self._directory / "rules.new"
        rules.write_text(policy.rules(generation, self._rules))
        rules.rename(self._directory / "rules.toml")

    # its policy

    def reload(self, *, by_command: bool, begun: Callable[[int], None] = lambda _: None) -> float:
        """Have the next generation taken; give the seconds until policyd says that it is.

        By `policyd reload`, which waits, or by SIGHUP, after which the metrics are looked at.
        `begun` is told the generation just before. SiteError when policyd says something else.
        """
        generation = self.generation + 1
        self._write(generation)
        reload = self._reload_by_command if by_command else self._reload_by_signal
        start = time.monotonic()
        begun(generation)
        reload()
        self.generation = generation
        return time.monotonic() - start

    def _reload_by_command(self) -> None:
        done = subprocess.run(
            [COMMAND, "reload", "-c", str(self.policyd.configuration)],
            capture_output=True,
            text=True,
            timeout=RELOAD_LIMIT,
            check=False,
        )
        if done.returncode != 0:
            raise SiteError(f"policyd reload: {done.returncode}: {done.stdout}{done.stderr}")

    def _reload_by_signal(self) -> None:
        before = self._reloads()
        os.kill(self.policyd.pid, signal.SIGHUP)
        _wait(lambda: self._reloads() != before, RELOAD_LIMIT, "no reload is counted")
        if self._reloads() - before != Counter(success=1):
            raise SiteError(f"the reload failed:\n{self.log_tail()}")

    def _reloads(self) -> Counter[str]:
        samples = self.policyd.samples("policyd_config_reloads_total")
        return Counter({dict(labels)["result"]: int(value) for labels, value in samples.items()})

    # its workers

    def workers(self) -> list[int]:
        """Give the worker processes, the oldest first."""
        return processes.workers(self.policyd.pid)

    def end_worker(self, worker: int, number: signal.Signals) -> Ended:
        """Send it a signal that it does not survive, and wait until another is up in its place."""
        before = self._restarts()
        after = time.monotonic()
        os.kill(worker, number)
        sent = time.monotonic()
        _wait(lambda: self._restarts() > before, RESTART_LIMIT, f"worker {worker} is not missed")
        _wait(lambda: self._up() == self.count, RESTART_LIMIT, f"worker {worker} is not replaced")
        return Ended(after, sent, time.monotonic() - sent)

    def _restarts(self) -> int:
        return int(sum(self.policyd.samples("policyd_worker_restarts_total").values()))

    def _up(self) -> int:
        return int(sum(self.policyd.samples("policyd_worker_up").values()))

    # its counters

    def replies(self) -> Counter[tuple[str, str]]:
        """Give policyd_replies_total by front end and codes."""
        counted = Counter[tuple[str, str]]()
        for labels, value in self.policyd.samples("policyd_replies_total").items():
            named = dict(labels)
            codes = f"{named['code']} {named['enhanced']}".strip()
            counted[named["frontend"], codes] += int(value)
        return counted

    def log_tail(self) -> str:
        """Give the last lines of its log that are no decisions."""
        with self.policyd.log.open(errors="replace") as log:
            lines = [line for line in log if '"event":"decision"' not in line]
        return "".join(lines[-20:])


def _wait(condition: Callable[[], bool], seconds: float, otherwise: str) -> None:
    deadline = time.monotonic() + seconds
    while not condition():
        if time.monotonic() > deadline:
            raise SiteError(f"{otherwise} after {seconds:g} s")
        time.sleep(_LOOK)


@contextlib.contextmanager
def scratch() -> Iterator[Path]:
    """Give a directory that Postfix's users may enter, as short as a socket's path has to be."""
    directory = Path(tempfile.mkdtemp(prefix="campaign-"))
    directory.chmod(0o755)
    try:
        yield directory
    finally:
        shutil.rmtree(directory)

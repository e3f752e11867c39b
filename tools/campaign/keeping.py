"""A policyd that keeps state, for the campaigns `faults` and `exactness`, and what it says."""

from collections import Counter
from pathlib import Path
from typing import Final

import msgspec

from tools.policyd_process import PolicydProcess, free_port
from tools.redis_servers import until

WORKERS: Final = 2

_HEAD: Final = """\
[server]
workers = {workers}

[policy_service]
listen = ["inet:127.0.0.1:{port}"]

[metrics]
listen = "{metrics}"

[log]
format = "json"

[state]
url = "{url}"

"""


class Keeping(PolicydProcess):
    """A `policyd serve` with two workers, whose state is at `url`; `body` is the policy."""

    def __init__(self, directory: Path, url: str, body: str) -> None:
        """Write its configuration into a directory."""
        self.url = url
        self.address = ("127.0.0.1", free_port())
        metrics = f"127.0.0.1:{free_port()}"
        file = directory / "policyd.toml"
        head = _HEAD.format(workers=WORKERS, port=self.address[1], metrics=metrics, url=url)
        file.write_text(head + body)
        super().__init__(file, metrics)

    def summed(self, name: str, **labels: str) -> int:
        """Sum the series of a metric that have these labels."""
        found = self.samples(name).items()
        return int(sum(value for told, value in found if labels.items() <= dict(told).items()))

    @property
    def fallbacks(self) -> int:
        """Checks that were answered without the store."""
        return self.summed("policyd_dependency_fallbacks_total", dependency="store")

    @property
    def store_up(self) -> bool:
        """Whether the store answers every worker."""
        return self.samples("policyd_dependency_up") == {(("dependency", "store"),): 1}

    def wait_until_whole(self) -> None:
        """Wait until every worker serves; TimeoutError."""
        until(lambda: self.summed("policyd_worker_up") == WORKERS)

    def log_size(self) -> int:
        """Give the octets of its log."""
        return self.log.stat().st_size

    def failures(self) -> str:
        """Give the last lines of its log that are no decisions."""
        with self.log.open(errors="replace") as log:
            return "".join([line for line in log if '"event":"decision"' not in line][-20:])

    def told(self, event: str, field: str, begin: int, end: int) -> Counter[str]:
        """Count lines of an event between two places of its log, by what a field says."""
        with self.log.open("rb") as log:
            log.seek(begin)
            lines = log.read(end - begin).splitlines()
        wanted = b'"event":"%s"' % event.encode()
        return Counter(msgspec.json.decode(line)[field] for line in lines if wanted in line)

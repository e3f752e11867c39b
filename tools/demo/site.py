"""The two servers of the demonstration: a private Postfix, and policyd beside it."""

import json
import shutil
import signal
import socket
import subprocess
import sys
import time
import urllib.error
import urllib.request
from collections import Counter
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from prometheus_client.parser import text_string_to_metric_families

from tools.demo.samples import LOCAL, SERVICE_PORT
from tools.postfix_instance import PostfixInstance

COMMAND = Path(sys.executable).with_name("policyd")
_RULES = Path(__file__).with_name("rules.toml")
_READY_WITHIN = 20.0  # seconds
_STOP_WITHIN = 15.0  # seconds

Series = tuple[str, tuple[tuple[str, str], ...]]
"""A metric's name and its labels."""

_CONFIGURATION = """\
include = ["rules.toml"]

[policy_service]
listen = ["inet:127.0.0.1:{policy}"]

[milter]
listen = ["unix:{directory}/milter.sock"]
socket_group = "postfix"

[metrics]
listen = "127.0.0.1:{metrics}"

[state]
url = "memory:"

[log]
format = "json"

[replies]
show_id = true
"""


class SiteError(Exception):
    """policyd does not do what the demonstration needs; its log says why."""


class Site:
    """Postfix and policyd in one directory; `running` starts and stops both."""

    def __init__(self, directory: Path) -> None:
        """Write policyd's configuration, lay out Postfix's."""
        self.config = directory / "policyd.toml"
        self.log = directory / "policyd.log"
        policy, metrics = _free_ports(2)
        self.metrics_url = f"http://127.0.0.1:{metrics}"
        self.wiring = _wiring(f"inet:127.0.0.1:{policy}", f"unix:{directory}/milter.sock")
        self.postfix = PostfixInstance(
            directory / "postfix",
            services={
                "smtp": self.wiring,
                # what comes back from a content filter is asked about by nobody (FILTER_README)
                "filtered": {
                    "myhostname": f"filter.{LOCAL}",
                    "smtpd_milters": "",
                    "smtpd_recipient_restrictions": "",
                },
            },
            mailboxes=(f"@{LOCAL}",),
            hostname=f"mx.{LOCAL}",
        )
        self.smtp_port = self.postfix.ports["smtp"]
        self.config.write_text(
            _CONFIGURATION.format(directory=directory, policy=policy, metrics=metrics)
        )
        rules = _RULES.read_text().replace(SERVICE_PORT, str(self.postfix.ports["filtered"]))
        (directory / "rules.toml").write_text(rules)

    @contextmanager
    def running(self) -> Iterator[None]:
        """Start policyd, then Postfix; stop them in the opposite order."""
        with self.log.open("wb") as log:
            policyd = subprocess.Popen(
                [COMMAND, "serve", "-c", str(self.config)], stdout=log, stderr=log
            )
        try:
            self._wait_ready(policyd)
            with self.postfix:
                yield
        finally:
            policyd.send_signal(signal.SIGTERM)
            try:
                policyd.wait(_STOP_WITHIN)
            except subprocess.TimeoutExpired:
                policyd.kill()
                policyd.wait()

    def counts(self) -> Counter[Series]:
        """Scrape /metrics: the counters that tell of replies."""
        counted: Counter[Series] = Counter()
        for family in text_string_to_metric_families(self._get("/metrics")):
            for sample in family.samples:
                if sample.name in ("policyd_replies_total", "policyd_rule_replies_total"):
                    counted[sample.name, tuple(sorted(sample.labels.items()))] = round(sample.value)
        return counted

    def decisions(self, after: int = 0) -> list[dict[str, Any]]:
        """Read the decisions in policyd's log, past the first `after` ones."""
        lines = self.log.read_bytes().rpartition(b"\n")[0].splitlines()
        events = [json.loads(line) for line in lines if line.startswith(b"{")]
        return [event for event in events if event["event"] == "decision"][after:]

    def _wait_ready(self, policyd: subprocess.Popen[bytes]) -> None:
        deadline = time.monotonic() + _READY_WITHIN
        while True:
            try:
                self._get("/readyz")
            except (urllib.error.URLError, ConnectionError):
                if policyd.poll() is not None or time.monotonic() > deadline:
                    raise SiteError(f"policyd does not serve:\n{self.log.read_text()}") from None
                time.sleep(0.05)
            else:
                return

    def _get(self, path: str) -> str:
        with urllib.request.urlopen(f"{self.metrics_url}{path}", timeout=10) as reply:  # noqa: S310 -- always http, to our own listener
            return str(reply.read(), "utf-8")


def _wiring(policy: str, milter: str) -> Mapping[str, str]:
    """Wire Postfix to both front ends; the last restriction is Postfix's own."""
    return {
        "smtpd_recipient_restrictions": (
            f"check_policy_service {policy},\n"
            f"check_recipient_access inline:{{ {{ closed@{LOCAL} = 550 5.2.1 Mailbox closed }} }}"
        ),
        "smtpd_data_restrictions": f"check_policy_service {policy}",
        "smtpd_milters": milter,
        "milter_default_action": "tempfail",
    }


def policyd_is_installed() -> bool:
    """Tell whether the virtual environment has the command."""
    return shutil.which(COMMAND) is not None


def _free_ports(count: int) -> list[int]:
    sockets = [socket.create_server(("127.0.0.1", 0)) for _ in range(count)]
    ports = [sock.getsockname()[1] for sock in sockets]
    for sock in sockets:
        sock.close()
    return ports

"""Prometheus itself scrapes the HTTP listener, and promtool judges what it is given."""

import asyncio
import json
import socket
import subprocess
import urllib.parse
import urllib.request
from collections.abc import Awaitable, Callable
from pathlib import Path

import pytest

from policyd.observe.known import Issue, known_series
from policyd.serve.http import HttpListener
from policyd.smtp.decision import Decision, Source, Verdict
from policyd.smtp.reply import Reply
from policyd.smtp.stage import FrontEnd, Stage
from tests.observe.counted import Counted

pytestmark = pytest.mark.integration

POLICY = FrontEnd.POLICY
REJECTED = Decision(
    "1",
    Verdict.REJECT,
    Stage.RCPT,
    Source.RULE,
    reply=Reply(550, 1, 1, "No such mailbox"),
    rule="mailbox-unknown",
)


def a_policys_metrics() -> Counted:
    issues = [
        Issue(POLICY, "rcpt", Verdict.REJECT, "550", "5.1.1", Source.RULE, "mailbox-unknown"),
        Issue(POLICY, "rcpt", Verdict.PASS, "", "", Source.DEFAULT),
        Issue(POLICY, "rcpt", Verdict.DEFER, "450", "4.2.0", Source.RULE, "grey \"'\\ ü\nlist"),
    ]
    series = known_series(
        issues,
        checks={"greylisted": ("new", "known")},
        protocol_reasons={POLICY: ("malformed",)},
        owners={Stage.RCPT: POLICY},
        dependencies=("redis",),
        config_hash="c0ffee",
        version="1.2.3",
    )
    return Counted(series)


def free_port() -> int:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        return int(taken.getsockname()[1])


class Prometheus:
    """A private Prometheus on loopback that scrapes one port every second."""

    def __init__(self, directory: Path, scraped: int) -> None:
        self._port = free_port()
        config = directory / "prometheus.yml"
        config.write_text(
            "global: {scrape_interval: 1s}\n"
            "scrape_configs:\n"
            "  - job_name: policyd\n"
            f"    static_configs: [{{targets: ['127.0.0.1:{scraped}']}}]\n"
        )
        self._command = (
            "prometheus",
            f"--config.file={config}",
            f"--storage.tsdb.path={directory / 'data'}",
            f"--web.listen-address=127.0.0.1:{self._port}",
            "--log.level=warn",
        )

    async def run(self, ask: Callable[[], Awaitable[None]]) -> None:
        process = await asyncio.create_subprocess_exec(*self._command)
        try:
            await ask()
        finally:
            process.terminate()
            await process.wait()

    async def value(self, query: str) -> float | None:
        """Ask for one value; None while Prometheus does not run, or has none yet."""
        return await asyncio.to_thread(self._value, query)

    def _value(self, query: str) -> float | None:
        asked = urllib.parse.urlencode({"query": query})
        url = f"http://127.0.0.1:{self._port}/api/v1/query?{asked}"
        try:
            with urllib.request.urlopen(url, timeout=5) as answer:
                result = json.load(answer)["data"]["result"]
        except OSError:
            return None
        return float(result[0]["value"][1]) if result else None

    async def until(self, query: str, wanted: float) -> None:
        """Wait until a query gives a value."""
        found: float | None = None
        for _ in range(150):
            found = await self.value(query)
            if found == wanted:
                return
            await asyncio.sleep(0.2)
        raise AssertionError(f"{query} is {found}, not {wanted}")


def test_prometheus_reads_zero_then_the_answers_counted(tmp_path: Path) -> None:
    metrics = a_policys_metrics()

    async def main() -> None:
        listener = HttpListener("127.0.0.1:0", metrics.registry, ready=str, version="1.2.3")
        await listener.start()
        prometheus = Prometheus(tmp_path, listener.port)

        async def ask() -> None:
            rejected = 'policyd_replies_total{code="550",enhanced="5.1.1"}'
            await prometheus.until('up{job="policyd"}', 1)
            await prometheus.until(rejected, 0)
            for _ in range(42):
                metrics.answered(POLICY, REJECTED, (Stage.RCPT,), 0.0002)
            await prometheus.until(rejected, 42)
            await prometheus.until("sum(policyd_replies_total)", 42)
            await prometheus.until(
                'histogram_quantile(1, policyd_request_duration_seconds_bucket{stage="rcpt"})',
                0.00025,
            )
            await prometheus.until('policyd_config_info{hash="c0ffee"}', 1)

        try:
            await prometheus.run(ask)
        finally:
            await listener.stop()

    asyncio.run(main())


def test_promtool_finds_nothing_to_complain_about() -> None:
    metrics = a_policys_metrics()
    metrics.answered(POLICY, REJECTED, (Stage.RCPT,), 0.0002)

    def read(port: int) -> bytes:
        with urllib.request.urlopen(f"http://127.0.0.1:{port}/metrics", timeout=10) as answer:
            return bytes(answer.read())

    async def main() -> bytes:
        listener = HttpListener("127.0.0.1:0", metrics.registry, ready=str, version="1.2.3")
        await listener.start()
        try:
            return await asyncio.to_thread(read, listener.port)
        finally:
            await listener.stop()

    exposition = asyncio.run(main())
    done = subprocess.run(
        ["promtool", "check", "metrics"], input=exposition, capture_output=True, check=False
    )
    assert (done.returncode, done.stdout + done.stderr) == (0, b"")

"""The HTTP listener: what each path gives, and what is bounded."""

import asyncio
import contextlib
import gzip
import http.client
import signal
import socket
from collections.abc import Awaitable, Callable, Iterable, Iterator
from typing import NamedTuple

import pytest
import uvloop
from prometheus_client import CollectorRegistry, Counter
from prometheus_client.metrics_core import Metric
from prometheus_client.openmetrics.parser import (
    text_string_to_metric_families as parse_openmetrics,
)
from prometheus_client.parser import text_string_to_metric_families as parse_text
from prometheus_client.registry import Collector

from policyd.serve import http as served
from policyd.serve.http import HttpListener


class Got(NamedTuple):
    status: int
    body: bytes
    headers: dict[str, str]


class Client:
    """Asks a listener, from a thread."""

    def __init__(self, port: int, host: str = "127.0.0.1") -> None:
        self.port = port
        self._host = host

    async def get(self, path: str, *, method: str = "GET", **headers: str) -> Got:
        return await asyncio.to_thread(self._get, path, method, headers)

    def _get(self, path: str, method: str, headers: dict[str, str]) -> Got:
        connection = http.client.HTTPConnection(self._host, self.port, timeout=10)
        try:
            named = {name.replace("_", "-"): value for name, value in headers.items()}
            connection.request(method, path, headers=named)
            answer = connection.getresponse()
            given = {name.lower(): value for name, value in answer.getheaders()}
            return Got(answer.status, answer.read(), given)
        finally:
            connection.close()

    async def raw(self, octets: bytes) -> bytes:
        """Send octets and read until the other side closes."""
        reader, writer = await asyncio.open_connection(self._host, self.port)
        try:
            writer.write(octets)
            return await reader.read()
        finally:
            writer.close()


def registry_with_a_counter() -> CollectorRegistry:
    registry = CollectorRegistry()
    Counter("answers", "Answers.", registry=registry).inc(3)
    return registry


def serving(
    ask: Callable[[Client], Awaitable[None]],
    *,
    registry: CollectorRegistry | None = None,
    ready: Callable[[], str] = lambda: "",
    address: str = "127.0.0.1:0",
) -> None:
    """Run a listener on a free port for as long as `ask` takes."""

    async def main() -> None:
        used = registry or registry_with_a_counter()
        listener = HttpListener(address, used, ready=ready, version="1.2.3")
        await listener.start()
        try:
            host = address.rpartition(":")[0].strip("[]")
            await ask(Client(listener.port, host))
        finally:
            await listener.stop()

    uvloop.run(main())


def test_metrics_are_given_as_text() -> None:
    async def ask(client: Client) -> None:
        got = await client.get("/metrics")
        assert got.status == 200
        assert got.headers["content-type"] == "text/plain; version=0.0.4; charset=utf-8"
        families = {family.name: family for family in parse_text(got.body.decode())}
        assert families["answers"].samples[0].value == 3

    serving(ask)


def test_metrics_are_given_as_openmetrics_to_who_asks_for_it() -> None:
    async def ask(client: Client) -> None:
        got = await client.get("/metrics", Accept="application/openmetrics-text; version=1.0.0")
        assert got.headers["content-type"].startswith("application/openmetrics-text; version=1.0.0")
        assert got.body.endswith(b"# EOF\n")
        parse: Callable[[str], Iterable[Metric]] = parse_openmetrics
        assert [family.name for family in parse(got.body.decode())] == ["answers"]

    serving(ask)


def test_metrics_are_compressed_for_who_can_read_it() -> None:
    async def ask(client: Client) -> None:
        plain = await client.get("/metrics")
        packed = await client.get("/metrics", Accept_Encoding="gzip")
        assert "content-encoding" not in plain.headers
        assert packed.headers["content-encoding"] == "gzip"
        # the time at which the counter was made stands in both
        assert gzip.decompress(packed.body) == plain.body

    serving(ask)


def test_head_gives_the_headers_alone() -> None:
    async def ask(client: Client) -> None:
        got = await client.get("/metrics", method="HEAD")
        assert got.status == 200
        assert got.body == b""
        assert int(got.headers["content-length"]) > 0

    serving(ask)


def test_alive_while_not_ready_and_the_reason_is_told() -> None:
    reasons = ["no policy is loaded yet", ""]

    async def ask(client: Client) -> None:
        assert (await client.get("/healthz"))[:2] == (200, b"ok\n")
        assert (await client.get("/readyz"))[:2] == (503, b"no policy is loaded yet\n")
        reasons.pop(0)
        assert (await client.get("/readyz"))[:2] == (200, b"ready\n")

    serving(ask, ready=lambda: reasons[0])


def test_the_front_page_names_the_paths_and_the_version() -> None:
    async def ask(client: Client) -> None:
        got = await client.get("/")
        assert got.body == b"policyd 1.2.3: /metrics /healthz /readyz\n"

    serving(ask)


@pytest.mark.parametrize(
    ("method", "path", "status"),
    [
        ("GET", "/nowhere", 404),
        ("GET", "/metrics/x", 404),
        ("GET", "/../etc/passwd", 404),
        ("POST", "/metrics", 405),
        ("DELETE", "/", 405),
        ("PUT", "/readyz", 405),
    ],
)
def test_nothing_else_is_served(method: str, path: str, status: int) -> None:
    async def ask(client: Client) -> None:
        assert (await client.get(path, method=method)).status == status

    serving(ask)


def test_headers_without_an_end_are_refused() -> None:
    async def ask(client: Client) -> None:
        async with asyncio.timeout(5):
            answer = await client.raw(b"GET / HTTP/1.1\r\nX: " + b"x" * 65536)
        assert answer.startswith(b"HTTP/1.1 400 ")

    serving(ask)


@pytest.mark.parametrize(
    "octets",
    [
        b"\x16\x03\x01\x02\x00\x01",
        b"EHLO there\r\n\r\n",
        b"GET /\xff HTTP/1.1\r\n\r\n",
        b"\r\n" * 99,
    ],
    ids=["tls", "smtp", "not-ascii", "blank-lines"],
)
def test_what_is_no_http_does_no_harm(octets: bytes) -> None:
    async def ask(client: Client) -> None:
        with contextlib.suppress(TimeoutError):  # it may wait for more, within its bound
            async with asyncio.timeout(0.3):
                assert (await client.raw(octets)).startswith(b"HTTP/1.1 400 ")
        assert (await client.get("/healthz")).status == 200

    serving(ask)


def test_a_body_is_not_waited_for() -> None:
    async def ask(client: Client) -> None:
        reader, writer = await asyncio.open_connection("127.0.0.1", client.port)
        writer.write(b"GET /healthz HTTP/1.1\r\nHost: x\r\nContent-Length: 99999999\r\n\r\n")
        async with asyncio.timeout(5):
            assert (await reader.readline()).startswith(b"HTTP/1.1 200 ")
        writer.close()

    serving(ask)


def test_a_connection_that_completes_nothing_is_closed(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(served, "_SILENCE", 0.3)

    async def ask(client: Client) -> None:
        for octets in (b"", b"GET /healthz HTTP/1.1\r\nX-Slow: "):
            with contextlib.suppress(ConnectionResetError):
                async with asyncio.timeout(5):
                    assert await client.raw(octets) == b""

    serving(ask)


def test_connections_are_bounded(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(served, "_MOST_CONNECTIONS", 3)

    async def ask(client: Client) -> None:
        held = [await asyncio.open_connection("127.0.0.1", client.port) for _ in range(3)]
        with pytest.raises((ConnectionError, asyncio.IncompleteReadError)):
            await client.get("/healthz")
        for _, writer in held:
            writer.close()
            await writer.wait_closed()
        await asyncio.sleep(0.05)
        assert (await client.get("/healthz")).status == 200

    serving(ask)


def test_one_connection_serves_scrape_after_scrape() -> None:
    def two(port: int) -> list[int]:
        connection = http.client.HTTPConnection("127.0.0.1", port, timeout=10)
        try:
            statuses = []
            for _ in range(2):
                connection.request("GET", "/metrics")
                ours = connection.sock
                answer = connection.getresponse()
                answer.read()
                statuses.append(answer.status)
                assert connection.sock is ours
            return statuses
        finally:
            connection.close()

    async def ask(client: Client) -> None:
        assert await asyncio.to_thread(two, client.port) == [200, 200]

    serving(ask)


class Slow(Collector):
    """A scrape that takes its time."""

    def collect(self) -> Iterator[Metric]:
        import time  # noqa: PLC0415 -- of this collector alone

        time.sleep(0.3)
        yield from ()


def test_a_slow_scrape_does_not_hold_up_the_loop() -> None:
    registry = CollectorRegistry()
    registry.register(Slow())

    async def ask(client: Client) -> None:
        scrape = asyncio.create_task(client.get("/metrics"))
        turns = 0
        while not scrape.done():
            await asyncio.sleep(0.01)
            turns += 1
        assert turns > 10
        assert scrape.result().status == 200

    serving(ask, registry=registry)


def test_a_port_in_use_is_named() -> None:
    async def main() -> None:
        with socket.create_server(("127.0.0.1", 0)) as taken:
            address = f"127.0.0.1:{taken.getsockname()[1]}"
            listener = HttpListener(address, CollectorRegistry(), ready=str, version="1")
            with pytest.raises(OSError, match=f"in use.*{address}"):
                await listener.start()
            await listener.stop()

    asyncio.run(main())


@pytest.mark.parametrize("address", ["", "9741", ":9741", "::1:9741", "127.0.0.1:", "h:99999"])
def test_what_is_no_address_is_refused(address: str) -> None:
    with pytest.raises(ValueError, match="endpoint"):
        HttpListener(address, CollectorRegistry(), ready=str, version="1")


def test_it_listens_on_ipv6() -> None:
    async def ask(client: Client) -> None:
        assert (await client.get("/healthz")).status == 200

    serving(ask, address="[::1]:0")


def test_signals_stay_with_their_handlers() -> None:
    before = signal.getsignal(signal.SIGINT), signal.getsignal(signal.SIGTERM)

    async def ask(_client: Client) -> None:
        # asyncio.run's own handler of SIGINT is what a Runner sets; uvicorn's would be a method
        for number in (signal.SIGINT, signal.SIGTERM):
            assert "uvicorn" not in repr(signal.getsignal(number))

    serving(ask)
    assert (signal.getsignal(signal.SIGINT), signal.getsignal(signal.SIGTERM)) == before


def test_after_stop_nobody_listens_and_the_port_is_free() -> None:
    async def main() -> None:
        listener = HttpListener("127.0.0.1:0", CollectorRegistry(), ready=str, version="1")
        await listener.start()
        port = listener.port
        idle_reader, idle_writer = await asyncio.open_connection("127.0.0.1", port)
        await listener.stop()
        async with asyncio.timeout(5):
            assert await idle_reader.read() == b""
        idle_writer.close()
        with pytest.raises(ConnectionRefusedError):
            await asyncio.open_connection("127.0.0.1", port)
        again = HttpListener(f"127.0.0.1:{port}", CollectorRegistry(), ready=str, version="1")
        await again.start()
        await again.stop()

    asyncio.run(main())

"""
The HTTP listener: /metrics for Prometheus, /healthz and /readyz for whoever watches over us.

uvicorn and starlette in the loop that runs already. It serves a few scrapers on a private
address, and keeps to that: connections, header size and silence are bounded, bodies are not read.
"""

import asyncio
import gzip
import logging
import socket
from collections.abc import Callable
from typing import Final

import uvicorn
from prometheus_client import CollectorRegistry
from prometheus_client.exposition import choose_encoder, gzip_accepted
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import PlainTextResponse, Response
from starlette.routing import Route
from uvicorn.protocols.http.h11_impl import H11Protocol

from policyd.serve.sockets import open_listeners, parse_endpoint

_MOST_CONNECTIONS: Final = 64
_MOST_HEADER_OCTETS: Final = 16 * 1024
_SILENCE: Final = 75
"""
Seconds in which a connection has to complete an exchange; a scraper that comes every minute keeps
its connection.
"""
_GOODBYE: Final = 1
"""Seconds that an answer under way gets at a stop."""
_GZIP_LEVEL: Final = 1
"""Label names repeat so much that the fastest level already makes a twentieth of them."""


class HttpListener:
    """
    Serves HTTP on one address between `start` and `stop`.

    `ready` gives an empty string, or the reason why policyd cannot answer Postfix now.
    """

    def __init__(
        self, address: str, registry: CollectorRegistry, *, ready: Callable[[], str], version: str
    ) -> None:
        """Take `host:port`, an IPv6 host in brackets; ValueError for any other form."""
        self._endpoint = parse_endpoint(f"inet:{address}")
        self._server = uvicorn.Server(
            uvicorn.Config(
                _application(registry, ready, version),
                http=_BoundedProtocol,
                ws="none",
                lifespan="off",
                loop="none",
                log_config=None,
                log_level=logging.ERROR,
                access_log=False,
                proxy_headers=False,
                server_header=False,
                timeout_keep_alive=_SILENCE,
                timeout_graceful_shutdown=_GOODBYE,
                h11_max_incomplete_event_size=_MOST_HEADER_OCTETS,
            )
        )
        self._sockets: list[socket.socket] = []
        self._task: asyncio.Task[None] | None = None

    async def start(self) -> None:
        """Listen; OSError that names the address when that cannot be."""
        # Server.serve would take over signals, and leave the process when it cannot bind.
        self._sockets = [listener.socket for listener in open_listeners(self._endpoint)]
        server, config = self._server, self._server.config
        config.load()
        server.lifespan = config.lifespan_class(config)
        await server.startup(sockets=self._sockets)
        self._task = asyncio.create_task(server.main_loop(), name="http")

    async def stop(self) -> None:
        """Stop listening; answers under way get a second."""
        if self._task is None:
            return
        self._server.should_exit = True
        await self._task
        await self._server.shutdown(sockets=self._sockets)
        self._task = None

    @property
    def port(self) -> int:
        """The port listened on, which is another than the one asked for if that was 0."""
        return int(self._sockets[0].getsockname()[1])


def _application(registry: CollectorRegistry, ready: Callable[[], str], version: str) -> Starlette:
    # Plain functions run in a thread: adding up thousands of series must not hold up the loop.
    def metrics(request: Request) -> Response:
        encode, content_type = choose_encoder(request.headers.get("accept", ""))
        body = encode(registry)
        headers = {"Content-Type": content_type, "Vary": "Accept, Accept-Encoding"}
        if gzip_accepted(request.headers.get("accept-encoding", "")):
            headers["Content-Encoding"] = "gzip"
            body = gzip.compress(body, _GZIP_LEVEL)
        return Response(body, headers=headers)

    async def healthz(_request: Request) -> Response:
        return PlainTextResponse("ok\n")

    async def readyz(_request: Request) -> Response:
        reason = ready()
        return PlainTextResponse(f"{reason}\n", 503) if reason else PlainTextResponse("ready\n")

    async def index(_request: Request) -> Response:
        return PlainTextResponse(f"policyd {version}: /metrics /healthz /readyz\n")

    paths = {"/": index, "/healthz": healthz, "/readyz": readyz}
    routes = [Route(path, page, methods=["GET"]) for path, page in paths.items()]
    return Starlette(routes=[*routes, Route("/metrics", metrics, methods=["GET"])])


class _BoundedProtocol(H11Protocol):
    """uvicorn's protocol, and a bound on connections and on those that complete nothing."""

    _deadline: asyncio.TimerHandle | None = None

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]
        # uvicorn narrows BaseTransport in the same way
        super().connection_made(transport)
        if len(self.connections) > _MOST_CONNECTIONS:
            transport.abort()
        else:
            self._deadline = self.loop.call_later(_SILENCE, transport.abort)

    def connection_lost(self, exc: Exception | None) -> None:
        super().connection_lost(exc)
        if self._deadline is not None:
            self._deadline.cancel()

    def on_response_complete(self) -> None:
        super().on_response_complete()
        if self._deadline is not None and not self.transport.is_closing():
            self._deadline.cancel()
            self._deadline = self.loop.call_later(_SILENCE, self.transport.abort)

"""Connections over workers: the share that each holds, and what two workers do beside one."""

import contextlib
import socket
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from statistics import median
from typing import Final

from bench import programs
from tools.campaign import processes
from tools.campaign.asking import requests
from tools.campaign.policy import Kind
from tools.campaign.results import Shares, Spread, Throughput
from tools.campaign.site import Site, SiteError, scratch

CONNECTIONS: Final = 100
_REQUEST: Final = requests(0)[Kind.PASSED]
_SETTLE_LIMIT: Final = 5.0


@dataclass(frozen=True)
class Size:
    """How long it takes."""

    workers: tuple[int, ...] = (2, 4)
    rounds: int = 5
    seconds: float = 3.0


FULL: Final = Size()
QUICK: Final = Size(workers=(2,), rounds=1, seconds=0.3)


def run(size: Size) -> Shares:
    """Look at the spread over two and four workers, then at the throughput of one and two."""
    spreads = [spread for workers in size.workers for spread in _spreads(workers)]
    return Shares(tuple(spreads), tuple(_throughput(size, (1, 2))))


# the spread


def _spreads(workers: int) -> Iterator[Spread]:
    with scratch() as directory, contextlib.ExitStack() as stack:
        site = Site(directory, workers=workers)
        stack.enter_context(site.policyd)
        clients = _connect(site, CONNECTIONS)
        yield _look(site, f"{CONNECTIONS} connections", clients)

        clients = _renewed(site, clients, clients[::2])
        yield _look(site, "every second one closed, as many opened", clients)

        gone = processes.peers(site.workers()[0], site.policy_address[1])
        clients = _renewed(site, clients, [c for c in clients if c.getsockname()[1] in gone])
        yield _look(site, "all of one worker closed, as many opened", clients)
        for client in clients:
            client.close()


def _renewed(
    site: Site, clients: Sequence[socket.socket], gone: Sequence[socket.socket]
) -> list[socket.socket]:
    """Close some, see that policyd noticed, and open as many."""
    stay = [client for client in clients if client not in gone]
    for client in gone:
        client.close()
    _look(site, "", stay)
    return stay + _connect(site, len(gone))


def _connect(site: Site, count: int) -> list[socket.socket]:
    """Open connections, each of which has been answered once."""
    made = [socket.create_connection(site.policy_address, timeout=10) for _ in range(count)]
    for client in made:
        client.sendall(_REQUEST)
    for client in made:
        answer = b""
        while not answer.endswith(b"\n\n"):
            octets = client.recv(4096)
            if not octets:
                raise SiteError("a policy connection was closed")
            answer += octets
    return made


def _look(site: Site, when: str, clients: Sequence[socket.socket]) -> Spread:
    """Count the connections of each worker, once those that were closed are gone."""
    deadline = time.monotonic() + _SETTLE_LIMIT
    while True:
        port = site.policy_address[1]
        held = sorted(len(processes.peers(pid, port)) for pid in site.workers())
        told = sorted(
            int(value)
            for labels, value in site.policyd.samples("policyd_worker_connections").items()
            if dict(labels)["frontend"] == "policy"
        )
        settled = sum(held) == len(clients) and held == told
        if settled or time.monotonic() > deadline:
            return Spread(site.count, when, tuple(held), tuple(told))
        time.sleep(0.05)


# the throughput


def _throughput(size: Size, counts: Sequence[int]) -> Iterator[Throughput]:
    program = programs.build()["policy_load"]
    loads: dict[int, list[programs.Load]] = {count: [] for count in counts}
    with contextlib.ExitStack() as stack:
        sites = {}
        for count in counts:
            sites[count] = Site(stack.enter_context(scratch()), workers=count)
            stack.enter_context(sites[count].policyd)
            _load(program, sites[count], size.seconds / 4)
        for _ in range(size.rounds):
            for count, site in sites.items():
                loads[count].append(_load(program, site, size.seconds))
    for count, measured in loads.items():
        rates = [load.rate for load in measured]
        p99 = median(load.latency["p99"] for load in measured)
        yield Throughput(count, round(median(rates)), round(min(rates)), round(max(rates)), p99)


def _load(program: Path, site: Site, seconds: float) -> programs.Load:
    host, port = site.policy_address
    return programs.load(
        program,
        f"inet:{host}:{port}",
        at_once=CONNECTIONS,
        seconds=seconds,
        options=("-d", "20000"),
    )

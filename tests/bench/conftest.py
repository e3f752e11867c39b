"""What the tests of the benchmark share: its programs, built once, and servers to try them on."""

import contextlib
import socket
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from bench.contender import accepts, free_port
from bench.programs import HERE, build

Conversation = Callable[[socket.socket], None]
"""What a server does with one connection; it is closed when this returns."""


@pytest.fixture(scope="session")
def programs(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    return build(tmp_path_factory.mktemp("programs"))


@pytest.fixture
def serve() -> Iterator[Callable[[Conversation], str]]:
    """Serve conversations, each connection in a thread; returns the address to connect to."""
    listeners: list[socket.socket] = []
    threads: list[threading.Thread] = []

    def start(conversation: Conversation) -> str:
        listener = socket.create_server(("127.0.0.1", 0), backlog=1024)
        listeners.append(listener)

        def converse(connection: socket.socket) -> None:
            with connection, contextlib.suppress(ConnectionError):
                conversation(connection)

        def accept() -> None:
            with contextlib.suppress(OSError):  # the listener is shut down at the end of the test
                while True:
                    thread = threading.Thread(target=converse, args=(listener.accept()[0],))
                    threads.append(thread)
                    thread.start()

        threads.append(threading.Thread(target=accept))
        threads[-1].start()
        return f"inet:127.0.0.1:{listener.getsockname()[1]}"

    yield start
    for listener in listeners:
        listener.shutdown(socket.SHUT_RDWR)
        listener.close()
    for thread in threads:
        thread.join(10)


@pytest.fixture
def start() -> Iterator[Callable[[list[str], str], None]]:
    """Start a program and wait until it accepts connections at the address; ended with the test."""
    processes: list[subprocess.Popen[bytes]] = []

    def run(command: list[str], address: str) -> None:
        process = subprocess.Popen(command)
        processes.append(process)
        for _ in range(200):
            if accepts(address):
                return
            assert process.poll() is None, f"{command[0]} ended"
            threading.Event().wait(0.05)
        pytest.fail(f"{command[0]} does not listen")

    yield run
    for process in processes:
        process.kill()
        process.wait()


@pytest.fixture
def null_policy(
    programs: dict[str, Path], start: Callable[[list[str], str], None]
) -> Callable[[str], str]:
    """Start a null policy server by its name in the table; returns its address."""

    def run(name: str) -> str:
        address = f"inet:127.0.0.1:{free_port()}"
        python = [sys.executable, str(HERE / "null_uvloop.py")]
        commands = {
            "null C": [str(programs["null_policy"])],
            "null uvloop": python,
            "null uvloop, parsing": [*python, "--parse"],
        }
        start([*commands[name], address], address)
        return address

    return run

"""What proc(5) tells is true of processes that we know."""

import os
import socket
import subprocess
from pathlib import Path

from tools.campaign import processes


def test_connections_are_told_by_the_port_of_their_client() -> None:
    with socket.create_server(("127.0.0.1", 0)) as server:
        port = server.getsockname()[1]
        with socket.create_connection(("127.0.0.1", port)) as client:
            accepted, _ = server.accept()
            with accepted:
                assert processes.peers(os.getpid(), port) == {client.getsockname()[1]}
            assert processes.peers(os.getpid(), port) == set()


def test_descriptors_are_counted_without_connections(tmp_path: Path) -> None:
    path = str(tmp_path / "s")
    with socket.create_server(("127.0.0.1", 0)) as tcp, socket.socket(socket.AF_UNIX) as unix:
        unix.bind(path)
        unix.listen()
        port = tcp.getsockname()[1]
        before = processes.descriptors(os.getpid(), port, path)
        with (
            socket.create_connection(("127.0.0.1", port)),
            socket.socket(socket.AF_UNIX) as session,
        ):
            session.connect(path)
            with tcp.accept()[0], unix.accept()[0]:
                # the two clients' own ends count, the accepted ones do not
                assert processes.descriptors(os.getpid(), port, path) == before + 2


def test_a_process_that_has_ended_does_not_run() -> None:
    with subprocess.Popen(["sleep", "60"]) as child:
        assert processes.running(child.pid)
        child.kill()
        os.waitid(os.P_PID, child.pid, os.WEXITED | os.WNOWAIT)
        assert not processes.running(child.pid)  # though nobody has asked for its status yet
    assert not processes.running(child.pid)


def test_a_process_holds_memory_until_it_has_ended() -> None:
    assert processes.resident_mb(os.getpid()) > 5
    with subprocess.Popen(["true"]) as child:
        pass
    assert processes.resident_mb(child.pid) == 0


def test_a_process_without_workers_has_none() -> None:
    assert processes.workers(os.getpid()) == []

"""
What Debian's policyd-spf is started with (Python's `site`): where it asks, and whom it serves.

As it comes, it asks the servers of resolv.conf(5), and serves one connection on its standard input
and output, as spawn(8) starts it. Here it asks the server at BENCH_DNS, and takes one connection
after the other of the listener on its standard input, so that what is measured is its work and not
its start, which smtpd(8) pays once for a connection that it keeps. It says on the descriptor
BENCH_READY that it is ready, and goes on when BENCH_GO ends.
"""

import os
import socket
import sys
from typing import Any

import DNS  # type: ignore[import-not-found]  # of Debian's python3-dns, which policyd-spf uses


class Connections:
    """Standard input and output: the lines of one connection after the other, and the answers."""

    def __init__(self) -> None:
        """Take the listener."""
        self.buffer = self
        self.reader: Any = None
        self.connection: Any = None
        self.listener: socket.socket | None = None

    def readline(self) -> bytes:
        """Give the next line, of this connection or another."""
        if self.listener is None:
            os.write(int(os.environ["BENCH_READY"]), b".")
            os.read(int(os.environ["BENCH_GO"]), 1)
            self.listener = socket.socket(fileno=0)
        while True:
            if self.reader is None:
                self.connection, _ = self.listener.accept()
                self.connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
                self.reader = self.connection.makefile("rb")
            try:
                line: bytes = self.reader.readline()
            except ConnectionError:
                line = b""
            if line:
                return line
            self.reader.close()
            self.connection.close()
            self.reader = None

    def write(self, text: str) -> None:
        """Answer; a client that has gone does not read it."""
        try:
            self.connection.sendall(text.encode())
        except OSError:
            self.reader.close()

    def flush(self) -> None:
        """Everything is written."""


if "BENCH_DNS" in os.environ:
    host, _, port = os.environ["BENCH_DNS"].rpartition(":")
    DNS.defaults["server"] = [host]
    DNS.defaults["port"] = int(port)
    sys.stdin = sys.stdout = Connections()

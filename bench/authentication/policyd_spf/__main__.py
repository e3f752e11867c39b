"""
Start Debian's policyd-spf so many times, and let it serve.

`policyd_spf PORT COUNT DNS CONFIGURATION`: COUNT processes on 127.0.0.1:PORT, which each have one
connection at a time, as under spawn(8). The port is open once all of them are ready.
"""

import os
import socket
import subprocess
import sys
from pathlib import Path

PROGRAM = "/usr/bin/policyd-spf"
_BACKLOG = 1024


def serve(port: int, count: int, dns: str, configuration: str) -> None:
    """Serve until killed, and end when one of them does."""
    said, ready = os.pipe()
    go, hold = os.pipe()
    with socket.socket() as listener:
        listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        listener.bind(("127.0.0.1", port))
        environment = os.environ | {
            "PYTHONPATH": str(Path(__file__).parent),
            "BENCH_DNS": dns,
            "BENCH_READY": str(ready),
            "BENCH_GO": str(go),
        }
        for _ in range(count):
            subprocess.Popen(
                [PROGRAM, configuration],
                stdin=listener.fileno(),
                env=environment,
                pass_fds=(ready, go),
            )
        os.close(ready)
        for _ in range(count):
            if not os.read(said, 1):
                sys.exit("policyd-spf does not start")
        listener.listen(_BACKLOG)
        os.close(hold)
    os.wait()


if __name__ == "__main__":
    serve(int(sys.argv[1]), int(sys.argv[2]), sys.argv[3], sys.argv[4])

"""What proc(5) tells of policyd's processes: which there are, and what they hold."""

import os
import re
import socket
import struct
from pathlib import Path
from typing import Final

_PROC: Final = Path("/proc")
_ESTABLISHED: Final = "01"  # net/tcp_states.h
_CONNECTED: Final = "03"  # linux/net.h: SS_CONNECTED, as /proc/net/unix writes it


def workers(supervisor: int) -> list[int]:
    """Give the worker processes of a `policyd serve`, the oldest first."""
    found = [
        (int(_stat(pid)[19]), pid)  # starttime
        for pid in _children(supervisor)
        if b"policyd.serve.worker" in _command(pid)
    ]
    return [pid for _, pid in sorted(found)]


def running(pid: int) -> bool:
    """Tell whether a process is there and has not ended."""
    fields = _stat(pid)
    return bool(fields) and fields[0] not in {"Z", "X"}


def resident_mb(pid: int) -> float:
    """Give its resident set size in MB of 10^6 octets."""
    fields = _stat(pid)
    return int(fields[21]) * os.sysconf("SC_PAGESIZE") / 1e6 if fields else 0.0


def descriptors(pid: int, port: int, path: str) -> int:
    """Give how many file descriptors it has open but connections to that port and that socket."""
    opened = sum(1 for _ in (_PROC / str(pid) / "fd").iterdir())
    owned = _sockets(pid)
    unix = map(str.split, (_PROC / "net" / "unix").read_text().splitlines()[1:])
    sessions = sum(
        fields[-1] == path and fields[5] == _CONNECTED and fields[6] in owned for fields in unix
    )
    return opened - len(_clients(owned, port)) - sessions


def peers(pid: int, port: int) -> set[int]:
    """Give the ports of the clients whose TCP connections to `port` on loopback it serves."""
    return _clients(_sockets(pid), port)


def _clients(owned: set[str], port: int) -> set[int]:
    here = f"{struct.unpack('=I', socket.inet_aton('127.0.0.1'))[0]:08X}:{port:04X}"
    return {
        int(fields[2].partition(":")[2], 16)
        for fields in map(str.split, (_PROC / "net" / "tcp").read_text().splitlines()[1:])
        if fields[1] == here and fields[3] == _ESTABLISHED and fields[9] in owned
    }


def _sockets(pid: int) -> set[str]:
    inodes = set()
    for entry in (_PROC / str(pid) / "fd").iterdir():
        try:
            target = str(entry.readlink())
        except FileNotFoundError:  # closed meanwhile
            continue
        if found := re.fullmatch(r"socket:\[(\d+)\]", target):
            inodes.add(found[1])
    return inodes


def _children(pid: int) -> list[int]:
    tasks = _PROC / str(pid) / "task"
    return [
        int(child)
        for task in tasks.iterdir()
        for child in (task / "children").read_text().split()
        if running(int(child))
    ]


def _command(pid: int) -> bytes:
    try:
        return (_PROC / str(pid) / "cmdline").read_bytes()
    except OSError:
        return b""


def _stat(pid: int) -> list[str]:
    """Give the fields after the command's name; none when the process is gone."""
    try:
        text = (_PROC / str(pid) / "stat").read_text(errors="replace")
    except OSError:
        return []
    return text.rpartition(")")[2].split()

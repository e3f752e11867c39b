"""Work for the tests of the pool: imported by its processes, which have this folder on the path."""

import contextlib
import ctypes
import os
import re
import socket
import subprocess
import sys
import time
from collections.abc import Sequence
from pathlib import Path

from msgspec.msgpack import encode

from policyd.processes.messages import Done
from policyd.processes.work import Ask, WorkError


def echo(payload: bytes, _descriptors: Sequence[int], _ask: Ask) -> bytes:
    return payload


def grow(payload: bytes, _descriptors: Sequence[int], _ask: Ask) -> bytes:
    return b"x" * int(payload)


def fail(payload: bytes, _descriptors: Sequence[int], _ask: Ask) -> bytes:
    raise ValueError(payload.decode(errors="surrogateescape"))


def refuse(payload: bytes, _descriptors: Sequence[int], _ask: Ask) -> bytes:
    raise WorkError(payload.decode())


def leave(_payload: bytes, _descriptors: Sequence[int], _ask: Ask) -> bytes:
    sys.exit("as if it were a program")


def give_text(_payload: bytes, _descriptors: Sequence[int], _ask: Ask) -> bytes:
    return "text"  # type: ignore[return-value]  # the mistake under test


def sleep(payload: bytes, _descriptors: Sequence[int], _ask: Ask) -> bytes:
    time.sleep(float(payload))
    return str(os.getpid()).encode()


def backtrack(_payload: bytes, _descriptors: Sequence[int], _ask: Ask) -> bytes:
    """Keep every other thread of the process from running, for ever."""
    re.match(r"(a*)*b", "a" * 60)
    return b""


def crash(_payload: bytes, _descriptors: Sequence[int], _ask: Ask) -> bytes:
    ctypes.string_at(0)
    return b""


def exit_at_once(_payload: bytes, _descriptors: Sequence[int], _ask: Ask) -> bytes:
    os._exit(3)


def exit_once(payload: bytes, _descriptors: Sequence[int], _ask: Ask) -> bytes:
    """End the process the first time: the payload names a file that tells."""
    seen = Path(payload.decode())
    if seen.exists():
        return b"the second time"
    seen.touch()
    time.sleep(0.1)
    os._exit(3)


def devour(_payload: bytes, _descriptors: Sequence[int], _ask: Ask) -> bytes:
    return b"".join([b"x" * 2**20 for _ in range(4096)])[:1]


def ask_twice(payload: bytes, _descriptors: Sequence[int], ask: Ask) -> bytes:
    return ask(payload) + ask(payload)


def read_all(_payload: bytes, descriptors: Sequence[int], _ask: Ask) -> bytes:
    return b"|".join(os.pread(each, 100, 0) for each in descriptors)


def surroundings(_payload: bytes, _descriptors: Sequence[int], _ask: Ask) -> bytes:
    """Tell what the process has: signals that it ignores, its priority, descriptors."""
    ignored = re.search(r"SigIgn:\s*(\w+)", Path("/proc/self/status").read_text())
    assert ignored is not None
    return "\n".join([ignored[1], str(os.nice(0)), *_descriptors_held().values()]).encode()


def _descriptors_held() -> dict[str, str]:
    """Give what each descriptor is of, under its number."""
    held = {}
    for number in os.listdir("/proc/self/fd"):  # noqa: PTH208 -- numbers
        with contextlib.suppress(FileNotFoundError):  # the one that lists them
            held[number] = str(Path(f"/proc/self/fd/{number}").readlink())
    return held


def start_program(_payload: bytes, _descriptors: Sequence[int], _ask: Ask) -> bytes:
    started = subprocess.Popen(["sleep", "60"])
    return str(started.pid).encode()


def talk_nonsense(payload: bytes, _descriptors: Sequence[int], _ask: Ask) -> bytes:
    """Send the worker what a helper never does, over the helper's own socket."""
    (number,) = [n for n, target in _descriptors_held().items() if target.startswith("socket:")]
    with socket.socket(fileno=os.dup(int(number))) as control:
        if payload == b"descriptors":
            held = os.memfd_create("unsealed")
            os.ftruncate(held, 1000)
            socket.send_fds(control, [encode(Done(1, None))], [held])
        elif payload == b"flood":
            for _ in range(50):
                socket.send_fds(control, [b"\0"], [0] * 200)
        else:
            control.send(payload)
    time.sleep(60)
    return b""

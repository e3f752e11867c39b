"""
The socket on which libmilter accepts: handed over to it, or opened by it, and taken away again.

libmilter's listener polls the socket for up to 5 s at a time and then accepts on whatever file
its descriptor stands for at that moment (libmilter/listener.c, MI_CHK_TIME). So it stops accepting
when another file is put under the descriptor, while its sessions go on; smfi_stop would cut those
that are between two commands. EAGAIN is nothing to it; of other errors of accept(2) it logs each,
sleeps longer after each, and gives up at the 16th (MAX_FAILS_A).
"""

import array
import contextlib
import errno
import os
import socket
import struct
from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path
from typing import Any, Final

import milter

from policyd.serve.sockets import BACKLOG, Endpoint, open_listeners

NAME: Final = "policyd"
"""libmilter's name for us in what it tells syslog."""

_SO_ATTACH_FILTER: Final = 26  # socket(7), asm-generic/socket.h
_DROP_ALL: Final = struct.pack("=HBBI", 6, 0, 0, 0)  # BPF_RET | BPF_K, 0 octets (linux/filter.h)


def _nothing() -> None:
    """Do nothing: the name of a socket that we were given is not ours to remove."""


class Listening:
    """The socket on which libmilter accepts; it has been opened and registered there."""

    def __init__(
        self, descriptor: int, address: Any, remove: Callable[[], object] = _nothing
    ) -> None:
        """Take libmilter's descriptor, the socket's address, and what takes its name away."""
        self._descriptor = descriptor
        self._address = address
        self._remove = remove
        self._dead = _dead_socket()  # now, so that there is a descriptor for it when it counts
        # several processes may be woken for one connection: who comes late must not wait for the
        # next in accept(2), where libmilter holds its lock
        os.set_blocking(descriptor, False)

    def take_away(self) -> None:
        """Have libmilter accept no more; connections that wait are left to other processes."""
        if self._dead.fileno() < 0:
            return  # it has the dead socket already
        with self._dead:
            self._dead.listen(0)
            os.dup2(self._dead.fileno(), self._descriptor, inheritable=False)
        self._remove()

    def connected(self) -> bool:
        """Tell whether a connection is open, also one that libmilter has told us nothing of."""
        return any(not listens for _, listens in _sockets_at(self._address))


def takes_descriptors() -> bool:
    """
    Tell whether this libmilter listens on `fd:N`, as Debian's does.

    To be asked once, in a process that has no milter: libmilter opens one socket in its life.
    """
    milter.register(NAME)
    with socket.socket(socket.AF_UNIX) as probe:
        probe.bind("")  # the kernel finds a name (unix(7), autobind)
        milter.setconn(f"fd:{probe.fileno()}")
        try:
            milter.opensocket(False)
        except milter.error:
            return False
        return True


def hand_over(listener: socket.socket) -> Listening:
    """Have libmilter listen on a socket of ours; OSError if it does not take descriptors."""
    address = listener.getsockname()
    descriptor = listener.detach()  # libmilter's from now on
    milter.setbacklog(BACKLOG)  # it calls listen(2) again
    milter.setconn(f"fd:{descriptor}")
    try:
        milter.opensocket(False)
    except milter.error as error:
        os.close(descriptor)
        raise OSError(errno.EOPNOTSUPP, "libmilter takes no descriptor", str(address)) from error
    return Listening(descriptor, address)


def open_own(endpoint: Endpoint, mode: int, group: str) -> Listening:
    """
    Have libmilter open a socket itself, for it can be no other way where it lacks `fd:`.

    OSError names an endpoint that cannot be listened on, LookupError an unknown group. A host name
    that stands for several addresses is listened on at its first: libmilter has one socket.
    """
    # ours first: it finds out whether the place is free, and which mode and owner are meant
    listener, *others = open_listeners(endpoint, mode=mode, group=group)
    for each in others:
        each.socket.close()
    with listener.socket:
        address = listener.socket.getsockname()
    path = Path(endpoint.path) if endpoint.path else None
    mask = os.umask(0)
    try:
        owner = path.stat() if path is not None else None
        os.umask(0o777 if owner is None else ~owner.st_mode & 0o777)
        milter.setbacklog(BACKLOG)
        milter.setconn(_specification(endpoint))
        milter.opensocket(True)
        if path is not None and owner is not None:
            os.chown(path, -1, owner.st_gid)
    except milter.error as error:
        raise OSError(errno.EADDRNOTAVAIL, "libmilter cannot listen", str(endpoint)) from error
    finally:
        os.umask(mask)
    descriptor = next(number for number, listens in _sockets_at(address) if listens)
    remove = _nothing if path is None else partial(path.unlink, missing_ok=True)
    return Listening(descriptor, address, remove)


def _specification(endpoint: Endpoint) -> str:
    """Give an endpoint as libmilter names it (smfi_setconn): the port before the host."""
    if endpoint.path:
        return f"unix:{endpoint.path}"
    if ":" in endpoint.host:
        return f"inet6:{endpoint.port}@[{endpoint.host}]"
    return f"inet:{endpoint.port}@{endpoint.host}"


def _dead_socket() -> socket.socket:
    """
    Make a socket that can listen and that nobody reaches: accept(2) always gives EAGAIN.

    It is bound to the loopback and its filter drops every packet. One of the unix kind would need
    a name that is gone again, and so a directory that can be written to and a disk with room.
    """
    dead = socket.socket(socket.AF_INET, socket.SOCK_STREAM)
    dead.setblocking(False)
    dead.bind(("127.0.0.1", 0))
    program = array.array("B", _DROP_ALL)
    address, _ = program.buffer_info()
    dead.setsockopt(socket.SOL_SOCKET, _SO_ATTACH_FILTER, struct.pack("HP", 1, address))
    return dead


def _sockets_at(address: Any) -> Iterator[tuple[int, bool]]:
    """
    Give the descriptor of each socket of this process at a local address, and whether it listens.

    A unix connection has the path of the socket that accepted it, one of TCP the port.
    """
    for entry in Path("/proc/self/fd").iterdir():
        with contextlib.suppress(OSError):  # closed meanwhile
            if not str(entry.readlink()).startswith("socket:"):
                continue
            with socket.socket(fileno=os.dup(int(entry.name))) as twin:
                if _same(twin.getsockname(), address):
                    listens = twin.getsockopt(socket.SOL_SOCKET, socket.SO_ACCEPTCONN)
                    yield int(entry.name), listens == 1


def _same(here: Any, address: Any) -> bool:
    """Compare a connection's local address with the listener's, which may stand for all hosts."""
    if isinstance(here, tuple) and isinstance(address, tuple):
        return bool(here[1] == address[1])
    return bool(here == address)

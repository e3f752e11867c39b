"""Listening sockets, named as Postfix does: `inet:host:port`, `inet:[::1]:port`, `unix:/path`."""

import contextlib
import errno
import grp
import os
import re
import socket
import stat
from pathlib import Path
from typing import Final

import msgspec

BACKLOG: Final = 4096
"""Connections that wait to be accepted; the kernel cuts it at net.core.somaxconn."""

_INET: Final = re.compile(r"inet:(?:\[(?P<literal>[^\]]+)\]|(?P<host>[^\[\]:]+)):(?P<port>[0-9]+)")
_UNIX: Final = re.compile(r"unix:(?P<path>/.*[^/])", re.DOTALL)
_UNIX_PATH: Final = 107  # sun_path, without its NUL (unix(7))
_NO_SUCH_ADDRESS: Final = frozenset({errno.EADDRNOTAVAIL, errno.EAFNOSUPPORT})


class Endpoint(msgspec.Struct, frozen=True):
    """Where to listen: `path` of a unix socket, else `host` and `port`."""

    host: str = ""
    port: int = 0
    path: str = ""

    def __str__(self) -> str:
        """Give the endpoint in Postfix's notation."""
        if self.path:
            return f"unix:{self.path}"
        host = f"[{self.host}]" if ":" in self.host else self.host
        return f"inet:{host}:{self.port}"


def parse_endpoint(text: str) -> Endpoint:
    """Read `inet:host:port` or `unix:/path`; ValueError for any other form."""
    inet = _INET.fullmatch(text)
    if inet is not None and int(inet["port"]) <= 0xFFFF:
        return Endpoint(host=inet["literal"] or inet["host"], port=int(inet["port"]))
    unix = _UNIX.fullmatch(text)
    if unix is not None and "\0" not in text and len(unix["path"].encode()) <= _UNIX_PATH:
        return Endpoint(path=unix["path"])
    raise ValueError(f"{text!r} is no endpoint such as inet:127.0.0.1:10040 or unix:/path")


class Listener:
    """A listening socket; remove() takes a unix socket's name away, while the socket is open."""

    def __init__(self, sock: socket.socket) -> None:
        self.socket = sock
        self.path = sock.getsockname() if sock.family == socket.AF_UNIX else ""
        self._inode = _inode(self.path)

    def remove(self) -> None:
        """Unlink the unix socket, unless another server has put its own in that place."""
        if self.path and _inode(self.path) == self._inode:
            with contextlib.suppress(FileNotFoundError):
                Path(self.path).unlink()


def open_listeners(
    endpoint: Endpoint, *, mode: int = 0o660, group: str = "", backlog: int = BACKLOG
) -> list[Listener]:
    """
    Listen on an endpoint; a host name may stand for several addresses, each gets its socket.

    `mode` and `group` (a name or a number; empty: as the process) are a unix socket's. OSError
    names the endpoint; LookupError a group that is not there. A unix socket on which nobody
    listens any more is replaced, one that answers is not.
    """
    try:
        if endpoint.path:
            return [Listener(_open_unix(endpoint.path, mode, group, backlog))]
        return [Listener(sock) for sock in _open_inet(endpoint, backlog)]
    except OSError as error:
        raise OSError(error.errno, error.strerror, str(endpoint)) from error


def _open_inet(endpoint: Endpoint, backlog: int) -> list[socket.socket]:
    found = socket.getaddrinfo(
        endpoint.host, endpoint.port, type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE
    )
    opened: list[socket.socket] = []
    absent: OSError | None = None
    try:
        for family, address in dict.fromkeys((item[0], item[4]) for item in found):
            try:
                opened.append(_open_address(family, address, backlog))
            except OSError as error:
                # `localhost` may stand for an IPv6 address that this host does not have
                if error.errno not in _NO_SUCH_ADDRESS:
                    raise
                absent = error
        if not opened and absent is not None:
            raise absent
    except OSError:
        for sock in opened:
            sock.close()
        raise
    return opened


def _open_address(family: int, address: tuple[object, ...], backlog: int) -> socket.socket:
    with contextlib.ExitStack() as undo:
        sock = undo.enter_context(socket.socket(family, socket.SOCK_STREAM))
        sock.setblocking(False)
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        # accepted sockets inherit it: a peer whose host went away is noticed in the end
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE, 1)
        if family == socket.AF_INET6:
            sock.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, 1)
        sock.bind(address)
        sock.listen(backlog)
        undo.pop_all()
    return sock


def _open_unix(path: str, mode: int, group: str, backlog: int) -> socket.socket:
    owner = _group(group) if group else -1  # -1 leaves it (chown(2))
    _remove_stale(path)
    with contextlib.ExitStack() as undo:
        sock = undo.enter_context(socket.socket(socket.AF_UNIX, socket.SOCK_STREAM))
        sock.setblocking(False)
        sock.bind(path)
        undo.callback(Path(path).unlink)
        # nobody can connect before listen(), so mode and group are right from the start
        os.chown(path, -1, owner)
        Path(path).chmod(mode)
        sock.listen(backlog)
        undo.pop_all()
    return sock


def _remove_stale(path: str) -> None:
    """Unlink a socket on which nobody listens; OSError for anything else in that place."""
    try:
        kind = Path(path).lstat().st_mode
    except FileNotFoundError:
        return
    if not stat.S_ISSOCK(kind):
        raise FileExistsError(errno.EEXIST, "there is a file of this name that is no socket")
    with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as probe:
        probe.setblocking(False)
        answer = probe.connect_ex(path)
    if answer == errno.ECONNREFUSED:
        Path(path).unlink(missing_ok=True)
    elif answer != errno.ENOENT:
        raise OSError(errno.EADDRINUSE, "another server listens on this socket")


def _group(group: str) -> int:
    try:
        return int(group) if group.isdecimal() else grp.getgrnam(group).gr_gid
    except KeyError as error:
        raise LookupError(f"no group {group!r} for a socket") from error


def _inode(path: str) -> tuple[int, int] | None:
    if not path:
        return None
    try:
        found = Path(path).lstat()
    except OSError:
        return None
    return found.st_dev, found.st_ino

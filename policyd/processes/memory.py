"""Octets handed from process to process: anonymous files (memfd_create(2)), sealed once filled."""

import fcntl
import mmap
import os

_SEALS = fcntl.F_SEAL_SEAL | fcntl.F_SEAL_SHRINK | fcntl.F_SEAL_GROW | fcntl.F_SEAL_WRITE


def kept(octets: bytes, name: str) -> int:
    """
    Put octets where another process can read them and nobody change them; a descriptor.

    OSError, and nothing is left open, when memory or descriptors are short.
    """
    descriptor = os.memfd_create(name, os.MFD_CLOEXEC | os.MFD_ALLOW_SEALING)
    try:
        with open(descriptor, "wb", closefd=False) as file:
            file.write(octets)
        fcntl.fcntl(descriptor, fcntl.F_ADD_SEALS, _SEALS)
    except BaseException:
        os.close(descriptor)
        raise
    return descriptor


def octets_of(descriptor: int) -> bytes:
    """Read all that is in a descriptor of kept()."""
    size = os.fstat(descriptor).st_size
    if not size:
        return b""
    with mmap.mmap(descriptor, size, prot=mmap.PROT_READ) as memory:
        return memory[:]


def octets_of_stranger(descriptor: int, most: int) -> bytes:
    """
    Read at most `most` octets that a process sent which may mean ill; ValueError if they cannot be.

    Reading a mapped file that shrinks meanwhile ends a process (mmap(2): SIGBUS), so the file must
    be sealed as kept() does it.
    """
    try:
        seals = fcntl.fcntl(descriptor, fcntl.F_GET_SEALS)
    except OSError as error:  # no anonymous file
        raise ValueError("these octets cannot be read safely") from error
    if seals & _SEALS != _SEALS:
        raise ValueError("these octets are not sealed")
    size = os.fstat(descriptor).st_size
    if size > most:
        raise ValueError(f"{size} octets are more than {most}")
    return octets_of(descriptor)


def let_go(descriptors: list[int] | tuple[int, ...]) -> None:
    """Close descriptors."""
    for descriptor in descriptors:
        os.close(descriptor)

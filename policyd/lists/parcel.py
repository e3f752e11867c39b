"""
A snapshot of a list on its way from the process that read it to those that decide by it.

What is large lies in memory of its own (memfd_create(2)), which goes along as a descriptor and is
mapped by every receiver: a million addresses are there once, however many workers look them up.
"""

import fcntl
import io
import os
import pickle
from collections.abc import Sequence
from typing import Final, NamedTuple

from policyd.lists.keys import FEW, Trie
from policyd.lists.load import Snapshot

_SEALS: Final = fcntl.F_SEAL_SEAL | fcntl.F_SEAL_SHRINK | fcntl.F_SEAL_GROW | fcntl.F_SEAL_WRITE


class Packed(NamedTuple):
    """A snapshot as octets, and the descriptors that go with them; who packed it closes them."""

    octets: bytes
    descriptors: tuple[int, ...]


def pack(snapshot: Snapshot) -> Packed:
    """Pack a snapshot; OSError if memory or descriptors are short."""
    stream = io.BytesIO()
    packer = _Packer(stream)
    try:
        packer.dump(snapshot)
    except BaseException:
        for descriptor in packer.descriptors:
            os.close(descriptor)
        raise
    return Packed(stream.getvalue(), tuple(packer.descriptors))


def unpack(octets: bytes, descriptors: Sequence[int]) -> Snapshot:
    """
    Give the snapshot that pack() packed, in this process or another.

    Patterns are compiled here. The descriptors can be closed then.
    """
    snapshot = _Unpacker(io.BytesIO(octets), descriptors).load()
    if not isinstance(snapshot, Snapshot):
        raise TypeError(snapshot)
    return snapshot


class _Packer(pickle.Pickler):
    def __init__(self, stream: io.BytesIO) -> None:
        super().__init__(stream, pickle.HIGHEST_PROTOCOL)
        self.descriptors: list[int] = []

    def persistent_id(self, value: object) -> int | None:
        """Give the place of a large trie's descriptor; the rest is pickled."""
        if not isinstance(value, Trie) or len(value) <= FEW:
            return None
        self.descriptors.append(_sealed(value.octets()))
        return len(self.descriptors) - 1


class _Unpacker(pickle.Unpickler):
    def __init__(self, stream: io.BytesIO, descriptors: Sequence[int]) -> None:
        super().__init__(stream)
        self._descriptors = descriptors

    def persistent_load(self, place: int) -> Trie:
        """Map the trie of the descriptor at a place."""
        return Trie.mapped(self._descriptors[place])


def _sealed(octets: bytes) -> int:
    """Put octets into memory that nobody can change, and give its descriptor."""
    descriptor = os.memfd_create("policyd-list", os.MFD_CLOEXEC | os.MFD_ALLOW_SEALING)
    try:
        with open(descriptor, "wb", closefd=False) as file:
            file.write(octets)
        fcntl.fcntl(descriptor, fcntl.F_ADD_SEALS, _SEALS)
    except BaseException:
        os.close(descriptor)
        raise
    return descriptor

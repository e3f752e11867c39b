"""
Messages between a pool and the processes that work for it.

Octets go within the message, or in its first descriptor if they are many (see channel): `octets`
is None then. A piece of work has a number, which no other of its process ever has.
"""

from typing import Annotated, Final

import msgspec

from policyd.processes.memory import kept, octets_of_stranger

WITHIN: Final = 100_000
"""The most octets that go within a message."""
MOST_OCTETS: Final = 256 * 2**20
"""The most octets that a process may give or ask with."""
LONGEST_REASON: Final = 500
"""Characters."""

Why = Annotated[str, msgspec.Meta(max_length=LONGEST_REASON)]


class Begin(msgspec.Struct, tag=True, frozen=True):
    """The first message: how much work at once, how much memory in octets."""

    at_once: int
    memory: int
    modules: tuple[str, ...] = ()


class Import(msgspec.Struct, tag=True, frozen=True):
    """Import modules, which work is going to need."""

    modules: tuple[str, ...]


class Do(msgspec.Struct, tag=True, frozen=True):
    """Work to do; what descriptors follow are the work's."""

    piece: int
    work: str
    octets: bytes | None


class Told(msgspec.Struct, tag=True, frozen=True):
    """The answer to what a piece of work asked; with `why` there is none."""

    piece: int
    octets: bytes | None = b""
    why: str = ""


ToHelper = Begin | Import | Do | Told


class Ready(msgspec.Struct, tag=True, frozen=True):
    """The process has imported what it was told, and can work."""


class Asked(msgspec.Struct, tag=True, frozen=True):
    """A piece of work asks, and waits for Told."""

    piece: int
    octets: bytes | None


class Done(msgspec.Struct, tag=True, frozen=True):
    """A piece of work gives its result."""

    piece: int
    octets: bytes | None


class Failed(msgspec.Struct, tag=True, frozen=True):
    """A piece of work has none; with `spent`, the process had better begin anew."""

    piece: int
    why: Why
    spent: bool = False


FromHelper = Ready | Asked | Done | Failed


def reason(error: BaseException) -> str:
    """Say what an exception says, as a message can have it."""
    try:
        said = str(error)
    except Exception:  # noqa: BLE001 -- an exception's own mistake
        said = ""
    return said.encode(errors="replace").decode()[:LONGEST_REASON]


def parcel(octets: bytes) -> tuple[bytes | None, list[int]]:
    """Give octets as a message has them, and the descriptors to send; OSError as kept() has it."""
    if len(octets) <= WITHIN:
        return octets, []
    return None, [kept(octets, "policyd-work")]


def unparcel(octets: bytes | None, descriptors: list[int]) -> bytes:
    """Give octets that came in a message; ValueError if they are not what parcel() makes."""
    if octets is not None:
        return octets
    if not descriptors:
        raise ValueError("octets were to come, and none did")
    return octets_of_stranger(descriptors[0], MOST_OCTETS)

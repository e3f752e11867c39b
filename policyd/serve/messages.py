"""
What the supervisor and its workers tell each other (see channel.Channel).

Descriptors stand with the message that they belong to, in the order given there.
"""

import msgspec

from policyd.dns.settings import DnsSettings
from policyd.service import Settings
from policyd.store.place import StateSettings


class Begin(msgspec.Struct, frozen=True, tag=True):
    """
    To a worker, first: who it is. Descriptors: its pulse, and the milter's socket if it serves it.

    `configuration` is the main file's path, after which sockets for commands are named. Where
    libmilter cannot take a socket over, `milter_endpoint` says what one worker opens itself.
    """

    worker: int
    log_format: str
    milter: bool
    configuration: str
    state: StateSettings
    milter_endpoint: str = ""
    milter_mode: int = 0o660
    milter_group: str = ""


class Take(msgspec.Struct, frozen=True, tag=True):
    """
    To a worker: decide by this policy from now on.

    Descriptors: the policy, the layout of the metrics, the worker's row, and for each list its
    octets and parts, as many as `lists` says. `drain` is in seconds.
    """

    generation: int
    settings: Settings
    drain: float
    most_milter_sessions: int
    lists: tuple[tuple[str, int], ...]
    dns: DnsSettings


class TakeList(msgspec.Struct, frozen=True, tag=True):
    """To a worker: a list has been read again. Descriptors: its octets and parts."""

    name: str


class Connection(msgspec.Struct, frozen=True, tag=True):
    """To a worker: serve a connection of the policy protocol. Descriptor: its socket."""


class Drain(msgspec.Struct, frozen=True, tag=True):
    """To a worker: take no more milter sessions."""


class Finish(msgspec.Struct, frozen=True, tag=True):
    """To a worker: finish the answers under way, then end."""


class Ready(msgspec.Struct, frozen=True, tag=True):
    """From a worker: it serves."""


class Drained(msgspec.Struct, frozen=True, tag=True):
    """From a worker: it takes no more milter sessions, and the last has ended."""


class Uses(msgspec.Struct, frozen=True, tag=True):
    """
    From a worker: it decides by generation `newest`, and nothing of it by one before `oldest`.

    They differ while a milter session lasts that negotiated with an older policy.
    """

    newest: int
    oldest: int


ToWorker = Begin | Take | TakeList | Connection | Drain | Finish
FromWorker = Ready | Uses | Drained

"""
The builder: a process that reads and compiles a configuration, or reads lists again, and ends.

What it does takes from a tenth of a second to several seconds and much memory for moments; in a
process of its own nobody waits for it, and the memory goes back. Asked one thing over its control
socket, it answers with what building.py expects.
"""

import contextlib
import os
import pickle
import socket
import sys
from pathlib import Path
from typing import Final

from policyd.config.policy import Loaded, load_policy, outline_of
from policyd.lists.load import Snapshot, reread
from policyd.lists.parcel import pack as pack_list
from policyd.lists.source import ListSource
from policyd.processes.channel import Channel
from policyd.processes.memory import kept, octets_of
from policyd.processes.spawn import ignore_signals
from policyd.rules.parcel import pack as pack_policy
from policyd.rules.parcel import unpack as unpack_policy
from policyd.serve.building import Build, Building, Built, ListReading, Reread
from policyd.serve.milter import takes_descriptors
from policyd.service import series_of

_POLITE: Final = 10
"""How much nicer than those who answer mail (nice(2))."""


def main() -> None:
    """Answer one request on the control socket whose number is the first argument."""
    ignore_signals()  # the supervisor's, who ends us with SIGKILL
    end = socket.socket(fileno=int(sys.argv[1]))
    channel: Channel[Build | Reread] = Channel(end, Build | Reread)
    end.setblocking(True)
    request = channel.receive()
    if request is None:
        return
    asked, descriptors = request
    if isinstance(asked, Reread) or asked.polite:
        with contextlib.suppress(OSError):
            os.nice(_POLITE)
    channel.post(*(_reread(descriptors[0]) if isinstance(asked, Reread) else _build(asked.path)))


def _build(path: str) -> tuple[Built, list[int]]:
    loaded = load_policy(Path(path))
    if loaded.policy is None:
        return _built(Building(loaded.problems))
    building = Building(
        loaded.problems,
        outline_of(loaded),
        series_of(loaded.policy, loaded.checks),
        milter_takes_descriptors=loaded.config.milter is not None and takes_descriptors(),
    )
    return _built(building, loaded)


def _built(building: Building, loaded: Loaded | None = None) -> tuple[Built, list[int]]:
    descriptors = [kept(pickle.dumps(building), "policyd-outline")]
    lists = []
    if loaded is not None:
        policy = pack_policy(loaded.policy_in_force)
        unpack_policy(policy, loaded.lists, loaded.checks)  # what fails is to fail here
        descriptors.append(kept(policy, "policyd-policy"))
        for name, each in loaded.lists.items():
            parts = _parts(each.source, each.snapshot)
            descriptors += parts
            lists.append((name, len(parts)))
    return Built(tuple(lists)), descriptors


def _reread(asked: int) -> tuple[Built, list[int]]:
    readings = []
    lists = []
    descriptors: list[int] = []
    for source, before in pickle.loads(octets_of(asked)):  # noqa: S301 -- our own supervisor's
        reading = reread(source, before)
        taken = not any(fault.error for fault in reading.faults)
        entries = len(reading.snapshot)
        readings.append(ListReading(source, entries, reading.faults, reading.signatures, taken))
        if taken:
            parts = _parts(source, reading.snapshot)
            descriptors += parts
            lists.append((source.name, len(parts)))
    first = kept(pickle.dumps(tuple(readings)), "policyd-readings")
    return Built(tuple(lists)), [first, *descriptors]


def _parts(source: ListSource, snapshot: Snapshot) -> list[int]:
    """Give a list as descriptors: of its octets, then of its large parts."""
    packed = pack_list(snapshot)
    octets = pickle.dumps((source, packed.octets))
    return [kept(octets, "policyd-list"), *packed.descriptors]


if __name__ == "__main__":
    main()

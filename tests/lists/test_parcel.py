"""Snapshots that travel between processes answer as before, and what is large is there once."""

import errno
import fcntl
import mmap
import os
import pickle
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from weakref import ref

import pytest

from policyd.lists.keys import FEW, Trie
from policyd.lists.load import Reading, Snapshot, load_list
from policyd.lists.named import NamedList
from policyd.lists.parcel import Packed, pack, unpack
from policyd.lists.source import InlineEntry, Kind, ListFile, ListSource
from policyd.lists.written import written_out

ROOT = Path(__file__).parents[2]

ENTRIES = {
    Kind.ADDRESSES: ["alice@example.org", "@all.example", "<>", "büro@example.org", "root"],
    Kind.DOMAINS: ["example.org", ".example.net", "xn--bcher-kva.example"],
    Kind.NETWORKS: ["192.0.2.0/24", "2001:db8::/32", "198.51.100.7"],
    Kind.PATTERNS: ["^bulk", "dyn.*pool"],
}
FILLERS = {
    Kind.ADDRESSES: "box{}@filler.example",
    Kind.DOMAINS: "filler{}.example",
    Kind.NETWORKS: "2001:db9:{:x}::/64",
}
ASKED = {
    "holds_mail": ["alice@example.org", "alice+x@example.org", "any@all.example", "", "bulk", "x"],
    "holds_domain": ["example.org", "a.example.org", "a.example.net", "a-dyn-pool", "", "\udc80"],
    "holds_address": ["192.0.2.9", "2001:db8::1", "198.51.100.7", "198.51.100.8", "", "junk"],
    "holds_text": ["root", "ROOT", "bulk1", "", "b\ud800", "büro@example.org"],
}


def source(folder: Path, fillers: int) -> ListSource:
    inline = tuple(
        InlineEntry(kind, text, "policyd.toml", 1) for kind in Kind for text in ENTRIES[kind]
    )
    files = []
    for kind, filler in FILLERS.items():
        path = folder / f"{kind}.txt"
        path.write_text("# none\n" + "".join(filler.format(n) + "\n" for n in range(fillers)))
        files.append(ListFile(kind, path, path.name, "policyd.toml", 1))
    return ListSource("some", frozenset(Kind), "policyd.toml", 1, inline, tuple(files), "+")


def answers(named: NamedList) -> list[tuple[str, str, bool]]:
    return [
        (method, value, getattr(named, method)(value))
        for method, values in ASKED.items()
        for value in values
    ]


def asked_of(source: ListSource, snapshot: Snapshot) -> list[tuple[str, str, bool]]:
    return answers(NamedList(source, Reading(snapshot, (), {})))


def open_descriptors() -> int:
    return len(list(Path("/proc/self/fd").iterdir()))


def mappings() -> int:
    return Path("/proc/self/maps").read_text().count("policyd-list")


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("lists")


@pytest.fixture(scope="module")
def small(folder: Path) -> NamedList:
    listed = source(folder, 0)
    reading = load_list(listed)
    assert reading.faults == ()
    return NamedList(listed, reading)


@pytest.fixture(scope="module")
def large(folder: Path) -> NamedList:
    listed = source(folder, FEW + 1)
    reading = load_list(listed)
    assert reading.faults == ()
    assert isinstance(reading.snapshot.addresses, Trie)
    assert isinstance(reading.snapshot.domains, Trie)
    return NamedList(listed, reading)


@pytest.fixture
def packed(large: NamedList) -> Iterator[Packed]:
    packed = pack(large.snapshot)
    yield packed
    for descriptor in packed.descriptors:
        os.close(descriptor)


def test_a_long_list_answers_as_a_short_one(small: NamedList, large: NamedList) -> None:
    assert answers(large) == answers(small)
    assert large.holds_mail("box7+x@filler.example")
    assert large.holds_domain("filler7.example")
    assert large.holds_address("2001:db9:7::1")
    assert not large.holds_mail(f"box{FEW + 1}@filler.example")
    assert not large.holds_domain("filler.example")
    assert not large.holds_address("2001:dba:7::1")
    assert len(large) == len(small) + 3 * (FEW + 1)


def test_a_short_list_travels_as_octets_alone(small: NamedList) -> None:
    octets, descriptors = pack(small.snapshot)
    assert descriptors == ()
    again = unpack(octets, ())
    assert asked_of(small.source, again) == answers(small)
    assert len(again) == len(small)


def test_a_long_list_travels_as_memory_that_the_receiver_maps(
    large: NamedList, packed: Packed
) -> None:
    assert len(packed.descriptors) == 3
    assert len(packed.octets) < 2000
    copies = [os.dup(descriptor) for descriptor in packed.descriptors]
    again = unpack(packed.octets, copies)
    for copy in copies:
        os.close(copy)
    assert asked_of(large.source, again) == answers(large)
    assert len(again) == len(large)


RECEIVER = """
import pickle, sys
from policyd.lists.parcel import unpack
from tests.lists.test_parcel import asked_of

source, octets, descriptors = pickle.load(sys.stdin.buffer)
snapshot = unpack(octets, descriptors)
pickle.dump((len(snapshot), asked_of(source, snapshot)), sys.stdout.buffer)
"""


def test_another_process_maps_it_and_answers_alike(large: NamedList, packed: Packed) -> None:
    ended = subprocess.run(
        [sys.executable, "-c", RECEIVER],
        input=pickle.dumps((large.source, *packed)),
        pass_fds=packed.descriptors,
        cwd=ROOT,
        stdout=subprocess.PIPE,
        check=True,
        timeout=60,
    )
    assert pickle.loads(ended.stdout) == (len(large), answers(large))


def test_patterns_that_arrive_again_are_not_compiled_again(small: NamedList) -> None:
    octets, _ = pack(small.snapshot)
    first, second = unpack(octets, ()), unpack(octets, ())
    assert first.patterns is second.patterns
    assert first.patterns is not small.snapshot.patterns
    gone = ref(first.patterns)
    del first, second
    assert gone() is None


def test_what_is_packed_again_travels_again(large: NamedList, packed: Packed) -> None:
    octets, descriptors = pack(unpack(*packed))
    try:
        assert asked_of(large.source, unpack(octets, descriptors)) == answers(large)
    finally:
        for descriptor in descriptors:
            os.close(descriptor)


def test_nobody_can_change_what_others_have_mapped(packed: Packed) -> None:
    for descriptor in packed.descriptors:
        assert not os.get_inheritable(descriptor)
        for change in (
            lambda: os.pwrite(descriptor, b"x", 0),  # noqa: B023 -- called at once
            lambda: os.ftruncate(descriptor, 0),  # noqa: B023
            lambda: os.ftruncate(descriptor, 1 << 30),  # noqa: B023
            lambda: mmap.mmap(descriptor, 0),  # noqa: B023
            lambda: fcntl.fcntl(descriptor, fcntl.F_ADD_SEALS, 0),  # noqa: B023
        ):
            with pytest.raises(PermissionError) as caught:
                change()
            assert caught.value.errno == errno.EPERM


def test_a_snapshot_let_go_leaves_no_descriptor_and_no_mapping(packed: Packed) -> None:
    descriptors = open_descriptors()
    mapped = mappings()
    snapshot = unpack(*packed)
    assert mappings() == mapped + 3
    del snapshot
    assert open_descriptors() == descriptors
    assert mappings() == mapped


def test_what_cannot_be_packed_leaves_no_descriptor(large: NamedList) -> None:
    snapshot = large.snapshot
    unfit = Snapshot(snapshot.addresses, snapshot.domains, sys.stdout)  # type: ignore[arg-type]
    descriptors = open_descriptors()
    with pytest.raises(TypeError):
        pack(unfit)
    assert open_descriptors() == descriptors


def test_what_is_no_snapshot_is_refused() -> None:
    with pytest.raises(TypeError):
        unpack(pickle.dumps("other"), ())


def test_a_list_written_out_in_a_condition_is_pickled_whole() -> None:
    for kind in Kind:
        named = written_out(kind, ENTRIES[kind], "+")
        again = pickle.loads(pickle.dumps(named, pickle.HIGHEST_PROTOCOL))
        assert answers(again) == answers(named)

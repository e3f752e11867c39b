"""
Measure lists of a million entries: to load, to hand over to another process, to look up there.

Each measurement runs in processes of its own: one loads, as the one that builds a policy does, and
one maps what that has loaded and looks up, as a worker does. With --write FILE the table goes into
that file.
"""

import argparse
import ipaddress
import itertools
import json
import pickle
import random
import resource
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

from policyd.lists.load import Reading, load_list
from policyd.lists.named import NamedList
from policyd.lists.parcel import pack, unpack
from policyd.lists.source import Kind, ListFile, ListSource

_LETTERS = "abcdefghijklmnopqrstuvwxyz0123456789"
# How networks are spread in lists of spammers' and providers' networks: single hosts, /24, others.
_LENGTHS4 = [8, 12, *range(15, 24), *[24] * 12, *range(25, 32), *[32] * 16]
_LENGTHS6 = [32, 36, 40, 44, 48, 56, 64, 128]


def _word(length: int) -> str:
    return "".join(random.choices(_LETTERS, k=length))


def _domain() -> str:
    return f"{_word(9)}.{random.choice(('org', 'example', 'co.example', 'net'))}"


def _network() -> str:
    if random.random() < 0.7:
        length = random.choice(_LENGTHS4)
        return f"{ipaddress.IPv4Address(random.getrandbits(length) << (32 - length))}/{length}"
    length = random.choice(_LENGTHS6)
    low = random.getrandbits(length - 16) << (128 - length)
    return f"{ipaddress.IPv6Address(0x2001 << 112 | low)}/{length}"


def _address() -> str:
    return f"{_word(10)}@example{random.randrange(1000)}.org"


def _subdomain() -> str:
    return ("." if random.random() < 0.3 else "") + _domain()


_ABOUT = """\
# Lists of a million entries

Written by `bench/lists.py --write FILE`. One process loads a list, as the one that builds a policy
does: the seconds that takes, and the memory it needs meanwhile. It then packs the list into memory
that all workers share. A second process does what each worker does: it maps that memory, which
needs the memory of its own that is shown, looks up, and lets go. A hit or a miss is one question of
a condition, all that it tries included (extension, domain, parent domains, prefix lengths).
CPython {}.

"""

_ENTRIES: dict[str, Callable[[], str]] = {
    "addresses": _address,
    "domains": _subdomain,
    "networks": _network,
}
_MISSES: dict[str, Callable[[], str]] = {
    "addresses": lambda: f"{_word(6)}+{_word(3)}@other.example",
    "domains": lambda: f"mail.{_word(4)}.{_domain()}",
    "networks": lambda: str(ipaddress.IPv4Address(random.getrandbits(32))),
}


def _own() -> float:
    """Give the MiB of this process that no file or shared memory is behind."""
    lines = Path("/proc/self/smaps_rollup").read_text(encoding="ascii").splitlines()
    return next(int(line.split()[1]) for line in lines if line.startswith("Anonymous:")) / 1024


def _peak() -> float:
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024


def _ask(named: NamedList, kind: str) -> Callable[[str], bool]:
    if kind == "addresses":
        return named.holds_mail
    return named.holds_domain if kind == "domains" else named.holds_address


def _per_lookup(look: Callable[[str], bool], keys: list[str]) -> float:
    start = time.perf_counter()
    for key in keys:
        look(key)
    return (time.perf_counter() - start) / len(keys) * 1e6


def _load(kind: str, count: int, folder: Path) -> dict[str, float | str]:
    """Load a list, and have another process map it and look up."""
    random.seed(kind)
    path = folder / f"{kind}.txt"
    with path.open("w", encoding="ascii") as file:
        file.writelines(_ENTRIES[kind]() + "\n" for _ in range(count))
    listed = ListFile(Kind(kind), path, path.name, "policyd.toml", 1)
    source = ListSource("bench", frozenset({Kind(kind)}), "policyd.toml", 1, (), (listed,), "+")
    before, start = _peak(), time.perf_counter()
    reading = load_list(source)
    seconds, peak = time.perf_counter() - start, _peak() - before
    if reading.faults:
        raise AssertionError(reading.faults)
    packed = pack(reading.snapshot)
    looked_up = subprocess.run(
        [sys.executable, __file__, "--look-up", kind],
        input=pickle.dumps((source, *packed)),
        pass_fds=packed.descriptors,
        stdout=subprocess.PIPE,
        check=True,
    )
    return {
        "kind": kind,
        "load": seconds,
        "peak": peak,
        "shared": sum(Path(f"/proc/self/fd/{fd}").stat().st_size for fd in packed.descriptors)
        / 2**20,
        **json.loads(looked_up.stdout),
    }


def _look_up(kind: str) -> dict[str, float]:
    """Map the list that comes on the standard input, ask it, and let it go."""
    random.seed(kind)
    source, octets, descriptors = pickle.load(sys.stdin.buffer)  # noqa: S301 -- _load() wrote it
    with source.files[0].path.open(encoding="ascii") as lines:
        some = itertools.islice(lines, 100_000)
        hits = [line.strip().partition("/")[0].lstrip(".") for line in some]
    random.shuffle(hits)
    misses = [_MISSES[kind]() for _ in range(100_000)]
    own, start = _own(), time.perf_counter()
    snapshot = unpack(octets, descriptors)
    mapping, own = time.perf_counter() - start, _own() - own
    named = NamedList(source, Reading(snapshot, (), {}))
    look = _ask(named, kind)
    result = {
        "map": mapping * 1000,
        "own": own,
        "hit": _per_lookup(look, hits),
        "miss": _per_lookup(look, misses),
    }
    empty = load_list(ListSource("none", source.kinds, "", 0)).snapshot
    start = time.perf_counter()
    named.snapshot = empty
    del snapshot
    result["free"] = (time.perf_counter() - start) * 1000
    return result


def _table(results: list[dict[str, float]], count: int) -> str:
    columns = "load, s | at most, MiB | shared, MiB | map, ms | own, MiB | hit, µs | miss, µs"
    lines = [
        f"| {count:,} | {columns} | let go, ms |",
        "|---|---|---|---|---|---|---|---|---|",
    ]
    lines += [
        f"| {r['kind']} | {r['load']:.1f} | {r['peak']:.0f} | {r['shared']:.0f} "
        f"| {r['map']:.1f} | {r['own']:.1f} | {r['hit']:.2f} | {r['miss']:.2f} "
        f"| {r['free']:.1f} |"
        for r in results
    ]
    return "\n".join(lines) + "\n"


def main() -> None:
    """Run the measurements and print the table."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--count", type=int, default=1_000_000)
    parser.add_argument("--kind", choices=sorted(_ENTRIES), help="measure this kind here and now")
    parser.add_argument("--look-up", choices=sorted(_ENTRIES), help=argparse.SUPPRESS)
    parser.add_argument("--write", type=Path, metavar="FILE")
    options = parser.parse_args()
    if options.look_up:
        print(json.dumps(_look_up(options.look_up)))
        return
    if options.kind:
        with tempfile.TemporaryDirectory() as folder:
            print(json.dumps(_load(options.kind, options.count, Path(folder))))
        return
    results = [
        json.loads(
            subprocess.run(
                [sys.executable, __file__, "--kind", kind, "--count", str(options.count)],
                check=True,
                stdout=subprocess.PIPE,
            ).stdout
        )
        for kind in sorted(_ENTRIES)
    ]
    table = _table(results, options.count)
    print(table, end="")
    if options.write:
        options.write.write_text(_ABOUT.format(sys.version.split()[0]) + table, encoding="utf-8")


if __name__ == "__main__":
    main()

"""
Measure lists of a million entries: seconds to load, microseconds to look up, memory.

Each measurement runs in a process of its own. With --write FILE the table goes into that file.
"""

import argparse
import asyncio
import ipaddress
import itertools
import json
import random
import resource
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

from policyd.lists.load import load_list
from policyd.lists.named import NamedList
from policyd.lists.source import Kind, ListFile, ListSource
from policyd.lists.watch import Watcher

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


def _resident() -> float:
    pages = int(Path("/proc/self/statm").read_text(encoding="ascii").split()[1])
    return pages * resource.getpagesize() / 2**20


def _ask(named: NamedList, kind: str) -> Callable[[str], bool]:
    if kind == "addresses":
        return named.holds_mail
    return named.holds_domain if kind == "domains" else named.holds_address


def _per_lookup(look: Callable[[str], bool], keys: list[str]) -> float:
    start = time.perf_counter()
    for key in keys:
        look(key)
    return (time.perf_counter() - start) / len(keys) * 1e6


async def _longest_wait(watcher: Watcher) -> float:
    """Let a file be read anew in a thread; the longest that a loop of 1 ms timers waited, in ms."""
    longest = 0.0
    task = asyncio.create_task(asyncio.to_thread(watcher.poll, time.monotonic()))
    while not task.done():
        start = time.perf_counter()
        await asyncio.sleep(0.001)
        longest = max(longest, time.perf_counter() - start - 0.001)
    if not task.result()[0].taken:
        raise AssertionError(task.result())
    return longest * 1000


def _measure(kind: str, count: int, folder: Path) -> dict[str, float | str]:
    random.seed(kind)
    path = folder / f"{kind}.txt"
    path.write_text("".join(_ENTRIES[kind]() + "\n" for _ in range(count)), encoding="ascii")
    file = ListFile(Kind(kind), path, path.name, "policyd.toml", 1)
    source = ListSource("bench", frozenset({Kind(kind)}), "policyd.toml", 1, (), (file,), "+")
    before, start = _resident(), time.perf_counter()
    reading = load_list(source)
    seconds, memory = time.perf_counter() - start, _resident() - before
    named = NamedList(source, reading)
    if reading.faults:
        raise AssertionError(reading.faults)
    with path.open(encoding="ascii") as lines:
        some = itertools.islice(lines, 100_000)
        hits = [line.strip().partition("/")[0].lstrip(".") for line in some]
    random.shuffle(hits)
    misses = [_MISSES[kind]() for _ in range(100_000)]
    look = _ask(named, kind)
    result: dict[str, float | str] = {
        "kind": kind,
        "load": seconds,
        "memory": memory,
        "hit": _per_lookup(look, hits),
        "miss": _per_lookup(look, misses),
    }
    del reading
    path.touch()
    start = time.perf_counter()
    result["wait"] = asyncio.run(_longest_wait(Watcher([named], settle=0)))
    result["again"] = time.perf_counter() - start
    return result


def _table(results: list[dict[str, float]], count: int) -> str:
    lines = [
        f"| {count:,} | load, s | memory, MiB | hit, µs | miss, µs | read anew, s | wait, ms |",
        "|---|---|---|---|---|---|---|",
    ]
    lines += [
        f"| {r['kind']} | {r['load']:.1f} | {r['memory']:.0f} | {r['hit']:.2f} | {r['miss']:.2f} "
        f"| {r['again']:.1f} | {r['wait']:.0f} |"
        for r in results
    ]
    return "\n".join(lines) + "\n"


def main() -> None:
    """Run the measurements and print the table."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--count", type=int, default=1_000_000)
    parser.add_argument("--kind", choices=sorted(_ENTRIES), help="measure this kind here and now")
    parser.add_argument("--write", type=Path, metavar="FILE")
    options = parser.parse_args()
    if options.kind:
        with tempfile.TemporaryDirectory() as folder:
            print(json.dumps(_measure(options.kind, options.count, Path(folder))))
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
        text = (
            "# Lists of a million entries\n\nWritten by `bench/lists.py --write FILE`. A hit or a "
            "miss is one question of a condition, all that it tries included (extension, domain, "
            "parent domains, prefix lengths). The wait is the "
            "longest that a timer of the event loop was late while a thread read the file anew. "
            f"CPython {sys.version.split()[0]}.\n\n"
        )
        options.write.write_text(text + table, encoding="utf-8")


if __name__ == "__main__":
    main()

"""`python -m bench.state`: measure what state costs (`make bench-state`)."""

import argparse
import signal
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any, Final

import msgspec

from bench.programs import ProgramError
from bench.state import expiry, peers, report, stores
from bench.state.asking import AskerError
from bench.state.plan import FULL, QUICK, Plan, Say
from bench.state.results import Results
from tools.redis_servers import RedisServerError

ROOT: Final = Path(__file__).resolve().parents[2]
DOCUMENT: Final = ROOT / "docs" / "benchmarks-state.md"
FIGURES: Final = Path(__file__).with_name("results.json")

PARTS: Final[dict[str, Callable[[Plan, Say], Any]]] = {
    "sqlite": stores.sqlite,
    "redis": stores.redis,
    "expiry": expiry.run,
    "peers": peers.run,
}


def main() -> int:
    """Measure the parts that the command line names; the status is 0 however slow anything is."""
    parser = argparse.ArgumentParser(
        prog="python -m bench.state",
        description="Measure what state costs: full stores, expiry, other greylisting servers.",
        epilog="The tables go to standard output. Slowness is no error.",
    )
    parser.add_argument("parts", nargs="*", metavar="PART", help=", ".join(PARTS))
    parser.add_argument("--quick", action="store_true", help="seconds: to see that it works")
    parser.add_argument("--write", action="store_true", help="write docs/benchmarks-state.md too")
    parser.add_argument("--json", action="store_true", help="print JSON, not Markdown")
    arguments = parser.parse_args()
    # leave every part by the way that stops what it has started
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(1))
    if unknown := set(arguments.parts) - set(PARTS):
        parser.error(f"no such part: {', '.join(sorted(unknown))}")
    results, failed = report.nothing_yet(), False
    for name in arguments.parts or PARTS:
        began = time.monotonic()
        try:
            found = PARTS[name](QUICK if arguments.quick else FULL, say)
        except (AskerError, ProgramError, RedisServerError, FileNotFoundError) as error:
            say(f"{name} is left out: {error}")
            failed = True
            continue
        results = msgspec.structs.replace(results, **{name: found})
        say(f"{name}: {time.monotonic() - began:.0f} s")
        if arguments.write:
            write(results, name)
    print(report.as_json(results) if arguments.json else "\n\n".join(report.sections(results)))
    return 1 if failed else 0


def say(text: str) -> None:
    """Tell what goes on, apart from the results."""
    print(text, file=sys.stderr, flush=True)


def write(results: Results, name: str) -> None:
    """Put one part's figures into the documents, beside the others' that stand there."""
    before = report.from_json(FIGURES.read_text()) if FIGURES.exists() else results
    together = msgspec.structs.replace(
        before,
        machine=results.machine,
        software=results.software,
        **{name: getattr(results, name)},
    )
    FIGURES.write_text(report.as_json(together))
    DOCUMENT.write_text(report.document(together))


if __name__ == "__main__":
    sys.exit(main())

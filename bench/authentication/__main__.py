"""`python -m bench.authentication`: measure remote checks (`make bench-authentication`)."""

import argparse
import signal
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Final

import msgspec

from bench.authentication import checks, report, spf
from bench.authentication.plan import FULL, QUICK, Plan
from bench.authentication.results import Measured, Results
from bench.programs import ProgramError
from bench.state.plan import Say

ROOT: Final = Path(__file__).resolve().parents[2]
DOCUMENT: Final = ROOT / "docs" / "benchmarks-authentication.md"
FIGURES: Final = Path(__file__).with_name("results.json")

PARTS: Final[dict[str, Callable[[Plan, Say], Measured]]] = {
    "policy": checks.policy,
    "messages": checks.messages,
    "spf": spf.side_by_side,
}


def main() -> int:
    """Measure the parts that the command line names; the status is 0 however slow anything is."""
    parser = argparse.ArgumentParser(
        prog="python -m bench.authentication",
        description="Measure what checks cost that ask the DNS and read messages.",
        epilog="The tables go to standard output. Slowness is no error.",
    )
    parser.add_argument("parts", nargs="*", metavar="PART", help=", ".join(PARTS))
    parser.add_argument("--quick", action="store_true", help="seconds: to see that it works")
    parser.add_argument("--write", action="store_true", help=f"write docs/{DOCUMENT.name} too")
    arguments = parser.parse_args()
    # leave every part by the way that stops what it has started
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(1))
    if unknown := set(arguments.parts) - set(PARTS):
        parser.error(f"no such part: {', '.join(sorted(unknown))}")
    results, failed = report.nothing_yet(), False
    for name in arguments.parts or PARTS:
        try:
            found = PARTS[name](QUICK if arguments.quick else FULL, say)
        except (ProgramError, FileNotFoundError) as error:
            say(f"{name} is left out: {error}")
            failed = True
            continue
        failed = failed or bool(found.left_out)
        results = msgspec.structs.replace(results, **{name: found})
        if arguments.write:
            write(results, name)
    print("\n\n".join(report.sections(results)))
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

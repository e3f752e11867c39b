"""`python -m tools.campaign`: run the campaigns (`make campaign`)."""

import argparse
import signal
import sys
import time
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any, Final

from tools.campaign import exactness, faults, flat, kills, reload, report, spread, stop
from tools.campaign.results import Results

ROOT: Final = Path(__file__).resolve().parents[2]
DOCUMENT: Final = ROOT / "docs" / "campaigns.md"
FIGURES: Final = DOCUMENT.with_suffix(".json")

CAMPAIGNS: Final[dict[str, tuple[Callable[[Any], Any], Any, Any]]] = {
    "reload": (reload.run, reload.FULL, reload.QUICK),
    "kills": (kills.run, kills.FULL, kills.QUICK),
    "flat": (flat.run, flat.FULL, flat.QUICK),
    "spread": (spread.run, spread.FULL, spread.QUICK),
    "stop": (stop.run, stop.FULL, stop.QUICK),
    "faults": (faults.run, faults.FULL, faults.QUICK),
    "exactness": (exactness.run, exactness.FULL, exactness.QUICK),
}
"""By name: what runs it, its full size and its quick one."""


def main() -> int:
    """Run what the command line names; the status is 1 when a bar is not held.

    Bars that hang on the machine's speed do not count in a quick run.
    """
    parser = argparse.ArgumentParser(
        prog="python -m tools.campaign",
        description="Reload, kill, stop policyd under load, fail its store; show what clients see.",
    )
    parser.add_argument("campaigns", nargs="*", metavar="CAMPAIGN", help=", ".join(CAMPAIGNS))
    parser.add_argument("--quick", action="store_true", help="seconds each: to see that it works")
    parser.add_argument("--write", action="store_true", help="write docs/campaigns.md and .json")
    parser.add_argument("--json", action="store_true", help="print JSON, not Markdown")
    arguments = parser.parse_args()
    # leave every campaign by the way that stops what it has started
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(1))
    if unknown := set(arguments.campaigns) - set(CAMPAIGNS):
        parser.error(f"no such campaign: {', '.join(sorted(unknown))}")
    results = Results(machine=report.machine(), software=report.versions())
    for name in arguments.campaigns or CAMPAIGNS:
        run, full, quick = CAMPAIGNS[name]
        begun = time.monotonic()
        results = replace(results, **{name: run(quick if arguments.quick else full)})
        print(f"{name}: {time.monotonic() - begun:.0f} s", file=sys.stderr, flush=True)
        if arguments.write:
            write(results, name)
    print(report.as_json(results) if arguments.json else "\n\n".join(report.sections(results)))
    print(report.judged(tuple(results.bars())), file=sys.stderr)
    counting = (bar for bar in results.bars() if not (bar.timed and arguments.quick))
    return 0 if all(bar.held for bar in counting) else 1


def write(results: Results, name: str) -> None:
    """Put one campaign's figures into the documents, beside the others' that stand there."""
    before = results
    if FIGURES.exists():
        before = report.from_json(FIGURES.read_text())
    together = replace(
        before,
        machine=results.machine,
        software=results.software,
        **{name: getattr(results, name)},
    )
    FIGURES.write_text(report.as_json(together))
    DOCUMENT.write_text(report.document(together))


if __name__ == "__main__":
    sys.exit(main())

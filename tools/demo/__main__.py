"""Start both servers, send every sample, show what came of it, and leave both running."""

import argparse
import signal
import sys
import tempfile
from collections.abc import Callable
from pathlib import Path
from types import FrameType
from typing import NoReturn

from rich.console import Console

from tools.demo.samples import SAMPLES
from tools.demo.show import show
from tools.demo.site import Site
from tools.demo.trial import attempt
from tools.policyd_process import COMMAND, PolicydProcessError
from tools.postfix_instance import PostfixError
from tools.smtp_dialogue import DialogueError

_WIDTH = 120  # columns where nobody watches


def main() -> int:
    """Run the demonstration; 0 if every sample went as expected, or when interrupted after it."""
    parser = argparse.ArgumentParser(prog="make demo", description=__doc__)
    parser.add_argument("--once", action="store_true", help="end by itself, with a status")
    once = parser.parse_args().once
    console = Console(width=None if sys.stdout.isatty() else _WIDTH, highlight=False)
    if not Path(COMMAND).exists():
        console.print(f"{COMMAND} is missing: run make .venv first")
        return 1
    for number in (signal.SIGINT, signal.SIGTERM):  # a shell's background job ignores SIGINT
        signal.signal(number, _interrupt)
    with tempfile.TemporaryDirectory(prefix="policyd-demo-") as directory:
        Path(directory).chmod(0o755)  # Postfix's users have to reach the milter's socket
        try:
            return _demonstrate(console, Path(directory), leave_running=not once)
        except (PostfixError, PolicydProcessError, DialogueError) as error:
            console.print(str(error), markup=False)
            return 1
        except KeyboardInterrupt:
            console.print("Interrupted: both servers are stopped.")
            return 130 if once else 0


def _demonstrate(console: Console, directory: Path, *, leave_running: bool) -> int:
    console.print("Starting policyd and a private Postfix on loopback...")
    site = Site(directory)
    with site.running():
        unexpected = 0
        for number, sample in enumerate(SAMPLES, start=1):
            outcome = attempt(site, number, sample)
            show(console, number, sample, outcome)
            unexpected += bool(outcome.wrong)
        said = f"{unexpected} unexpected" if unexpected else "all as expected"
        console.print(f"[bold]{len(SAMPLES)} sample mails, {said}.[/bold]")
        if leave_running:
            _tell(console, site)
            while True:
                signal.pause()
    return 1 if unexpected else 0


def _tell(console: Console, site: Site) -> None:
    """Say what runs where, and what to try by hand."""
    port, config = site.smtp_port, site.config
    say: Callable[[str], None] = lambda line: console.print(line, markup=False)  # noqa: E731 -- a word for one call
    say("")
    say("Both servers run until you press Ctrl-C.")
    say(f"  Postfix        127.0.0.1 port {port} (SMTP)")
    say(f"  policyd        http://{site.policyd.metrics}/metrics, /readyz")
    say(f"  configuration  {config}, {config.with_name('rules.toml')}")
    say(f"  logs           {site.policyd.log}, {site.postfix.log_file}")
    say("")
    say("To try by hand:")
    say(f"  telnet 127.0.0.1 {port}          and write to nobody@example.org")
    say(f"  curl -s http://{site.policyd.metrics}/metrics | grep policyd_rule_replies_total")
    say(f"  {COMMAND} check -c {config}")
    say(
        f"  {COMMAND} explain -c {config} client_address=127.0.0.1 "
        "sender=carol@example.net recipient=nobody@example.org"
    )


def _interrupt(number: int, frame: FrameType | None) -> NoReturn:
    del number, frame
    raise KeyboardInterrupt


if __name__ == "__main__":
    raise SystemExit(main())

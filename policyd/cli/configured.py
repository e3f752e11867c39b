"""What the commands that read a configuration share: the option, the problems, exit status 78."""

from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

import click

if TYPE_CHECKING:  # serve and reload compile nothing themselves, and start without it
    from policyd.checks.builtin import Live
    from policyd.config.policy import Loaded

CONFIGURATION: Final = 78
"""EX_CONFIG of sysexits(3)."""

DEFAULT: Final = Path("/etc/policyd/policyd.toml")


def config_option(function: Callable[..., Any]) -> Callable[..., Any]:
    """Add `-c FILE` to a command, whose function takes it as `config`."""
    return click.option(
        "-c",
        "--config",
        type=click.Path(path_type=Path),
        default=DEFAULT,
        show_default=True,
        metavar="FILE",
        help="The configuration to read.",
    )(function)


def load_or_exit(path: Path, live: "Live | None" = None) -> "Loaded":
    """Load a configuration; with errors, print them all and exit with status 78."""
    from policyd.config.policy import load_policy  # noqa: PLC0415 -- see above

    loaded = load_policy(path, live=live)
    errors = [problem for problem in loaded.problems if problem.severity == "error"]
    if errors:
        for problem in errors:
            click.echo(str(problem), err=True)
        raise SystemExit(CONFIGURATION)
    return loaded

"""`policyd serve`: run in the foreground until a signal."""

import os
from pathlib import Path

import click

from policyd.cli.configured import config_option, load_or_exit

UNAVAILABLE = 69
"""EX_UNAVAILABLE of sysexits(3): something to listen on is taken."""


@click.command()
@config_option
def serve(config: Path) -> None:
    """
    Answer Postfix until SIGTERM or SIGINT. Stays in the foreground and logs to standard error.

    A configuration with errors is not served: they are printed as by `policyd check`, and the exit
    status is 78.
    """
    loaded = load_or_exit(config)
    from policyd.serve.worker import serve as run  # noqa: PLC0415 -- what serves loads last

    try:
        status = run(loaded)
    except (OSError, LookupError) as error:
        click.echo(f"policyd cannot serve: {error}", err=True)
        raise SystemExit(UNAVAILABLE) from error
    if loaded.config.milter is not None:
        # libmilter's threads outlive its main loop; the interpreter's end would wait for them
        os._exit(status)

"""`policyd serve`: run in the foreground until a signal."""

import signal
from pathlib import Path

import click

from policyd.cli.configured import config_option


@click.command()
@config_option
def serve(config: Path) -> None:
    """
    Answer Postfix until SIGTERM or SIGINT. Stays in the foreground and logs to standard error.

    SIGHUP reloads the configuration, as `policyd reload` does. A configuration with errors is not
    served: they are printed as by `policyd check`, and the exit status is 78; it is 69 where
    something to listen on is taken.
    """
    # nothing has been read yet, so a reload asked for from here on has nothing to do, and a stop
    # is an end without a word
    signal.signal(signal.SIGHUP, signal.SIG_IGN)
    signal.signal(signal.SIGINT, signal.SIG_DFL)
    from policyd.serve.start import serve as run  # noqa: PLC0415 -- what serves loads last

    raise SystemExit(run(config))

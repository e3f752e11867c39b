"""`policyd reload`: have the running daemon reload, and say what happened."""

from pathlib import Path
from typing import Final

import click
import msgspec

from policyd.cli.configured import CONFIGURATION, config_option
from policyd.serve.commands import Outcome, ask
from policyd.serve.local import NotServingError

UNAVAILABLE: Final = 69
"""EX_UNAVAILABLE of sysexits(3): nobody to ask."""


@click.command()
@config_option
@click.option("--json", "as_json", is_flag=True, help="Print the outcome as JSON.")
def reload(config: Path, as_json: bool) -> None:
    """
    Ask the policyd that serves FILE to read it again, wait, and say what changed.

    All or nothing: with an error, or where a change needs a restart, what was in force stays and
    the reasons are printed. Exit status: 0 reloaded, 78 the configuration has errors, 1 refused for
    another reason, 69 no policyd serves FILE. Root may ask, and the user that policyd runs as.
    """
    try:
        outcome: Outcome = ask(config, "reload", Outcome)
    except NotServingError as error:
        click.echo(str(error), err=True)
        raise SystemExit(UNAVAILABLE) from error
    if as_json:
        click.echo(msgspec.json.encode(outcome).decode())
    else:
        _show(outcome)
    if outcome.refused:
        raise SystemExit(CONFIGURATION if outcome.refused == "configuration" else 1)


def _show(outcome: Outcome) -> None:
    for line in (*outcome.reasons, *outcome.warnings):
        click.echo(line, err=True)
    if outcome.refused:
        click.echo(f"not reloaded: {outcome.config_hash} stays in force", err=True)
        return
    for line in outcome.changes:
        click.echo(line)
    click.echo(f"reloaded in {outcome.seconds:g} s: {outcome.config_hash} is in force")

"""The `policyd` command: one file a subcommand, loaded when it is called."""

from importlib import import_module
from typing import Final

import click

from policyd import __version__

_COMMANDS: Final = {
    "serve": "run: answer Postfix until stopped",
    "reload": "have the running daemon read its configuration again, and say what changed",
    "check": "read the configuration and say everything that is wrong or doubtful in it",
    "explain": "decide one request without serving, and show why",
    "state": "list, show, allow, forget, purge, export and import greylist and limit state",
    "codes": "look up reply codes, enhanced codes and named replies",
}


class _Commands(click.Group):
    """Imports a subcommand when it is asked for, so that each starts quickly."""

    def list_commands(self, ctx: click.Context) -> list[str]:
        del ctx
        return list(_COMMANDS)

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:
        del ctx
        if cmd_name not in _COMMANDS:
            return None
        command = getattr(import_module(f"policyd.cli.{cmd_name}"), cmd_name)
        assert isinstance(command, click.Command)
        return command

    def format_commands(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        """Write the table without importing any of the commands."""
        del ctx
        with formatter.section("Commands"):
            formatter.write_dl(list(_COMMANDS.items()))


@click.group(cls=_Commands)
@click.version_option(__version__, prog_name="policyd")
def main() -> None:
    """
    Decide accept, defer or reject for Postfix, with the right pair of codes, each counted.

    One daemon answers Postfix's policy requests (check_policy_service) and milter events by one
    set of rules. Exit status: 0 fine, 1 the answer is no, 2 usage, 78 configuration.
    """

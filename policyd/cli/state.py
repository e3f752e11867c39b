"""`policyd state`: look at greylist and limit state, and change it."""

import json
import sys
from collections import Counter
from collections.abc import AsyncIterator, Callable, Sequence
from functools import partial
from pathlib import Path
from typing import Any, Final

import click

from policyd.checks.wording import duration_text
from policyd.cli.configured import config_option
from policyd.cli.kept import Where, now, persisted, remove_all, watching, where, with_store
from policyd.cli.state_moving import export_, import_
from policyd.cli.state_shown import described, print_entries
from policyd.cli.tables import safe
from policyd.facts.units import parse_duration
from policyd.prove.standing import (
    NoClientError,
    client_of,
    concerns,
    mentions,
    sought,
)
from policyd.store.contents import Contents
from policyd.store.model import Account, Client, Entry, Stats, Triplet
from policyd.store.portable import plain

_KINDS: Final[dict[str, type[Entry]]] = {"triplets": Triplet, "clients": Client, "limits": Account}
_FOREVER: Final = 253_402_300_799_000
"""The end of the year 9999: what an operator allowed does not expire."""
_STEP: Final = 500
"""Entries that one step of expiry drops."""

json_option = click.option("--json", "as_json", is_flag=True, help="Print one JSON document.")
limit_option = click.option(
    "--limit",
    "most",
    type=click.IntRange(min=0),
    default=100,
    show_default=True,
    metavar="N",
    help="Show at most so many entries; 0: all.",
)


class _Duration(click.ParamType[int]):
    """A duration as in a configuration, in milliseconds."""

    name = "duration"

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> int:
        """Read it."""
        try:
            return round(parse_duration(value) * 1000)
        except ValueError as error:
            self.fail(str(error), param, ctx)


@click.group()
@click.option(
    "-c",
    "--config",
    type=click.Path(path_type=Path),
    metavar="FILE",
    help="The configuration to read; it may stand behind the command, too.",
)
@click.pass_context
def state(ctx: click.Context, config: Path | None) -> None:
    """
    Look at greylist and limit state, change it, and move it, while policyd serves.

    The store of FILE's `[state]` is asked itself; where that is `memory:`, the policyd that serves
    FILE is. Exit status: 0 fine, 1 nothing found or not read, 2 usage, 69 the store cannot be
    reached, 78 configuration.
    """
    if config is not None:
        ctx.default_map = {name: {"config": str(config)} for name in state.commands}


state.add_command(export_)
state.add_command(import_)


# looking


@state.command("list")
@click.argument("kind", type=click.Choice([*_KINDS]), required=False)
@click.option("--match", "text", default="", metavar="TEXT", help="Only what has TEXT in a key.")
@limit_option
@config_option
@json_option
def list_(config: Path, kind: str | None, text: str, most: int, as_json: bool) -> None:
    """
    List what is known.

    That are the triplets of greylisting, its clients, and what was spent of limits. Senders stand
    as greylisting folds them.
    """
    kinds = tuple(_KINDS.values()) if kind is None else (_KINDS[kind],)

    def wanted(entry: Entry) -> bool:
        return isinstance(entry, kinds) and mentions(entry, text)

    _show(config, wanted, most, as_json=as_json)


@state.command()
@click.argument("who", metavar="CLIENT|KEY")
@limit_option
@config_option
@json_option
def show(config: Path, who: str, most: int, as_json: bool) -> None:
    """
    Show what is known of somebody, and what it takes to pass.

    That is a client (an address, a network or a host), a sender (`<>` is the null sender), a
    recipient, a login, or whatever else limits go by.
    """
    found = where(config)
    whom = sought(_some(who), found.greylist)
    if not as_json:
        _introduce(who, found)
    _show(config, lambda entry: concerns(entry, whom), most, as_json=as_json, found=found)


def _introduce(who: str, found: Where) -> None:
    try:
        client = client_of(who, found.greylist)
    except NoClientError:
        return
    if client != who:
        click.echo(f"{safe(who)} is {client} to greylisting.\n")


def _show(
    config: Path,
    wanted: Callable[[Entry], bool],
    most: int,
    *,
    as_json: bool,
    found: Where | None = None,
) -> None:
    found = where(config) if found is None else found
    entries = with_store(config, found, lambda store: _found(store, wanted, most))
    more = 0 < most < len(entries)
    shown = entries[:most] if most else entries
    if as_json:
        _print_json({"entries": [described(entry, found) for entry in shown], "more": more})
    else:
        print_entries(shown, found)
        if more:
            click.echo("There are more; --limit 0 shows all.")
    if not entries:
        click.echo("Nothing found.", err=True)
        raise SystemExit(1)


async def _found(store: Contents, wanted: Callable[[Entry], bool], most: int) -> list[Entry]:
    """Give what is wanted; one more than `most` if there is more."""
    found: list[Entry] = []
    with watching("looking") as watch:
        async for entry in watch.over_all(store.entries(now())):
            if wanted(entry):
                found.append(entry)
                if 0 < most < len(found):
                    break
    return found


@state.command()
@config_option
@json_option
def stats(config: Path, as_json: bool) -> None:
    """Count what is there, on disk or in the server's memory."""
    found = where(config)

    async def ask(store: Contents) -> Stats:
        return await store.stats(now())

    counted = with_store(config, found, ask)
    if as_json:
        _print_json({"url": found.settings.url, **plain(counted)})
        return
    click.echo(f"{found.settings.url}\n")
    for name, count in plain(counted).items():
        if count >= 0:
            click.echo(f"{_STATS[name]:14}{count:>16,}".replace(",", " "))


_STATS: Final = {
    "triplets": "triplets",
    "clients": "clients",
    "accounts": "limits' keys",
    "reservations": "open messages",
    "octets": "octets",
}


# changing


@state.command()
@click.argument("clients", nargs=-1, required=True, metavar="CLIENT...")
@click.option(
    "--for", "duration", type=_Duration(), metavar="DURATION", help="For so long: 2h, 30d."
)
@config_option
@json_option
def allow(config: Path, clients: tuple[str, ...], duration: int | None, as_json: bool) -> None:
    """
    Let clients pass greylisting.

    An address stands for its network, a host for the domain of its provider; a host that is named
    after its address is known by its network. Without a duration it holds until it is forgotten.
    """
    found = where(config)
    try:
        keys = list(dict.fromkeys(client_of(each, found.greylist) for each in clients))
    except NoClientError as error:
        raise click.UsageError(str(error)) from error
    with_store(config, found, lambda store: _allow(store, keys, duration))
    if as_json:
        _print_json({"allowed": keys})
        return
    for key in keys:
        left = "" if duration is None else f" for {duration_text(duration)}"
        click.echo(f"{safe(key)} is not greylisted{left}")


async def _allow(store: Contents, keys: Sequence[str], duration: int | None) -> None:
    at = now()
    for key in keys:
        known = await store.client(key, at)
        successes = known.successes if known is not None else 0
        if duration is None:
            allowed = Client(key, successes, allowed=True, last=at, expires=_FOREVER, by_hand=True)
        else:
            # What was last seen at its end is not seen anew before, and so not prolonged.
            end = at + duration
            allowed = Client(key, successes, allowed=True, last=end, expires=end)
            if known is not None:
                await persisted(partial(store.remove, [known]))
        await persisted(partial(store.put, [allowed], at))


@state.command()
@click.argument("who", nargs=-1, required=True, metavar="CLIENT|KEY...")
@config_option
@json_option
def forget(config: Path, who: tuple[str, ...], as_json: bool) -> None:
    """
    Forget what is known of somebody.

    That are clients, senders, recipients, logins and whatever limits go by, named in full. What
    they have spent of limits is forgotten as well. An address stands for its network too, a host
    for the domain of its provider.
    """
    found = where(config)
    whom = [sought(_some(each), found.greylist) for each in who]

    def wanted(entry: Entry) -> bool:
        return any(concerns(entry, each) for each in whom)

    forgotten = with_store(config, found, lambda store: _remove(store, wanted))
    _report(forgotten, "forgotten", as_json=as_json)
    if not forgotten:
        raise SystemExit(1)


@state.command()
@click.argument("kinds", type=click.Choice([*_KINDS]), nargs=-1)
@click.option("--expired", is_flag=True, help="Only what has expired and is not dropped yet.")
@click.option("--all", "every", is_flag=True, help="Everything, what was allowed by hand too.")
@click.option("--yes", is_flag=True, help="Do not ask.")
@config_option
@json_option
def purge(  # noqa: PLR0917 -- click passes them by name
    config: Path, kinds: tuple[str, ...], expired: bool, every: bool, yes: bool, as_json: bool
) -> None:
    """Forget all of a kind, everything, or what has expired."""
    if sum((bool(kinds), expired, every)) != 1:
        raise click.UsageError("say what: --expired, --all, or some of " + ", ".join(_KINDS))
    found = where(config)
    if expired:
        dropped = with_store(config, found, _expire)
        _report(Counter({"expired": dropped}), "dropped", as_json=as_json)
        return
    chosen = tuple(_KINDS[kind] for kind in kinds or _KINDS)
    if not yes:
        if not sys.stdin.isatty():
            raise click.UsageError("nobody is there to be asked: add --yes")
        what = " and ".join(kinds) if kinds else "everything"
        click.confirm(f"Forget {what} in {found.settings.url}?", abort=True)
    gone = with_store(
        config, found, lambda store: _remove(store, lambda entry: isinstance(entry, chosen))
    )
    _report(gone, "forgotten", as_json=as_json)


async def _expire(store: Contents) -> int:
    dropped = 0
    more = True
    with watching("dropping") as watch:
        while more:
            step = await persisted(lambda: store.expire(now(), _STEP))
            dropped += sum(1 for _ in watch.over(range(step.entries)))
            more = step.more
    return dropped


async def _remove(store: Contents, wanted: Callable[[Entry], bool]) -> Counter[str]:
    """Remove what is wanted, a few at a time."""
    gone: Counter[str] = Counter()
    with watching("looking") as watch:
        await remove_all(store, _counting(watch.over_all(store.entries(now())), wanted, gone))
    return gone


async def _counting(
    entries: AsyncIterator[Entry], wanted: Callable[[Entry], bool], counted: Counter[str]
) -> AsyncIterator[Entry]:
    names = {kind: name for name, kind in _KINDS.items()}
    async for entry in entries:
        if wanted(entry):
            counted[names[type(entry)]] += 1
            yield entry


def _some(text: str) -> str:
    if not text.strip():
        raise click.UsageError("an empty key names nothing; the null sender is <>")
    return text


# telling


def _print_json(document: object) -> None:
    click.echo(json.dumps(document, indent=2))


def _report(counted: Counter[str], done: str, *, as_json: bool) -> None:
    in_order = {kind: counted[kind] for kind in (*_KINDS, "expired") if counted[kind]}
    if as_json:
        _print_json({done: in_order})
        return
    parts = ", ".join(f"{count} {kind}" for kind, count in in_order.items())
    click.echo(f"{done}: {parts or 'nothing'}")

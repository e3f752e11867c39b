"""`policyd state export` and `import`: state as JSON Lines, and out of a postgrey database."""

import os
import sys
import tempfile
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import IO, Final

import click
import msgspec

from policyd.checks.greylist import recipient_key
from policyd.checks.provider import network_key
from policyd.checks.sender import folded
from policyd.cli.configured import config_option
from policyd.cli.kept import Where, now, put_all, watching, where, with_store
from policyd.cli.tables import safe
from policyd.facts.units import parse_duration
from policyd.store.contents import Contents
from policyd.store.ledger import has_expired
from policyd.store.model import Account, Client, Entry, Triplet
from policyd.store.portable import PortableError, header, line, read
from policyd.store.postgrey import Keys, PostgreyError, Read, directory_records, entries, records

_MODE: Final = 0o600
"""Who wrote to whom is for nobody else to read."""


@click.command("export")
@click.argument("file", default="-", type=click.Path(path_type=Path, dir_okay=False))
@config_option
def export_(config: Path, file: Path) -> None:
    """
    Write all state as JSON Lines.

    To standard output (-), or to FILE, which is there only when all was written and only its owner
    may read. Others go on meanwhile: what changes while it is written may be in it as it was before
    or as it is after.
    """
    found = where(config)
    with _output(file) as output:
        count = with_store(config, found, lambda store: _write(store, output))
    click.echo(f"{count} entries written", err=True)


async def _write(store: Contents, output: IO[str]) -> int:
    count = 0
    output.write(header(now()))
    with watching("writing") as watch:
        async for entry in watch.over_all(store.entries(now())):
            output.write(line(entry))
            count += 1
    return count


@contextmanager
def _output(file: Path) -> Iterator[IO[str]]:
    if str(file) == "-":
        yield sys.stdout
        sys.stdout.flush()
        return
    try:
        with tempfile.NamedTemporaryFile(
            "w", encoding="ascii", dir=file.parent, prefix=f".{file.name}.", delete=False
        ) as output:
            try:
                yield output
                output.flush()
                os.fsync(output.fileno())
                Path(output.name).replace(file)
            except BaseException:
                Path(output.name).unlink()
                raise
    except OSError as error:
        click.echo(f"{file}: {error.strerror}", err=True)
        raise SystemExit(1) from error


class Taken(msgspec.Struct):
    """What an import took in, and what it left out."""

    triplets: int = 0
    clients: int = 0
    limits: int = 0
    expired: int = 0
    hashed: int = 0
    unreadable: int = 0


@click.command("import")
@click.argument("source", metavar="FILE|DIRECTORY|-", type=click.Path(path_type=Path))
@click.option(
    "--postgrey",
    is_flag=True,
    help="It is postgrey's --dbdir, or what db5.3_dump -p wrote of its databases.",
)
@click.option(
    "--delay",
    metavar="DURATION",
    help="postgrey's --delay, if it is not that of [greylist].",
)
@config_option
@click.option("--json", "as_json", is_flag=True, help="Print one JSON document.")
def import_(config: Path, source: Path, postgrey: bool, delay: str | None, as_json: bool) -> None:
    """
    Take in what was exported, or postgrey's databases.

    It is joined with what is there, while policyd serves: of an entry that is there already, the
    earliest first attempt and the larger amounts stay, so importing twice is importing once. With
    an error the lines before it have been taken in. `-` is standard input.
    """
    found = where(config)
    if delay is not None:
        found = _with_delay(found, delay, postgrey=postgrey)
    taken = Taken()
    try:
        every = _of_postgrey(source, found, taken) if postgrey else _of_file(source, taken)
        with_store(config, found, lambda store: _take(store, every))
    except (PortableError, PostgreyError) as error:
        click.echo(f"{source}: {safe(str(error))}", err=True)
        _tell(taken, as_json=as_json)
        raise SystemExit(1) from error
    _tell(taken, as_json=as_json)


async def _take(store: Contents, every: Iterable[Entry]) -> None:
    with watching("reading") as watch:
        await put_all(store, watch.over(every))


def _with_delay(found: Where, delay: str, *, postgrey: bool) -> Where:
    if not postgrey:
        raise click.UsageError("--delay belongs to --postgrey")
    try:
        seconds = parse_duration(delay)
    except ValueError as error:
        raise click.UsageError(f"--delay: {error}") from error
    terms = msgspec.structs.replace(found.greylist.terms, delay=round(seconds * 1000))
    greylist = msgspec.structs.replace(found.greylist, terms=terms)
    return msgspec.structs.replace(found, greylist=greylist)


def _of_file(source: Path, taken: Taken) -> Iterator[Entry]:
    at = now()
    with _input(source) as lines:
        for entry in read(lines):
            if has_expired(entry, at):
                taken.expired += 1
                continue
            match entry:
                case Triplet():
                    taken.triplets += 1
                case Client():
                    taken.clients += 1
                case Account():
                    taken.limits += 1
            yield entry


def _of_postgrey(source: Path, found: Where, taken: Taken) -> Iterator[Entry]:
    settings = found.greylist
    keys = Keys(
        network=lambda address: network_key(address, settings.ipv4, settings.ipv6),
        sender=folded,
        recipient=recipient_key,
    )
    count = Read()

    def made(given: Iterable[tuple[str, str]]) -> Iterator[Entry]:
        for entry in entries(given, keys, settings.terms, now(), count):
            yield entry
            _note(taken, count)
        _note(taken, count)

    if source.is_dir():
        yield from made(directory_records(source))
    else:
        with _input(source) as lines:
            yield from made(records(lines))


def _note(taken: Taken, count: Read) -> None:
    for name in count.__struct_fields__:
        setattr(taken, name, getattr(count, name))


@contextmanager
def _input(source: Path) -> Iterator[Iterable[bytes]]:
    if str(source) == "-":
        yield sys.stdin.buffer
        return
    try:
        file = source.open("rb")
    except OSError as error:
        raise PortableError(str(error.strerror)) from error
    with file:
        yield file


_LEFT_OUT: Final = {
    "expired": "had expired",
    "hashed": "cannot be read, since postgrey wrote them with --privacy",
    "unreadable": "are no records of postgrey's",
}


def _tell(taken: Taken, *, as_json: bool) -> None:
    if as_json:
        click.echo(msgspec.json.encode(taken).decode())
        return
    click.echo(
        f"taken in: {taken.triplets} triplets, {taken.clients} clients, {taken.limits} limits' keys"
    )
    for name, why in _LEFT_OUT.items():
        if count := getattr(taken, name):
            click.echo(f"left out: {count} that {why}")

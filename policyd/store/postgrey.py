"""
What postgrey remembers, as entries: so that a site can change over and nobody waits anew.

postgrey 1.37 (postgrey(8) and its source) keeps two B-trees of Berkeley DB in its `--dbdir`.
`postgrey.db`: the key is `client/sender/recipient` in lower case, the client as the first address
of its network, the sender without extension and with `#` for numbers; the value is `first,last`, in
seconds since the epoch. `postgrey_clients.db`: the key is a client's address, the value
`count,last`, count being its messages that passed. They are read as db_dump(1) writes them.
"""

import re
import shutil
import subprocess
import tempfile
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path
from typing import Final

import msgspec

from policyd.store.model import Client, Entry, Terms, Triplet

DATABASES: Final = ("postgrey.db", "postgrey_clients.db")
_DUMP: Final = ("db5.3_dump", "db_dump")
_RECOVER: Final = ("db5.3_recover", "db_recover")
_INSTALL: Final = "install db-util, or import a dump that was made where postgrey runs"

_ESCAPE: Final = re.compile(rb"\\(\\|[0-9A-Fa-f]{2})")
_HASHED: Final = re.compile(r"[0-9a-f]{40}")
_VALUE: Final = re.compile(r"(\d{1,15}),(\d{1,15})(?:,.*)?", re.ASCII | re.DOTALL)
# Any of the three may hold slashes, and nothing is quoted: what a mail address can be decides.
_TRIPLET: Final = re.compile(
    r"(?P<client>[0-9a-f.:]+)/(?P<sender>|.*@[^/@]*|[^/@]*)/(?P<recipient>[^@]+@[^/@]+|[^/@]+)",
    re.ASCII | re.DOTALL,
)


class PostgreyError(Exception):
    """A database cannot be read. Says why, and what to do."""


class Read(msgspec.Struct):
    """
    What became of the records of a database, counted while they are read.

    `hashed` were written under `--privacy`, which nobody can read again. `unreadable` are no
    records of postgrey's, or of addresses in which its separators stand.
    """

    triplets: int = 0
    clients: int = 0
    expired: int = 0
    hashed: int = 0
    unreadable: int = 0


class Keys(msgspec.Struct, frozen=True):
    """
    How the check of greylisting names the network of an address, a sender, a recipient.

    A network is empty for what is no address.
    """

    network: Callable[[str], str]
    sender: Callable[[str], str]
    recipient: Callable[[str], str] = str.lower


def entries(
    records: Iterable[tuple[str, str]], keys: Keys, terms: Terms, now: int, read: Read
) -> Iterator[Entry]:
    """
    Make entries of records; `now` is in milliseconds, `terms` are those to go by from now on.

    A triplet has passed if postgrey saw it for as long as `terms.delay`, as postgrey counts; of a
    client's addresses in one network the one with the most messages decides, once all are put into
    a store. What has expired by these terms is left out.
    """
    for key, value in records:
        try:
            entry = _entry(key, value, keys, terms, now)
        except ValueError:
            if _HASHED.fullmatch(key):
                read.hashed += 1
            else:
                read.unreadable += 1
            continue
        if now >= entry.expires:
            read.expired += 1
        else:
            read.triplets += isinstance(entry, Triplet)
            read.clients += isinstance(entry, Client)
            yield entry


def _entry(key: str, value: str, keys: Keys, terms: Terms, now: int) -> Triplet | Client:
    numbers = _VALUE.fullmatch(value)
    if numbers is None:
        raise ValueError(value)
    number, last = int(numbers[1]), min(int(numbers[2]) * 1000, now)
    if "/" not in key:
        return Client(
            _network(key, keys),
            number,
            allowed=0 < terms.auto_allow_after <= number,
            last=last,
            expires=last + terms.lifetime,
        )
    parts = _TRIPLET.fullmatch(key)
    if parts is None:
        raise ValueError(key)
    first = min(number * 1000, last)
    passed = last - first >= terms.delay
    return Triplet(
        client=_network(parts["client"], keys),
        sender=keys.sender(parts["sender"]),
        recipient=keys.recipient(parts["recipient"]),
        first=first,
        last=last,
        passed=passed,
        expires=last + terms.lifetime if passed else first + terms.retry_window,
    )


def _network(address: str, keys: Keys) -> str:
    network = keys.network(address)
    if not network:
        raise ValueError(address)
    return network


# Berkeley DB's dumps


def records(lines: Iterable[bytes]) -> Iterator[tuple[str, str]]:
    """
    Read what db_dump(1) writes, several dumps one after the other; PostgreyError names the line.

    Keys and values are what the octets are in UTF-8; octets that are none are lone surrogates.
    """
    reader = _Dump()
    for number, line in enumerate(lines, 1):
        try:
            record = reader.take(line.rstrip(b"\r\n"))
        except ValueError as error:
            raise PostgreyError(f"line {number}: {error}") from error
        if record is not None:
            yield record
    reader.end()


class _Dump:
    """A reader of dumps that is given their lines; see db_dump(1)."""

    def __init__(self) -> None:
        self._in_data = False
        self._printed = False
        self._ended = False
        self._key: str | None = None

    def take(self, line: bytes) -> tuple[str, str] | None:
        """Take a line, and give the record that it completes; ValueError if it is none."""
        if not self._in_data:
            self._take_header(line)
            return None
        if line == b"DATA=END":
            if self._key is not None:
                raise ValueError("the dump ends between a key and its value")
            self._in_data, self._ended = False, True
            return None
        if not line.startswith(b" "):
            raise ValueError("this is no line of a dump's data")
        text = self._octets(line[1:]).decode("utf-8", "surrogateescape")
        if self._key is None:
            self._key = text
            return None
        key, self._key = self._key, None
        return key, text

    def end(self) -> None:
        """Take note that no line is left; PostgreyError if some should be."""
        if self._in_data or not self._ended:
            raise PostgreyError("the dump is cut short: its last line is not DATA=END")

    def _take_header(self, line: bytes) -> None:
        name, equals, value = line.partition(b"=")
        if not equals:
            raise ValueError("this is no dump of Berkeley DB: make it with db5.3_dump -p")
        if name == b"type" and value != b"btree":
            raise ValueError("postgrey keeps B-trees, and this is none")
        if name == b"format":
            self._printed = value == b"print"
        if line == b"HEADER=END":
            self._in_data, self._ended = True, False

    def _octets(self, written: bytes) -> bytes:
        if not self._printed:
            return bytes.fromhex(written.decode("ascii"))
        return _ESCAPE.sub(_unescaped, written)


def _unescaped(escape: re.Match[bytes]) -> bytes:
    return b"\\" if escape[1] == b"\\" else bytes.fromhex(escape[1].decode("ascii"))


# Berkeley DB's files


def directory_records(directory: Path) -> Iterator[tuple[str, str]]:
    """
    Read the databases of a postgrey, which may run meanwhile; PostgreyError.

    What it wrote last stands in its log alone. So the files are copied, the databases before the
    log, and the copy is recovered, as Berkeley DB's guide says of a hot backup; nothing of
    postgrey's own is touched.
    """
    with tempfile.TemporaryDirectory(prefix="policyd-postgrey-") as name:
        copy = Path(name)
        databases, logs = _copied(directory, copy)
        if logs:
            _run(_program(_RECOVER), "-c", "-h", name)
        for database in databases:
            yield from records(_dumped(database))


def _copied(directory: Path, copy: Path) -> tuple[list[Path], bool]:
    try:
        found = [each for each in DATABASES if (directory / each).exists()]
        if DATABASES[0] not in found:
            raise PostgreyError(f"{directory} holds no {DATABASES[0]}: name postgrey's --dbdir")
        databases = [Path(shutil.copyfile(directory / each, copy / each)) for each in found]
        logs = sorted(directory.glob("log.??????????"))
        for log in logs:
            shutil.copyfile(log, copy / log.name)
    except OSError as error:
        raise PostgreyError(f"{error.filename or directory}: {error.strerror}") from error
    return databases, bool(logs)


def _dumped(database: Path) -> Iterator[bytes]:
    with (
        tempfile.TemporaryFile() as said,
        subprocess.Popen(  # noqa: S603 -- Berkeley DB's own program
            [_program(_DUMP), "-p", str(database)], stdout=subprocess.PIPE, stderr=said
        ) as process,
    ):
        assert process.stdout is not None
        try:
            yield from process.stdout
        except GeneratorExit:
            process.kill()
            raise
        if process.wait():
            said.seek(0)
            raise PostgreyError(said.read().decode("utf-8", "replace").strip())


def _run(program: str, *arguments: str) -> None:
    done = subprocess.run(  # noqa: S603 -- Berkeley DB's own program
        [program, *arguments], capture_output=True, text=True, errors="replace", check=False
    )
    if done.returncode:
        raise PostgreyError(done.stderr.strip() or f"{program} ended with {done.returncode}")


def _program(names: tuple[str, ...]) -> str:
    for name in names:
        found = shutil.which(name)
        if found is not None:
            return found
    raise PostgreyError(f"there is no {names[0]} here: {_INSTALL}")

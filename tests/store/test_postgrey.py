"""What a real postgrey wrote is read; so are dumps, and what is neither is refused."""

import asyncio
import contextlib
import shutil
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from policyd.checks.greylist import GreylistSettings, greylisted, recipient_key
from policyd.checks.interface import Answer, Site
from policyd.checks.provider import network_key
from policyd.checks.sender import folded
from policyd.smtp.stage import Stage
from policyd.store.memory import MemoryStore
from policyd.store.model import Client, Entry, Terms, Triplet
from policyd.store.postgrey import (
    Keys,
    PostgreyError,
    Read,
    directory_records,
    entries,
    records,
)
from tests.store.postgrey_process import PROGRAM, Postgrey

THEN = 1_700_000_000
"""Seconds since the epoch, of the first request."""
NOW = (THEN + 3600) * 1000
TERMS = Terms(delay=300_000, auto_allow_after=2)
LIFETIME, WINDOW = TERMS.lifetime, TERMS.retry_window

real = pytest.mark.skipif(PROGRAM is None, reason="postgrey is not installed")


KEYS = Keys(network=lambda address: network_key(address, 24, 64), sender=str)


def made(
    found: dict[str, str] | Iterator[tuple[str, str]],
    now: int = NOW,
    terms: Terms = TERMS,
    read: Read | None = None,
) -> list[Entry]:
    given = found.items() if isinstance(found, dict) else found
    return list(entries(given, KEYS, terms, now, Read() if read is None else read))


def triplets(found: list[Entry]) -> dict[tuple[str, str, str], Triplet]:
    return {(e.client, e.sender, e.recipient): e for e in found if isinstance(e, Triplet)}


def clients(found: list[Entry]) -> list[Client]:
    return [entry for entry in found if isinstance(entry, Client)]


# a real postgrey


@pytest.fixture(scope="module")
def database(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Give the database of a postgrey that has stopped."""
    dbdir = tmp_path_factory.mktemp("postgrey") / "db"
    with Postgrey(dbdir, "--auto-whitelist-clients=2") as postgrey:
        postgrey.deliver("192.0.2.77", "Jo+tag@Example.NET", "You@example.org", at=THEN)
        postgrey.deliver("192.0.2.77", "bounce-12-a3@lists.example.net", "you@example.org", at=THEN)
        postgrey.deliver("192.0.2.77", "again@example.net", "you@example.org", at=THEN + 3600)
        postgrey.deliver("2001:db8:1:2::5", "", "you@example.org", at=THEN)
        postgrey.deliver("198.51.100.9", "/o=a/x=b/@example.net", "a/b@example.org", at=THEN)
        postgrey.deliver("198.51.100.9", "J\udcff\\x@example.net", "postmaster", at=THEN)
        postgrey.ask("203.0.113.5", "once@example.net", "you@example.org", at=THEN)
        postgrey.ask("203.0.113.5", "early@example.net", "you@example.org", at=THEN)
        postgrey.ask("203.0.113.5", "early@example.net", "you@example.org", at=THEN + 299)
        postgrey.deliver("203.0.113.9", "old@example.net", "you@example.org", at=THEN - 90 * 86400)
        postgrey.ask("203.0.113.9", "gone@example.net", "you@example.org", at=THEN - 3 * 86400)
    return dbdir


@pytest.mark.integration
@real
def test_every_triplet_and_client_of_a_real_postgrey_is_found(database: Path) -> None:
    read = Read()
    now = (THEN + 7200) * 1000
    found = made(directory_records(database), now, read=read)
    first = THEN * 1000

    def passed(client: str, sender: str, recipient: str, since: int = first) -> Triplet:
        last = since + 600_000
        return Triplet(client, sender, recipient, since, last, True, last + LIFETIME)

    def waiting(sender: str, last: int) -> Triplet:
        key = ("203.0.113.0/24", sender, "you@example.org")
        return Triplet(*key, first, last, False, first + WINDOW)

    expected = [
        passed("192.0.2.0/24", "jo@example.net", "you@example.org"),
        passed("192.0.2.0/24", "bounce-#-a3@lists.example.net", "you@example.org"),
        passed("192.0.2.0/24", "again@example.net", "you@example.org", first + 3_600_000),
        passed("2001:db8:1:2::/64", "", "you@example.org"),
        passed("198.51.100.0/24", "/o=a/x=b/@example.net", "a/b@example.org"),
        passed("198.51.100.0/24", "j\udcff\\x@example.net", "postmaster"),
        waiting("once@example.net", first),
        waiting("early@example.net", first + 299_000),
    ]
    assert triplets(found) == {(e.client, e.sender, e.recipient): e for e in expected}
    allowed_at = first + 3_600_000 + 600_000
    once_at = first + 600_000
    assert sorted(clients(found), key=lambda each: each.client) == [
        Client("192.0.2.0/24", 2, allowed=True, last=allowed_at, expires=allowed_at + LIFETIME),
        Client("198.51.100.0/24", 1, allowed=False, last=once_at, expires=once_at + LIFETIME),
        Client("2001:db8:1:2::/64", 1, allowed=False, last=once_at, expires=once_at + LIFETIME),
    ]
    assert read == Read(triplets=8, clients=3, expired=3)


@pytest.mark.integration
@real
def test_a_postgrey_that_runs_or_was_killed_is_read_as_well(tmp_path: Path) -> None:
    with Postgrey(tmp_path / "db") as postgrey:
        for number in range(500):
            triplet = ("192.0.2.1", f"s{number:03}@{'x' * 200}.example", "you@example.org")
            postgrey.ask(*triplet, at=THEN)
        before = {path: path.stat().st_mtime_ns for path in postgrey.dbdir.iterdir()}
        while_it_runs = triplets(made(directory_records(postgrey.dbdir)))
        assert {path: path.stat().st_mtime_ns for path in postgrey.dbdir.iterdir()} == before
        # what it wrote is in its log, and not all of it in its database
        plain = subprocess.run(
            ["db5.3_dump", "-p", str(postgrey.dbdir / "postgrey.db")],
            stdout=subprocess.PIPE,
            check=True,
        )
        assert len(list(records(plain.stdout.splitlines()))) < 500
        postgrey.ask("192.0.2.1", "later@example.net", "you@example.org", at=THEN)
        postgrey.kill()
        after = triplets(made(directory_records(postgrey.dbdir)))
    assert len(while_it_runs) == 500
    assert len(after) == 501
    assert after.items() >= while_it_runs.items()


@pytest.mark.integration
@real
def test_dumps_one_after_the_other_are_read_as_the_database(database: Path, tmp_path: Path) -> None:
    for options in ([], ["-p"]):
        dumps = b"".join(
            subprocess.run(
                ["db5.3_dump", *options, shutil.copy(database / name, tmp_path)],
                stdout=subprocess.PIPE,
                check=True,
            ).stdout
            for name in ("postgrey.db", "postgrey_clients.db")
        )
        assert made(records(dumps.splitlines(keepends=True))) == made(directory_records(database))


@pytest.mark.integration
@real
def test_what_was_hashed_is_counted_and_left_out(tmp_path: Path) -> None:
    with Postgrey(tmp_path / "db", "--privacy", "--auto-whitelist-clients=1") as postgrey:
        postgrey.deliver("192.0.2.77", "jo@example.net", "you@example.org", at=THEN)
    read = Read()
    assert made(directory_records(tmp_path / "db"), read=read) == []
    assert read == Read(hashed=2)


@pytest.mark.integration
@real
def test_files_that_are_no_database_are_refused(tmp_path: Path) -> None:
    with pytest.raises(PostgreyError, match=r"holds no postgrey\.db: name postgrey's --dbdir"):
        list(directory_records(tmp_path))
    (tmp_path / "postgrey.db").write_bytes(b"nothing of the kind" * 1000)
    with pytest.raises(PostgreyError, match=r"postgrey\.db.*(format|type|Invalid)"):
        list(directory_records(tmp_path))


# what the check makes of it

MEETING = (
    "jo@example.net",
    "Jo+tag@example.net",
    "jo.12@example.net",
    "jo12@example.net",
    "bounce-12-a3f@lists.example.net",
    "bounces+1234-5678-you=example.org@em12.example.net",
    "list-bounces+you=example.org@lists.example.net",
    "prvs=0123456789=jo@example.net",
    "prvs=jo=0123456789@example.net",
    "bounce-1234567890123-456789-1234@bounces.example.net",
    "SRS0=HHH=TT=example.com=jo@forwarder.example",
    "SRS0=1234=12=example.com=jo@forwarder.example",
    "msprvs1=12345abcdefg=bounces-1234@example.net",
    "550e8400-e29b-41d4-a716-446655440000@example.net",
    "0100018c2f3a4b5c-12345678-1234-1234-1234-123456789012-000000@amazonses.example",
    "",
)
# postgrey takes all that follows a plus sign, and so the sender that was rewritten
APART = "SRS0+HHH=TT=example.com=joe@forwarder.example"


def asked(found: list[Entry], client: str, name: str, sender: str, terms: Terms) -> bool:
    """Tell whether the check of greylisting has a message wait, when these entries are there."""

    async def ask() -> bool:
        store = MemoryStore()
        await store.put(found, NOW)
        check = greylisted(store, lambda: NOW / 1000)
        attributes = {
            "client_address": client,
            "client_name": name,
            "sender": sender,
            "recipient": "You@example.org",
            "instance": "1",
        }
        stage = Stage.RCPT if sender else Stage.DATA
        answer = check.ask(attributes, Site(stage), GreylistSettings(terms))
        assert not isinstance(answer, Answer)
        value = (await answer).value
        assert isinstance(value, bool)
        return value

    return asyncio.run(ask())


def imported(dbdir: Path, terms: Terms) -> list[Entry]:
    settings = GreylistSettings()
    keys = Keys(
        network=lambda address: network_key(address, settings.ipv4, settings.ipv6),
        sender=folded,
        recipient=recipient_key,
    )
    return list(entries(directory_records(dbdir), keys, terms, NOW, Read()))


@pytest.mark.integration
@real
def test_a_sender_that_passed_under_postgrey_passes_at_once(tmp_path: Path) -> None:
    with Postgrey(tmp_path / "db", "--auto-whitelist-clients=0") as postgrey:
        for sender in (*MEETING, APART):
            postgrey.deliver("192.0.2.77", sender, "you@example.org", at=THEN)
    found = imported(tmp_path / "db", TERMS)
    for name in ("unknown", "mail.example.net"):
        waiting = {s for s in (*MEETING, APART) if asked(found, "192.0.2.1", name, s, TERMS)}
        assert waiting == {APART}
    assert asked(found, "192.0.3.1", "unknown", "jo@example.net", TERMS)
    assert asked(found, "192.0.2.1", "unknown", "joe@example.net", TERMS)


@pytest.mark.integration
@real
def test_a_client_that_postgrey_allowed_is_allowed_with_its_network(tmp_path: Path) -> None:
    with Postgrey(tmp_path / "db", "--auto-whitelist-clients=2") as postgrey:
        postgrey.deliver("192.0.2.77", "one@example.net", "you@example.org", at=THEN - 7200)
        postgrey.deliver("192.0.2.77", "two@example.net", "you@example.org", at=THEN)
        postgrey.deliver("198.51.100.1", "one@example.net", "you@example.org", at=THEN)
    found = imported(tmp_path / "db", TERMS)
    for name in ("unknown", "mail.example.net"):
        assert not asked(found, "192.0.2.1", name, "new@example.com", TERMS)
        assert asked(found, "198.51.100.1", name, "new@example.com", TERMS)


@pytest.mark.integration
@real
def test_who_waits_under_postgrey_need_not_begin_anew(tmp_path: Path) -> None:
    with Postgrey(tmp_path / "db") as postgrey:
        postgrey.ask("192.0.2.77", "late@example.net", "you@example.org", at=THEN + 3600 - 300)
        postgrey.ask("192.0.2.77", "soon@example.net", "you@example.org", at=THEN + 3600 - 299)
    found = imported(tmp_path / "db", TERMS)
    for name in ("unknown", "mail.example.net"):
        assert not asked(found, "192.0.2.77", name, "late@example.net", TERMS)
        assert asked(found, "192.0.2.77", name, "soon@example.net", TERMS)


# what its records mean


def one(key: str, value: str, now: int = NOW, terms: Terms = TERMS) -> Entry | None:
    found = made({key: value}, now, terms)
    return found[0] if found else None


@pytest.mark.parametrize(
    ("key", "client", "sender", "recipient"),
    [
        ("192.0.2.0/a@b.example/c@d.example", "192.0.2.0/24", "a@b.example", "c@d.example"),
        ("192.0.2.0//c@d.example", "192.0.2.0/24", "", "c@d.example"),
        ("192.0.2.0//c/e@d.example", "192.0.2.0/24", "", "c/e@d.example"),
        ("192.0.2.0//postmaster", "192.0.2.0/24", "", "postmaster"),
        ("192.0.2.0/a@b.example/postmaster", "192.0.2.0/24", "a@b.example", "postmaster"),
        ("192.0.2.0/root/c@d.example", "192.0.2.0/24", "root", "c@d.example"),
        ("192.0.2.0//x=1/y@b.example/c@d.e", "192.0.2.0/24", "/x=1/y@b.example", "c@d.e"),
        ("192.0.2.0/a@b@c.example/d/e@f.example", "192.0.2.0/24", "a@b@c.example", "d/e@f.example"),
        ("192.0.2.7/a@b.example/c@d.example", "192.0.2.0/24", "a@b.example", "c@d.example"),
        ("2001:db8:0:0:0:0:0:0/a@b/c@d", "2001:db8::/64", "a@b", "c@d"),
    ],
)
def test_a_key_is_client_sender_and_recipient(
    key: str, client: str, sender: str, recipient: str
) -> None:
    found = one(key, f"{THEN},{THEN}")
    assert isinstance(found, Triplet)
    assert (found.client, found.sender, found.recipient) == (client, sender, recipient)


@pytest.mark.parametrize(("seconds", "passed"), [(0, False), (299, False), (300, True)])
def test_a_triplet_has_passed_that_was_seen_for_as_long_as_the_delay(
    seconds: int, passed: bool
) -> None:
    found = one("192.0.2.0/a@b/c@d", f"{THEN},{THEN + seconds}")
    assert isinstance(found, Triplet)
    assert found.passed is passed


def test_what_the_terms_would_have_forgotten_is_left_out() -> None:
    read = Read()
    forgotten = THEN * 1000 + 300_000 + LIFETIME
    never = THEN * 1000 + WINDOW
    passed, waiting = (
        {"192.0.2.0/a@b/c@d": f"{THEN},{THEN + 300}"},
        {"192.0.2.0/a@b/c@d": f"{THEN},{THEN + 1}"},
    )
    assert len(made(passed, forgotten - 1)) == 1
    assert made(passed, forgotten, read=read) == []
    assert len(made(waiting, never - 1)) == 1
    assert made(waiting, never, read=read) == []
    assert read == Read(expired=2)


def test_times_in_the_future_are_now() -> None:
    found = one("192.0.2.0/a@b/c@d", f"{THEN + 9000},{THEN + 9999}", THEN * 1000)
    assert isinstance(found, Triplet)
    assert (found.first, found.last, found.passed) == (THEN * 1000, THEN * 1000, False)


def test_no_client_is_allowed_where_none_is_to_be() -> None:
    found = one("192.0.2.7", f"99,{THEN}", terms=Terms(auto_allow_after=0))
    assert isinstance(found, Client)
    assert (found.client, found.successes, found.allowed) == ("192.0.2.0/24", 99, False)


def test_an_old_postgrey_wrote_the_host_behind_the_times() -> None:
    assert one("192.0.2.0/a@b/c@d", f"{THEN},{THEN},7") is not None


@pytest.mark.parametrize(
    ("key", "value"),
    [
        ("192.0.2.0/a@b/c@d", f"{THEN}"),
        ("192.0.2.0/a@b/c@d", "once,twice"),
        ("192.0.2.0/a@b/c@d", f"{THEN},{10**400}"),
        ("192.0.2.999/a@b/c@d", f"{THEN},{THEN}"),
        ("192.0.2.0/a@b", f"{THEN},{THEN}"),
        ("mail.example.net", f"1,{THEN}"),
        ("", ""),
    ],
)
def test_what_is_no_record_is_counted_and_left_out(key: str, value: str) -> None:
    read = Read()
    assert made({key: value}, read=read) == []
    assert read == Read(unreadable=1)


@given(st.dictionaries(st.text(), st.text() | st.just(f"{THEN},{THEN}")))
def test_whatever_the_records_are_each_is_counted(found: dict[str, str]) -> None:
    read = Read()
    made(found, read=read)
    counted = read.triplets + read.clients + read.expired + read.hashed + read.unreadable
    assert counted == len(found)


# dumps

HEADER = [b"VERSION=3", b"format=print", b"type=btree", b"HEADER=END"]


def test_octets_are_read_as_the_dump_escapes_them() -> None:
    dump = [*HEADER, b" a\\5c\\\\\\c3\\a4\\ff", b" 1,2", b"DATA=END"]
    assert list(records(dump)) == [("a\\\\ä\udcff", "1,2")]


@pytest.mark.parametrize(
    ("dump", "why"),
    [
        ([], "the dump is cut short: its last line is not DATA=END"),
        ([*HEADER, b" a", b" 1,2"], "the dump is cut short: its last line is not DATA=END"),
        ([*HEADER, b" a", b"DATA=END"], "line 6: the dump ends between a key and its value"),
        ([*HEADER, b"a"], "line 5: this is no line of a dump's data"),
        (
            [b"192.0.2.0/a@b/c@d"],
            "line 1: this is no dump of Berkeley DB: make it with db5.3_dump -p",
        ),
        ([b"VERSION=3", b"type=hash"], "line 2: postgrey keeps B-trees, and this is none"),
        (
            [b"VERSION=3", b"format=bytevalue", b"type=btree", b"HEADER=END", b" 0x"],
            "line 5: non-hexadecimal number found in fromhex() arg at position 1",
        ),
    ],
)
def test_a_dump_with_a_fault_is_refused_by_its_line(dump: list[bytes], why: str) -> None:
    with pytest.raises(PostgreyError) as raised:
        list(records(dump))
    assert str(raised.value) == why


@given(st.lists(st.binary() | st.sampled_from([*HEADER, b" a", b" 1,2", b"DATA=END"])))
def test_whatever_a_dump_holds_it_is_read_or_refused(lines: list[bytes]) -> None:
    with contextlib.suppress(PostgreyError):
        assert list(records([*HEADER, *lines, b"DATA=END"])).count(("", "")) <= len(lines)

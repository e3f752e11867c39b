"""`policyd state` on every kind of store: what it shows, changes and moves."""

import json
import os
import pty
import re
import stat
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from policyd.store.account import part_of
from policyd.store.model import Account, Client, Entry, Triplet, account_name
from policyd.store.portable import header, line, read
from tests.cli.state_places import CONFIGURATION, PLACES, Place, opened
from tests.store.postgrey_process import PROGRAM, Postgrey
from tools.policyd_process import free_port

NOW = round(time.time() * 1000)  # when the tests are read: some minutes before the last is run
MINUTE, HOUR, DAY = 60_000, 3_600_000, 86_400_000

WAITING = Triplet(
    "192.0.2.0/24", "bounce-#@example.net", "jo@example.org", NOW, NOW, False, NOW + 2 * DAY
)
PASSED = Triplet(
    "example.com", "ann@example.com", "jo@example.org", NOW - DAY, NOW, True, NOW + 35 * DAY
)
NULL = Triplet("example.com", "", "eve@example.org", NOW - HOUR, NOW - HOUR, False, NOW + DAY)
KNOWN = Client("example.com", 2, allowed=False, last=NOW, expires=NOW + 35 * DAY)
ALLOWED = Client("example.net", 7, allowed=True, last=NOW, expires=NOW + 35 * DAY)


def spent(limit: str, key: str, amount: int) -> Account:
    name = account_name(limit, key, shadow=False)
    return Account(name, HOUR, {part_of(NOW, HOUR): amount}, 0.0, NOW, NOW + HOUR + MINUTE)


SOME = spent("per_login", "jo@example.org", 12)
ALL_OF_IT = spent("per_login", "eve", 2000)
OTHER = spent("gone", "jo", 1)
EVERY = (WAITING, PASSED, NULL, KNOWN, ALLOWED, SOME, ALL_OF_IT, OTHER)


def key(entry: Entry) -> tuple[str, ...]:
    match entry:
        case Triplet():
            return ("triplet", entry.client, entry.sender, entry.recipient)
        case Client():
            return ("client", entry.client)
        case Account():
            return ("account", entry.name)


def ordered(entries: Iterator[Entry] | list[Entry] | tuple[Entry, ...]) -> list[Entry]:
    return sorted(entries, key=key)


@pytest.fixture(scope="module", params=sorted(PLACES))
def a_place(
    request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Place]:
    with opened(request.param, tmp_path_factory.mktemp(request.param)) as place:
        yield place


@pytest.fixture
def place(a_place: Place) -> Place:
    a_place.holds(*EVERY)
    return a_place


def rows(output: str) -> list[list[str]]:
    return [re.split(r"\s{2,}", row) for row in output.splitlines()]


# looking


def test_all_is_listed_in_tables_by_kind(place: Place) -> None:
    found = rows(place.fine("list"))
    assert [*found[0], *found[1][:3]] == ["Triplets", "Client", "Sender", "Recipient"]
    assert ["Clients"] in found
    assert ["Limits"] in found
    by_key = {tuple(row[:3]): row for row in found}
    assert by_key["192.0.2.0/24", "bounce-#@example.net", "jo@example.org"][-1].startswith(
        "a retry passes in "
    )
    null = by_key["example.com", "<>", "eve@example.org"]
    assert null[-1].startswith("a retry passes now;")
    assert [re.sub(r"^1h\d*m? ago$", "1h ago", each) for each in null[3:5]] == ["1h ago", "1h ago"]
    assert by_key["example.com", "ann@example.com", "jo@example.org"][3] == "1d ago"
    assert ["per_login", "jo@example.org", "12", "2000 recipients per 1h", "admitted"] in found
    assert by_key["per_login", "eve", "2000"][-1].startswith("exceeded; retry after ")
    assert by_key["gone", "jo", "1"][-1] == "no such limit in the configuration"


@pytest.mark.parametrize(
    ("arguments", "entries"),
    [
        (["triplets"], (WAITING, PASSED, NULL)),
        (["clients"], (KNOWN, ALLOWED)),
        (["limits"], (SOME, ALL_OF_IT, OTHER)),
        (["--match", "EXAMPLE.com"], (PASSED, NULL, KNOWN)),
        (["triplets", "--match", "jo@"], (WAITING, PASSED)),
        (["--match", "per_login"], (SOME, ALL_OF_IT)),
        (["--limit", "0"], EVERY),
    ],
)
def test_what_is_listed_is_chosen_by_kind_and_text(
    place: Place, arguments: list[str], entries: tuple[Entry, ...]
) -> None:
    found = place.json("list", *arguments)
    assert not found["more"]
    expected = [json.loads(line(entry)) for entry in entries]
    assert all(any(one.items() <= e.items() for e in found["entries"]) for one in expected)
    assert len(found["entries"]) == len(entries)


def test_a_list_is_cut_and_says_so(place: Place) -> None:
    assert place.fine("list", "--limit", "7").endswith("There are more; --limit 0 shows all.\n")
    assert "There are more" not in place.fine("list", "--limit", "8")
    found = place.json("list", "--limit", "3")
    assert (len(found["entries"]), found["more"]) == (3, True)


def test_where_nothing_is_found_the_status_is_1(place: Place) -> None:
    for arguments in (["list", "--match", "nobody"], ["show", "nobody"], ["forget", "nobody"]):
        result = place.run(*arguments)
        assert result.exit_code == 1
        assert json.loads(place.run(*arguments, "--json").stdout)


@pytest.mark.parametrize(
    ("who", "keys"),
    [
        ("192.0.2.200", {key(WAITING)}),
        ("192.0.2.0/24", {key(WAITING)}),
        ("bounce-4711@example.net", {key(WAITING)}),
        ("mail.example.com", {key(PASSED), key(NULL), key(KNOWN)}),
        ("jo@example.org", {key(WAITING), key(PASSED), key(SOME)}),
        ("JO", {key(OTHER)}),
        ("<>", {key(NULL)}),
    ],
)
def test_somebody_is_shown_with_all_that_is_known(
    place: Place, who: str, keys: set[tuple[str, ...]]
) -> None:
    shown = place.json("show", who)["entries"]
    assert {_key(entry) for entry in shown} == keys
    assert all(entry["outlook"] for entry in shown)


def _key(entry: dict[str, str]) -> tuple[str, ...]:
    names = {"triplet": ("client", "sender", "recipient"), "client": ("client",)}
    return (entry["type"], *(entry[name] for name in names.get(entry["type"], ("name",))))


def test_a_client_is_shown_with_the_key_that_the_check_uses(place: Place) -> None:
    first, *_ = place.fine("show", "192.0.2.200").splitlines()
    assert first == "192.0.2.200 is 192.0.2.0/24 to greylisting."
    first, *_ = place.fine("show", "mail.example.com").splitlines()
    assert first == "mail.example.com is example.com to greylisting."
    assert place.fine("show", "example.com").startswith("Triplets\n")


def test_what_a_client_chose_cannot_write_to_the_terminal(place: Place) -> None:
    place.holds(Triplet("192.0.2.0/24", "\x1b]0;x\x07\udcff", "[bold]", NOW, NOW, True, NOW + DAY))
    shown = place.fine("list")
    assert "?]0;x??" in shown
    assert "[bold]" in shown
    assert place.json("list")["entries"][0]["sender"] == "\x1b]0;x\x07\udcff"


def test_what_is_there_is_counted(place: Place) -> None:
    found = place.json("stats")
    assert found.pop("url") == place.url
    assert found.pop("octets") != 0
    assert found == {"triplets": 3, "clients": 2, "accounts": 3, "reservations": 0}
    lines = place.fine("stats").splitlines()
    assert lines[:3] == [place.url, "", "triplets                     3"]


# changing


def test_a_client_is_allowed_by_hand_under_the_key_of_the_check(place: Place) -> None:
    said = place.fine("allow", "198.51.100.7", "mail.example.com", "2001:db8::1")
    assert said.splitlines() == [
        "198.51.100.0/24 is not greylisted",
        "example.com is not greylisted",
        "2001:db8::/64 is not greylisted",
    ]
    clients = {e.client: e for e in place.entries() if isinstance(e, Client)}
    assert set(clients) == {"198.51.100.0/24", "example.com", "2001:db8::/64", "example.net"}
    assert clients["198.51.100.0/24"].by_hand
    assert clients["198.51.100.0/24"].allowed
    assert clients["example.com"].by_hand
    assert clients["example.com"].successes == 2
    (shown,) = place.json("show", "198.51.100.99")["entries"]
    assert shown["outlook"] == "never greylisted: allowed by hand"


def test_a_client_may_be_allowed_for_a_time(place: Place) -> None:
    place.fine("allow", "example.com", "mail.example.org")
    before = round(time.time() * 1000)
    assert place.fine("allow", "example.com", "--for", "2h") == (
        "example.com is not greylisted for 2h\n"
    )
    clients = {e.client: e for e in place.entries() if isinstance(e, Client)}
    limited = clients["example.com"]
    assert (limited.allowed, limited.by_hand, limited.successes) == (True, False, 2)
    assert 2 * HOUR <= limited.expires - before < 2 * HOUR + MINUTE
    (shown,) = (e for e in place.json("show", "example.com")["entries"] if e["type"] == "client")
    assert shown["outlook"] == "not greylisted for 2h: allowed by hand"
    assert clients["example.org"].by_hand
    assert place.json("allow", "example.com", "--for", "1d") == {"allowed": ["example.com"]}


@pytest.mark.parametrize(
    ("arguments", "why"),
    [
        (["allow", "co.uk"], "'co.uk' is no address, and no host or domain of a provider"),
        (["allow", "example.com", "--for", "2 hours"], "'2 hours' is no duration"),
        (["allow"], "Missing argument 'CLIENT...'"),
        (["forget", ""], "an empty key names nothing; the null sender is <>"),
        (["show", " "], "an empty key names nothing; the null sender is <>"),
        (["list", "everything"], "'everything' is not one of"),
        (["purge"], "say what: --expired, --all, or some of triplets, clients, limits"),
        (["purge", "--all", "triplets"], "say what: "),
        (["purge", "--all"], "nobody is there to be asked: add --yes"),
        (["import", "-", "--delay", "5m"], "--delay belongs to --postgrey"),
        (["import", "-", "--postgrey", "--delay", "5"], "--delay: '5' is no duration"),
    ],
)
def test_what_cannot_be_meant_is_refused_with_status_2(
    place: Place, arguments: list[str], why: str
) -> None:
    result = place.run(*arguments)
    assert result.exit_code == 2
    assert why in result.stderr
    assert ordered(place.entries()) == ordered(EVERY)


def test_what_is_known_of_somebody_is_forgotten(place: Place) -> None:
    said = place.fine("forget", "jo@example.org", "192.0.2.1")
    assert said == "forgotten: 2 triplets, 1 limits\n"
    assert ordered(place.entries()) == ordered((NULL, KNOWN, ALLOWED, ALL_OF_IT, OTHER))
    assert place.json("forget", "mail.example.com") == {"forgotten": {"triplets": 1, "clients": 1}}
    assert ordered(place.entries()) == ordered((ALLOWED, ALL_OF_IT, OTHER))


def test_kinds_are_purged_by_name(place: Place) -> None:
    assert place.json("purge", "triplets", "--yes") == {"forgotten": {"triplets": 3}}
    assert ordered(place.entries()) == ordered((KNOWN, ALLOWED, SOME, ALL_OF_IT, OTHER))
    place.fine("purge", "clients", "limits", "--yes")
    assert place.entries() == []


def test_everything_is_purged_what_is_allowed_by_hand_too(place: Place) -> None:
    place.fine("allow", "example.org")
    place.fine("purge", "--all", "--yes")
    assert place.entries() == []
    assert place.fine("purge", "--all", "--yes") == "forgotten: nothing\n"


@pytest.mark.parametrize(("answer", "status", "left"), [("n", 1, len(EVERY)), ("y", 0, 5)])
def test_in_a_terminal_it_asks_before_it_purges(
    place: Place, answer: str, status: int, left: int
) -> None:
    controlling, terminal = pty.openpty()
    command = [sys.executable, "-c", "from policyd.cli import main; main()"]
    command += ["state", "purge", "triplets", "-c", str(place.configuration)]
    with subprocess.Popen(command, stdin=terminal, stdout=terminal, stderr=terminal) as process:
        os.close(terminal)
        asked = b""
        while b"[y/N]" not in asked:
            asked += os.read(controlling, 1024)
        os.write(controlling, f"{answer}\n".encode())
        assert process.wait(20) == status
    os.close(controlling)
    assert f"Forget triplets in {place.url}?".encode() in asked
    assert len(place.entries()) == left


def test_only_what_has_expired_is_dropped_by_expiry(place: Place) -> None:
    place.fine("purge", "--expired")
    assert ordered(place.entries()) == ordered(EVERY)


def test_thousands_are_moved_and_removed(place: Place) -> None:
    many = [
        Triplet("192.0.2.0/24", "s", f"{n:05}@example.org", NOW, NOW, False, NOW + DAY)
        for n in range(2500)
    ]
    place.holds(*many)
    assert ordered(place.entries()) == many
    assert place.json("stats")["triplets"] == 2500
    assert place.json("forget", "192.0.2.1") == {"forgotten": {"triplets": 2500}}


# moving


def test_an_export_is_a_file_of_its_owners_alone_and_comes_back(
    place: Place, tmp_path: Path
) -> None:
    file = tmp_path / "state.jsonl"
    file.write_text("what was there before")
    result = place.run("export", str(file))
    assert (result.exit_code, result.stdout, result.stderr) == (0, "", "8 entries written\n")
    assert stat.S_IMODE(file.stat().st_mode) == 0o600
    assert ordered(list(read(file.read_bytes().splitlines()))) == ordered(EVERY)
    assert list(tmp_path.iterdir()) == [file]
    place.fine("purge", "--all", "--yes")
    said = place.fine("import", str(file))
    assert said == "taken in: 3 triplets, 2 clients, 3 limits' keys\n"
    assert ordered(place.entries()) == ordered(EVERY)


def test_importing_twice_is_importing_once(place: Place) -> None:
    before = ordered(place.entries())
    exported = place.fine("export")
    place.fine("import", "-", given=exported)
    place.fine("import", "-", given=exported)
    assert ordered(place.entries()) == before


def test_what_is_imported_is_joined_with_what_is_there(place: Place) -> None:
    earlier = Triplet(
        WAITING.client, WAITING.sender, WAITING.recipient, NOW - DAY, NOW - HOUR, True, NOW + DAY
    )
    place.fine("import", "-", given=header(0) + line(earlier))
    (joined,) = (e for e in place.entries() if isinstance(e, Triplet) and key(e) == key(WAITING))
    assert (joined.first, joined.last, joined.passed) == (NOW - DAY, NOW, True)
    assert joined.expires == NOW + 2 * DAY


def test_what_had_expired_is_left_out(place: Place) -> None:
    place.holds()
    old = Triplet("c", "s", "r", NOW - DAY, NOW - DAY, True, NOW - HOUR)
    said = place.fine("import", "-", given=header(0) + line(old) + line(KNOWN))
    assert said == (
        "taken in: 0 triplets, 1 clients, 0 limits' keys\nleft out: 1 that had expired\n"
    )
    assert place.entries() == [KNOWN]


def test_a_line_that_is_none_is_named_and_those_before_it_are_in(place: Place) -> None:
    place.holds()
    result = place.run("import", "-", given=header(0) + line(KNOWN) + "nothing\n" + line(SOME))
    assert result.exit_code == 1
    assert result.stderr.startswith("-: line 3: ")
    assert result.stdout == "taken in: 0 triplets, 1 clients, 0 limits' keys\n"
    assert place.entries() == [KNOWN]


def test_files_that_are_not_there_are_named(place: Place, tmp_path: Path) -> None:
    result = place.run("import", str(tmp_path / "none"))
    assert (result.exit_code, result.stderr) == (
        1,
        f"{tmp_path}/none: No such file or directory\n",
    )
    result = place.run("export", str(tmp_path / "none" / "file"))
    assert (result.exit_code, result.stderr) == (
        1,
        f"{tmp_path}/none/file: No such file or directory\n",
    )


@pytest.mark.integration
@pytest.mark.skipif(PROGRAM is None, reason="postgrey is not installed")
def test_a_postgrey_is_taken_over(place: Place, tmp_path: Path) -> None:
    place.holds()
    then = NOW // 1000 - 7200
    with Postgrey(tmp_path / "db", "--auto-whitelist-clients=1") as postgrey:
        postgrey.deliver("192.0.2.77", "bounce-17-x@example.net", "Jo@example.org", at=then)
        postgrey.ask("192.0.2.99", "short@example.net", "jo@example.org", at=then)
        postgrey.ask("192.0.2.99", "short@example.net", "jo@example.org", at=then + 60)
        said = place.fine("import", "--postgrey", str(postgrey.dbdir), "--delay", "5m")
    assert said == "taken in: 2 triplets, 1 clients, 0 limits' keys\n"
    shown = place.json("show", "192.0.2.1")["entries"]
    assert {(e["type"], e.get("sender"), e.get("passed")) for e in shown} == {
        ("triplet", "bounce-#-x@example.net", True),
        ("triplet", "short@example.net", False),
        ("client", None, None),
    }
    dump = subprocess.run(
        ["db5.3_dump", "-p", str(tmp_path / "db" / "postgrey.db")],
        stdout=subprocess.PIPE,
        check=True,
    ).stdout
    said = place.fine("import", "--postgrey", "-", "--delay", "1m", "--json", given=dump)
    assert json.loads(said)["triplets"] == 2
    shown = place.json("show", "short@example.net")["entries"]
    assert [e["passed"] for e in shown] == [True]
    result = place.run("import", "--postgrey", str(tmp_path))
    assert result.exit_code == 1
    assert "holds no postgrey.db: name postgrey's --dbdir" in result.stderr


@pytest.mark.parametrize("source", sorted(PLACES))
@pytest.mark.parametrize("target", sorted(PLACES))
def test_state_moves_from_any_store_to_any_other(source: str, target: str, tmp_path: Path) -> None:
    (tmp_path / "source").mkdir()
    (tmp_path / "target").mkdir()
    with (
        opened(source, tmp_path / "source") as old,
        opened(target, tmp_path / "target") as new,
    ):
        old.holds(*EVERY)
        new.fine("purge", "--all", "--yes")
        new.fine("import", "-", given=old.fine("export"))
        assert ordered(new.entries()) == ordered(EVERY)


# what can be wrong


def test_a_configuration_with_errors_has_status_78(tmp_path: Path) -> None:
    place = Place(tmp_path, "mongodb://localhost")
    result = place.run("stats")
    assert (result.exit_code, result.stdout) == (78, "")
    assert "mongodb" in result.stderr


def test_state_in_memory_of_nobody_has_status_69(tmp_path: Path) -> None:
    result = Place(tmp_path, "memory:").run("stats")
    assert (result.exit_code, result.stdout) == (69, "")
    assert result.stderr.startswith("memory:: no policyd serves ")


def test_a_store_that_cannot_be_reached_has_status_69(tmp_path: Path) -> None:
    for url in (f"redis://127.0.0.1:{free_port()}", f"sqlite:{tmp_path}/none/state.sqlite"):
        place = Place(tmp_path, url)
        for arguments in (["stats"], ["allow", "example.net"], ["purge", "--all", "--yes"]):
            result = place.run(*arguments)
            assert (result.exit_code, result.stdout) == (69, "")
            assert result.stderr.startswith(f"{place.url}: ")
            assert len(result.stderr.splitlines()) == 1


def test_rules_that_are_wrong_keep_nobody_from_the_state(tmp_path: Path) -> None:
    with opened("sqlite", tmp_path) as place:
        text = CONFIGURATION.format(url=place.url).replace("greylisted()", "nonsense()")
        place.configuration.write_text(text)
        place.fine("allow", "example.net")
        assert len(place.entries()) == 1

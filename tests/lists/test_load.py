"""Reading lists from files: every fault with its file and line, and nothing read by halves."""

import os
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from functools import partial
from pathlib import Path

import pytest

from policyd.lists.load import MOST_FAULTS, load_list, reread
from policyd.lists.signature import sign
from policyd.lists.source import Fault, InlineEntry, Kind, ListFile, ListSource


def source(*files: tuple[Kind, Path]) -> ListSource:
    listed = tuple(
        ListFile(kind, path, path.name, "policyd.toml", number)
        for number, (kind, path) in enumerate(files, 1)
    )
    return ListSource("some", frozenset(kind for kind, _ in files), "policyd.toml", 9, (), listed)


def test_the_files_of_a_list_are_read_with_their_kinds(tmp_path: Path) -> None:
    addresses, networks = tmp_path / "a.txt", tmp_path / "n.txt"
    addresses.write_bytes(b"\xef\xbb\xbfalice@example.org\r\n\r\n# more\r\nb\xc3\xbcro@example.org")
    networks.write_text("192.0.2.0/24   # office\n")
    reading = load_list(source((Kind.ADDRESSES, addresses), (Kind.NETWORKS, networks)))
    assert reading.faults == ()
    assert "alice@example.org" in reading.snapshot.addresses
    assert "büro@example.org" in reading.snapshot.addresses
    assert reading.snapshot.networks.holds("192.0.2.1")
    assert len(reading.snapshot) == 3
    assert reading.signatures == {addresses: sign(addresses), networks: sign(networks)}


def test_every_wrong_line_is_told_and_the_rest_is_read(tmp_path: Path) -> None:
    path = tmp_path / "mailboxes.txt"
    path.write_bytes(
        b"alice@example.org OK\n# fine\n\xe4rger@example.org\nbob@example.org\n@a..b\n"
    )
    reading = load_list(source((Kind.ADDRESSES, path)))
    assert [(fault.file, fault.line) for fault in reading.faults] == [
        ("mailboxes.txt", 1),
        ("mailboxes.txt", 3),
        ("mailboxes.txt", 5),
    ]
    assert reading.faults[1].what == "the line is not UTF-8"
    assert "bob@example.org" in reading.snapshot.addresses


def test_a_file_of_the_wrong_kind_is_not_told_line_by_line(tmp_path: Path) -> None:
    path = tmp_path / "networks.txt"
    path.write_text("not a network\n" * 5000)
    reading = load_list(source((Kind.NETWORKS, path)))
    assert len(reading.faults) == MOST_FAULTS + 1
    assert reading.faults[-1].line == MOST_FAULTS + 1
    assert "the rest was not read" in reading.faults[-1].what
    assert reading.faults[-1].error


def test_an_entry_in_place_is_told_where_it_stands() -> None:
    inline = InlineEntry(Kind.PATTERNS, "(?=a)", "conf/policyd.toml", 31)
    listed = ListSource("some", frozenset({Kind.PATTERNS}), "conf/policyd.toml", 30, (inline,))
    (fault,) = load_list(listed).faults
    assert (fault.file, fault.line, fault.error) == ("conf/policyd.toml", 31, True)


def test_a_line_copied_from_a_regexp_table_is_doubtful(tmp_path: Path) -> None:
    path = tmp_path / "p"
    path.write_text("^fine$\n/^dyn/ REJECT\n")
    (fault,) = load_list(source((Kind.PATTERNS, path))).faults
    assert (fault.line, fault.error) == (2, False)
    assert "without slashes" in fault.mend


@pytest.mark.parametrize(
    ("make", "why"),
    [
        (Path.absolute, "No such file or directory"),
        (Path.mkdir, "Is a directory"),
        (os.mkfifo, "it is no regular file"),
        (lambda path: path.symlink_to(path), "Too many levels of symbolic links"),
    ],
)
def test_what_cannot_be_read_is_told_where_it_is_named(
    tmp_path: Path, make: Callable[[Path], object], why: str
) -> None:
    path = tmp_path / "gone"
    make(path)
    reading = load_list(source((Kind.ADDRESSES, path)))
    (fault,) = reading.faults
    assert (fault.file, fault.line) == ("policyd.toml", 1)
    assert fault.what == f"gone cannot be read: {why}"
    assert reading.signatures == {path: None}


def test_an_empty_file_is_doubtful_and_one_with_a_comment_is_not(tmp_path: Path) -> None:
    path = tmp_path / "a"
    path.touch()
    (fault,) = load_list(source((Kind.ADDRESSES, path))).faults
    assert (fault.what, fault.error) == ("a is empty", False)
    path.write_text("# nobody yet\n")
    assert load_list(source((Kind.ADDRESSES, path))).faults == ()


MANY = "".join(f"box{number}@example.org\n" for number in range(50_000))


def is_open(path: Path) -> bool:
    """Tell whether this process has a file open."""
    for descriptor in Path("/proc/self/fd").iterdir():
        with suppress(FileNotFoundError):  # closed in the meantime
            if descriptor.readlink() == path:
                return True
    return False


@contextmanager
def meanwhile(act: Callable[[threading.Event], object]) -> Iterator[None]:
    """Run something in a thread, which is asked to end."""
    stop = threading.Event()
    thread = threading.Thread(target=act, args=(stop,))
    thread.start()
    try:
        yield
    finally:
        stop.set()
        thread.join()


def test_a_file_that_changes_while_it_is_read_is_read_again(tmp_path: Path) -> None:
    path = tmp_path / "a"
    caught = threading.Event()

    def change_once(stop: threading.Event) -> None:
        while not stop.wait(0.001):
            if is_open(path):
                with path.open("a") as file:
                    file.write("bob@example.org\n")
                caught.set()
                return

    for _ in range(20):  # a thread that got no time has not seen it open
        path.write_text(MANY)
        with meanwhile(change_once):
            reading = load_list(source((Kind.ADDRESSES, path)))
        if caught.is_set() and "bob@example.org" in reading.snapshot.addresses:
            break
    assert reading.faults == ()
    assert "bob@example.org" in reading.snapshot.addresses
    assert reading.signatures == {path: sign(path)}


def keep_touching(path: Path, stop: threading.Event) -> None:
    while not stop.wait(0.001):
        path.touch()


def keep_growing(path: Path, stop: threading.Event) -> None:
    with path.open("a") as file:
        while not stop.wait(0.001):
            file.write("bob@example.org\n")
            file.flush()


@pytest.mark.parametrize("change", [keep_touching, keep_growing])
def test_a_file_that_never_stands_still_is_not_taken(
    tmp_path: Path, change: Callable[[Path, threading.Event], None]
) -> None:
    path = tmp_path / "a"
    path.write_text(MANY)
    with meanwhile(partial(change, path)):
        reading = load_list(source((Kind.ADDRESSES, path)))
    assert reading.faults == (
        Fault(
            "policyd.toml",
            1,
            "a changed while it was read",
            "write it under another name, then rename it",
        ),
    )
    assert reading.signatures == {path: None}


@pytest.mark.parametrize(
    ("before", "after", "told"),
    [
        ("alice@example.org\n", "", ["a is empty", "a was emptied"]),
        ("alice@example.org\n", "# nobody\n", []),
        ("", "", ["a is empty"]),
        ("", "alice@example.org\n", []),
        (None, "", ["a is empty"]),
        ("alice@example.org\n", None, ["a cannot be read: No such file or directory"]),
    ],
)
def test_a_file_that_lost_all_it_had_is_an_error_when_it_is_read_again(
    tmp_path: Path, before: str | None, after: str | None, told: list[str]
) -> None:
    path = tmp_path / "a"
    signatures = []
    for text in (before, after):
        path.unlink(missing_ok=True)
        if text is not None:
            path.write_text(text)
        signatures.append({path: sign(path)})
    reading = reread(source((Kind.ADDRESSES, path)), signatures[0])
    assert [fault.what for fault in reading.faults] == told
    assert reading.signatures == signatures[1]
    assert all(fault.error for fault in reading.faults if "is empty" not in fault.what)


def test_too_many_patterns_are_told_of_the_list(tmp_path: Path) -> None:
    path = tmp_path / "p"
    path.write_text("".join(f"{number}.{{1000}}\n" for number in range(1000)))
    (fault,) = load_list(source((Kind.PATTERNS, path))).faults
    assert (fault.file, fault.line) == ("policyd.toml", 9)
    assert "do not fit" in fault.what

"""Files of lists are read again when they change, and never by halves."""

import os
import threading
from collections.abc import Callable
from pathlib import Path

import pytest

from policyd.lists.load import load_list
from policyd.lists.named import NamedList
from policyd.lists.source import Kind, ListFile, ListSource
from policyd.lists.watch import Change, Watcher


class Watched:
    """A list of one file, and a clock that is moved by hand."""

    def __init__(self, path: Path) -> None:
        self.path = path
        file = ListFile(Kind.ADDRESSES, path, path.name, "policyd.toml", 7)
        source = ListSource("boxes", frozenset({Kind.ADDRESSES}), "policyd.toml", 6, (), (file,))
        self.list = NamedList(source, load_list(source))
        self.watcher = Watcher([self.list], pause=lambda: None)
        self.now = 1000.0

    def after(self, seconds: float) -> tuple[Change, ...]:
        self.now += seconds
        return self.watcher.poll(self.now)

    def settled(self) -> tuple[Change, ...]:
        assert self.after(1) == ()
        return self.after(1)


@pytest.fixture
def watched(tmp_path: Path) -> Watched:
    path = tmp_path / "mailboxes.txt"
    path.write_text("alice@example.org\n")
    return Watched(path)


def test_nothing_is_told_of_a_file_that_stands_still(watched: Watched) -> None:
    assert [watched.after(1) for _ in range(5)] == [()] * 5


def rewrite(path: Path) -> None:
    path.write_text("bob@example.org\n")


def rename(path: Path) -> None:
    new = path.with_suffix(".new")
    new.write_text("bob@example.org\n")
    new.replace(path)


def relink(path: Path) -> None:
    new = path.with_suffix(".v2")
    new.write_text("bob@example.org\n")
    path.unlink()
    path.symlink_to(new)


def same_size_and_time(path: Path) -> None:
    status = path.stat()
    new = path.with_suffix(".new")
    new.write_text("bobby@example.org\n")
    assert new.stat().st_size == status.st_size
    os.utime(new, ns=(status.st_atime_ns, status.st_mtime_ns))
    new.replace(path)


@pytest.mark.parametrize("change", [rewrite, rename, relink, same_size_and_time])
def test_a_changed_file_is_taken_once_it_stands_still(
    watched: Watched, change: Callable[[Path], None]
) -> None:
    change(watched.path)
    assert watched.after(1) == ()
    assert watched.list.holds_mail("alice@example.org")
    assert watched.after(1) == (Change("boxes", 1, (), taken=True),)
    assert not watched.list.holds_mail("alice@example.org")
    assert watched.list.holds_mail("bob@example.org") or watched.list.holds_mail(
        "bobby@example.org"
    )
    assert watched.after(1) == ()


def test_a_file_that_is_being_written_is_left_alone(watched: Watched) -> None:
    with watched.path.open("w") as file:
        for number in range(5):
            file.write(f"box{number}@example.org\n")
            file.flush()
            assert watched.after(0.9) == ()
            assert watched.list.holds_mail("alice@example.org")
    assert watched.after(0.9) == ()
    assert watched.after(0.2) == (Change("boxes", 5, (), taken=True),)


def test_a_wrong_version_is_told_once_and_the_old_one_stays(watched: Watched) -> None:
    watched.path.write_text("alice@example.org\n\nbob@example.org OK\n")
    (change,) = watched.settled()
    assert not change.taken
    assert change.entries == 1
    (fault,) = change.faults
    assert (fault.file, fault.line) == ("mailboxes.txt", 3)
    assert watched.list.holds_mail("alice@example.org")
    assert [watched.after(1) for _ in range(3)] == [()] * 3
    watched.path.write_text("carol@example.org\n")
    assert watched.settled() == (Change("boxes", 1, (), taken=True),)


def test_a_file_that_goes_is_told_once_and_one_that_comes_back_is_no_news(watched: Watched) -> None:
    away = watched.path.with_suffix(".away")
    watched.path.rename(away)
    (change,) = watched.settled()
    assert not change.taken
    assert "No such file" in change.faults[0].what
    assert watched.list.holds_mail("alice@example.org")
    assert watched.after(1) == ()
    away.rename(watched.path)
    assert [watched.after(1) for _ in range(3)] == [()] * 3
    watched.path.rename(away)
    assert len(watched.settled()) == 1


def test_a_file_emptied_by_accident_keeps_its_entries(watched: Watched) -> None:
    watched.path.write_text("")
    (change,) = watched.settled()
    assert not change.taken
    assert change.faults[-1].what == "mailboxes.txt was emptied"
    assert watched.list.holds_mail("alice@example.org")
    watched.path.write_text("# nobody any more\n")
    assert watched.settled() == (Change("boxes", 0, (), taken=True),)
    assert not watched.list.holds_mail("alice@example.org")


def test_lookups_go_on_in_other_threads_while_versions_change(tmp_path: Path) -> None:
    path = tmp_path / "a"
    boxes = "".join(f"box{number}@example.org\n" for number in range(20_000))
    path.write_text("alice@example.org\n" + boxes)
    watched = Watched(path)
    stop, missed = threading.Event(), []

    def look() -> None:
        while not stop.is_set():
            if not watched.list.holds_mail("alice@example.org"):
                missed.append(True)

    thread = threading.Thread(target=look)
    thread.start()
    try:
        for version in range(5):
            path.write_text(f"alice@example.org\nv{version}@example.org\n" + boxes)
            (change,) = watched.settled()
            assert change.taken
    finally:
        stop.set()
        thread.join()
    assert missed == []

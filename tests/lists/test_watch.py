"""Lists are given to be read again when their files have changed, and never by halves."""

import os
from collections.abc import Callable
from pathlib import Path

import pytest

from policyd.lists.load import Reading, load_list, reread
from policyd.lists.named import NamedList
from policyd.lists.signature import sign
from policyd.lists.source import Kind, ListFile, ListSource
from policyd.lists.watch import SETTLE, Watcher


def boxes(*paths: Path, name: str = "boxes") -> ListSource:
    files = tuple(
        ListFile(Kind.ADDRESSES, path, path.name, "policyd.toml", line)
        for line, path in enumerate(paths, 7)
    )
    return ListSource(name, frozenset({Kind.ADDRESSES}), "policyd.toml", 6, (), files)


class Watched:
    """A list of one file, who reads it again when told, and a clock that is moved by hand."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self.source = boxes(path)
        reading = load_list(self.source)
        self.list = NamedList(self.source, reading)
        self.watcher = Watcher([(self.source, reading.signatures)])
        self.now = 1000.0

    def after(self, seconds: float) -> tuple[ListSource, ...]:
        self.now += seconds
        return self.watcher.poll(self.now)

    def settled(self) -> Reading:
        """Let a change settle, read the list again, and put it in place if nothing is wrong."""
        assert self.after(1) == ()
        assert self.after(1) == (self.source,)
        return self.read()

    def read(self) -> Reading:
        reading = reread(self.source, self.list.signatures)
        if not any(fault.error for fault in reading.faults):
            self.list.snapshot = reading.snapshot
            self.list.signatures = reading.signatures
            self.watcher.taken(self.source.name, reading.signatures)
        return reading


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


def _keep_size_and_time(path: Path, write: Callable[[Path], object]) -> None:
    before = path.stat()
    write(path)
    os.utime(path, ns=(before.st_atime_ns, before.st_mtime_ns))
    after = path.stat()
    assert (after.st_size, after.st_mtime_ns) == (before.st_size, before.st_mtime_ns)


def rename_with_size_and_time(path: Path) -> None:
    def replace(path: Path) -> None:
        new = path.with_suffix(".new")
        new.write_text("bobby@example.org\n")
        new.replace(path)

    _keep_size_and_time(path, replace)


def rewrite_with_size_and_time(path: Path) -> None:
    changed = path.stat().st_ctime_ns
    while path.stat().st_ctime_ns == changed:  # until the file system's clock has gone on
        _keep_size_and_time(path, lambda path: path.write_text("bobby@example.org\n"))


@pytest.mark.parametrize(
    "change",
    [rewrite, rename, relink, rename_with_size_and_time, rewrite_with_size_and_time],
)
def test_a_changed_file_is_read_once_it_stands_still(
    watched: Watched, change: Callable[[Path], None]
) -> None:
    change(watched.path)
    assert watched.after(1) == ()
    assert watched.after(1) == (watched.source,)
    assert watched.read().faults == ()
    assert not watched.list.holds_mail("alice@example.org")
    assert watched.list.holds_mail("bob@example.org") or watched.list.holds_mail(
        "bobby@example.org"
    )
    assert [watched.after(1) for _ in range(3)] == [()] * 3


def test_a_list_is_given_once_while_nobody_has_read_it_yet(watched: Watched) -> None:
    rewrite(watched.path)
    assert watched.after(1) == ()
    assert watched.after(1) == (watched.source,)
    assert [watched.after(1) for _ in range(3)] == [()] * 3
    watched.read()
    assert [watched.after(1) for _ in range(3)] == [()] * 3


def test_a_list_that_could_not_be_read_is_given_again_later_or_with_the_next_change(
    watched: Watched,
) -> None:
    rewrite(watched.path)
    assert watched.after(1) == ()
    assert watched.after(1) == (watched.source,)
    watched.watcher.again(watched.source.name, watched.now + 5)
    assert [watched.after(1) for _ in range(4)] == [()] * 4
    assert watched.after(1) == (watched.source,)
    watched.watcher.again(watched.source.name, watched.now + 5)
    watched.watcher.again("unknown", watched.now)
    rename(watched.path)
    assert len(watched.settled().snapshot) == 1
    assert [watched.after(1) for _ in range(6)] == [()] * 6


def test_a_file_that_is_being_written_is_left_alone(watched: Watched) -> None:
    with watched.path.open("w") as file:
        for number in range(5):
            file.write(f"box{number}@example.org\n")
            file.flush()
            assert watched.after(0.9) == ()
    assert watched.after(0.9) == ()
    assert watched.after(0.2) == (watched.source,)
    assert len(watched.read().snapshot) == 5


def test_a_file_changed_twice_within_one_tick_is_read_as_it_is_in_the_end(
    watched: Watched,
) -> None:
    watched.path.write_text("bob@example.org\n")
    assert watched.after(SETTLE) == ()
    signature = sign(watched.path)
    watched.path.write_text("eve@example.org\n")
    if sign(watched.path) != signature:  # the clock went on between: it is a change of its own
        assert watched.after(SETTLE) == ()
    assert watched.after(SETTLE) == (watched.source,)
    watched.read()
    assert watched.list.holds_mail("eve@example.org")
    assert watched.after(SETTLE) == ()


def test_a_file_that_changes_while_its_list_is_read_is_given_again(watched: Watched) -> None:
    rewrite(watched.path)
    assert watched.after(1) == ()
    assert watched.after(1) == (watched.source,)
    reading = reread(watched.source, watched.list.signatures)
    watched.path.write_text("carol@example.org\ndave@example.org\n")
    watched.watcher.taken(watched.source.name, reading.signatures)
    assert len(watched.settled().snapshot) == 2
    assert watched.after(1) == ()


def test_a_wrong_version_is_told_once_and_the_old_one_stays(watched: Watched) -> None:
    watched.path.write_text("alice@example.org\n\nbob@example.org OK\n")
    (fault,) = watched.settled().faults
    assert fault.error
    assert (fault.file, fault.line) == ("mailboxes.txt", 3)
    assert watched.list.holds_mail("alice@example.org")
    assert [watched.after(1) for _ in range(3)] == [()] * 3
    watched.path.write_text("carol@example.org\n")
    assert watched.settled().faults == ()
    assert watched.list.holds_mail("carol@example.org")


def test_a_file_that_goes_is_told_once_and_one_that_comes_back_untouched_is_read_once(
    watched: Watched,
) -> None:
    away = watched.path.with_suffix(".away")
    watched.path.rename(away)
    (fault,) = watched.settled().faults
    assert fault.error
    assert "No such file" in fault.what
    assert watched.list.holds_mail("alice@example.org")
    assert watched.after(1) == ()
    away.rename(watched.path)
    assert watched.settled().faults == ()
    assert [watched.after(1) for _ in range(3)] == [()] * 3
    watched.path.rename(away)
    assert watched.settled().faults


def test_a_chmod_is_a_change_for_it_may_make_a_file_readable(watched: Watched) -> None:
    mode = watched.path.stat().st_mode
    watched.path.chmod(mode ^ 0o040)
    assert watched.settled().faults == ()
    assert watched.after(1) == ()


def test_a_file_emptied_by_accident_keeps_its_entries(watched: Watched) -> None:
    watched.path.write_text("")
    faults = watched.settled().faults
    assert [(fault.what, fault.error) for fault in faults] == [
        ("mailboxes.txt is empty", False),
        ("mailboxes.txt was emptied", True),
    ]
    assert watched.list.holds_mail("alice@example.org")
    assert [watched.after(1) for _ in range(3)] == [()] * 3
    watched.path.write_text("# nobody any more\n")
    assert watched.settled().faults == ()
    assert not watched.list.holds_mail("alice@example.org")


def test_each_list_is_watched_with_all_of_its_files(tmp_path: Path) -> None:
    one, two, three = (tmp_path / name for name in ("1", "2", "3"))
    for path in (one, two, three):
        path.write_text("alice@example.org\n")
    both, single, none = boxes(one, two), boxes(three, name="single"), boxes(name="none")
    watcher = Watcher((source, load_list(source).signatures) for source in (both, single, none))
    rewrite(two)
    assert watcher.poll(1) == ()
    rewrite(three)
    assert watcher.poll(2) == (both,)
    assert watcher.poll(3) == (single,)
    watcher.taken("none", {})
    watcher.taken("unknown", {})
    assert watcher.poll(4) == ()

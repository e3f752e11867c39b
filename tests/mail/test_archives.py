"""Names within archives, nested ones too, and what archives that mean harm are allowed to use."""

import bz2
import gzip
import io
import lzma
import struct
import tarfile
import zipfile
import zlib

import pytest
from hypothesis import given
from hypothesis import strategies as st

from policyd.mail import archives
from policyd.mail.archives import Budget, SpentError, archived
from policyd.protocol.mime.defects import Defect
from tests.mail.containers import tarred, zipped

Found = tuple[tuple[str, ...], set[Defect]]


def found(content: bytes, name: str = "a", *, expired: bool = False) -> Found:
    defects: set[Defect] = set()
    names = []
    try:
        for each in archived(content, name, Budget(defects, lambda: expired)):
            names.append(each)  # noqa: PERF402 # those before an end count too
    except SpentError as spent:
        defects.add(spent.defect)
    return tuple(names), defects


INNER = zipped({"b.exe": b"MZ"})
FORMATS = (tarfile.USTAR_FORMAT, tarfile.GNU_FORMAT, tarfile.PAX_FORMAT)


@pytest.mark.parametrize(
    ("content", "name", "names"),
    [
        (b"", "a", ()),
        (b"no archive", "a", ()),
        (zipped({"x.exe": b"MZ", "d/y.txt": b""}), "a.zip", ("a.zip/x.exe", "a.zip/d/y.txt")),
        (zipped({"x.exe": b"MZ"}), "", ("x.exe",)),
        (zipped({"größe.exe": b""}), "a.zip", ("a.zip/größe.exe",)),
        (zipped({"i.zip": INNER}), "a.zip", ("a.zip/i.zip", "a.zip/i.zip/b.exe")),
        (zipped({"no-suffix": INNER}), "a", ("a/no-suffix", "a/no-suffix/b.exe")),
        (zipped({"i.zip": b"junk" + INNER}), "a", ("a/i.zip", "a/i.zip/b.exe")),
        (b"junk" * 100 + INNER, "a.zip", ("a.zip/b.exe",)),
        (tarred({"x.exe": b"MZ", "y": b""}), "a.tar", ("a.tar/x.exe", "a.tar/y")),
        (gzip.compress(b"x"), "a.txt.gz", ("a.txt.gz/a.txt",)),
        (bz2.compress(b"x"), "a.txt.bz2", ("a.txt.bz2/a.txt",)),
        (lzma.compress(b"x"), "a.txt.xz", ("a.txt.xz/a.txt",)),
        (gzip.compress(b"x"), "a", ("a/a",)),
        (tarred({"x": b""}, compressed="gz"), "a.tgz", ("a.tgz/a.tar", "a.tgz/a.tar/x")),
        (tarred({"x": b""}, compressed="bz2"), "a.tbz", ("a.tbz/a.tar", "a.tbz/a.tar/x")),
        (tarred({"i.zip": INNER}), "a.tar", ("a.tar/i.zip", "a.tar/i.zip/b.exe")),
    ],
)
def test_files_in_an_archive_are_named(content: bytes, name: str, names: tuple[str, ...]) -> None:
    assert found(content, name) == (names, set())


@pytest.mark.parametrize(
    ("form", "length"),
    [
        *((form, length) for form in FORMATS for length in (10, 99, 100, 101, 150, 190)),
        (tarfile.GNU_FORMAT, 250),
        (tarfile.PAX_FORMAT, 250),
    ],
)
@pytest.mark.parametrize("compressed", ["", "gz", "bz2", "xz"])
def test_a_tar_names_what_is_in_it_in_every_format(form: int, length: int, compressed: str) -> None:
    long = "d" * (length // 2) + "/" + "f" * (length - length // 2 - 5) + ".exe"
    names, defects = found(tarred({long: b"MZ" * 700, "b": b""}, form, compressed=compressed), "")
    *_, first, second = (name.removeprefix("a/") for name in names)
    assert (first, second) == (long, "b")
    assert defects == set()


def test_a_gzip_file_says_what_it_was_called() -> None:
    made = io.BytesIO()
    with gzip.GzipFile("evil.exe", "wb", fileobj=made) as file:
        file.write(b"MZ")
    assert found(made.getvalue(), "harmless.gz") == (("harmless.gz/evil.exe",), set())


def test_gzip_files_behind_each_other_are_one() -> None:
    tar = tarred({"x.exe": b"MZ"})
    parts = gzip.compress(b"") + gzip.compress(tar[:700]) + gzip.compress(tar[700:])
    assert found(parts)[0] == ("a/a", "a/a/x.exe")


def test_a_name_in_another_code_page_is_shown_and_keeps_its_suffix() -> None:
    content = zipped({"Xtwo.exe": b""}).replace(b"Xtwo", b"\x81two")
    assert found(content) == (("a/ütwo.exe",), set())


@pytest.mark.parametrize(
    ("name", "shown"),
    [
        ("a\r\nb", "a  b"),
        ("\u202egpj.exe", "?gpj.exe"),
        ("../../etc/passwd", "../../etc/passwd"),
        ("x" * 1000 + ".exe", ("x" * 1000 + ".exe")[-300:]),
    ],
)
def test_names_are_fit_to_be_shown(name: str, shown: str) -> None:
    assert found(zipped({name: b""}), "")[0] == (shown,)


def flagged(content: bytes, offset: int, flags: int) -> bytes:
    """Set bits of the first file of a zip, in its header and in the directory."""
    made = bytearray(content)
    made[6 + offset] |= flags
    made[content.index(b"PK\x01\x02") + 8 + offset] |= flags
    return bytes(made)


def test_files_that_need_a_password_are_named_too() -> None:
    content = flagged(zipped({"x.exe": b"MZ", "y": b""}), 0, 1)
    assert found(content) == (("a/x.exe", "a/y"), {Defect.ENCRYPTED_ARCHIVE})


@pytest.mark.parametrize(
    "content",
    [
        pytest.param(zipped({"x.exe": b"MZ" * 1000})[:-30], id="a zip cut short"),
        pytest.param(zipped({"x.exe": b"MZ"}).replace(b"PK\x01\x02", b"PK\x01\x03"), id="no list"),
        pytest.param(zipped({"x.exe": b"MZ"}, zipfile.ZIP_BZIP2), id="a zip by bzip2"),
        pytest.param(tarred({"x.exe": b"MZ" * 1000})[:700], id="a tar cut short"),
        pytest.param(tarred({"x.exe": b"MZ"})[:1024] + b"x" * 512, id="a tar that goes wrong"),
    ],
)
def test_a_damaged_archive_is_told_and_gives_what_it_has(content: bytes) -> None:
    assert found(content) == (("a/x.exe",), {Defect.UNREADABLE_ARCHIVE})


@pytest.mark.parametrize("compressed", ["gz", "bz2", "xz"])
def test_what_could_be_decompressed_counts(compressed: str) -> None:
    whole = tarred({"x.exe": bytes(10), "y": bytes(range(256)) * 4000}, compressed=compressed)
    names, defects = found(whole[: len(whole) // 2 if compressed != "bz2" else -20])
    assert defects == {Defect.UNREADABLE_ARCHIVE}
    assert names[0] == "a/a"
    assert compressed == "bz2" or "a/a/x.exe" in names


def test_a_name_that_differs_in_the_directory_is_told() -> None:
    content = zipped({"good.txt": b"MZ"}).replace(b"good.txt", b"evil.exe", 1)
    assert found(content) == (("a/good.txt",), {Defect.UNREADABLE_ARCHIVE})


@pytest.fixture
def decompressed(monkeypatch: pytest.MonkeyPatch) -> list[int]:
    """How many octets were taken off the budget, each time."""
    seen: list[int] = []
    real = Budget.decompressed

    def counted(self: Budget, octets: int) -> bool:
        seen.append(octets)
        return real(self, octets)

    monkeypatch.setattr(Budget, "decompressed", counted)
    return seen


def huge(begin: bytes, name: str = "bomb.zip") -> bytes:
    """A zip whose one file begins as told and has 100 MiB of zeros behind."""
    made = io.BytesIO()
    with zipfile.ZipFile(made, "w", zipfile.ZIP_DEFLATED) as archive:
        with archive.open(name, "w") as file:
            file.write(begin)
            for _ in range(100):
                file.write(bytes(2**20))
        archive.writestr("behind.exe", b"MZ")
    return made.getvalue()


def test_a_file_that_is_no_archive_is_not_decompressed(decompressed: list[int]) -> None:
    assert found(huge(b"", "zeros")) == (("a/zeros", "a/behind.exe"), set())
    assert sum(decompressed) == 0


def test_an_archive_is_decompressed_as_far_as_the_budget_goes(decompressed: list[int]) -> None:
    names, defects = found(huge(INNER))
    assert names == ("a/bomb.zip", "a/bomb.zip/b.exe", "a/behind.exe")
    assert Defect.ARCHIVE_BOMB in defects
    assert sum(decompressed) < archives.MOST_DECOMPRESSED + 2**20


def bomb_of_zips(levels: int) -> bytes:
    """A zip of sixteen zips of sixteen zips, as the well-known one has them."""
    made = zipped({"x": b""})
    for _ in range(levels):
        made = zipped({f"{n:x}.zip": made for n in range(16)})
    return made


def test_zips_in_zips_end_at_a_depth_and_at_a_number(decompressed: list[int]) -> None:
    names, defects = found(bomb_of_zips(6))
    assert Defect.ARCHIVE_BOMB in defects
    assert max(name.count("/") for name in names) <= archives.DEEPEST
    assert len(names) <= archives.MOST_NAMES
    assert sum(decompressed) < archives.MOST_DECOMPRESSED + 2**20


@pytest.mark.parametrize(
    "content",
    [
        pytest.param(zipped({str(n): b"" for n in range(10_001)}), id="zip"),
        pytest.param(zipped({str(n): b"" for n in range(40_000)}), id="zip, a large directory"),
        pytest.param(tarred({str(n): b"" for n in range(10_001)}, FORMATS[0]), id="tar"),
        pytest.param(
            tarred({"x" * 200 + str(n): b"" for n in range(6_000)}, compressed="xz"), id="pax"
        ),
    ],
)
def test_names_beyond_the_most_are_not_read(content: bytes) -> None:
    names, defects = found(content)
    assert Defect.ARCHIVE_BOMB in defects
    assert archives.MOST_NAMES // 2 <= len(names) <= archives.MOST_NAMES


def test_gzip_in_gzip_ends_at_a_depth() -> None:
    content = b"x" * 2000
    for _ in range(50):
        content = gzip.compress(content)
    names, defects = found(content)
    assert len(names) == archives.DEEPEST
    assert defects == {Defect.ARCHIVE_BOMB}


def test_a_tar_of_zeros_is_not_kept_in_memory(decompressed: list[int]) -> None:
    tar = tarred({"zeros": bytes(40 * 2**20), "x.exe": b"MZ"}, compressed="xz")
    names, defects = found(tar)
    assert names == ("a/a", "a/a/zeros")
    assert Defect.ARCHIVE_BOMB in defects
    assert sum(decompressed) < archives.MOST_DECOMPRESSED + 2**20


@pytest.mark.parametrize("size", [-1, 2**60])
def test_a_tar_with_a_size_beyond_measure_ends_there(size: int) -> None:
    header = bytearray(tarred({"x": b""})[:512])
    header[124:136] = (size % 2**96).to_bytes(12, "big")
    header[124] |= 0x80
    header[148:156] = b" " * 8
    header[148:156] = b"%06o\0 " % sum(header)
    assert found(bytes(header) + bytes(1024)) == (("a/x",), {Defect.UNREADABLE_ARCHIVE})


def test_xz_that_wants_more_memory_than_there_is_for_it_is_unreadable() -> None:
    compressor = lzma.LZMACompressor(filters=[{"id": lzma.FILTER_LZMA2, "dict_size": 2**20}])
    small = compressor.compress(tarred({"x": b""})) + compressor.flush()
    assert found(small)[1] == set()
    # the size of the dictionary stands in the header of a block (.xz file format, section 5.3.1)
    header = bytearray(small[12:24])
    header[4] = 38  # 2 GiB
    header[8:12] = struct.pack("<I", zlib.crc32(header[:8]))
    names, defects = found(small[:12] + bytes(header) + small[24:])
    assert names == ("a/a",)
    assert defects == {Defect.UNREADABLE_ARCHIVE}


def test_files_beyond_number_behind_each_other_are_not_read_on() -> None:
    assert found(gzip.compress(b"") * 1000)[1] == {Defect.UNREADABLE_ARCHIVE}


def test_time_that_is_up_ends_it() -> None:
    assert found(zipped({"x": b""}), expired=True) == ((), {Defect.TOO_COSTLY})


ARCHIVES = [
    zipped({"x.exe": b"MZ", "i.zip": INNER}),
    tarred({"x.exe": b"MZ", "y" * 150: INNER}),
    tarred({"x": INNER}, compressed="gz"),
    tarred({"x": INNER}, compressed="bz2"),
    tarred({"x": INNER}, compressed="xz"),
]


@given(
    st.sampled_from(ARCHIVES),
    st.lists(st.tuples(st.integers(0, 3000), st.binary(max_size=6)), max_size=6),
    st.integers(0, 12_000),
)
def test_whatever_is_done_to_an_archive_there_is_an_answer(
    content: bytes, changes: list[tuple[int, bytes]], cut: int
) -> None:
    damaged = bytearray(content)
    for where, octets in changes:
        damaged[where : where + len(octets)] = octets
    names, _ = found(bytes(damaged[:cut]))
    assert all(name.isprintable() for name in names)

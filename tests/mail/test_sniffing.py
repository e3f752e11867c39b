"""What files are by their octets: each type that is told apart, of files that tests make."""

import bz2
import gzip
import io
import lzma
import struct
import tarfile
import wave
import zlib
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from policyd.mail.archives import zip_members
from policyd.mail.sniffing import MACROS, OLE, PE, TEXT, UNKNOWN, sniffed
from tests.mail.containers import OLE as STORAGE
from tests.mail.containers import WINDOWS, tarred, zipped


def types(content: bytes) -> tuple[str, ...]:
    return sniffed(content, zip_members(content))


def named(*names: str) -> bytes:
    """A compound file with names in its directory."""
    return STORAGE + b"".join(name.encode("utf-16-le").ljust(128, b"\0") for name in names)


def office(*names: str) -> bytes:
    return zipped(dict.fromkeys(("[Content_Types].xml", *names), b"<x/>"))


def declared(kind: bytes) -> bytes:
    return zipped({"mimetype": kind, "content.xml": b"<x/>"}, method=0)


def sound() -> bytes:
    made = io.BytesIO()
    with wave.open(made, "wb") as file:
        file.setparams((1, 2, 8000, 0, "NONE", ""))
        file.writeframes(bytes(100))
    return made.getvalue()


def png() -> bytes:
    def chunk(kind: bytes, data: bytes) -> bytes:
        return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind))

    head = chunk(b"IHDR", struct.pack(">IIBBBBB", 1, 1, 8, 0, 0, 0, 0))
    return (
        b"\x89PNG\r\n\x1a\n" + head + chunk(b"IDAT", zlib.compress(b"\0\0")) + chunk(b"IEND", b"")
    )


LANGUAGE = Path(__file__).parents[2] / "docs" / "language.md"
SPREADSHEET = "application/vnd.openxmlformats-officedocument.spreadsheetml.sheet"
FILES = {
    PE: WINDOWS,
    "application/x-msdos-program": b"MZ\x90\0\x03\0\0\0",
    "application/x-elf": b"\x7fELF\x02\x01\x01" + bytes(9),
    "application/x-mach-binary": b"\xcf\xfa\xed\xfe\x07\0\0\x01",
    "application/java-vm": b"\xca\xfe\xba\xbe\0\0\0\x41",
    "application/wasm": b"\0asm\x01\0\0\0",
    "text/x-script": b"#!/bin/sh\nrm -r /\n",
    "application/x-encoded-script": b"#@~^AAAAAA==",
    "application/hta": b"<html><head><HTA:APPLICATION ID=x>",
    "application/x-ms-shortcut": bytes.fromhex("4c0000000114020000000000c000000000000046"),
    "application/x-mswinurl": b"[InternetShortcut]\r\nURL=file://x\r\n",
    "application/x-desktop": b"[Desktop Entry]\nExec=x\n",
    "text/x-ms-regedit": "Windows Registry Editor Version 5.00\r\n".encode("utf-16"),
    "application/x-msi": STORAGE + bytes.fromhex("84100c0000000000c000000000000046"),
    "application/vnd.ms-htmlhelp": b"ITSF\x03\0\0\0",
    "application/onenote": bytes.fromhex("e4525c7b8cd8a74daeb15378d02996d3"),
    "application/x-shockwave-flash": b"CWS\x0a\0\0\0\0",
    "application/msword": named("Root Entry", "WordDocument"),
    "application/vnd.ms-excel": named("Workbook"),
    "application/vnd.ms-powerpoint": named("PowerPoint Document"),
    "application/vnd.ms-outlook": named("__properties_version1.0"),
    "application/vnd.visio": named("VisioDocument"),
    "application/x-encrypted-office": named("EncryptedPackage"),
    OLE: STORAGE,
    SPREADSHEET: office("xl/workbook.xml"),
    "application/vnd.openxmlformats-officedocument.wordprocessingml.document": office("word/a"),
    "application/vnd.openxmlformats-officedocument.presentationml.presentation": office("ppt/a"),
    "application/vnd.oasis.opendocument.text": declared(b"application/vnd.oasis.opendocument.text"),
    "application/epub+zip": declared(b"application/epub+zip"),
    "application/rtf": b"{\\rtf1\\ansi Hello}",
    "application/pdf": b"%PDF-1.7\n%\xe2\xe3\xcf\xd3\n",
    "application/postscript": b"%!PS-Adobe-3.0\n",
    "application/vnd.ms-tnef": bytes.fromhex("789f3e22") + bytes(20),
    "application/zip": zipped({"a.txt": b"x"}),
    "application/java-archive": zipped({"META-INF/MANIFEST.MF": b"x", "A.class": b"x"}),
    "application/vnd.android.package-archive": zipped({"AndroidManifest.xml": b"x"}),
    "application/vnd.ms-appx": zipped({"AppxManifest.xml": b"x"}),
    "application/x-tar": tarred({"a": b"x"}),
    "application/gzip": gzip.compress(b"x"),
    "application/x-bzip2": bz2.compress(b"x"),
    "application/x-xz": lzma.compress(b"x"),
    "application/zstd": bytes.fromhex("28b52ffd2400"),
    "application/vnd.rar": b"Rar!\x1a\x07\x01\0",
    "application/x-7z-compressed": b"7z\xbc\xaf\x27\x1c\0\x04",
    "application/x-ace": bytes(7) + b"**ACE**",
    "application/vnd.ms-cab-compressed": b"MSCF\0\0\0\0",
    "application/x-ms-wim": b"MSWIM\0\0\0",
    "application/x-iso9660-image": bytes(0x8001) + b"CD001\x01",
    "application/x-vhd": b"conectix\0\0\0\x02",
    "application/x-vhdx": b"vhdxfile",
    "application/x-apple-diskimage": bytes(1000) + b"koly" + bytes(508),
    "text/html": b"\xef\xbb\xbf\n<!DOCTYPE html>\n<html>",
    "image/svg+xml": b"<?xml version='1.0'?><svg xmlns='x'><script/></svg>",
    "text/xml": b"<?xml version='1.0'?><x/>",
    TEXT: "Grüße\r\nMZ und PK\r\n".encode(),
    UNKNOWN: b"\x01\x02\x03 nobody knows",
    # by puremagic
    "image/png": png(),
    "audio/wave": sound(),
}


@pytest.mark.parametrize("kind", FILES)
def test_a_file_is_what_it_is(kind: str) -> None:
    assert types(FILES[kind]) == (kind,)


@pytest.mark.parametrize(
    ("content", "kind"),
    [
        (named("WordDocument", "_VBA_PROJECT"), "application/msword"),
        (
            office("word/document.xml", "word/vbaProject.bin"),
            "application/vnd.ms-word.document.macroenabled.12",
        ),
        (
            office("xl/workbook.xml", "xl/vbaProject.bin"),
            "application/vnd.ms-excel.sheet.macroenabled.12",
        ),
        (
            office("ppt/a", "ppt/vbaProject.bin"),
            "application/vnd.ms-powerpoint.presentation.macroenabled.12",
        ),
    ],
)
def test_macros_are_told_beside_the_type(content: bytes, kind: str) -> None:
    assert types(content) == (kind, MACROS)


@pytest.mark.parametrize(
    ("content", "kind"),
    [
        (b"MZ is how this text begins\r\n", TEXT),
        (b"BM, said she\r\n", TEXT),
        (b"Hello\x1b[0m\t\f\r\n", TEXT),
        ("Hello".encode("utf-16"), TEXT),
        (b"junk before" + FILES["application/pdf"], "application/pdf"),
        (b"\0junk before" + zipped({"a": b"x"}), "application/zip"),
        (WINDOWS + zipped({"a": b"x"}), PE),  # one that extracts itself
        (b"\xca\xfe\xba\xbe\0\0\0\x02", "application/x-mach-binary"),
        (FILES["application/zip"][:40], "application/zip"),
        (bytes(2000) + b"conectix" + bytes(504), "application/x-vhd"),
        (tarred({"a": b"x"}, tarfile.GNU_FORMAT), "application/x-tar"),
    ],
)
def test_what_it_begins_with_is_not_all(content: bytes, kind: str) -> None:
    assert types(content) == (kind,)


def test_an_empty_file_is_of_no_type() -> None:
    assert types(b"") == ()


@given(st.binary(max_size=200), st.sampled_from(list(FILES.values())), st.integers(0, 100))
def test_anything_has_a_type(junk: bytes, file: bytes, cut: int) -> None:
    for content in (junk, file[:cut] + junk, junk + file):
        found = types(content)
        assert bool(found) is bool(content)
        assert all(kind == kind.lower() and kind.count("/") == 1 for kind in found)


@pytest.mark.parametrize("kind", [*FILES, MACROS])
def test_every_type_that_is_told_apart_is_in_the_reference(kind: str) -> None:
    section = LANGUAGE.read_text().partition("\n## Content\n")[2].partition("\n## ")[0]
    assert kind in section.replace("`….", "`application/vnd.openxmlformats-officedocument.")

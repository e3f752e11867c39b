"""
What a file is by its octets: the types that file_types() tells apart.

What a postmaster wants to tell apart stands in tables here, under one name each; puremagic knows
the rest, such as images and sounds, by their first octets.
"""

import re
import struct
from collections.abc import Collection
from typing import Final

import puremagic

UNKNOWN: Final = "application/octet-stream"
TEXT: Final = "text/plain"
PE: Final = "application/vnd.microsoft.portable-executable"
MACROS: Final = "application/vnd.ms-office.vbaproject"
"""Beside the type of an Office file that has macros."""
ZIP: Final = "application/zip"
OLE: Final = "application/x-ole-storage"
_DOS: Final = "application/x-msdos-program"
_MACH: Final = "application/x-mach-binary"
_ISO: Final = "application/x-iso9660-image"
_OPEN_XML: Final = "application/vnd.openxmlformats-officedocument."
_MOST_FAT: Final = 40  # architectures of a Mach-O; a Java class has its version there, from 45 on

_BEGINNINGS: Final = (
    (b"\x7fELF", "application/x-elf"),
    (b"\xfe\xed\xfa\xce", _MACH),
    (b"\xfe\xed\xfa\xcf", _MACH),
    (b"\xce\xfa\xed\xfe", _MACH),
    (b"\xcf\xfa\xed\xfe", _MACH),
    (b"#!", "text/x-script"),
    (b"#@~^", "application/x-encoded-script"),
    (b"L\0\0\0\x01\x14\x02\0", "application/x-ms-shortcut"),
    (b"ITSF", "application/vnd.ms-htmlhelp"),
    (b"MSCF", "application/vnd.ms-cab-compressed"),
    (b"MSWIM\0\0\0", "application/x-ms-wim"),
    (b"\xe4\x52\x5c\x7b\x8c\xd8\xa7\x4d\xae\xb1\x53\x78\xd0\x29\x96\xd3", "application/onenote"),
    (b"\x78\x9f\x3e\x22", "application/vnd.ms-tnef"),
    (b"conectix", "application/x-vhd"),
    (b"vhdxfile", "application/x-vhdx"),
    (b"Rar!\x1a\x07", "application/vnd.rar"),
    (b"7z\xbc\xaf\x27\x1c", "application/x-7z-compressed"),
    (b"\x1f\x8b", "application/gzip"),
    (b"BZh", "application/x-bzip2"),
    (b"\xfd7zXZ\0", "application/x-xz"),
    (b"\x28\xb5\x2f\xfd", "application/zstd"),
    (b"{\\rt", "application/rtf"),
    (b"%!", "application/postscript"),
    (b"\0asm", "application/wasm"),
    (b"FWS", "application/x-shockwave-flash"),
    (b"CWS", "application/x-shockwave-flash"),
    (b"ZWS", "application/x-shockwave-flash"),
)
_WITHIN: Final = (
    (7, b"**ACE**", "application/x-ace"),
    (257, b"ustar", "application/x-tar"),
    (0x8001, b"CD001", _ISO),
    (0x8001, b"BEA01", _ISO),
)
_ENDINGS: Final = (
    (512, b"conectix", "application/x-vhd"),
    (512, b"koly", "application/x-apple-diskimage"),
)
_MARKUP: Final = re.compile(
    rb"[\s\xef\xbb\xbf\0]{0,64}(?:"
    rb"(?P<html><(?:!doctype\s+html|html|head|body|script|iframe|meta|title)[\s>])"
    rb"|(?P<svg><svg[\s>])|(?P<xml><\?xml\s)|(?P<url>\[InternetShortcut\])"
    rb"|(?P<desktop>\[Desktop Entry\])|(?P<registry>REGEDIT4|Windows Registry Editor))",
    re.IGNORECASE,
)
_MARKED: Final = {
    "html": "text/html",
    "svg": "image/svg+xml",
    "xml": "text/xml",
    "url": "application/x-mswinurl",
    "desktop": "application/x-desktop",
    "registry": "text/x-ms-regedit",
}
_HTA: Final = re.compile(rb"<hta:application\b", re.IGNORECASE)
_SVG: Final = re.compile(rb"<svg[\s>]", re.IGNORECASE)
_IN_OLE: Final = {
    name.encode("utf-16-le"): kind
    for name, kind in (
        ("EncryptedPackage", "application/x-encrypted-office"),
        ("WordDocument", "application/msword"),
        ("Workbook", "application/vnd.ms-excel"),
        ("PowerPoint Document", "application/vnd.ms-powerpoint"),
        ("VisioDocument", "application/vnd.visio"),
        ("__properties_version1.0", "application/vnd.ms-outlook"),
    )
} | {bytes.fromhex("84100c0000000000c000000000000046"): "application/x-msi"}
"""Names in the directory of a compound file, and the class of an installation package in its root;
the first that it has tells what it is."""
_VBA: Final = "_VBA_PROJECT".encode("utf-16-le")
_MARKS: Final = re.compile(b"|".join(map(re.escape, (*_IN_OLE, _VBA))))
_IN_ZIP: Final = (
    ("AndroidManifest.xml", "application/vnd.android.package-archive"),
    ("AppxManifest.xml", "application/vnd.ms-appx"),
    ("META-INF/MANIFEST.MF", "application/java-archive"),
)
_OFFICE: Final = (
    ("word/", "wordprocessingml.document", "application/vnd.ms-word.document.macroenabled.12"),
    ("xl/", "spreadsheetml.sheet", "application/vnd.ms-excel.sheet.macroenabled.12"),
    (
        "ppt/",
        "presentationml.presentation",
        "application/vnd.ms-powerpoint.presentation.macroenabled.12",
    ),
)
_FIRST: Final = 4096
"""Octets by which puremagic, and a look for control characters, tell what something is."""
_SURE: Final = 0.3  # puremagic's confidence in three octets; two can be anybody's
_CONTROL: Final = re.compile(rb"[\x00-\x06\x0e-\x1a\x1c-\x1f]")
_MIME_TYPE: Final = re.compile(r"[a-z0-9.+-]+/[a-z0-9.+-]+")


def sniffed(data: bytes, members: Collection[str] = ()) -> tuple[str, ...]:
    """
    Give the type of a file, and MACROS beside it if it has some; nothing for an empty one.

    `members` are the names in it if it is a zip.
    """
    if not data:
        return ()
    first = data[:_FIRST]
    if first.startswith(b"\xd0\xcf\x11\xe0\xa1\xb1\x1a\xe1"):
        return _ole(data)
    if first.startswith((b"PK\x03\x04", b"PK\x05\x06", b"PK\x07\x08")):
        return _zip(first, members)
    known = _by_signature(data, first)
    if not known and members:  # a zip may begin with anything
        return _zip(first, members)
    return (known or _by_text(first) or _by_puremagic(first),)


def _by_signature(data: bytes, first: bytes) -> str:
    if first.startswith(b"MZ") and _CONTROL.search(first):
        return PE if _is_pe(data) else _DOS
    if first.startswith(b"\xca\xfe\xba\xbe") and len(first) >= 8:
        is_fat = int.from_bytes(first[4:8], "big") < _MOST_FAT
        return _MACH if is_fat else "application/java-vm"
    for octets, kind in _BEGINNINGS:
        if first.startswith(octets):
            return kind
    if b"%PDF-" in first[:1024]:  # where readers look for it
        return "application/pdf"
    for offset, octets, kind in _WITHIN:
        if data[offset : offset + len(octets)] == octets:
            return kind
    for offset, octets, kind in _ENDINGS:
        if len(data) > offset and data[-offset : len(octets) - offset] == octets:
            return kind
    return ""


def _is_pe(data: bytes) -> bool:
    if len(data) < 64:
        return False
    (offset,) = struct.unpack_from("<I", data, 60)
    return data[offset : offset + 4] == b"PE\0\0"


def _by_text(first: bytes) -> str:
    wide = first.startswith((b"\xff\xfe", b"\xfe\xff"))
    plain = first.replace(b"\0", b"") if wide else first
    found = _MARKUP.match(plain, 2 if wide else 0)
    if _HTA.search(plain):
        return "application/hta"
    if found is not None and found.lastgroup is not None:
        kind = _MARKED[found.lastgroup]
        return "image/svg+xml" if kind == "text/xml" and _SVG.search(plain) else kind
    return TEXT if wide or not _CONTROL.search(first) else ""


def _by_puremagic(first: bytes) -> str:
    try:
        matches = puremagic.magic_string(first)
    except (puremagic.PureError, ValueError):
        return UNKNOWN
    for found in matches:
        kind = found.mime_type.lower()
        if found.confidence >= _SURE and _MIME_TYPE.fullmatch(kind):
            return str(kind)
    return UNKNOWN


def _ole(data: bytes) -> tuple[str, ...]:
    """Tell compound files (MS-CFB) apart by the names in their directories."""
    marks = {found[0] for found in _MARKS.finditer(data)}
    kind = next((kind for name, kind in _IN_OLE.items() if name in marks), OLE)
    return (kind, MACROS) if _VBA in marks else (kind,)


def _zip(first: bytes, members: Collection[str]) -> tuple[str, ...]:
    names = set(members)
    macros = any(name.endswith("vbaProject.bin") for name in names)
    if "[Content_Types].xml" in names:
        for folder, kind, with_macros in _OFFICE:
            if any(name.startswith(folder) for name in names):
                return (with_macros, MACROS) if macros else (_OPEN_XML + kind,)
    for name, kind in _IN_ZIP:
        if name in names:
            return (kind,)
    declared = first[30:200]
    if declared.startswith(b"mimetype"):  # OpenDocument, EPUB: first of all, and not compressed
        (size,) = struct.unpack_from("<I", first, 18)
        extra = int.from_bytes(first[28:30], "little")
        kind = declared[8 + extra : 8 + extra + min(size, 100)].decode("ascii", "replace").lower()
        if _MIME_TYPE.fullmatch(kind):
            return (kind,)
    return (ZIP,)

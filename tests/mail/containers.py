"""Archives and files that tests make, small and real."""

import base64
import io
import struct
import tarfile
import zipfile
from collections.abc import Mapping
from typing import Final

WINDOWS: Final = b"MZ" + bytes(58) + struct.pack("<I", 128) + bytes(64) + b"PE\0\0\x64\x86"
"""As much of a program for Windows as tells it."""
OLE: Final = bytes.fromhex("d0cf11e0a1b11ae1") + bytes(504)


def zipped(files: Mapping[str, bytes], method: int = zipfile.ZIP_DEFLATED) -> bytes:
    """Make a zip of files by name."""
    made = io.BytesIO()
    with zipfile.ZipFile(made, "w", method) as archive:
        for name, content in files.items():
            archive.writestr(name, content)
    return made.getvalue()


def tarred(
    files: Mapping[str, bytes], form: int = tarfile.PAX_FORMAT, *, compressed: str = ""
) -> bytes:
    """Make a tar of files by name, compressed by gz, bz2 or xz."""
    made = io.BytesIO()
    mode = f"w:{compressed}"
    with tarfile.open(fileobj=made, mode=mode, format=form) as archive:  # type: ignore[call-overload] # any of its modes
        for name, content in files.items():
            info = tarfile.TarInfo(name)
            info.size = len(content)
            archive.addfile(info, io.BytesIO(content))
    return made.getvalue()


def attached(content: bytes, name: str = "a.zip", kind: str = "application/octet-stream") -> bytes:
    """Make a part, headers and all."""
    head = (
        f'Content-Type: {kind}; name="{name}"\r\n'
        "Content-Transfer-Encoding: base64\r\n"
        f'Content-Disposition: attachment; filename="{name}"\r\n\r\n'
    )
    return head.encode() + base64.encodebytes(content).replace(b"\n", b"\r\n")


def mail(*parts: bytes) -> bytes:
    """Make a message of parts."""
    head = (
        b"From: a@example.net\r\nTo: b@example.org\r\nSubject: x\r\n"
        b"Date: Thu, 1 Jan 2026 00:00:00 +0000\r\nMessage-ID: <1@example.net>\r\n"
        b"MIME-Version: 1.0\r\nContent-Type: multipart/mixed; boundary=limit\r\n\r\n"
    )
    return head + b"".join(b"--limit\r\n" + part + b"\r\n" for part in parts) + b"--limit--\r\n"

"""Files that a table names for its connections: a password, certificates."""

import ssl
import stat
from pathlib import Path
from typing import Final

from policyd.config.gather import Part
from policyd.config.problem import Problem, Severity

_LONGEST_PASSWORD: Final = 4096  # octets that are read of its file


def read_password(part: Part, name: str) -> tuple[str, tuple[Problem, ...]]:
    """Read what `password_file` names, relative to the file that names it; empty if it cannot."""
    path = part.document.path.parent / name
    try:
        password = _first_line(path)
        mode = path.stat().st_mode
    except (OSError, ValueError) as error:
        what = f"password_file: {path} cannot be read: {_why(error)}"
        mend = "name a file that holds the password in its first line"
        return "", (_problem(part, "password_file", what, mend),)
    if mode & stat.S_IROTH:
        what = f"password_file: everyone on this host may read {path}"
        mend = "take that away: chmod o-r"
        return password, (_problem(part, "password_file", what, mend, error=False),)
    return password, ()


def find_certificates(part: Part, name: str) -> tuple[str, tuple[Problem, ...]]:
    """Give the path of what `ca_file` names, from the root, and look whether it has any."""
    path = part.document.path.parent / name
    try:
        ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT).load_verify_locations(path)
    except (OSError, ValueError) as error:  # ssl.SSLError is an OSError
        what = f"ca_file: {path} cannot be read: {_why(error)}"
        mend = "name a file of certificates in PEM, or leave it out to trust the system's"
        return "", (_problem(part, "ca_file", what, mend),)
    return str(path.absolute()), ()


def _first_line(path: Path) -> str:
    if not path.is_file():
        path.stat()
        raise ValueError("it is no regular file")
    with path.open("rb") as file:
        line = file.readline(_LONGEST_PASSWORD + 1)
    if len(line) > _LONGEST_PASSWORD:
        raise ValueError(f"its first line has more than {_LONGEST_PASSWORD} octets")
    try:
        password = line.decode().rstrip("\r\n")
    except UnicodeDecodeError:  # whose message would show a part of it
        raise ValueError("its first line is not UTF-8") from None
    if not password:
        raise ValueError("its first line is empty")
    return password


def _why(error: Exception) -> str:
    if isinstance(error, ssl.SSLError):
        return "it holds no certificate"
    if isinstance(error, OSError) and error.strerror:
        return error.strerror
    return str(error)


def _problem(part: Part, key: str, what: str, mend: str, *, error: bool = True) -> Problem:
    severity: Severity = "error" if error else "warning"
    return Problem(part.document.shown, part.line(key), "", what, mend, severity)

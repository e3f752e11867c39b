"""`[state]`: the files that it names, what is doubtful in it, and what a store is told."""

import ssl
import stat
from collections.abc import Iterator
from pathlib import Path
from typing import Final

from policyd.config.gather import Part
from policyd.config.model import Config, State
from policyd.config.problem import Problem, Severity
from policyd.store.place import Kind, StateSettings, read_place

_LONGEST_PASSWORD: Final = 4096  # octets that are read of its file


def read_state_files(state: State, part: Part) -> tuple[State, tuple[Problem, ...]]:
    """Read the files that the table names; what cannot be read is a problem."""
    problems: list[Problem] = []
    password, files = "", {}
    if state.password_file is not None:
        path = part.document.path.parent / state.password_file
        files["password_file"] = str(path.absolute())
        try:
            password = _first_line(path)
            if path.stat().st_mode & stat.S_IROTH:
                what = f"password_file: everyone on this host may read {path}"
                mend = "take that away: chmod o-r"
                problems.append(_problem(part, "password_file", what, mend, error=False))
        except (OSError, ValueError) as error:
            what = f"password_file: {path} cannot be read: {_why(error)}"
            mend = "name a file that holds the password in its first line"
            problems.append(_problem(part, "password_file", what, mend))
    if state.ca_file is not None:
        path = part.document.path.parent / state.ca_file
        files["ca_file"] = str(path.absolute())
        try:
            ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT).load_verify_locations(path)
        except OSError as error:  # ssl.SSLError is one
            what = f"ca_file: {path} cannot be read: {_why(error)}"
            mend = "name a file of certificates in PEM, or leave it out to trust the system's"
            problems.append(_problem(part, "ca_file", what, mend))
    return state.loaded(password, files), tuple(problems)


def judge_state(config: Config, part: Part) -> Iterator[Problem]:
    """Give what is wrong or doubtful in a table whose keys are each right in themselves."""
    state, place = config.state, read_place(config.state.url)
    if place.kind is Kind.MEMORY and config.server.workers > 1:
        what = f"url: memory: is each worker's own, and there are {config.server.workers} workers"
        mend = f'write workers = 1 in [server], or url = "{State().url}"'
        yield _problem(part, "url", what, mend)
    if state.password_file is not None and place.password:
        what = "password_file: there is a password in the url too"
        yield _problem(part, "password_file", what, "leave one of the two out")
    if state.ca_file is not None and place.remote and not place.tls:
        what = "ca_file: the url asks for no TLS"
        scheme = place.kind.replace("redis", "rediss", 1)
        mend = f'write url = "{scheme}://…", or leave it out'
        yield _problem(part, "ca_file", what, mend)
    if not place.remote:
        for key in ("prefix", "password_file", "ca_file"):
            if key in part.values:
                what = f"{key} is for Redis, and {place.kind}: is none"
                yield _problem(part, key, what, "leave it out", error=False)
    if state.timeout >= config.server.decision_timeout:
        longest = f"{config.server.decision_timeout:g}s"
        what = f"timeout: decision_timeout gives all checks together {longest}"
        mend = f"write less than {longest}"
        yield _problem(part, "timeout", what, mend, error=False)


def state_settings(config: Config, main: Path) -> StateSettings:
    """
    Give what a store is opened with; its url holds no password.

    In a configuration that load() has not made, files are relative to the main one.
    """
    state, place = config.state, read_place(config.state.url)
    return StateSettings(
        place.url,
        timeout=state.timeout,
        prefix=state.prefix,
        username=place.username,
        password=state.password or place.password,
        ca_file="" if state.ca_file is None else str(main.parent / state.ca_file),
    )


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
    except UnicodeDecodeError:
        # its message would show a part of it
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

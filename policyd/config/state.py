"""`[state]`: the files that it names, what is doubtful in it, and what a store is told."""

from collections.abc import Iterator
from pathlib import Path

from policyd.config.files import find_certificates, read_password
from policyd.config.gather import Part
from policyd.config.model import Config, State
from policyd.config.problem import Problem, Severity
from policyd.store.place import Kind, StateSettings, read_place


def read_state_files(state: State, part: Part) -> tuple[State, tuple[Problem, ...]]:
    """Read the files that the table names; what cannot be read is a problem."""
    problems: list[Problem] = []
    password, files = "", {}
    if state.password_file is not None:
        files["password_file"] = str((part.document.path.parent / state.password_file).absolute())
        password, found = read_password(part, state.password_file)
        problems.extend(found)
    if state.ca_file is not None:
        files["ca_file"], found = find_certificates(part, state.ca_file)
        problems.extend(found)
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


def _problem(part: Part, key: str, what: str, mend: str, *, error: bool = True) -> Problem:
    severity: Severity = "error" if error else "warning"
    return Problem(part.document.shown, part.line(key), "", what, mend, severity)

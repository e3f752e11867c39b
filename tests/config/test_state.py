"""`[state]`: its files are read with the configuration, and no password is shown."""

from collections.abc import Callable
from pathlib import Path

import pytest

from policyd.config.load import Loaded, load
from policyd.config.model import Config, State
from policyd.config.state import state_settings
from policyd.store.place import StateSettings

Write = Callable[..., Path]

MAIN = Path("/etc/policyd/policyd.toml")

FRONT_END = '[policy_service]\nlisten = ["inet:127.0.0.1:10040"]\n'


def loaded(write: Write, state: str, **files: str) -> Loaded:
    return load(write(f"{FRONT_END}[state]\n{state}\n", **files))


def told(found: Loaded) -> list[str]:
    return [f"{problem.what}; {problem.mend}" for problem in found.problems]


def settings(found: Loaded) -> StateSettings:
    assert told(found) == []
    return state_settings(found.model, MAIN)


@pytest.fixture
def password_file(tmp_path: Path) -> Path:
    file = tmp_path / "password"
    file.write_bytes(b"p@ss w\xc3\xb6rd \nanother\n")
    file.chmod(0o640)
    return file


def test_without_the_table_state_is_in_a_file_of_policyds_own(write: Write) -> None:
    found = settings(load(write(FRONT_END)))
    assert found == StateSettings("sqlite:/var/lib/policyd/state.sqlite")
    assert found == settings(load(write(FRONT_END + "[state]\n")))
    assert (found.timeout, found.prefix) == (1.0, "policyd:")


def test_what_the_table_says_is_what_the_store_is_told(write: Write) -> None:
    found = settings(
        loaded(write, 'url = "redis://jo:p%40ss@h:1/2"\ntimeout = "0.5s"\nprefix = "mx:"')
    )
    assert found == StateSettings(
        "redis://h:1/2", timeout=0.5, prefix="mx:", username="jo", password="p@ss"
    )


@pytest.mark.usefixtures("password_file")
def test_a_password_file_holds_the_password_in_its_first_line(write: Write) -> None:
    found = settings(loaded(write, 'url = "redis://jo@h"\npassword_file = "password"'))
    assert (found.username, found.password) == ("jo", "p@ss wörd ")


def test_files_are_relative_to_the_file_that_names_them(write: Write, tmp_path: Path) -> None:
    folder = tmp_path / "rules.d"
    folder.mkdir()
    (folder / "password").write_text("secret")
    (folder / "password").chmod(0o600)
    (folder / "ca.pem").write_bytes(
        (Path(__file__).parent / "bad/191-state-ca-file-without-tls/ca.pem").read_bytes()
    )
    (folder / "state.toml").write_text(
        '[state]\nurl = "rediss://h"\npassword_file = "password"\nca_file = "ca.pem"\n'
    )
    found = settings(load(write(f'include = ["rules.d/state.toml"]\n{FRONT_END}')))
    assert found.password == "secret"
    assert Path(found.ca_file) == (folder / "ca.pem").absolute()


def test_files_of_a_configuration_made_otherwise_are_relative_to_the_main_one() -> None:
    config = Config(state=State(url="rediss://h", ca_file="ca.pem"))
    assert state_settings(config, MAIN).ca_file == "/etc/policyd/ca.pem"


def test_a_password_that_everyone_may_read_is_doubtful(write: Write, password_file: Path) -> None:
    password_file.chmod(0o644)
    found = loaded(write, 'url = "redis://h"\npassword_file = "password"')
    (problem,) = found.problems
    assert problem.severity == "warning"
    assert "everyone on this host may read" in problem.what
    assert "chmod o-r" in problem.mend
    assert state_settings(found.model, MAIN).password == "p@ss wörd "


@pytest.mark.parametrize(
    ("content", "what"),
    [
        (b"", "its first line is empty"),
        (b"\nsecret", "its first line is empty"),
        (b"secr\xe4t\n", "its first line is not UTF-8"),
        (b"s" * 4097, "its first line has more than 4096 octets"),
    ],
)
def test_a_password_file_without_a_password_is_an_error(
    write: Write, password_file: Path, content: bytes, what: str
) -> None:
    password_file.write_bytes(content)
    found = loaded(write, 'url = "redis://h"\npassword_file = "password"')
    (problem,) = found.problems
    assert problem.severity == "error"
    assert what in problem.what
    assert "secr" not in str(problem)


def test_a_folder_is_no_password_file(write: Write) -> None:
    assert "no regular file" in told(loaded(write, 'url = "redis://h"\npassword_file = "."'))[0]


def test_memory_is_for_one_worker(write: Write) -> None:
    one = '[server]\nworkers = 1\n[state]\nurl = "memory:"\n'
    assert settings(load(write(FRONT_END + one))).url == "memory:"
    (problem,) = load(write(FRONT_END + one.replace("1", "3"))).problems
    assert problem.severity == "error"
    assert "3 workers" in problem.what
    assert "write workers = 1" in problem.mend


def test_a_password_is_in_no_representation_and_no_problem(write: Write) -> None:
    found = loaded(write, 'url = "redis://:hunter2@h"\npassword_file = "gone"\nprefix = "{"')
    assert len(found.problems) == 3
    shown = f"{found.model!r} {found.model} {found.problems}"
    assert "hunter2" not in shown
    assert "hunter2" not in f"{state_settings(found.model, MAIN)}"


@pytest.mark.usefixtures("password_file")
def test_the_password_of_a_file_is_in_no_representation(write: Write) -> None:
    found = loaded(write, 'url = "redis://h"\npassword_file = "password"')
    assert "p@ss" not in f"{found.model!r} {settings(found)!r}"
    assert found.model.state.password == "p@ss wörd "

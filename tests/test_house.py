"""What holds for the tree as a whole: its layers, its dependencies, and that its examples load."""

import ast
import re
import shutil
import subprocess
import sys
import tomllib
from collections.abc import Iterator
from importlib.metadata import packages_distributions
from pathlib import Path

import pytest

import policyd
from policyd.config.policy import load_policy

ROOT = Path(__file__).parents[1]
PACKAGE = ROOT / "policyd"
MODULES = sorted(PACKAGE.rglob("*.py"))
PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text())

LAYERS = (
    "smtp",
    "facts",
    "protocol",
    "processes",
    "store",
    "lists",
    "dns",
    "mail",
    "checks",
    "rules",
    "config",
    "observe",
    "service",
    "prove",
    "serve",
    "cli",
)
PURE = ("smtp", "facts", "protocol", "rules")
IMPURE = {
    "asyncio",
    "fcntl",
    "http",
    "logging",
    "mmap",
    "multiprocessing",
    "os",
    "pathlib",
    "prometheus_client",
    "random",
    "secrets",
    "select",
    "selectors",
    "shutil",
    "signal",
    "socket",
    "sqlite3",
    "ssl",
    "structlog",
    "subprocess",
    "tempfile",
    "threading",
    "time",
    "urllib",
    "uvicorn",
    "uvloop",
}

OPTIONAL = {
    re.sub(r"\[.*", "", dependency)
    for extra in PROJECT["project"]["optional-dependencies"].values()
    for dependency in extra
}
DRIVERS = {"aiomysql", "aiosqlite", "asyncpg"}  # SQLAlchemy imports what a url names
OF_OTHERS = {
    "async-timeout",  # redis-py's, with some Pythons: so that one lock is good for all
    "pydantic-core",  # pydantic's other half, in the one version that goes with it
}


def named(path: Path) -> str:
    return str(path.relative_to(ROOT))


def layer(path: Path) -> str:
    return path.relative_to(PACKAGE).with_suffix("").parts[0]


def imports(path: Path) -> Iterator[str]:
    """Give every module that a file imports, those inside functions too."""
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"{named(path)}:{node.lineno}: a relative import"
            yield str(node.module)
            if node.module == "policyd":
                yield from (f"policyd.{alias.name}" for alias in node.names)


def top(module: str) -> str:
    return module.partition(".")[0]


def normal(name: str) -> str:
    return re.sub(r"[-_.]+", "-", name.partition("[")[0]).lower()


@pytest.mark.parametrize("path", MODULES, ids=named)
def test_a_module_says_what_it_is(path: Path) -> None:
    assert ast.get_docstring(ast.parse(path.read_text()))


@pytest.mark.parametrize("path", MODULES, ids=named)
def test_imports_run_upwards_only(path: Path) -> None:
    own = layer(path)
    if own == "__init__":
        assert [module for module in imports(path) if top(module) == "policyd"] == []
        return
    known = LAYERS[: LAYERS.index(own) + 1]
    taken = {m.split(".")[1] for m in imports(path) if m.startswith("policyd.")}
    assert taken - {"__version__"} <= set(known)


@pytest.mark.parametrize("path", MODULES, ids=named)
def test_libmilter_is_imported_by_the_milter_front_end_alone(path: Path) -> None:
    if {"milter", "Milter"} & set(map(top, imports(path))):
        assert named(path).startswith("policyd/serve/milter/")


@pytest.mark.parametrize("path", [module for module in MODULES if layer(module) in PURE], ids=named)
def test_what_decides_does_no_input_or_output_and_reads_no_clock(path: Path) -> None:
    assert {top(module) for module in imports(path)} & IMPURE == set()


def test_every_dependency_is_imported_and_every_import_is_a_dependency() -> None:
    distributions = packages_distributions()
    foreign = {
        module
        for path in MODULES
        for module in map(top, imports(path))
        if module not in sys.stdlib_module_names and module != "policyd"
    }
    imported = {normal(name) for module in foreign for name in distributions[module]} - OF_OTHERS
    named = set(map(normal, PROJECT["project"]["dependencies"]))
    assert imported - OPTIONAL == named - OF_OTHERS
    assert OPTIONAL - imported == DRIVERS


@pytest.mark.parametrize(
    ("file", "wanted"),
    [
        ("requirements.txt", PROJECT["project"]["dependencies"]),
        ("requirements-build.txt", PROJECT["dependency-groups"]["build"]),
        (
            "requirements-dev.txt",
            [
                *PROJECT["project"]["dependencies"],
                *PROJECT["dependency-groups"]["dev"],
                *OPTIONAL,
            ],
        ),
    ],
)
def test_requirements_are_locked_with_hashes(file: str, wanted: list[str]) -> None:
    text = (ROOT / file).read_text()
    locked = set(
        map(normal, re.findall(r"^([A-Za-z0-9_.-]+)==\S+ \\\n +--hash=", text, re.MULTILINE))
    )
    assert set(map(normal, wanted)) <= locked
    assert len(locked) == len(re.findall(r"^[A-Za-z]", text, re.MULTILINE))
    assert "://" not in text


def test_the_requirements_of_development_are_those_of_running_and_more() -> None:
    run, develop = (
        set(re.findall(r"^\S+==\S+", (ROOT / file).read_text(), re.MULTILINE))
        for file in ("requirements.txt", "requirements-dev.txt")
    )
    assert run <= develop


def test_the_changelog_names_the_version() -> None:
    assert re.search(
        rf"^## \[?{re.escape(policyd.__version__)}\b",
        (ROOT / "CHANGELOG.md").read_text(),
        re.MULTILINE,
    )


def test_the_configuration_in_etc_loads_without_a_warning() -> None:
    loaded = load_policy(ROOT / "etc" / "policyd" / "policyd.toml")
    assert loaded.problems == ()
    assert loaded.policy is not None


@pytest.mark.skipif(shutil.which("systemd-analyze") is None, reason="systemd is not installed")
def test_systemd_understands_the_unit(tmp_path: Path) -> None:
    unit = tmp_path / "policyd.service"
    text = (ROOT / "systemd" / "policyd.service").read_text()
    unit.write_text(text.replace("/opt/policyd/bin/policyd", sys.executable))
    done = subprocess.run(
        ["systemd-analyze", "verify", "--man=no", str(unit)],
        capture_output=True,
        text=True,
        check=False,
    )
    assert (done.returncode, done.stderr) == (0, "")

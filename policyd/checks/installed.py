"""
Checks of other packages: found under the entry point group `policyd.checks`.

Each entry point is a Check, or a callable without arguments that makes one. A package is somebody
else's program: whatever is wrong with one is told, and no reason to go without the others.
"""

from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from importlib.metadata import EntryPoint, entry_points
from typing import Final, cast

from policyd.checks.declaration import objections
from policyd.checks.interface import Check

ENTRY_POINTS: Final = "policyd.checks"


@dataclass(frozen=True, slots=True)
class Package:
    """A distribution, as its metadata names it."""

    name: str
    version: str

    def __str__(self) -> str:
        """Give both, as `pip list` would."""
        return f"{self.name} {self.version}".strip()


@dataclass(frozen=True, slots=True)
class Installed:
    """A check of another package, and the entry point that gives it."""

    check: Check
    package: Package
    point: EntryPoint


@dataclass(frozen=True, slots=True)
class Broken:
    """What cannot be used of a package: what is wrong, and how it is mended."""

    package: Package
    what: str
    mend: str


class NoCheckError(TypeError):
    """What an entry point names is no check and makes none."""


def check_of(point: EntryPoint) -> Check:
    """Import what an entry point names, and give its check; whatever that raises passes through."""
    found = point.load()
    if not isinstance(found, Check) and callable(found):
        found = cast("Callable[[], object]", found)()
    if not isinstance(found, Check):
        raise NoCheckError(f"{point.value} is a {type(found).__name__}, not a Check")
    return found


def installed() -> tuple[tuple[Installed, ...], tuple[Broken, ...]]:
    """Give the checks of other packages that can be used, and what is wrong with the others."""
    found: list[Installed] = []
    broken: list[Broken] = []
    points = sorted(entry_points(group=ENTRY_POINTS), key=lambda point: (point.name, point.value))
    for point in points:
        package = _package(point)
        try:
            check = check_of(point)
        except NoCheckError as error:
            mend = f"let its entry point {point.name} name a policyd.checks.interface.Check"
            broken.append(Broken(package, str(error), mend))
        except (Exception, SystemExit) as error:  # noqa: BLE001 -- a package may raise anything
            what = f"{point.value} cannot be imported: {type(error).__name__}: {error}"
            mend = f"repair or upgrade {package.name}, or uninstall it"
            broken.append(Broken(package, what, mend))
        else:
            wrong = [Broken(package, *objection) for objection in objections(check)]
            broken += wrong
            found += [] if wrong else [Installed(check, package, point)]
    unique, taken_twice = _names(found)
    return tuple(unique), (*broken, *taken_twice)


def _package(point: EntryPoint) -> Package:
    of = point.dist
    return Package(point.value, "") if of is None else Package(of.name, of.version or "")


def _names(found: Iterable[Installed]) -> tuple[list[Installed], list[Broken]]:
    """Leave out checks whose name another package's has already."""
    by_name: dict[str, Installed] = {}
    broken = []
    for each in found:
        first = by_name.setdefault(each.check.name, each)
        if first is not each:
            what = f"its check {each.check.name} has the name of one of {first.package}"
            broken.append(Broken(each.package, what, "uninstall one of the two"))
    return list(by_name.values()), broken


def taken(
    found: Iterable[Installed], names: Iterable[str], whose: str
) -> Iterator[tuple[Installed, Broken]]:
    """Give the checks whose names are taken by something else, and say so."""
    known = frozenset(names)
    for each in found:
        if each.check.name in known:
            what = f"its check {each.check.name} has the name of {whose}"
            mend = f"its author has to name it otherwise; uninstall {each.package.name}"
            yield each, Broken(each.package, what, mend)

"""
The files of a configuration: the main one, and those that its `include` names.

Only the main file includes, so there are no cycles. A pattern is relative to that file's directory;
its files come in the order of their names. A pattern without wildcards names a file that must
exist; one with wildcards may match none. A file that two patterns match is read once.
"""

import glob
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Final, NamedTuple

from policyd.config.problem import Problem
from policyd.config.source import Document, UnreadableError, read_document
from policyd.config.units import describe

KEY: Final = "include"
_WILDCARD: Final = re.compile(r"[*?\[]")


class Files(NamedTuple):
    """The files that could be read, in order; `complete` if those are all that are named."""

    documents: tuple[Document, ...]
    problems: tuple[Problem, ...]
    complete: bool


def read_files(main: Path) -> Files:
    """Read the main file and all that it includes."""
    try:
        first = read_document(main, str(main))
    except UnreadableError as error:
        first = Problem(str(main), 1, "", f"the file cannot be read: {error.why}", error.mend)
    if isinstance(first, Problem):
        return Files((), (first,), complete=False)
    documents: list[Document] = [first]
    problems: list[Problem] = []
    for found in _included(first):
        if isinstance(found, Problem):
            problems.append(found)
        else:
            documents.append(found)
    nested = (problem for document in documents[1:] for problem in _nested(document))
    return Files(tuple(documents), (*problems, *nested), complete=not problems)


def _included(main: Document) -> Iterator[Document | Problem]:
    """Read the included files, each once."""
    patterns = main.values.get(KEY, [])
    if not isinstance(patterns, list):
        what = f"include: {describe(patterns)} is no list of file names"
        yield _problem(main, 0, what, 'write it as ["rules.d/*.toml"]')
        return
    seen: set[Path] = set()
    for index, pattern in enumerate(patterns):
        if not isinstance(pattern, str) or not pattern or "\0" in pattern:
            what = f"include: {describe(pattern)} is no name of a file"
            yield _problem(main, index, what, 'write it as "rules.d/*.toml"')
            continue
        for path in _matches(main.path.parent, pattern):
            real = path.resolve()
            if real not in seen:
                seen.add(real)
                yield _read(main, index, path)


def _matches(folder: Path, pattern: str) -> list[Path]:
    if not _WILDCARD.search(pattern):
        return [folder / pattern]
    # pathlib's refuses absolute patterns.
    return [folder / name for name in sorted(glob.glob(pattern, root_dir=folder))]  # noqa: PTH207


def _read(main: Document, index: int, path: Path) -> Document | Problem:
    if path.resolve() == main.path.resolve():
        what = f"include: {path} is this file itself"
        return _problem(main, index, what, "keep the included files in a directory of their own")
    try:
        return read_document(path, str(path))
    except UnreadableError as error:
        what = f"include: {path} cannot be read: {error.why}"
        return _problem(main, index, what, error.mend)


def _problem(main: Document, index: int, what: str, mend: str) -> Problem:
    return Problem(main.shown, main.line((KEY, index)), "", what, mend)


def _nested(document: Document) -> Iterator[Problem]:
    if KEY in document.values:
        line = document.line((KEY,))
        mend = "name the files in the main file"
        yield Problem(document.shown, line, "", "an included file cannot include others", mend)

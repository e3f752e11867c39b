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
from policyd.config.source import Document, read_document
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
    first = read_document(main, str(main))
    if isinstance(first, Problem):
        return Files((), (first,), complete=False)
    documents: list[Document] = [first]
    problems: list[Problem] = []
    for found in _included(first):
        document = found if isinstance(found, Problem) else _read_beside(main, found)
        if isinstance(document, Problem):
            problems.append(document)
        else:
            documents.append(document)
    nested = (problem for document in documents[1:] for problem in _nested(document))
    return Files(tuple(documents), (*problems, *nested), complete=not problems)


def _read_beside(main: Path, name: str) -> Document | Problem:
    path = main.parent / name
    return read_document(path, str(path))


def _included(main: Document) -> Iterator[str | Problem]:
    """Give the names of included files, each once, and what is wrong with a pattern."""
    patterns = main.values.get(KEY, [])
    if not isinstance(patterns, list):
        what = f"include: {describe(patterns)} is no list of file names"
        yield _problem(main, 0, what, 'write it as ["rules.d/*.toml"]')
        return
    seen = {_real(main.path)}
    for index, pattern in enumerate(patterns):
        if not isinstance(pattern, str) or not pattern or "\0" in pattern:
            what = f"include: {describe(pattern)} is no name of a file"
            yield _problem(main, index, what, 'write it as "rules.d/*.toml"')
            continue
        if not _WILDCARD.search(pattern):
            names = [pattern]
        else:
            # pathlib's refuses absolute patterns.
            names = sorted(glob.glob(pattern, root_dir=main.path.parent))  # noqa: PTH207
        for name in names:
            real = _real(main.path.parent / name)
            if real == _real(main.path):
                what = f'include: "{pattern}" matches this file itself'
                mend = "keep the included files in a directory of their own"
                yield _problem(main, index, what, mend)
            elif real not in seen:
                seen.add(real)
                yield name


def _real(path: Path) -> str:
    return str(path.resolve())


def _problem(main: Document, index: int, what: str, mend: str) -> Problem:
    return Problem(main.shown, main.line((KEY, index)), "", what, mend)


def _nested(document: Document) -> Iterator[Problem]:
    if KEY in document.values:
        line = document.line((KEY,))
        mend = "name the files in the main file"
        yield Problem(document.shown, line, "", "an included file cannot include others", mend)

"""
A TOML file: its values, and the line of each.

tomllib (the standard library's parser of TOML 1.0) gives the values and judges the syntax;
tree-sitter's grammar gives the places, which tomllib does not tell.
"""

import re
import tomllib
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Final

import tree_sitter
import tree_sitter_toml

from policyd.config.problem import Problem

KeyPath = tuple[str | int, ...]
"""A value's place among the values: `("rule", 3, "then")`."""

LARGEST_FILE: Final = 16 << 20

_LANGUAGE: Final = tree_sitter.Language(tree_sitter_toml.language())
_AT_LINE: Final = re.compile(r" \(at (?:line ([0-9]+), column [0-9]+|end of document)\)$")
_TUPLE: Final = re.compile(r"\('.*'.*\)")  # how tomllib's messages name a table
_NAME: Final = re.compile(r"'([^']*)'")
_SYNTAX_MENDS: Final = (
    ("Unescaped '\\'", "write the text in 'single quotes', in which a backslash is a backslash"),
    ("Cannot overwrite", "a key stands once in a table, and a table once in a file"),
    ("Cannot declare", "a table stands once in a file; write its keys together"),
    ("Cannot mutate", "write an inline table's keys between its braces"),
    ("Invalid value", "a text stands in quotes, a truth value is true or false"),
    ("Expected '=' after a key", "write key = value"),
    ("Illegal character '\\n'", 'close the quotes on their line; longer texts stand in """'),
    ("Exceeds the limit", "write a smaller number"),
)


@dataclass(frozen=True, slots=True)
class Document:
    """A parsed file; `shown` is its name in messages."""

    path: Path
    shown: str
    data: bytes
    values: Mapping[str, object]
    lines: Mapping[KeyPath, int]

    def line(self, path: KeyPath) -> int:
        """Give the line where a value starts; of one that is missing, its table's."""
        while path and path not in self.lines:
            path = path[:-1]
        return self.lines.get(path, 1)


class UnreadableError(Exception):
    """A file that cannot be read: `why` not, and the `mend`."""

    def __init__(self, why: str, mend: str) -> None:
        super().__init__(why)
        self.why = why
        self.mend = mend


def read_document(path: Path, shown: str) -> Document | Problem:
    """Parse a file; the problem if it is no TOML. UnreadableError tells of one that is no file."""
    data = read_octets(path)
    try:
        text = data.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        line = data.count(b"\n", 0, error.start) + 1
        return Problem(shown, line, "", "the line is not UTF-8", "save the file as UTF-8")
    try:
        return Document(path, shown, data, tomllib.loads(text), _lines(text))
    except RecursionError:
        what = "lists or tables are nested too deeply"
        return Problem(shown, 1, "", what, "no key of policyd needs more than three levels")
    except ValueError as error:  # tomllib's own, and that of a number with too many digits
        return _syntax_problem(shown, text, str(error))


def read_octets(path: Path) -> bytes:
    """Read a file whole; UnreadableError tells of one that is none, or is too large."""
    try:
        if path.is_dir():
            raise UnreadableError("it is a directory", 'name its files: "DIRECTORY/*.toml"')
        if path.exists() and not path.is_file():
            raise UnreadableError("it is no regular file", "name a file")
        with path.open("rb") as file:
            data = file.read(LARGEST_FILE + 1)
    except OSError as error:
        mend = "correct the name, or let policyd's user read it"
        raise UnreadableError(error.strerror or str(error), mend) from error
    if len(data) > LARGEST_FILE:
        what = f"it has more than {LARGEST_FILE} octets"
        raise UnreadableError(what, "move long lists into files of their own")
    return data


def _syntax_problem(shown: str, text: str, said: str) -> Problem:
    found = _AT_LINE.search(said)
    last = max(1, len(text.splitlines()))
    line = 1 if found is None else int(found[1] or last)
    mend = next((m for start, m in _SYNTAX_MENDS if said.startswith(start)), "")
    what = _TUPLE.sub(lambda keys: f"[{'.'.join(_NAME.findall(keys[0]))}]", _AT_LINE.sub("", said))
    mend = mend or "correct the line by https://toml.io/en/v1.0.0"
    return Problem(shown, line, "", f"not TOML: {what}", mend)


def _lines(text: str) -> dict[KeyPath, int]:
    """Find the line of each table, key and list item of a text that tomllib has accepted."""
    tree = tree_sitter.Parser(_LANGUAGE).parse(text.encode())
    return _Places().of(tree.root_node)


class _Places:
    """Walks the syntax tree, without recursion: a file may nest as deep as it likes."""

    def __init__(self) -> None:
        self._lines: dict[KeyPath, int] = {(): 1}
        self._counts: dict[KeyPath, int] = {}

    def of(self, document: tree_sitter.Node) -> dict[KeyPath, int]:
        for node in document.named_children:
            if node.type == "pair":
                self._pair(node, ())
            elif node.type in ("table", "table_array_element"):
                self._table(node)
        return self._lines

    def _table(self, node: tree_sitter.Node) -> None:
        header, *pairs = (child for child in node.named_children if child.type != "comment")
        path: KeyPath = ()
        *parents, last = _keys(header)
        for key in parents:
            path = self._present((*path, key))
            self._lines.setdefault(path, _line(node))
        path = (*path, last)
        if node.type == "table_array_element":
            self._lines.setdefault(path, _line(node))
            self._counts[path] = self._counts.get(path, 0) + 1
            path = self._present(path)
        self._lines[path] = _line(node)
        for pair in pairs:
            self._pair(pair, path)

    def _present(self, path: KeyPath) -> KeyPath:
        """Give a path, or its last element's if it is an array of tables."""
        return (*path, self._counts[path] - 1) if path in self._counts else path

    def _pair(self, pair: tree_sitter.Node, under: KeyPath) -> None:
        waiting = [(pair, under)]
        while waiting:
            node, path = waiting.pop()
            if node.type != "pair":
                self._lines.setdefault(path, _line(node))
                waiting.extend(_items(node, path))
                continue
            key, *value = (child for child in node.named_children if child.type != "comment")
            for name in _keys(key):
                path = (*path, name)
                self._lines.setdefault(path, _line(node))
            waiting.extend(_items(value[-1], path) if value else ())


def _items(value: tree_sitter.Node, path: KeyPath) -> Iterator[tuple[tree_sitter.Node, KeyPath]]:
    """Give what stands in an array or in an inline table, with the path of what holds it."""
    children = [child for child in value.named_children if child.type != "comment"]
    if value.type == "array":
        yield from ((child, (*path, index)) for index, child in enumerate(children))
    elif value.type == "inline_table":
        yield from ((child, path) for child in children)


def _keys(node: tree_sitter.Node) -> list[str]:
    """Read a key, dotted or not."""
    text = node.text.decode() if node.text is not None else ""
    if node.type == "bare_key":
        return [text]
    keys: list[str] = []
    table: object = tomllib.loads(f"{text} = 0")
    while isinstance(table, dict):
        (key,) = table
        keys.append(key)
        table = table[key]
    return keys


def _line(node: tree_sitter.Node) -> int:
    return node.start_point.row + 1

"""TOML files: their values, the line of each, and what is wrong with a file."""

from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from policyd.config.problem import Problem
from policyd.config.source import LARGEST_FILE, Document, KeyPath, UnreadableError, read_document

EXAMPLE = '''\
# a comment
a.b = 1
"q k".'l' = { x = 1, y.z = [1,
  2] }
m = """
text
"""

[t . u] # a comment
k = [
  "a",  # a comment
  { n = 1 },
]

[[rule]]
name = "x"
[rule.sub]
v = 1
[[rule.deep]]
w = 1
[[rule.deep]]
w = 2

[[rule]]
name = 'y'
"then" = \'\'\'
z\'\'\'
d = 1979-05-27
'''


def read(folder: Path, text: str | bytes) -> Document | Problem:
    path = folder / "x.toml"
    path.write_bytes(text if isinstance(text, bytes) else text.encode())
    return read_document(path, "conf/x.toml")


@pytest.mark.parametrize(
    ("path", "line"),
    [
        (("a",), 2),
        (("a", "b"), 2),
        (("q k", "l"), 3),
        (("q k", "l", "x"), 3),
        (("q k", "l", "y", "z"), 3),
        (("q k", "l", "y", "z", 0), 3),
        (("q k", "l", "y", "z", 1), 4),
        (("m",), 5),
        (("t", "u"), 9),
        (("t", "u", "k"), 10),
        (("t", "u", "k", 0), 11),
        (("t", "u", "k", 1, "n"), 12),
        (("rule",), 15),
        (("rule", 0), 15),
        (("rule", 0, "name"), 16),
        (("rule", 0, "sub"), 17),
        (("rule", 0, "sub", "v"), 18),
        (("rule", 0, "deep", 1, "w"), 22),
        (("rule", 1), 24),
        (("rule", 1, "then"), 26),
        (("rule", 1, "d"), 28),
        (("rule", 1, "missing"), 24),
        (("missing", "too"), 1),
    ],
)
def test_the_line_of_a_value_is_known(tmp_path: Path, path: KeyPath, line: int) -> None:
    document = read(tmp_path, EXAMPLE)
    assert isinstance(document, Document)
    assert document.line(path) == line


_KEYS = st.text("abc-_ .\"'é\\\n", max_size=4)
_SCALARS = st.integers(-(2**63), 2**63 - 1) | st.booleans() | st.text("abc\n\"'\\é", max_size=5)
_VALUES: Any = st.recursive(
    _SCALARS, lambda inner: st.lists(inner, max_size=3) | st.dictionaries(_KEYS, inner, max_size=3)
)


def toml_text(text: str) -> str:
    escapes = {"\n": "\\n", '"': '\\"', "\\": "\\\\"}
    return '"' + "".join(escapes.get(c, c) for c in text) + '"'


class Writer:
    """Writes a value as TOML, arrays over several lines, and keeps the line of each value."""

    def __init__(self) -> None:
        self.text = ""
        self.lines: dict[KeyPath, int] = {}

    def write(self, value: Any, path: KeyPath) -> None:
        self.lines[path] = self.text.count("\n") + 1
        if isinstance(value, dict):
            self.text += "{"
            for index, (key, inner) in enumerate(value.items()):
                self.text += (", " if index else " ") + toml_text(key) + " = "
                self.write(inner, (*path, key))
            self.text += " }"
        elif isinstance(value, list):
            self.text += "["
            for index, inner in enumerate(value):
                self.text += "\n # between\n "
                self.write(inner, (*path, index))
                self.text += ","
            self.text += "\n]"
        elif isinstance(value, bool):
            self.text += "true" if value else "false"
        else:
            self.text += toml_text(value) if isinstance(value, str) else str(value)


@given(
    st.dictionaries(_KEYS, _VALUES, max_size=3),
    st.dictionaries(_KEYS, st.dictionaries(_KEYS, _VALUES, max_size=3), max_size=3),
    st.lists(st.dictionaries(_KEYS, _VALUES, max_size=3), max_size=3),
)
def test_every_value_has_the_line_on_which_it_was_written(
    tmp_path_factory: pytest.TempPathFactory,
    top: dict[str, Any],
    tables: dict[str, dict[str, Any]],
    rules: list[dict[str, Any]],
) -> None:
    writer = Writer()
    values: dict[str, Any] = {f"top {key}": value for key, value in top.items()}
    for key, value in values.items():
        writer.text += f"{toml_text(key)} = "
        writer.write(value, (key,))
        writer.text += "\n"
    headed: list[tuple[KeyPath, str, dict[str, Any]]] = [
        ((f"table {key}",), f"[{toml_text(f'table {key}')}]", t) for key, t in tables.items()
    ]
    headed += [(("rule", index), "[[rule]]", table) for index, table in enumerate(rules)]
    for path, header, table in headed:
        writer.lines[path] = writer.text.count("\n") + 1
        writer.text += f"{header}\n"
        for key, value in table.items():
            writer.text += f"{toml_text(key)} = "
            writer.write(value, (*path, key))
            writer.text += "\n"
    document = read(tmp_path_factory.getbasetemp(), writer.text)
    assert isinstance(document, Document), str(document)
    assert {path: document.lines[path] for path in writer.lines} == writer.lines


@pytest.mark.parametrize(
    ("text", "line", "what", "mend"),
    [
        ("a = [\n1\n", 2, "not TOML: ", "toml.io"),
        ('a = 1\nb = "\\d"', 2, "Unescaped '\\'", "'single quotes'"),
        ("a = 1\n\na = 2\n", 3, "Cannot overwrite a value", "once in a table"),
        ("[a]\n[b.c]\n[a]\n", 3, "Cannot declare [a] twice", "once in a file"),
        ("a = yes\n", 1, "Invalid value", "true or false"),
        ("a\n", 1, "Expected '=' after a key", "write key = value"),
        ('a = "x\ny"\n', 1, "Illegal character", "close the quotes on their line"),
        ("a = { b = 1 }\na.c = 2\n", 2, "Cannot mutate immutable namespace [a]", "its braces"),
        ("a = 1979-02-31\n", 1, "Invalid date", "toml.io"),
        ("a = " + "9" * 5000, 1, "Exceeds the limit", "smaller number"),
        ("a = " + "[" * 5000, 1, "nested too deeply", "three levels"),
        (b"a = 1\nb = '\xe4'\n", 2, "not UTF-8", "save the file as UTF-8"),
        (b"a = 1\0\n", 1, "not TOML", "toml.io"),
    ],
)
def test_a_file_that_is_no_toml_is_told_with_its_line(
    tmp_path: Path, text: str | bytes, line: int, what: str, mend: str
) -> None:
    problem = read(tmp_path, text)
    assert isinstance(problem, Problem)
    assert (problem.file, problem.line) == ("conf/x.toml", line)
    assert what in problem.what
    assert mend in problem.mend


@pytest.mark.parametrize("text", ["", "\n", "# nothing\n", b"\xef\xbb\xbf# a byte order mark\n"])
def test_a_file_may_be_empty(tmp_path: Path, text: str | bytes) -> None:
    document = read(tmp_path, text)
    assert isinstance(document, Document)
    assert document.values == {}


@pytest.mark.parametrize(
    ("name", "why"),
    [
        ("gone.toml", "No such file or directory"),
        (".", "it is a directory"),
        ("/dev/zero", "it is no regular file"),
        ("huge.toml", "octets"),
    ],
)
def test_a_file_that_cannot_be_read_is_told(tmp_path: Path, name: str, why: str) -> None:
    with (tmp_path / "huge.toml").open("wb") as file:
        file.truncate(LARGEST_FILE + 1)
    with pytest.raises(UnreadableError, match=why) as caught:
        read_document(tmp_path / name, "conf/x.toml")
    assert caught.value.mend


@given(st.binary() | st.text().map(str.encode))
def test_any_octets_are_a_document_or_a_problem(
    tmp_path_factory: pytest.TempPathFactory, data: bytes
) -> None:
    found = read(tmp_path_factory.getbasetemp(), data)
    assert isinstance(found, Document) or found.line >= 1

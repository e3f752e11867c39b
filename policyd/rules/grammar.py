"""
From the text of a condition to Python's own syntax tree, within bounds; nothing is executed.

What Python's tree no longer shows (comments, adjacent strings) is refused here, and so is what
would make a walk over the tree run out of stack.
"""

import ast
import io
import re
import tokenize
import warnings
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Final

LONGEST: Final = 4096
"""Characters of a condition at most."""
DEEPEST: Final = 60
"""Levels of nesting at most, so that no walk over a tree runs out of stack."""

_STRING: Final = re.compile(r"'[^']*'|\"[^\"]*\"")


@dataclass(frozen=True, slots=True)
class Fault:
    """What is wrong with a condition, and how to mend it."""

    what: str
    mend: str


class FaultError(Exception):
    """Carries a fault up to where faults are collected."""

    def __init__(self, what: str, mend: str) -> None:
        """Keep both for who collects faults."""
        super().__init__(what)
        self.fault = Fault(what, mend)


def parse_text(text: str) -> tuple[str, ast.expr]:
    """Give a condition as one line, and its tree; FaultError if there is none."""
    if len(text) > LONGEST:
        what = f"the condition has {len(text)} characters; at most {LONGEST} are allowed"
        raise FaultError(what, "split it into several rules, or move values into a list")
    line = " ".join(text.split("\n")).strip()
    try:
        _refuse_tokens(line)
        with warnings.catch_warnings():
            # a pattern's \d is none of Python's escapes, and stays what it is
            warnings.simplefilter("ignore")
            tree = ast.parse(line, mode="eval").body
        _refuse_depth(tree)
    except (SyntaxError, ValueError, tokenize.TokenError, RecursionError, MemoryError) as error:
        raise _unreadable(line, error) from error
    return line, tree


def _unreadable(line: str, error: Exception) -> FaultError:
    """Say why Python's parser could not read a condition; in our words where its differ by age."""
    bare = _STRING.sub("''", line)
    if re.search(r"[^=!<>]=[^=]", bare):
        return FaultError("a single = in the condition", "write == to compare")
    opened = sum(map(bare.count, "([{")) - sum(map(bare.count, ")]}"))
    if opened > 0 or bare.replace("''", "").count("'") or bare.count('"'):
        what = "the condition ends too early"
        return FaultError(what, "close every parenthesis, bracket and quote")
    if opened < 0:
        return FaultError("a parenthesis or bracket is closed twice", "take one out")
    said = error.msg if isinstance(error, SyntaxError) else str(error)
    return FaultError(f"the condition cannot be read: {said}", f"look at: {line[:80]}")


def _refuse_tokens(line: str) -> None:
    """Refuse what Python's tree no longer shows: comments, adjacent and odd string literals."""
    before = None
    for token in tokenize.generate_tokens(io.StringIO(line).readline):
        if token.type == tokenize.COMMENT:
            raise FaultError("a comment inside a condition", "write it above, as a TOML comment")
        # Python 3.12 divides f-strings into tokens of their own
        if token.type in (tokenize.STRING, getattr(tokenize, "FSTRING_START", None)):
            if before == tokenize.STRING:
                raise FaultError("two strings side by side", "put an operator between them")
            prefix = re.split("['\"]", token.string, maxsplit=1)[0]
            if prefix not in ("", "r", "R"):
                what = f"a string with {prefix} before it"
                raise FaultError(what, "write it without a prefix, or r''")
            if token.string[len(prefix) :][:3] in ("'''", '"""'):
                raise FaultError("a triple-quoted string", "one quote is enough")
        before = token.type


def _refuse_depth(tree: ast.expr) -> None:
    level: Iterable[ast.AST] = (tree,)
    for _ in range(DEEPEST):
        level = [child for node in level for child in ast.iter_child_nodes(node)]
        if not level:
            return
    raise FaultError("the condition is nested too deeply", "split it into several rules")

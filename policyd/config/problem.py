"""What is wrong in a configuration, where, and how to mend it. Values only, nothing printed."""

from dataclasses import dataclass
from difflib import get_close_matches
from typing import Literal

Severity = Literal["error", "warning"]


@dataclass(frozen=True, slots=True, order=True)
class Problem:
    """An error, with which a configuration is refused, or a warning. `rule` is empty for none."""

    file: str
    line: int
    rule: str
    what: str
    mend: str
    severity: Severity = "error"

    def __str__(self) -> str:
        """Give `file:line: rule "name": what is wrong; how to mend it`, on one line."""
        rule = f'rule "{self.rule}": ' if self.rule else ""
        return _printable(f"{self.file}:{self.line}: {rule}{self.what}; {self.mend}")


def _printable(text: str) -> str:
    if text.isprintable():
        return text
    return "".join(c if c.isprintable() else c.encode("unicode_escape").decode() for c in text)


def choose_from(wrong: str, known: tuple[str, ...]) -> str:
    """Say what would do in place of an unknown name: the nearest known one, and all of them."""
    nearest = get_close_matches(wrong.lower(), known, n=1)
    hint = f'did you mean "{nearest[0]}"? ' if nearest else ""
    return f"{hint}known: {', '.join(known)}"

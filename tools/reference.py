"""
Write the tables of the documentation that policyd itself knows best (`make docs`).

A table stands between `<!-- NAME -->` and `<!-- end NAME -->`; what is between is replaced.
"""

import re
import sys
from collections.abc import Callable, Iterable, Mapping, Sequence
from pathlib import Path
from typing import Final

from policyd.config.difference import RESTART
from policyd.config.model import TABLES
from policyd.facts.table import FACTS, Fact
from policyd.observe import families
from policyd.observe.series import Family
from policyd.protocol.mime.defects import SAYS
from policyd.rules.functions import FUNCTIONS
from policyd.rules.outcome import forbidden, needs_whole_message
from policyd.smtp.catalogue import NAMED
from policyd.smtp.decision import Verdict
from policyd.smtp.stage import TRANSACTION, FrontEnd, Stage

ROOT: Final = Path(__file__).resolve().parents[1]
DOCUMENTS: Final = (ROOT / "README.md", ROOT / "docs" / "language.md")


def rendered(text: str) -> str:
    """Give a document with its tables as they have to be; ValueError for one that is not known."""
    for name in re.findall(r"<!-- end (.*?) -->", text):
        if name not in _SECTIONS:
            raise ValueError(f"there is no table {name!r}; known: {', '.join(_SECTIONS)}")
        begin, end = f"<!-- {name} -->", f"<!-- end {name} -->"
        before, _, rest = text.partition(begin)
        _, _, after = rest.partition(end)
        table = "\n".join(_SECTIONS[name]())
        text = f"{before}{begin}\n{table}\n{end}{after}"
    return text


def _table(head: Sequence[str], rows: Iterable[Sequence[str]]) -> Iterable[str]:
    yield _row(head)
    yield _row(["---"] * len(head))
    for row in rows:
        yield _row(row)


def _row(cells: Sequence[str]) -> str:
    return "| " + " | ".join(cell.replace("|", "\\|") for cell in cells) + " |"


def _facts() -> Iterable[str]:
    rows = (
        (f"`{fact.name}`", fact.type, *(_known(fact, f) for f in FrontEnd), fact.says)
        for fact in FACTS.values()
    )
    return _table(("fact", "type", "policy delegation knows it at", "milter at", "what"), rows)


def _known(fact: Fact, front_end: FrontEnd) -> str:
    known = fact.known[front_end]
    return _stages(known, tuple(Stage) if front_end is FrontEnd.POLICY else TRANSACTION)


def _stages(some: Iterable[Stage], every: Sequence[Stage]) -> str:
    """Name stages: all of them, from one on, runs of three and more by their ends, or each."""
    found = [stage for stage in every if stage in set(some)]
    if not found:
        return "–"
    if found == list(every):
        return "all"
    if len(found) > 1 and found == list(every[-len(found) :]):
        return f"from {found[0]}"
    runs: list[list[Stage]] = []
    for stage in found:
        if runs and every.index(stage) == every.index(runs[-1][-1]) + 1:
            runs[-1].append(stage)
        else:
            runs.append([stage])
    return ", ".join(f"{run[0]} to {run[-1]}" if len(run) > 2 else ", ".join(run) for run in runs)


_ARGUMENTS: Final[Mapping[Verdict, str]] = {
    Verdict.ACCEPT: "",
    Verdict.PASS: "",
    Verdict.SCORE: " N",
    Verdict.PREPEND: " Name: value",
    Verdict.HOLD: " reason",
    Verdict.DISCARD: " reason",
    Verdict.REDIRECT: " user@domain",
    Verdict.BCC: " user@domain",
    Verdict.FILTER: " transport:nexthop",
    Verdict.WARN: " text",
}
_DOES: Final[Mapping[Verdict, str]] = {
    Verdict.ACCEPT: "policyd objects no more: at connect and helo for the session, at mail for the "
    "message, at rcpt for this recipient. Postfix's own restrictions go on",
    Verdict.PASS: "ends this stage; later stages are decided as ever",
    Verdict.SCORE: "adds to `score` and goes on with the next rule",
    Verdict.PREPEND: "puts a header before the message, once",
    Verdict.HOLD: "the message waits in Postfix's hold queue (postsuper(1) -H releases it)",
    Verdict.DISCARD: "the client is told that the message is accepted, and it is thrown away",
    Verdict.REDIRECT: "the message goes to this address instead of all recipients",
    Verdict.BCC: "this address gets the message too",
    Verdict.FILTER: "the message goes through a content filter (FILTER_README)",
    Verdict.WARN: "a line in the log: Postfix's for policy delegation, policyd's for the milter",
}


def _verbs() -> Iterable[str]:
    rows = (
        (
            f"`{verb}{argument}`",
            _can(verb, FrontEnd.POLICY, tuple(Stage)),
            _can(verb, FrontEnd.MILTER, TRANSACTION),
            _DOES[verb],
        )
        for verb, argument in _ARGUMENTS.items()
    )
    return _table(("verb", "policy delegation at", "milter at", "what it does"), rows)


def _can(verb: Verdict, front_end: FrontEnd, every: Sequence[Stage]) -> str:
    able = [stage for stage in every if not forbidden(verb, stage, front_end)]
    mark = " (*)" if any(needs_whole_message(verb, stage) for stage in able) else ""
    return _stages(able, every) + mark


def _functions() -> Iterable[str]:
    rows = (
        (f"`{usage}`", what)
        for usage, _, what in (says.partition(": ") for says in FUNCTIONS.values())
    )
    return _table(("function", "is true, or gives"), rows)


def _named() -> Iterable[str]:
    rows = (
        (f"`{name}`", f"{r.code} {r.code // 100}.{r.subject}.{r.detail}", _at(r.stages), r.text)
        for name, r in NAMED.items()
    )
    return _table(("name", "pair", "stages", "text"), rows)


def _at(stages: Iterable[Stage]) -> str:
    given = set(stages)
    return "all" if given >= set(TRANSACTION) else ", ".join(s for s in Stage if s in given)


def _defects() -> Iterable[str]:
    return _table(("word", "means"), ((f"`{word}`", says) for word, says in SAYS.items()))


def _metrics() -> Iterable[str]:
    found = [value for value in vars(families).values() if isinstance(value, Family)]
    rows = (
        (f"`{f.name}`", " ".join(f"`{label}`" for label in f.labels) or "–", f.kind, f.help)
        for f in found
    )
    return _table(("metric", "labels", "kind", "what"), rows)


def _keys() -> Iterable[str]:
    rows = (
        (f"`[{table}]`", _listed(keys), _listed(k for k in keys if f"[{table}] {k}" in RESTART))
        for table, keys in ((table, model.model_fields) for table, model in TABLES.items())
    )
    return _table(("table", "keys", "of these, a restart is needed for"), rows)


def _listed(words: Iterable[str]) -> str:
    return ", ".join(f"`{word}`" for word in words) or "–"


_SECTIONS: Final[Mapping[str, Callable[[], Iterable[str]]]] = {
    "facts": _facts,
    "verbs": _verbs,
    "functions": _functions,
    "named replies": _named,
    "metrics": _metrics,
    "defects": _defects,
    "tables": _keys,
}


def main() -> None:
    """Rewrite the tables of every document."""
    for document in DOCUMENTS:
        before = document.read_text()
        after = rendered(before)
        if after != before:
            document.write_text(after)
            sys.stdout.write(f"{document.relative_to(ROOT)} is written anew\n")


if __name__ == "__main__":
    main()

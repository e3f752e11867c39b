"""Checks of other packages, held against the language: their names, and their replies."""

from collections.abc import Iterable, Mapping
from typing import Final

from policyd.checks.installed import Broken, Installed, taken
from policyd.checks.interface import SKIP
from policyd.config.problem import Problem
from policyd.rules.functions import FUNCTIONS
from policyd.rules.outcome import OutcomeError, parse
from policyd.smtp import pairing
from policyd.smtp.stage import Stage

_ANYWHERE: Final = (Stage.RCPT,)
"""Where a reply is judged that may be given at any stage."""


def usable(
    found: Iterable[Installed], broken: Iterable[Broken], own: Iterable[str], file: str
) -> tuple[Mapping[str, Installed], tuple[Problem, ...]]:
    """
    Give the checks that conditions may name beside policyd's `own`, and what is wrong with others.

    What is wrong is told of `file`, since no line of it is to blame.
    """
    checks = {each.check.name: each for each in found}
    wrong = list(broken)
    for names, whose in ((own, "a check of policyd's own"), (FUNCTIONS, "a function")):
        for each, why in taken(tuple(checks.values()), names, whose):
            del checks[each.check.name]
            wrong.append(why)
    for each in tuple(checks.values()):
        for what, mend in _reply(each):
            checks.pop(each.check.name, None)
            wrong.append(Broken(each.package, f"its check {each.check.name}: {what}", mend))
    problems = (Problem(file, 1, "", f"the package {e.package}: {e.what}", e.mend) for e in wrong)
    return checks, tuple(problems)


def _reply(found: Installed) -> Iterable[tuple[str, str]]:
    """Say what is wrong with the reply that rules give when the check fails."""
    text = found.check.on_error
    if text == SKIP:
        return
    try:
        outcome = parse(text)
    except OutcomeError as error:
        yield f"on_error: {error}", error.mend
        return
    if outcome.text is None:
        yield f"on_error = {text!r} is a verb", 'write "skip" or a reply'
    elif not outcome.named:
        stages = tuple(found.check.stages or _ANYWHERE)
        for finding in pairing.judge(outcome.code, outcome.enhanced, outcome.text.text, stages):
            if finding.severity == "error":
                yield f"on_error: {finding.what}", finding.mend

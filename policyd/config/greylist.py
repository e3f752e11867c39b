"""What `[greylist]` says to the check greylisted(), and what is doubtful in it."""

from collections.abc import Iterator
from typing import Final

from policyd.checks.greylist import GreylistSettings
from policyd.checks.wording import duration_text
from policyd.config.gather import Part
from policyd.config.model import Config, Greylist
from policyd.config.problem import Problem, Severity
from policyd.store.model import Terms

_SHORTEST_DELAY: Final = 10.0
_LONGEST_DELAY: Final = 3_600.0
_SHORTEST_WINDOW: Final = 14_400.0
"""Seconds; sendmail(8) and Exim come to try again every few hours (RFC 5321 section 4.5.4.1)."""


def greylist_settings(config: Config) -> GreylistSettings:
    """Give what the check is asked with."""
    table = config.greylist
    terms = Terms(
        delay=_ms(table.delay),
        retry_window=_ms(table.retry_window),
        lifetime=_ms(table.lifetime),
        auto_allow_after=table.auto_allow_after,
    )
    return GreylistSettings(terms, ipv4=table.client_prefix.ipv4, ipv6=table.client_prefix.ipv6)


def judge_greylist(table: Greylist, part: Part) -> Iterator[Problem]:
    """Give what is wrong or doubtful in a table whose keys are each right in themselves."""
    window = _text(table.retry_window)
    if table.delay >= table.retry_window:
        what = f"delay: retries are accepted within {window} (retry_window), so none ever would be"
        yield _problem(part, "delay", what, f"write less than {window}")
    elif table.delay > _LONGEST_DELAY:
        what = "delay: mail waits for more than an hour, and most zombies never try again"
        yield _problem(part, "delay", what, 'write a shorter one, such as "5m"', error=False)
    elif table.delay < _SHORTEST_DELAY:
        what = "delay: a zombie that tries at once again is not told from a mail server"
        yield _problem(part, "delay", what, 'write a longer one, such as "5m"', error=False)
    if table.lifetime < table.retry_window:
        what = f"lifetime: what has passed would be forgotten before what waits, after {window}"
        yield _problem(part, "lifetime", what, f"write {window} or more")
    if table.delay < table.retry_window < _SHORTEST_WINDOW:
        what = f"retry_window: servers that try again only after {window} would wait for ever"
        mend = 'write at least "4h"; by default it is "2d"'
        yield _problem(part, "retry_window", what, mend, error=False)


def _text(seconds: float) -> str:
    return f'"{duration_text(_ms(seconds))}"'


def _ms(seconds: float) -> int:
    return round(seconds * 1000)


def _problem(part: Part, key: str, what: str, mend: str, *, error: bool = True) -> Problem:
    severity: Severity = "error" if error else "warning"
    return Problem(part.document.shown, part.line(key), "", what, mend, severity)

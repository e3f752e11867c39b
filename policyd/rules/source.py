"""A rule as it stands in a configuration file, before it is compiled."""

from collections.abc import Mapping
from dataclasses import dataclass, field

from policyd.smtp.decision import Mode
from policyd.smtp.stage import Stage


@dataclass(frozen=True, slots=True, eq=False)
class RuleSource:
    """
    A `[[rule]]` table: texts as written, and the line of each key (`""`: of the table).

    An empty `when` always applies; an empty `on_error` leaves it to the checks' own defaults.
    """

    name: str
    stages: tuple[Stage, ...]
    when: str
    then: str
    mode: Mode = Mode.ENFORCE
    on_error: str = ""
    whole_message: bool = False
    file: str = ""
    lines: Mapping[str, int] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class Complaint:
    """What is wrong, or doubtful, with one key of a rule, and how to mend it."""

    rule: RuleSource
    key: str
    what: str
    mend: str
    error: bool = True

"""What is to be known of a configuration in force: all but compiled rules and lists' entries."""

from collections.abc import Mapping
from dataclasses import dataclass, field

from policyd.checks.limits import Limit
from policyd.checks.zone import Zone
from policyd.config.model import Config
from policyd.lists.remote.settings import RemoteList
from policyd.lists.signature import Signatures
from policyd.lists.source import ListSource
from policyd.rules.source import RuleSource
from policyd.smtp.stage import FrontEnd, Stage


@dataclass(frozen=True, slots=True)
class ListOutline:
    """A list: what it is made of, its files as they were when read, and how many entries it has."""

    source: ListSource
    signatures: Signatures
    entries: int


@dataclass(frozen=True, slots=True)
class Outline:
    """
    A configuration without errors; it can be pickled.

    `rules` are in order, as written. `ruled` are the stages that have rules; `hash` is that of the
    files' contents (see load.Loaded). `remote` are the lists that are looked up where they are.
    """

    config: Config
    rules: tuple[RuleSource, ...]
    owners: Mapping[Stage, FrontEnd]
    ruled: frozenset[Stage]
    lists: Mapping[str, ListOutline]
    hash: str
    limits: Mapping[str, Limit] = field(default_factory=dict)
    zones: Mapping[str, Zone] = field(default_factory=dict)
    remote: Mapping[str, RemoteList] = field(default_factory=dict)

"""From a configuration file to a policy that can be served: read, checked, compiled."""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from policyd.checks.builtin import Configured, Live, declared
from policyd.checks.foreign import running
from policyd.checks.installed import Installed, installed
from policyd.checks.interface import Check
from policyd.checks.limits import Limit
from policyd.checks.zone import Zone
from policyd.config.authentication import stamping_of
from policyd.config.foreign import usable
from policyd.config.greylist import greylist_settings
from policyd.config.load import Loaded as Read
from policyd.config.load import load
from policyd.config.model import Config
from policyd.config.outline import ListOutline, Outline
from policyd.config.problem import Problem, Severity
from policyd.lists.entries import EntryError
from policyd.lists.named import NamedList
from policyd.lists.remote.settings import RemoteList
from policyd.lists.source import Kind
from policyd.lists.written import written_out
from policyd.rules.build import Surroundings, build
from policyd.rules.literals import LiteralError
from policyd.rules.policy import Policy
from policyd.rules.scope import Scope
from policyd.rules.source import Complaint
from policyd.smtp.stage import FrontEnd, Stage


@dataclass(frozen=True, slots=True)
class Loaded:
    """
    A configuration as loaded; `policy` is None when one of the problems is an error.

    `remote` are the lists that are looked up where they are, `foreign` the checks of other packages
    that conditions may name.
    """

    config: Config
    policy: Policy | None
    lists: Mapping[str, NamedList]
    checks: Mapping[str, Check]
    problems: tuple[Problem, ...]
    remote: Mapping[str, RemoteList]
    limits: Mapping[str, Limit]
    zones: Mapping[str, Zone]
    foreign: Mapping[str, Installed]

    @property
    def policy_in_force(self) -> Policy:
        """The policy of a configuration without errors; ValueError of one with errors."""
        if self.policy is None:
            raise ValueError("the configuration has errors")
        return self.policy


def load_policy(
    path: Path, checks: Mapping[str, Check] | None = None, live: Live | None = None
) -> Loaded:
    """
    Load a configuration and compile its policy.

    `checks` stand in for those of other packages. None can be asked but with `live`.
    """
    read = load(path)
    own = declared(Configured(greylist_settings(read.model), read.limits, read.zones), live)
    foreign, wrong = ({}, ()) if checks is not None else usable(*installed(), own, str(path))
    runner = None if live is None else live.foreign
    others = checks or {name: running(each, runner) for name, each in foreign.items()}
    known = {**others, **own}
    policy, complaints = build(
        read.rules,
        Surroundings(
            owners=read.owners,
            scope={
                stage: _scope(stage, owner, read, known) for stage, owner in read.owners.items()
            },
            utf8=read.model.replies.utf8,
            hash=read.hash,
            stamping=stamping_of(read.model, read.owners),
        ),
    )
    problems = tuple(sorted({*read.problems, *wrong, *_problems(complaints)}))
    if any(problem.severity == "error" for problem in problems):
        policy = None
    return Loaded(
        read.model,
        policy,
        read.lists,
        known,
        problems,
        read.remote,
        read.limits,
        read.zones,
        foreign,
    )


def outline_of(loaded: Loaded) -> Outline:
    """Give the outline of a loaded configuration; ValueError of one with errors."""
    policy = loaded.policy_in_force
    return Outline(
        config=loaded.config,
        rules=tuple(dict.fromkeys(rule.source for rule in policy.rules)),
        owners=dict(policy.owners),
        ruled=frozenset(rule.stage for rule in policy.rules),
        lists={
            name: ListOutline(named.source, dict(named.signatures), len(named))
            for name, named in loaded.lists.items()
        },
        hash=policy.hash,
        limits=loaded.limits,
        zones=loaded.zones,
        remote=loaded.remote,
    )


def _scope(stage: Stage, owner: FrontEnd, read: Read, checks: Mapping[str, Check]) -> Scope:
    recipient_delimiter = read.model.addresses.recipient_delimiter

    def write_out(kind: str, entries: Sequence[str]) -> NamedList:
        try:
            return written_out(Kind(kind), entries, recipient_delimiter)
        except EntryError as error:
            raise LiteralError(error.what, error.mend) from error

    return Scope(stage, owner, read.lists, checks, write_out, remote=read.remote)


def _problems(complaints: Iterable[Complaint]) -> Iterable[Problem]:
    for complaint in complaints:
        rule = complaint.rule
        line = rule.lines.get(complaint.key, rule.lines.get("", 1))
        severity: Severity = "error" if complaint.error else "warning"
        yield Problem(rule.file, line, rule.name, complaint.what, complaint.mend, severity)

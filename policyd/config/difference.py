"""
What a new configuration changes, by name: rules, lists, limits and keys, some with a restart.

Where something is written, a file or a line, is no difference. Rules, lists, limits and DNS lists
are known by their names, so one with a new name is another one.
"""

import dataclasses
from bisect import bisect_left
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Final

from policyd.checks.limits import Limit
from policyd.config.dnsbl import said as said_by_zone
from policyd.config.model import TABLES, Config
from policyd.config.outline import Outline
from policyd.config.remote import KEYS as REMOTE_KEYS
from policyd.config.remote import said
from policyd.lists.source import Kind, ListSource
from policyd.rules.source import RuleSource

RESTART: Final = (
    "[server] workers",
    "[policy_service] listen",
    "[policy_service] socket_mode",
    "[policy_service] socket_group",
    "[milter] listen",
    "[milter] socket_mode",
    "[milter] socket_group",
    "[metrics] listen",
    "[state] url",
    "[state] timeout",
    "[state] prefix",
    "[state] password_file",
    "[state] ca_file",
    "[log] format",
)
"""The keys that a reload cannot change: what they say is opened or started once."""

_PLACES: Final[Mapping[str, str]] = {
    "policy_service": "listen",
    "milter": "listen",
    "metrics": "listen",
    "authentication": "results",
}
"""The key of each optional table that says where or what; an absent table is one without it."""

_Values = Mapping[str, object]
"""What each key of a table says; values that mean the same are equal."""


@dataclass(frozen=True, slots=True)
class Change:
    """A rule, list, limit or DNS list that stays, and its keys that say something else now."""

    name: str
    keys: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class Difference:
    """
    What a configuration changes against another; false if nothing.

    Names stand in the order of the new configuration, removed ones in that of the old. Moved rules
    are the fewest whose move gives the new order. `keys` are written `[replies] show_id`.
    """

    keys: tuple[str, ...] = ()
    rules_added: tuple[str, ...] = ()
    rules_removed: tuple[str, ...] = ()
    rules_changed: tuple[Change, ...] = ()
    rules_moved: tuple[str, ...] = ()
    lists_added: tuple[str, ...] = ()
    lists_removed: tuple[str, ...] = ()
    lists_changed: tuple[Change, ...] = ()
    limits_added: tuple[str, ...] = ()
    limits_removed: tuple[str, ...] = ()
    limits_changed: tuple[Change, ...] = ()
    zones_added: tuple[str, ...] = ()
    zones_removed: tuple[str, ...] = ()
    zones_changed: tuple[Change, ...] = ()

    def __bool__(self) -> bool:
        """Tell whether there is any difference."""
        return any(getattr(self, part.name) for part in dataclasses.fields(self))

    def fields(self, most: int | None = None) -> dict[str, object]:
        """
        Give the parts that are not empty, for a log event or as JSON.

        Of a part with more than `most` entries only so many are named, and `PART_left_out` is the
        number of the others. `most` is at least 1.
        """
        found: dict[str, object] = {}
        for part in dataclasses.fields(self):
            entries = getattr(self, part.name)
            some = entries[:most]
            if some:
                changes = isinstance(some[0], Change)
                found[part.name] = {c.name: list(c.keys) for c in some} if changes else list(some)
            if len(some) < len(entries):
                found[f"{part.name}_left_out"] = len(entries) - len(some)
        return found

    def lines(self) -> tuple[str, ...]:
        """Say it for a terminal, a line for each key, rule, list, limit and DNS list."""
        return (
            *(f"{key} changed" for key in self.keys),
            *_lines("rule", self.rules_removed, self.rules_added, self.rules_changed),
            *(f'rule "{name}" moved' for name in self.rules_moved),
            *_lines("list", self.lists_removed, self.lists_added, self.lists_changed),
            *_lines("limit", self.limits_removed, self.limits_added, self.limits_changed),
            *_lines("DNS list", self.zones_removed, self.zones_added, self.zones_changed),
        )


def _lines(
    what: str, removed: Sequence[str], added: Sequence[str], changed: Sequence[Change]
) -> Iterator[str]:
    for name in removed:
        yield f'{what} "{name}" removed'
    for name in added:
        yield f'{what} "{name}" added'
    for change in changed:
        yield f'{what} "{change.name}" changed: {", ".join(change.keys)}'


def difference(old: Outline, new: Outline) -> Difference:
    """Give what the new configuration changes."""
    rules_before = {rule.name: _rule(rule) for rule in old.rules}
    rules = {rule.name: _rule(rule) for rule in new.rules}
    lists_before, lists = _lists(old), _lists(new)
    limits_before = {name: _limit(limit) for name, limit in old.limits.items()}
    limits = {name: _limit(limit) for name, limit in new.limits.items()}
    zones_before = {name: said_by_zone(zone) for name, zone in old.zones.items()}
    zones = {name: said_by_zone(zone) for name, zone in new.zones.items()}
    return Difference(
        keys=_keys(old.config, new.config),
        rules_added=tuple(name for name in rules if name not in rules_before),
        rules_removed=tuple(name for name in rules_before if name not in rules),
        rules_changed=tuple(_changes(rules_before, rules)),
        rules_moved=_moved(tuple(rules_before), tuple(rules)),
        lists_added=tuple(name for name in lists if name not in lists_before),
        lists_removed=tuple(name for name in lists_before if name not in lists),
        lists_changed=tuple(_changes(lists_before, lists)),
        limits_added=tuple(name for name in limits if name not in limits_before),
        limits_removed=tuple(name for name in limits_before if name not in limits),
        limits_changed=tuple(_changes(limits_before, limits)),
        zones_added=tuple(name for name in zones if name not in zones_before),
        zones_removed=tuple(name for name in zones_before if name not in zones),
        zones_changed=tuple(_changes(zones_before, zones)),
    )


def needs_restart(old: Config, new: Config) -> tuple[str, ...]:
    """Name the changed keys that a reload cannot change, as in RESTART; empty if there are none."""
    return tuple(key for key in _keys(old, new) if key in RESTART)


def _rule(rule: RuleSource) -> _Values:
    return {
        "stage": frozenset(rule.stages),
        "when": rule.when,
        "then": rule.then,
        "mode": rule.mode,
        "on_error": rule.on_error,
        "whole_message": rule.whole_message,
    }


def _lists(outline: Outline) -> Mapping[str, _Values]:
    """Give what all lists say, each under the keys of every kind of list."""
    no_place = dict.fromkeys(REMOTE_KEYS)
    no_entries = _list(ListSource("", frozenset(), "", 0))
    return {
        **{name: {**_list(each.source), **no_place} for name, each in outline.lists.items()},
        **{name: {**no_entries, **said(each)} for name, each in outline.remote.items()},
    }


def _list(source: ListSource) -> _Values:
    """Give what a list is made of; its recipient_delimiter is a key of [addresses]."""
    values: dict[str, object] = {}
    for kind in Kind:
        files = frozenset(file.path for file in source.files if file.kind is kind)
        texts = frozenset(entry.text for entry in source.inline if entry.kind is kind)
        # domains = [] alone makes a list of domains, beside domains_file it says nothing
        given = texts or (kind in source.kinds and not files)
        values[kind.value] = texts if given else None
        values[f"{kind.value}_file"] = files
    return values


def _limit(limit: Limit) -> _Values:
    """Give what a limit says; its file of overrides is read when the configuration is."""
    return {
        "key": limit.key,
        "rate": (limit.unit, limit.most, limit.window),
        "burst": limit.burst,
        "overrides_file": limit.overrides,
    }


def _keys(old: Config, new: Config) -> tuple[str, ...]:
    return tuple(
        f"[{table}] {key}"
        for table in TABLES
        for key in _differing(_table(old, table), _table(new, table))
    )


def _table(config: Config, name: str) -> _Values:
    table = getattr(config, name)
    if table is None:
        defaults = {key: field.default for key, field in TABLES[name].model_fields.items()}
        values = defaults | {_PLACES[name]: None}
    else:
        values = {key: getattr(table, key) for key in TABLES[name].model_fields}
    # No list of these tables has an order that matters, but that of the name servers.
    unordered = {k: v for k, v in values.items() if isinstance(v, tuple) and k != "servers"}
    return values | {k: frozenset(v) for k, v in unordered.items()}


def _differing(old: _Values, new: _Values) -> tuple[str, ...]:
    return tuple(key for key, value in new.items() if old[key] != value)


def _changes(old: Mapping[str, _Values], new: Mapping[str, _Values]) -> Iterator[Change]:
    for name, values in new.items():
        if name in old and (keys := _differing(old[name], values)):
            yield Change(name, keys)


def _moved(old: Sequence[str], new: Sequence[str]) -> tuple[str, ...]:
    """
    Name the fewest that have to be moved: of those in both, all but a longest run in old order.

    The run is found by patience sorting: `ends` has the lowest place in the old order at which a
    run of each length can end.
    """
    places = {name: place for place, name in enumerate(old)}
    both = [name for name in new if name in places]
    ends: list[int] = []
    lengths: list[int] = []
    for name in both:
        length = bisect_left(ends, places[name])
        ends[length : length + 1] = [places[name]]
        lengths.append(length)
    wanted = len(ends) - 1
    moved: list[str] = []
    for name, length in zip(reversed(both), reversed(lengths), strict=True):
        if length == wanted:
            wanted -= 1
        else:
            moved.append(name)
    return tuple(reversed(moved))

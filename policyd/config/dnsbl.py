"""From `[dnsbl.NAME]` tables to DNS lists, and what is doubtful in how rules ask them."""

import ipaddress
import re
from collections.abc import Iterable, Iterator, Mapping
from typing import Final

from msgspec import structs

from policyd.checks.dnsbl import LISTED, SCORE
from policyd.checks.zone import TEST_POINTS, Zone, ZoneKind, is_domain
from policyd.checks.zone_answer import never_lists
from policyd.config.dnsbl_model import DnsblTable
from policyd.config.gather import Part
from policyd.config.problem import Problem, Severity
from policyd.config.translate import read_table
from policyd.facts import read
from policyd.rules.source import RuleSource

_SAYS_NOTHING: Final = ("name", "in_table")
"""What is no key of a table."""


def read_zone(name: str, part: Part) -> tuple[Zone, tuple[Problem, ...]]:
    """Make a DNS list of its table; a wrong one is some other, so that rules can be judged."""
    table, problems = read_table(DnsblTable, part, called=f"[dnsbl.{name}]")
    if table is None:
        return Zone(name, "invalid", _some_kind(part)), problems
    weight = table.weight
    if weight is None and not (table.codes or table.masks):
        weight = 1.0
    zone = Zone(
        name=name,
        zone=table.zone,
        kind=table.kind,
        weight=weight,
        codes=table.codes,
        masks=table.masks,
        errors=table.errors,
        text=table.text,
        listed=_point(table.kind, table.listed),
        unlisted=_point(table.kind, table.unlisted),
        interval=table.interval,
    )
    return zone, (*_never(zone, part), *_points(zone, table, part))


def said(zone: Zone) -> Mapping[str, object]:
    """Give what a DNS list's table says, by its keys; what means the same is the same."""
    listed, unlisted = TEST_POINTS[zone.kind]
    values = structs.asdict(zone) | {
        "errors": frozenset(zone.errors),
        "listed": zone.listed or listed,
        "unlisted": zone.unlisted or unlisted,
    }
    return {key: value for key, value in values.items() if key not in _SAYS_NOTHING}


def _some_kind(part: Part) -> ZoneKind:
    kind = part.values.get("kind")
    return ZoneKind(str(kind)) if kind in set(ZoneKind) else ZoneKind.CLIENT_ADDRESS


def _point(kind: ZoneKind, written: str | None) -> str:
    """Give what a zone is tested with; an address as it is, a mapped one is of IPv6 (RFC 5782)."""
    if written is None:
        return ""
    return written.strip() if kind is ZoneKind.CLIENT_ADDRESS else read.domain(written)


def _never(zone: Zone, part: Part) -> Iterator[Problem]:
    """Refuse weights of what is no listing, and warn of a zone that lists nothing."""
    for code in zone.codes:
        why = never_lists(zone, code.answers)
        if why:
            mend = "leave it out: such answers are failures, whatever they weigh"
            yield _problem(part, "codes", f"codes: {why}", mend)
    weights = [code.weight for code in zone.codes] + [weight for _, weight in zone.masks]
    if not any((*weights, zone.weight)):
        what = f"[dnsbl.{zone.name}]: all its answers weigh 0, and what weighs nothing lists nobody"
        yield _problem(part, "zone", what, "give them weights", error=False)


def _points(zone: Zone, table: DnsblTable, part: Part) -> Iterator[Problem]:
    """Judge what a zone is tested with."""
    example = {"listed": TEST_POINTS[zone.kind][0], "unlisted": TEST_POINTS[zone.kind][1]}
    points = {"listed": zone.listed, "unlisted": zone.unlisted}
    right = True
    for key, point in points.items():
        if point and not _is_point(zone, point):
            right = False
            what = f"{key}: a zone of kind {zone.kind} cannot be asked for {getattr(table, key)!r}"
            mend = f'write it as "{example[key]}"'
            yield _problem(part, key, what, mend)
    asked = [points[key] or example[key] for key in points]
    if right and asked[0] == asked[1]:
        key = "unlisted" if table.unlisted is not None else "listed"
        what = f"{key}: {asked[0]} cannot be listed and not listed"
        yield _problem(part, key, what, "name one that the list has, and one that it never has")


def _is_point(zone: Zone, point: str) -> bool:
    if zone.kind is not ZoneKind.CLIENT_ADDRESS:
        return is_domain(f"{point}.{zone.zone}") and not read.is_address_literal(point)
    try:
        ipaddress.ip_address(point)
    except ValueError:
        return False
    return True


def judge_zones(
    zones: Mapping[str, Zone], parts: Mapping[str, Part], rules: Iterable[RuleSource]
) -> Iterator[Problem]:
    """
    Warn of DNS lists that no rule asks, and of those that rules ask past their tables.

    Rules are not parsed yet, so what counts is the name in quotes.
    """
    conditions = [rule.when for rule in rules]
    every = re.compile(rf"\b{SCORE}\(\s*\)")
    all_asked = any(every.search(condition) for condition in conditions)
    for name, zone in zones.items():
        asked = all_asked or _named(name, conditions)
        if _named(zone.zone, conditions):
            what = f'a rule names "{zone.zone}" itself, for which [dnsbl.{name}] says nothing'
            mend = f"write {LISTED}('{name}')"
            yield _problem(parts[name], "zone", what, mend, error=False)
        elif not asked:
            mend = f"write {LISTED}('{name}') or {SCORE}(), or remove it"
            yield _problem(
                parts[name], "", f'no rule asks the DNS list "{name}"', mend, error=False
            )


def _named(name: str, conditions: Iterable[str]) -> bool:
    quoted = re.compile(rf"""(['"]){re.escape(name)}\1""")
    return any(quoted.search(condition) for condition in conditions)


def _problem(part: Part, key: str, what: str, mend: str, *, error: bool = True) -> Problem:
    severity: Severity = "error" if error else "warning"
    line = part.line(key) if key else part.line()
    return Problem(part.document.shown, line, "", what, mend, severity)

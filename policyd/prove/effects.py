"""What Postfix makes of every reply and verb of a policy, and what happens when checks fail."""

from typing import Final

import msgspec

from policyd.facts.table import Attributes
from policyd.protocol.postfix import Setting, predict, usual_list
from policyd.rules import nodes
from policyd.rules.policy import Match, Policy, Rule
from policyd.smtp.decision import Decision, Mode, Source
from policyd.smtp.reply import Reply
from policyd.smtp.stage import FrontEnd, RestrictionList, Stage

_SAMPLE: Final[Attributes] = {
    "client_name": "client",
    "client_address": "address",
    "helo_name": "helo",
    "sender": "sender",
    "recipient": "recipient",
    "etrn_domain": "domain",
}
"""Stands for the names that Postfix puts before a text."""

_DELAYED: Final = frozenset({Stage.CONNECT, Stage.HELO, Stage.MAIL})


class Seen(msgspec.Struct, frozen=True):
    """What the client sees, where Postfix asks at that stage, and by that list if by one."""

    asked_at: Stage
    restriction: RestrictionList | None
    lines: tuple[str, ...]
    effect: str
    notes: tuple[str, ...]


class Effect(msgspec.Struct, frozen=True):
    """A rule's outcome as written, and what becomes of it: one Seen for each place of asking."""

    rule: str
    stage: Stage
    front_end: FrontEnd
    mode: Mode
    written: str
    seen: tuple[Seen, ...]


class Failure(msgspec.Struct, frozen=True):
    """
    What a rule does when one of its checks cannot be made.

    `dependencies` are what these rely on, as policyd_dependency_up names it.
    """

    rule: str
    stage: Stage
    checks: tuple[str, ...]
    dependencies: tuple[str, ...]
    then: str


def effects(policy: Policy) -> tuple[Effect, ...]:
    """Give the effect of each rule at each of its stages, in order."""
    return tuple(_effect(rule, policy.owners[rule.stage]) for rule in policy.rules)


def _effect(rule: Rule, front_end: FrontEnd) -> Effect:
    settings = [Setting(front_end, rule.stage)]
    if front_end is FrontEnd.POLICY:
        settings = [Setting(front_end, rule.stage, usual_list(rule.stage))]
        if rule.stage in _DELAYED:  # asked by the one line in smtpd_recipient_restrictions
            settings.insert(0, Setting(front_end, Stage.RCPT, RestrictionList.RECIPIENT))
    seen = () if rule.goes_on else tuple(_seen(rule, setting) for setting in settings)
    return Effect(
        rule.name, rule.stage, front_end, rule.match.mode, " ".join(rule.source.then.split()), seen
    )


def _seen(rule: Rule, setting: Setting) -> Seen:
    found = predict(_decision(rule.match), _SAMPLE, setting)
    lines = tuple(f"{line.at}: {line}" for line in found.lines)
    return Seen(setting.stage, setting.restriction, lines, found.effect, found.notes)


def _decision(match: Match) -> Decision:
    reply = None
    if match.text is not None and match.enhanced is not None:
        text = match.text.text
        reply = Reply(match.code, match.enhanced.subject, match.enhanced.detail, text)
    return Decision(
        "",
        match.verdict,
        match.stage,
        Source.RULE,
        reply=reply,
        argument=match.argument.text if match.argument is not None else "",
        rule=match.rule,
        if_permitted=match.if_permitted,
    )


def failures(policy: Policy) -> tuple[Failure, ...]:
    """Give the failure of each rule that calls a check."""
    return tuple(
        Failure(
            rule.name,
            rule.stage,
            tuple(dict.fromkeys(call.source for call in calls)),
            tuple(dict.fromkeys(each for call in calls for each in call.dependencies)),
            _then(rule),
        )
        for rule in policy.rules
        if rule.condition is not None and (calls := nodes.calls_of(rule.condition))
    )


def _then(rule: Rule) -> str:
    if rule.fallback is None:
        return "the rule does not apply"
    match = rule.fallback
    return f"{match.code} {match.enhanced} {match.text.text if match.text else ''}"

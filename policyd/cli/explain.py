"""`policyd explain`: one request decided, with every step shown."""

import time
from collections.abc import Iterable, Mapping
from enum import StrEnum
from pathlib import Path
from typing import Final, TypeVar

import click
import msgspec

from policyd.cli.configured import config_option, load_or_exit
from policyd.facts.table import FACTS, FactType
from policyd.prove.explain import Asking, Explanation, RuleTrace, UndecidedError, why
from policyd.prove.explain import explain as explain_request
from policyd.service import Settings
from policyd.smtp.decision import Mode
from policyd.smtp.stage import RestrictionList, Stage

_OTHER: Final = ("stage", "list", "header", "attachment", "recipients")
_SEVERAL: Final = {"header": "headers", "attachment": "attachments", "recipients": "recipients"}


@click.command()
@config_option
@click.argument("request", nargs=-1, metavar="[NAME=VALUE]...")
@click.option(
    "--delay-reject/--no-delay-reject",
    default=True,
    help="Whether Postfix asks for connect, helo and mail at RCPT (smtpd_delay_reject).",
)
@click.option("--hostname", default="mx.example.org", help="Postfix's myhostname.")
@click.option("--json", "as_json", is_flag=True, help="Print one JSON document.")
def explain(
    config: Path, request: tuple[str, ...], delay_reject: bool, hostname: str, as_json: bool
) -> None:
    r"""
    Decide one request and show which rule answers, why, and what the client will see.

    NAME is a fact, by Postfix's attribute name; or stage (which stage to decide; without it, all
    that a request at RCPT decides), list (which restriction list asks). For end-of-data,
    recipients=, header='Name: value' and attachment= may stand several times.

    \b
    policyd explain client_address=198.51.100.1 sender=a@example.net recipient=b@example.org
    policyd explain stage=helo helo_name=localhost
    """
    attributes, named = _read(request)
    loaded = load_or_exit(config)
    try:
        found = explain_request(
            loaded.policy_in_force,
            attributes,
            _asking(named, hostname, delay_reject=delay_reject),
            settings=Settings(
                decision_timeout=loaded.config.server.decision_timeout,
                utf8=loaded.config.replies.utf8,
            ),
            now=time.time(),
        )
    except UndecidedError as error:
        raise click.UsageError(str(error)) from error
    if as_json:
        click.echo(msgspec.json.format(msgspec.json.encode(found, enc_hook=str), indent=2).decode())
    else:
        for line in _lines(found):
            click.echo(line)


def _read(words: Iterable[str]) -> tuple[dict[str, object], dict[str, str]]:
    """Read name=value words into attributes, and what is no fact apart."""
    attributes: dict[str, object] = {}
    named: dict[str, str] = {}
    several: dict[str, list[object]] = {}
    for word in words:
        name, equals, value = word.partition("=")
        if not equals:
            raise click.UsageError(f"{word!r} is no name=value")
        if name in _SEVERAL:
            several.setdefault(_SEVERAL[name], []).append(_item(name, value))
        elif name in ("stage", "list"):
            named[name] = value
        elif name in FACTS:
            attributes[name] = _value(name, value)
        else:
            known = ", ".join([*FACTS, *_OTHER])
            raise click.UsageError(f"there is no fact {name}; known: {known}")
    attributes.update({name: tuple(items) for name, items in several.items()})
    return attributes, named


def _item(name: str, value: str) -> object:
    if name != "header":
        return value
    header, colon, rest = value.partition(":")
    if not colon:
        raise click.UsageError(f"header={value!r} is no `Name: value`")
    return (header.strip(), rest.strip())


def _value(name: str, value: str) -> object:
    if FACTS[name].type is FactType.TRUTH:
        return value.lower() in ("true", "yes", "1")
    return value


def _asking(named: Mapping[str, str], hostname: str, *, delay_reject: bool) -> Asking:
    stage = _choice("stage", named, Stage)
    restriction = _choice("list", named, RestrictionList)
    if stage is None:
        return Asking(Stage.RCPT, restriction=restriction, hostname=hostname)
    return Asking(
        stage,
        alone=True,
        restriction=restriction,
        delay_reject=delay_reject,
        hostname=hostname,
    )


_Choice = TypeVar("_Choice", bound=StrEnum)


def _choice(name: str, named: Mapping[str, str], kind: type[_Choice]) -> _Choice | None:
    if name not in named:
        return None
    try:
        return kind(named[name])
    except ValueError as error:
        known = ", ".join(kind)
        raise click.UsageError(f"there is no {name} {named[name]}; known: {known}") from error


def _lines(found: Explanation) -> Iterable[str]:
    """Give the explanation as text."""
    yield f"asked by {found.front_end}; decides {', '.join(found.stages)}"
    for rule in found.rules:
        yield from _rule_lines(rule)
    decision = found.decision
    yield ""
    yield f"decided    {decision.verdict}: {why(found)}"
    if decision.reply is not None:
        yield f"reply      {decision.reply}"
    elif decision.argument:
        yield f"argument   {decision.argument}"
    if found.action:
        yield f"action     {found.action}"
    for line in found.prediction.lines:
        yield f"client     {line.at}: {line}" + ("  (then Postfix hangs up)" if line.closes else "")
    if not found.prediction.lines:
        yield "client     sees nothing of it"
    if found.prediction.effect:
        yield f"effect     {found.prediction.effect}"
    for note in found.prediction.notes:
        yield f"note       {note}"


_SAID: Final = {None: "not reached", True: "matches", False: "does not match"}


def _rule_lines(rule: RuleTrace) -> Iterable[str]:
    marks = [
        mark for mark, on in (("shadow", rule.mode is Mode.SHADOW), ("again", rule.carried)) if on
    ]
    mark = f" ({', '.join(marks)})" if marks else ""
    said = _SAID[rule.matched]
    yield f'{rule.stage}: rule "{rule.rule}"{mark} {rule.place}: {said} -> {rule.then}'
    if rule.matched is None:
        return
    for part in rule.parts:
        yield (
            f"    {part.source} = {part.value!r}"
            if part.evaluated
            else f"    {part.source}: {part.value}"
        )

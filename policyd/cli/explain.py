"""`policyd explain`: one request decided, with every step shown."""

import time
from collections.abc import Iterable, Mapping
from functools import partial
from pathlib import Path
from typing import Final

import click
import msgspec

from policyd.cli.configured import config_option, load_or_exit
from policyd.cli.kept import opened
from policyd.config.dns import dns_settings
from policyd.config.state import state_settings
from policyd.facts.table import FACTS, FactType
from policyd.mail.spool import Spool, taken_apart
from policyd.protocol.delegation import STATES, ProtocolError, Request, read_context
from policyd.protocol.milter.envelope import decoded, unfolded
from policyd.prove.explain import Asking, Explanation, RuleTrace, UndecidedError, why
from policyd.prove.explain import explain as explain_request
from policyd.prove.rehearsal import Rehearsal
from policyd.rules.policy import AT_RCPT
from policyd.serve.asked import Asked
from policyd.service import Settings
from policyd.smtp.decision import Mode
from policyd.smtp.stage import Stage

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

    NAME is an attribute of a policy request, or another fact. protocol_state tells where Postfix
    asks (RCPT without it), and policy_context more, as in main.cf; stage= and list= are short for
    it. For end-of-data, recipients=, header='Name: value' and attachment= may stand several times,
    and message=FILE gives a message for checks to read, with its headers. Checks are asked what
    they would answer now; state is looked at and not changed.

    \b
    policyd explain client_address=198.51.100.1 sender=a@example.net recipient=b@example.org
    policyd explain stage=helo helo_name=localhost
    """
    attributes, named = _read(request)
    rehearsal = Rehearsal()
    asked = Asked()
    loaded = load_or_exit(config, asked.live(rehearsal))
    asked.resolver.configure(dns_settings(loaded.config))
    rehearsal.opened = partial(opened, config, state_settings(loaded.config, config))
    try:
        found = explain_request(
            loaded.policy_in_force,
            attributes,
            _asking(attributes, named, hostname, delay_reject=delay_reject),
            settings=Settings(
                decision_timeout=loaded.config.server.decision_timeout,
                utf8=loaded.config.replies.utf8,
            ),
            now=time.time(),
            close=asked.close,
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
        elif name == "request":
            continue  # a captured request begins with it
        elif name == "message":
            attributes |= _message(Path(value))
        elif name in FACTS:
            attributes[name] = _value(name, value)
        else:
            known = ", ".join([*FACTS, *_OTHER])
            raise click.UsageError(f"there is no fact {name}; known: {known}")
    attributes.update({name: tuple(items) for name, items in several.items()})
    return attributes, named


def _message(file: Path) -> dict[str, object]:
    """Read a message as if it had arrived at the milter."""
    try:
        headers, body = taken_apart(file.read_bytes())
    except OSError as error:
        raise click.UsageError(f"message={file}: {error.strerror}") from error
    message = Spool()
    for name, value in headers:
        message.header(name, value)
    message.body(body)
    return {
        "message": message,
        "headers": tuple((name, unfolded(decoded(value)).strip()) for name, value in headers),
        "body_size": len(body),
        "size": message.size,
    }


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


def _asking(
    attributes: dict[str, object], named: Mapping[str, str], hostname: str, *, delay_reject: bool
) -> Asking:
    """Read what is asked as the front end does, from protocol_state and policy_context."""
    stage = named.get("stage", "")
    if stage and stage not in set(Stage):
        raise click.UsageError(f"there is no stage {stage}; known: {', '.join(Stage)}")
    state = str(attributes.get("protocol_state") or _state_for(stage, delay_reject=delay_reject))
    context = [str(attributes.get("policy_context", ""))]
    context += [f"{name}={value}" for name, value in named.items()]
    texts = {name: value for name, value in attributes.items() if isinstance(value, str)}
    texts["policy_context"] = ";".join(filter(None, context))
    reached = STATES.get(state)
    asked = read_context(Request(texts, reached, state))
    if isinstance(asked, ProtocolError) or reached is None:
        raise click.UsageError(str(asked))
    attributes.update(texts)
    return Asking(asked, reached, hostname)


def _state_for(stage: str, *, delay_reject: bool) -> str:
    """Give the protocol_state at which Postfix asks for a stage."""
    if not stage or (delay_reject and stage in AT_RCPT):
        return "RCPT"
    return next(state for state, reached in STATES.items() if reached == stage)


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

"""
What a milter asks of the MTA: steps, replies, actions and macros, computed from a policy.

A step that no rule has use for is negotiated away, and so is the reply to one that only brings a
fact: each reply is a round trip in which the client waits (MILTER_README; libmilter/mfapi.h).
"""

from collections.abc import Iterable, Iterator, Mapping
from enum import IntFlag, StrEnum
from typing import Final, Protocol

import msgspec

from policyd.protocol.milter.answer import AMENDING
from policyd.protocol.milter.macros import ALWAYS, DEFAULTS, MACROS, STEPS, Macro, MacroStep
from policyd.smtp.decision import Verdict
from policyd.smtp.stage import Stage


class Steps(IntFlag):
    """Steps and replies that a milter can do without (libmilter/mfdef.h, SMFIP_*)."""

    NO_CONNECT = 0x1
    NO_HELO = 0x2
    NO_MAIL = 0x4
    NO_RCPT = 0x8
    NO_BODY = 0x10
    NO_HEADER = 0x20
    NO_END_OF_HEADER = 0x40
    SILENT_HEADER = 0x80
    NO_UNKNOWN = 0x100
    NO_DATA = 0x200
    SILENT_CONNECT = 0x1000
    SILENT_HELO = 0x2000
    SILENT_MAIL = 0x4000
    SILENT_RCPT = 0x8000
    SILENT_DATA = 0x10000
    SILENT_BODY = 0x80000
    LEADING_SPACE = 0x100000
    """No step: a header's value begins right after its colon (SMFIP_HDR_LEADSPC)."""


class Actions(IntFlag):
    """What a milter may do to a message (libmilter/mfapi.h, SMFIF_*)."""

    ADD_HEADERS = 0x1
    ADD_RECIPIENTS = 0x4
    DELETE_RECIPIENTS = 0x8
    CHANGE_HEADERS = 0x10
    QUARANTINE = 0x20
    NAME_MACROS = 0x100


class Event(StrEnum):
    """A callback that can be negotiated away."""

    CONNECT = "connect"
    HELO = "helo"
    MAIL = "mail"
    RCPT = "rcpt"
    DATA = "data"
    HEADER = "header"
    BODY = "body"


class Needs(Protocol):
    """What is known of a question before it is asked: the facts it reads, its verdicts."""

    @property
    def facts(self) -> frozenset[str]:
        """Give the facts that conditions and texts read."""
        ...

    @property
    def verdicts(self) -> frozenset[Verdict]:
        """Give the verdicts that it can have."""
        ...


class Plan(msgspec.Struct, frozen=True):
    """
    What one negotiation asks for.

    `silent` are the events that are asked for without a reply, `steps` says the same in bits and
    what to do without. `named` are the macros to ask for, where the MTA's own list is not enough;
    `read` those to read at each stage that is decided. `headers` and `attachments` tell whether
    these are looked at, `message` whether messages are kept as they arrive, `settles` whether
    something wants to know how they end, `stamps` whether something is written above them.
    """

    asked: frozenset[Event]
    silent: frozenset[Event]
    steps: Steps
    actions: Actions
    named: Mapping[MacroStep, str]
    read: Mapping[Stage, tuple[Macro, ...]]
    headers: bool
    attachments: bool
    message: bool = False
    settles: bool = False
    stamps: bool = False


_STEPS: Final[Mapping[Event, tuple[Steps, Steps]]] = {
    Event.CONNECT: (Steps.NO_CONNECT, Steps.SILENT_CONNECT),
    Event.HELO: (Steps.NO_HELO, Steps.SILENT_HELO),
    Event.MAIL: (Steps.NO_MAIL, Steps.SILENT_MAIL),
    Event.RCPT: (Steps.NO_RCPT, Steps.SILENT_RCPT),
    Event.DATA: (Steps.NO_DATA, Steps.SILENT_DATA),
    Event.HEADER: (Steps.NO_HEADER, Steps.SILENT_HEADER),
    Event.BODY: (Steps.NO_BODY, Steps.SILENT_BODY),
}
_EVENTS: Final[Mapping[str, tuple[Event, ...]]] = {
    "helo_name": (Event.HELO,),
    "helo_is_address": (Event.HELO,),
    "sender": (Event.MAIL,),
    "sender_local": (Event.MAIL,),
    "sender_domain": (Event.MAIL,),
    "recipient": (Event.RCPT,),
    "recipient_local": (Event.RCPT,),
    "recipient_domain": (Event.RCPT,),
    "recipient_count": (Event.RCPT,),
    "recipients": (Event.RCPT,),
    "headers": (Event.HEADER,),
    "utf8_headers": (Event.HEADER,),
    "attachments": (Event.HEADER, Event.BODY),
    "body_size": (Event.BODY,),
    "message": (Event.MAIL, Event.HEADER, Event.BODY),
}
_SIZE: Final = {Stage.END_OF_DATA: (Event.HEADER, Event.BODY)}
_DECIDING: Final = {
    Stage.CONNECT: Event.CONNECT,
    Stage.HELO: Event.HELO,
    Stage.MAIL: Event.MAIL,
    Stage.RCPT: Event.RCPT,
    Stage.DATA: Event.DATA,
}
_ACTIONS: Final = {
    Verdict.PREPEND: Actions.ADD_HEADERS,
    Verdict.HOLD: Actions.QUARANTINE,
    Verdict.BCC: Actions.ADD_RECIPIENTS,
    Verdict.REDIRECT: Actions.ADD_RECIPIENTS | Actions.DELETE_RECIPIENTS,
}
_LOGGED: Final = (
    (Stage.MAIL, "sender"),
    (Stage.MAIL, "sasl_username"),
    (Stage.RCPT, "queue_id"),
)
"""What a decision's log line says beside the facts of its rules, and from which stage on."""

_ORDER: Final = tuple(STEPS)


class _Settling(msgspec.Struct, frozen=True):
    """What is read where a message is settled: whose it is, and how many recipients it has."""

    facts: frozenset[str] = frozenset({"server_address", "recipient_count"})
    verdicts: frozenset[Verdict] = frozenset()


class _Stamping(msgspec.Struct, frozen=True):
    """What has to be known to write something above a message."""

    facts: frozenset[str]
    verdicts: frozenset[Verdict] = frozenset({Verdict.PREPEND})


def plan(
    *asking: Mapping[Stage, Needs], settles: bool = False, stamps: frozenset[str] | None = None
) -> Plan:
    """
    Compute what to ask for, so that each of several sets of questions can be answered.

    With `settles` the end of each message is taken note of, whether a rule asks there or not.
    `stamps` are the facts that have to be known there to write something above it; None if
    nothing is.
    """
    questions: list[tuple[Stage, Needs]]
    questions = [(stage, question) for asked in asking for stage, question in asked.items()]
    if settles:
        questions.append((Stage.END_OF_DATA, _Settling()))
    if stamps is not None:
        questions.append((Stage.END_OF_DATA, _Stamping(stamps)))
    verdicts = frozenset(verdict for _, question in questions for verdict in question.verdicts)
    facts = frozenset(fact for _, question in questions for fact in question.facts)
    deciding = frozenset(stage for stage, _ in questions)
    asked, replied = _events(questions, verdicts, deciding)
    if settles:
        # in time for the next message's reservations: those of the one before are given back then
        replied |= {Event.MAIL}
        asked |= replied
    read = {
        stage: tuple(_macros(stage, (need for at, need in questions if at is stage), asked))
        for stage in sorted(deciding, key=_ORDER.index)
    }
    actions = Actions.NAME_MACROS
    for verdict in verdicts & AMENDING:
        actions |= _ACTIONS[verdict]
    if stamps is not None:
        actions |= Actions.CHANGE_HEADERS
    return Plan(
        asked=asked,
        silent=asked - replied,
        steps=_steps(asked, asked - replied, exact="message" in facts),
        actions=actions,
        named=_named(read),
        read=read,
        headers="headers" in facts,
        attachments="attachments" in facts,
        message="message" in facts,
        settles=settles,
        stamps=stamps is not None,
    )


def _steps(asked: frozenset[Event], silent: frozenset[Event], *, exact: bool) -> Steps:
    steps = Steps.NO_END_OF_HEADER | Steps.NO_UNKNOWN
    if exact:
        steps |= Steps.LEADING_SPACE
    for event, (never, quiet) in _STEPS.items():
        if event not in asked:
            steps |= never
        elif event in silent:
            steps |= quiet
    return steps


def _events(
    questions: Iterable[tuple[Stage, Needs]],
    verdicts: frozenset[Verdict],
    deciding: frozenset[Stage],
) -> tuple[frozenset[Event], frozenset[Event]]:
    # connect tells a submission that did not come by SMTP, which rules do not decide
    asked = {Event.CONNECT}
    for stage, question in questions:
        for fact in question.facts:
            asked.update(_EVENTS.get(fact, ()))
        if "size" in question.facts:
            asked.update(_SIZE.get(stage, (Event.MAIL,)))
    replied = {_DECIDING[stage] for stage in deciding if stage in _DECIDING}
    if Event.HELO in replied:
        replied.add(Event.MAIL)  # where a name that is not UTF-8 is decided; see Session.hello
    asked |= replied
    if Verdict.REDIRECT in verdicts:
        asked.add(Event.RCPT)
    if asked & {Event.RCPT, Event.DATA} or verdicts & AMENDING:
        asked.add(Event.MAIL)  # what was kept of another message ends, in libmilter too
    return frozenset(asked), frozenset(replied)


def _macros(stage: Stage, questions: Iterable[Needs], asked: frozenset[Event]) -> Iterator[Macro]:
    facts = {fact for question in questions for fact in question.facts}
    facts.update(fact for first, fact in _LOGGED if _ORDER.index(stage) >= _ORDER.index(first))
    if Event.MAIL in asked:
        facts.discard("sender")
    return (macro for name, macro in MACROS.items() if name in facts)


def _named(read: Mapping[Stage, tuple[Macro, ...]]) -> dict[MacroStep, str]:
    """Give the lists that differ from the MTA's: naming one costs a session some time."""
    needed: dict[MacroStep, dict[str, None]] = {}
    for stage, macros in read.items():
        for macro in macros:
            needed.setdefault(macro.step(stage), {})[macro.name] = None
    return {
        step: " ".join(dict.fromkeys((ALWAYS.name, *names)))
        for step, names in needed.items()
        if not names.keys() <= DEFAULTS[step]
    }

"""Talking a cell through with Postfix, and what the talk should be."""

import re
from collections.abc import Iterable, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass

from policyd.protocol.postfix import Prediction, Step
from policyd.smtp.stage import Stage
from tests.integration.wire.cells import DOMAIN, HELO_NAME, SENDER, Cell
from tools.postfix_instance import PostfixInstance
from tools.smtp_dialogue import Reply, ServerClosedError, SmtpDialogue

MESSAGE = f"From: <{SENDER}>\nSubject: a cell of the matrix\n\nHello.\n"
_CLOSE_WITHIN = 5.0  # seconds; Postfix hangs up at once
_AT_ONCE = 4  # sessions
_NO_CELL = "127.200.0.1"
"""A client that no rule knows: its sessions are those without policyd."""
_QUEUED = re.compile(r"queued as (\w+)")


@dataclass(frozen=True)
class Said:
    """A reply that the client was given, its lines joined, and whether Postfix then hung up."""

    step: Step
    reply: str
    closes: bool = False


def steps(stage: Stage) -> tuple[Step, ...]:
    """Name the steps of the session that reaches a stage."""
    if stage is Stage.VRFY:
        return (Step.BANNER, Step.EHLO, Step.VRFY)
    if stage is Stage.ETRN:
        return (Step.BANNER, Step.EHLO, Step.ETRN)
    return (Step.BANNER, Step.EHLO, Step.MAIL, Step.RCPT, Step.DATA, Step.END_OF_DATA)


def talk_through(
    mta: PostfixInstance, cells: Iterable[Cell]
) -> list[tuple[Cell, tuple[Said, ...]]]:
    """Hold the session of each cell, several at once."""
    known = list(cells)
    with ThreadPoolExecutor(_AT_ONCE) as pool:
        talks = [
            pool.submit(converse, mta.ports[cell.service], cell.address, cell.stage, cell.recipient)
            for cell in known
        ]
        return [(cell, talk.result()) for cell, talk in zip(known, talks, strict=True)]


def wrong_dialogues(
    mta: PostfixInstance, talked: Iterable[tuple[Cell, Sequence[Said]]]
) -> Iterator[str]:
    """Say of each cell in which Postfix said another word than predicted what it said."""
    soft_bounce = mta.main.get("soft_bounce") == "yes"
    usual: dict[tuple[str, tuple[Step, ...]], tuple[Said, ...]] = {}
    for cell, said in talked:
        key = (cell.service, steps(cell.stage))
        if key not in usual:
            recipient = f"nobody@{DOMAIN}"
            session = converse(mta.ports[cell.service], _NO_CELL, cell.stage, recipient)
            usual[key] = comparable(session, recipient)
        predicted = expected(usual[key], cell.prediction(soft_bounce=soft_bounce))
        seen = comparable(said, cell.recipient)
        if seen != predicted:
            yield f"{cell}\n  predicted {_show(predicted)}\n  seen      {_show(seen)}"


def _show(said: Sequence[Said]) -> str:
    return " | ".join(f"{one.step}: {one.reply}{' (closes)' * one.closes}" for one in said)


def converse(port: int, source: str, stage: Stage, recipient: str) -> tuple[Said, ...]:
    """Hold the session of a client that goes on after a refusal, and sends QUIT if it can."""
    said: list[Said] = []
    with SmtpDialogue(port, source=source) as client:
        for step in steps(stage):
            if step is Step.END_OF_DATA and not said[-1].reply.startswith("354"):
                break
            reply = _take(client, step, recipient)
            closes = reply.code in (421, 521) and client.wait_closed(_CLOSE_WITHIN)
            said.append(Said(step, "\n".join(reply.lines), closes))
            if closes:
                return tuple(said)
        _leave(client)
    return tuple(said)


def _take(client: SmtpDialogue, step: Step, recipient: str) -> Reply:
    match step:
        case Step.BANNER:
            return client.banner()
        case Step.EHLO:
            return client.ehlo(HELO_NAME)
        case Step.MAIL:
            return client.mail(SENDER)
        case Step.RCPT:
            return client.rcpt(recipient)
        case Step.DATA:
            return client.data()
        case Step.END_OF_DATA:
            return client.body(MESSAGE)
        case Step.VRFY:
            return client.vrfy(recipient)
        case Step.ETRN:
            return client.etrn(DOMAIN)


def _leave(client: SmtpDialogue) -> None:
    if (reply := client.quit()).code != 221:
        raise ServerClosedError(f"QUIT was answered {reply}")


def expected(usual: Sequence[Said], prediction: Prediction) -> tuple[Said, ...]:
    """Lay a prediction over the session without policyd."""
    differing: Mapping[Step, Said] = {
        line.at: Said(line.at, str(line), line.closes) for line in prediction.lines
    }
    said: list[Said] = []
    for ordinary in usual:
        if ordinary.step is Step.END_OF_DATA and not said[-1].reply.startswith("354"):
            break
        said.append(differing.get(ordinary.step, ordinary))
        if said[-1].closes:
            break
    return tuple(said)


def comparable(said: Sequence[Said], recipient: str) -> tuple[Said, ...]:
    """Leave out what differs from session to session: the queue id, and VRFY's own argument."""
    return tuple(
        Said(
            one.step,
            _QUEUED.sub("queued as QUEUE_ID", one.reply).replace(
                f"252 2.0.0 {recipient}", "252 2.0.0 RECIPIENT"
            ),
            one.closes,
        )
        for one in said
    )


def queue_id(said: Sequence[Said]) -> str:
    """Give the queue id that Postfix told the client; empty if it queued nothing."""
    found = _QUEUED.search(said[-1].reply)
    return found[1] if found else ""

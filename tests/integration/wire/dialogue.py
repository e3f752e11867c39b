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


@dataclass(frozen=True)
class Talk:
    """
    A cell talked through, and the same session without policyd, for comparison.

    What differs from session to session is left out: the queue id, and VRFY's own argument.
    `queued_as` is the queue id; empty if nothing was queued.
    """

    cell: Cell
    said: tuple[Said, ...]
    usual: tuple[Said, ...]
    queued_as: str

    @property
    def differing(self) -> tuple[Said, ...]:
        """The replies that are due to policyd."""
        return tuple(one for one in self.said if one not in self.usual)


def talk_through(mta: PostfixInstance, cells: Iterable[Cell]) -> list[Talk]:
    """Hold the session of each cell, several at once."""
    known = list(cells)
    sessions = sorted({(cell.service, _steps(cell.stage)) for cell in known})
    nobody = f"nobody@{DOMAIN}"
    with ThreadPoolExecutor(_AT_ONCE) as pool:
        usual = {
            (service, steps): pool.submit(_converse, mta.ports[service], _NO_CELL, steps, nobody)
            for service, steps in sessions
        }
        talks = [
            pool.submit(
                _converse,
                mta.ports[cell.service],
                cell.address,
                _steps(cell.stage),
                cell.recipient,
            )
            for cell in known
        ]
    return [
        Talk(
            cell,
            said=_comparable(talk.result(), cell.recipient),
            usual=_comparable(usual[cell.service, _steps(cell.stage)].result(), nobody),
            queued_as=_queue_id(talk.result()),
        )
        for cell, talk in zip(known, talks, strict=True)
    ]


def wrong_dialogues(talks: Iterable[Talk], *, soft_bounce: bool = False) -> Iterator[str]:
    """Say of each cell in which Postfix said another word than predicted what it said."""
    for talk in talks:
        predicted = _expected(talk.usual, talk.cell.prediction(soft_bounce=soft_bounce))
        if talk.said != predicted:
            yield f"{talk.cell}\n  predicted {_show(predicted)}\n  seen      {_show(talk.said)}"


def _show(said: Sequence[Said]) -> str:
    return " | ".join(f"{one.step}: {one.reply}{' (closes)' * one.closes}" for one in said)


def _steps(stage: Stage) -> tuple[Step, ...]:
    """Name the steps of the session that reaches a stage."""
    if stage is Stage.VRFY:
        return (Step.BANNER, Step.EHLO, Step.VRFY)
    if stage is Stage.ETRN:
        return (Step.BANNER, Step.EHLO, Step.ETRN)
    return (Step.BANNER, Step.EHLO, Step.MAIL, Step.RCPT, Step.DATA, Step.END_OF_DATA)


def _converse(port: int, source: str, steps: tuple[Step, ...], recipient: str) -> tuple[Said, ...]:
    """Hold the session of a client that goes on after a refusal, and sends QUIT if it can."""
    said: list[Said] = []
    with SmtpDialogue(port, source=source) as client:
        for step in steps:
            if step is Step.END_OF_DATA and not said[-1].reply.startswith("354"):
                break
            reply = _take(client, step, recipient)
            closes = reply.code in (421, 521) and client.wait_closed(_CLOSE_WITHIN)
            said.append(Said(step, "\n".join(reply.lines), closes))
            if closes:
                return tuple(said)
        if (last := client.quit()).code != 221:
            raise ServerClosedError(f"QUIT was answered {last}")
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


def _expected(usual: Sequence[Said], prediction: Prediction) -> tuple[Said, ...]:
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


def _comparable(said: Sequence[Said], recipient: str) -> tuple[Said, ...]:
    verified = f"252 2.0.0 {recipient}"
    return tuple(
        Said(
            one.step,
            _QUEUED.sub("queued as QUEUE_ID", one.reply).replace(verified, "252 2.0.0 RECIPIENT"),
            one.closes,
        )
        for one in said
    )


def _queue_id(said: Sequence[Said]) -> str:
    found = _QUEUED.search(said[-1].reply)
    return found[1] if found else ""

"""
One milter session: what it has been told, what it asks the service, what it remembers.

A session lives as long as an SMTP connection (or as the pretended one of a message that did not
come by SMTP, MILTER_README) and keeps the policy it negotiated with. Its callbacks come one after
the other, but on changing threads (libmilter's worker pool), so its state is in the object alone.
It never holds pymilter's context: that would be a cycle which Python cannot collect.
"""

import contextlib
from collections.abc import Iterable
from concurrent.futures import Future
from typing import Final
from uuid import uuid4

from policyd.mail.spool import Spool
from policyd.protocol.milter import (
    AMENDING,
    GO_ON,
    NOTHING,
    Event,
    MilterAnswer,
    Plan,
    Skeleton,
    Status,
    milter_answer,
)
from policyd.protocol.milter.envelope import (
    client,
    declared_size,
    decoded,
    external_address,
    header_size,
    helo_name,
    internal_address,
    unfolded,
)
from policyd.protocol.milter.macros import MACROS, read
from policyd.rules.policy import Policy
from policyd.serve.milter.door import Mta, Service
from policyd.service import Answer
from policyd.smtp.stage import FrontEnd, Stage

_SESSION: Final = (Stage.CONNECT, Stage.HELO)
_COUNTED: Final = (Stage.DATA, Stage.END_OF_DATA)
_SEPARATOR: Final = len("\r\n")  # between headers and body
_PATIENCE: Final = 2.0  # seconds for what a message before reserved to be given back
_TOP: Final = 0  # before all others, Postfix's own Received included, as policy's PREPEND does


class Session:
    """The callbacks of one connection; each gives the status to return."""

    def __init__(
        self, service: Service, policy: Policy, plan: Plan, *, exact: bool = False
    ) -> None:
        """
        Start under a policy and the plan that was negotiated for it.

        `exact`: the values of headers begin right after the colon, also those that we add.
        """
        self.plan = plan
        self.policy = policy
        self._service = service
        self._questions = policy.milter
        self._exact = exact
        self._keeps = plan.message
        self._spool: Spool | None = None
        self._client: dict[str, object] = {}
        self._local = False
        self._late_hello = False
        self._broken: BaseException | None = None
        self._for_session = NOTHING
        self._message: dict[str, object] = {}
        self._unsettled = False
        self._leaving: Future[None] | None = None
        self._end_message()

    def _end_message(self) -> None:
        if self._unsettled:
            self._unsettled = False
            attributes = {**self._client, **self._message}
            self._leaving = self._service.abandon_milter(attributes, self.policy)
        self._message = {}
        self._recipient = ""
        self._recipients: list[str] = []
        self._headers: list[tuple[str, bytes]] = []
        self._body_size = 0
        self._skeleton = Skeleton() if self.plan.attachments else None
        if self._spool is not None:
            self._spool.drop()
        self._spool = Spool() if self._keeps else None
        self._for_message = NOTHING

    def connect(self, mta: Mta, hostname: str, address: str, port: int) -> Status:
        """Take the client; `address` is empty and `port` 0 where the MTA knows none."""
        self._client = client(hostname, address, port)
        self._local = self._client["local_submission"] is True
        if self._local:
            self._questions = self.policy.local
            self._keeps = any("message" in each.facts for each in self.policy.local.values())
            self._end_message()
        return self._decide(mta, Stage.CONNECT)

    def hello(self, mta: Mta, name: str) -> Status:
        """Take the name of HELO or EHLO."""
        self._client["helo_name"] = helo_name(name)
        self._late_hello = False
        return self._decide(mta, Stage.HELO)

    def undecodable(self, raw: bytes) -> None:
        """
        Take a text that pymilter could not decode and went on for, without a callback.

        Postfix sends such bytes in HELO alone, and only with smtputf8_enable = no; it then shows
        each as `?`. The stage is decided at MAIL, where Postfix would send its reply anyway.
        """
        if self._client and not self._headers:
            self._client["helo_name"] = helo_name(raw.decode("ascii", "replace"))
            self._late_hello = True
        else:
            self._service.protocol_error(FrontEnd.MILTER, "not-utf-8", text=ascii(raw[:80]))

    def mail(self, mta: Mta, path: bytes, parameters: Iterable[bytes]) -> Status:
        """Take the sender: a message begins."""
        if self._message:
            self._end_message()
        if self._late_hello:
            status = self._decide(mta, Stage.HELO)
            if status is not Status.CONTINUE:
                return status
        self._message["sender"] = internal_address(decoded(path))
        self._message["size"] = declared_size(map(decoded, parameters))
        if self.plan.settles and not self._local:
            self._begin_to_settle(mta)
        return self._decide(mta, Stage.MAIL)

    def _begin_to_settle(self, mta: Mta) -> None:
        """Make the message known to whatever will be settled, once the one before has ended."""
        if self._leaving is not None:
            with contextlib.suppress(TimeoutError):
                self._leaving.result(_PATIENCE)
            self._leaving = None
        self._message["instance"] = uuid4().hex
        self._message["server_address"] = _macro(mta, MACROS["server_address"].name) or ""
        self._unsettled = True

    def rcpt(self, mta: Mta, path: bytes) -> Status:
        """Take a recipient, and keep it for the end of the message unless it is refused."""
        self._recipient = internal_address(decoded(path))
        status = self._decide(mta, Stage.RCPT)
        if status is Status.CONTINUE:
            self._recipients.append(self._recipient)
        return status

    def data(self, mta: Mta) -> Status:
        """Take DATA."""
        return self._decide(mta, Stage.DATA)

    def header(self, _mta: Mta, name: str, value: bytes) -> Status:
        """Take a header."""
        if self._spool is not None:
            self._spool.header(name, value if self._exact else b" " + value)
        if self._exact:
            value = value.removeprefix(b" ")  # as it is without; for whom it makes no difference
        self._headers.append((name, value))
        if self._skeleton is not None:
            self._skeleton.header(name, decoded(value))
        return Status.CONTINUE

    def body(self, _mta: Mta, chunk: bytes) -> Status:
        """Take a part of the body; its content is kept if something reads the message."""
        self._body_size += len(chunk)
        if self._spool is not None:
            self._spool.body(chunk)
        if self._skeleton is not None:
            self._skeleton.body(chunk)
        return Status.CONTINUE

    def end_of_message(self, mta: Mta) -> Status:
        """Decide the message, and change it as was decided at this and earlier stages."""
        try:
            answer = self._ask(mta, Stage.END_OF_DATA)
            self._unsettled = False
            outcome = GO_ON if answer is None else milter_answer(answer.decision)
            if outcome.status is Status.CONTINUE:
                self._amend(mta)
                self._stamp(mta, answer)
            return outcome.status if answer is None else self._give(mta, answer, outcome)
        finally:
            self._end_message()

    def abort(self) -> Status:
        """Forget the message."""
        self._end_message()
        return Status.CONTINUE

    def closed(self) -> None:
        """End with the connection."""
        self._keeps = False
        self._end_message()

    def broken(self, error: BaseException) -> None:
        """Take note of a fault in a callback without a reply: the next that replies tells it."""
        self._broken = error

    def fault(self, mta: Mta, stage: Stage, error: BaseException) -> Status:
        """Answer for a fault of our own, as the service answers for one of a decision."""
        attributes = {**self._client, **self._message}
        if stage is Stage.RCPT:
            attributes["recipient"] = self._recipient
        answer = self._service.fault_milter(stage, attributes, error)
        outcome = milter_answer(answer.decision)
        if stage is Stage.RCPT and outcome.status is Status.CONTINUE:
            self._recipients.append(self._recipient)
        return self._give(mta, answer, outcome)

    def _decide(self, mta: Mta, stage: Stage) -> Status:
        answer = self._ask(mta, stage)
        if answer is None:
            return Status.CONTINUE
        return self._give(mta, answer, milter_answer(answer.decision))

    def _ask(self, mta: Mta, stage: Stage) -> Answer | None:
        """Have a stage decided; None if no rule asks for it."""
        if self._broken is not None and stage is Stage.END_OF_DATA:
            raise self._broken
        if stage not in self._questions:
            if stage is Stage.END_OF_DATA and self._unsettled:
                self._service.settle_milter(self._known(mta, stage), self.policy)
            return None
        if self._broken is not None:
            raise self._broken
        answer = self._service.decide_milter(stage, self._known(mta, stage), self.policy)
        decision = answer.decision
        if decision.verdict in AMENDING:
            if stage in _SESSION:
                self._for_session = self._for_session.after(decision)
            else:
                self._for_message = self._for_message.after(decision)
        return answer

    def _give(self, mta: Mta, answer: Answer, outcome: MilterAnswer) -> Status:
        """Count an answer and give its status."""
        if outcome.reply is not None:
            # never without its status: libmilter keeps the reply for the next that fits
            mta.setreply(*outcome.reply)
        self._service.written(answer)
        return outcome.status

    def _known(self, mta: Mta, stage: Stage) -> dict[str, object]:
        attributes = {**self._client, **self._message}
        for macro in self.plan.read.get(stage, ()):
            value = _macro(mta, macro.name)
            if value:
                attributes[macro.attribute] = read(macro, value)
        if stage is Stage.RCPT:
            attributes["recipient"] = self._recipient
        elif stage in _COUNTED and Event.RCPT in self.plan.asked:
            attributes["recipient_count"] = len(self._recipients)
            attributes["recipients"] = tuple(self._recipients)
            if stage is Stage.DATA and len(self._recipients) == 1:
                attributes["recipient"] = self._recipients[0]  # as Postfix tells policy delegation
        if stage is Stage.END_OF_DATA:
            self._add_content(attributes)
        return attributes

    def _add_content(self, attributes: dict[str, object]) -> None:
        asked = self.plan.asked
        if self.plan.headers:
            attributes["headers"] = tuple(
                (name, unfolded(decoded(value))) for name, value in self._headers
            )
        if Event.HEADER in asked:
            attributes["utf8_headers"] = not all(value.isascii() for _, value in self._headers)
        if Event.BODY in asked:
            attributes["body_size"] = self._body_size
            if Event.HEADER in asked:
                headers = sum(header_size(name, value) for name, value in self._headers)
                attributes["size"] = headers + _SEPARATOR + self._body_size
        if self._skeleton is not None:
            attributes["attachments"] = self._skeleton.attachments()
        if self._spool is not None:
            attributes["message"] = self._spool

    def _amend(self, mta: Mta) -> None:
        if self._for_message is NOTHING and self._for_session is NOTHING:
            return
        changes = self._for_message.with_those_of(self._for_session)
        if changes.redirect:
            for recipient in dict.fromkeys(self._recipients):
                mta.delrcpt(external_address(recipient))
            mta.addrcpt(f"<{changes.redirect}>")
        for address in changes.bcc:
            mta.addrcpt(f"<{address}>")
        for name, value in reversed(changes.headers):
            self._add(mta, name, value)
        if changes.hold:
            mta.quarantine(changes.hold)

    def _stamp(self, mta: Mta, answer: Answer | None) -> None:
        """Write results above all else, and take away what only pretends to be such."""
        if not self.plan.stamps or self._local:
            return
        known = self._known(mta, Stage.END_OF_DATA) if answer is None else answer.attributes
        stamped = self._service.stamp_milter(known, self.policy)
        for name, place in stamped.removed:  # before any is added, for they are counted
            mta.chgheader(name, place, "")
        for name, value in reversed(stamped.added):
            self._add(mta, name, value)

    def _add(self, mta: Mta, name: str, value: str) -> None:
        mta.addheader(name, f" {value}" if self._exact else value, _TOP)


def _macro(mta: Mta, name: str) -> str | None:
    try:
        return mta.getsymval(name)
    except UnicodeDecodeError as error:
        return decoded(bytes(error.object))

"""
The matrix: each stage, front end, outcome, wiring and smtpd_delay_reject, and what is expected.

A cell is one session. Its client comes from an address of its own, by which a rule, a scripted
responder and a reader of a log tell the cells apart: 127.STAGE.OUTCOME.1.
"""

from collections.abc import Iterator
from dataclasses import dataclass
from enum import StrEnum

from policyd.protocol.postfix import Prediction, Setting, asked_at, predict, usual_list
from policyd.smtp.decision import Decision, Source, Verdict
from policyd.smtp.reply import EnhancedCode, Reply
from policyd.smtp.stage import TRANSACTION, FrontEnd, RestrictionList, Stage

HOSTNAME = "mx.policyd.test"
DOMAIN = "policyd.test"
HELO_NAME = "client.test"
SENDER = "sender@example.net"
TEXT = "no 100% match"
"""The text of every reply; its per cent sign would not survive a formatting function."""


class Wiring(StrEnum):
    """How check_policy_service stands in main.cf."""

    ONE_LINE = "one line"
    A_LINE_A_LIST = "a line a list"
    MILTER = "milter"


@dataclass(frozen=True)
class Outcome:
    """What a rule says, and the decision that it makes."""

    then: str
    verdict: Verdict
    reply: Reply | None = None
    if_permitted: bool = False


def _pair(code: int, enhanced: str, *, if_permitted: bool = False) -> Outcome:
    read = EnhancedCode.parse(enhanced)
    reply = Reply(code, read.subject, read.detail, TEXT)
    return Outcome(
        then=f"{'if_permitted ' if if_permitted else ''}{reply}",
        verdict=Verdict.DEFER if read.class_ == 4 else Verdict.REJECT,
        reply=reply,
        if_permitted=if_permitted,
    )


OUTCOMES = (
    _pair(450, "4.2.1"),
    _pair(550, "5.1.1"),
    _pair(550, "5.7.1"),
    _pair(421, "4.3.2"),
    _pair(521, "5.3.2"),
    _pair(450, "4.2.1", if_permitted=True),
    Outcome("accept", Verdict.ACCEPT),
    Outcome("pass", Verdict.PASS),
    Outcome(f"discard {TEXT}", Verdict.DISCARD),
    Outcome(f"hold {TEXT}", Verdict.HOLD),
)
STAGES = tuple(Stage)


@dataclass(frozen=True)
class Cell:
    """One combination of the matrix."""

    stage: Stage
    outcome: Outcome
    wiring: Wiring
    delay_reject: bool

    def __str__(self) -> str:
        """Name the cell in a report."""
        return f"{self.service}: {self.stage} {self.outcome.then}"

    @property
    def front_end(self) -> FrontEnd:
        return FrontEnd.MILTER if self.wiring is Wiring.MILTER else FrontEnd.POLICY

    @property
    def service(self) -> str:
        """The smtpd(8) service that is wired so."""
        return service_name(self.wiring, delay_reject=self.delay_reject)

    @property
    def address(self) -> str:
        return f"127.{STAGES.index(self.stage) + 1}.{OUTCOMES.index(self.outcome) + 1}.1"

    @property
    def recipient(self) -> str:
        number = OUTCOMES.index(self.outcome) + 1
        return f"{self.stage}-{number}-{self.service}@{DOMAIN}"

    @property
    def rule(self) -> str:
        """The name of the rule that decides the cell."""
        return f"{self.stage}-{OUTCOMES.index(self.outcome) + 1}"

    @property
    def refused_because(self) -> str:
        """Words of the verb table if the rule cannot be loaded, else nothing."""
        if self.outcome.verdict not in (Verdict.DISCARD, Verdict.HOLD):
            return ""
        if self.stage in (Stage.VRFY, Stage.ETRN):
            return "there is no message at vrfy and etrn"
        early = self.stage in (Stage.CONNECT, Stage.HELO)
        if self.front_end is FrontEnd.MILTER and early and self.outcome.verdict is Verdict.DISCARD:
            return "a milter cannot discard before there is a message"
        return ""

    @property
    def asked(self) -> tuple[Stage, RestrictionList | None]:
        """Where Postfix first asks about the cell's stage, and which list does."""
        if self.wiring is Wiring.MILTER:
            return self.stage, None
        return self._asked_by_policy(self.wiring is Wiring.A_LINE_A_LIST)

    def _asked_by_policy(self, a_line_a_list: bool) -> tuple[Stage, RestrictionList]:
        restriction = usual_list(self.stage)
        if self.stage in (Stage.VRFY, Stage.ETRN):
            # Postfix evaluates the delayed lists first, and each of them asks
            if a_line_a_list and self.delay_reject and not self._forgotten:
                restriction = RestrictionList.CLIENT
            return self.stage, restriction
        if not a_line_a_list and self.stage in TRANSACTION[:4]:
            return Stage.RCPT, RestrictionList.RECIPIENT
        return asked_at(restriction, delay_reject=self.delay_reject), restriction

    @property
    def _forgotten(self) -> bool:
        # smtpd_check_rcpt takes over what the sender list left, and VRFY has no sender
        return self.outcome.if_permitted and self.stage is Stage.VRFY

    @property
    def decision(self) -> Decision:
        outcome = self.outcome
        return Decision(
            id="",
            verdict=outcome.verdict,
            stage=self.stage,
            source=Source.RULE,
            reply=outcome.reply,
            argument="" if outcome.reply else TEXT,
            rule=self.rule,
            if_permitted=outcome.if_permitted,
        )

    def prediction(self, *, soft_bounce: bool = False) -> Prediction:
        """Tell what the client will see."""
        stage, restriction = self.asked
        attributes = {
            "client_name": "unknown",
            "client_address": self.address,
            "helo_name": HELO_NAME,
            "sender": SENDER,
            "recipient": self.recipient,
            "etrn_domain": DOMAIN,
        }
        setting = Setting(
            self.front_end, stage, restriction, hostname=HOSTNAME, soft_bounce=soft_bounce
        )
        return predict(self.decision, attributes, setting)


def service_name(wiring: Wiring, *, delay_reject: bool) -> str:
    """Name the smtpd(8) service of a wiring; an address and a port may hold the name."""
    return f"{wiring.replace(' ', '-')}-{'delayed' if delay_reject else 'at-once'}"


def cells() -> Iterator[Cell]:
    """Go through the whole matrix, those that cannot be loaded too."""
    for wiring in Wiring:
        stages = TRANSACTION if wiring is Wiring.MILTER else STAGES
        for delay_reject in (True, False):
            for stage in stages:
                for outcome in OUTCOMES:
                    yield Cell(stage, outcome, wiring, delay_reject)
